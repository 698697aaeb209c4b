"""What the node would make of a folder of files, without storing anything."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from vp_node.studies.headers import HeaderError, InstanceHeader, read_header
from vp_node.studies.model import SetAside, SourceVolume
from vp_node.studies.sessions import sessions_of
from vp_node.studies.understanding import understand
from vp_node.studies.volume_set import orientation_of


def inspect_folder(folder: Path) -> dict[str, Any]:
    """Volumes and what was set aside, as plain values.

    `volumes` holds `study`, `series`, `visit`, `kind`, `shape`, `world` (4×4, voxel index → RAS mm) and `flags`, and
    besides what helps to understand them; `set_aside` holds `series` and `reason`, for a file that is no instance with
    `file` in place of a series.

    Raises:
        NotADirectoryError: the folder is none.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder.")
    headers: list[InstanceHeader] = []
    no_instances: list[dict[str, Any]] = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        try:
            headers.append(read_header(path))
        except (HeaderError, OSError) as error:
            reason = str(error) if isinstance(error, HeaderError) else f"The file cannot be read: {error.strerror}."
            file = path.relative_to(folder).as_posix()
            no_instances.append({"study": "", "series": "", "file": file, "reason": reason, "instances": 0})
    understanding = understand(with_digests_of_repeats(headers))
    sessions = {
        volume.identifier: number
        for number, session in enumerate(sessions_of(understanding.volumes))
        for volume in session.volumes
    }
    return {
        "volumes": [_volume(volume, sessions[volume.identifier]) for volume in understanding.volumes],
        "set_aside": [*(_set_aside(item) for item in understanding.set_aside), *no_instances],
    }


def with_digests_of_repeats(headers: list[InstanceHeader]) -> list[InstanceHeader]:
    """Headers whose SOP Instance UID stands more than once get their file's digest: do the contents differ?"""
    counts = Counter(header.sop_instance_uid for header in headers)
    return [
        replace(header, digest=hashlib.sha256(header.path.read_bytes()).hexdigest())
        if counts[header.sop_instance_uid] > 1
        else header
        for header in headers
    ]


def _volume(volume: SourceVolume, session: int) -> dict[str, Any]:
    return {
        "study": volume.study_instance_uid,
        "series": volume.series_instance_uid,
        "series_number": volume.series_number,
        "series_description": volume.series_description,
        "visit": volume.visit.isoformat() if volume.visit else None,
        "session": session,
        "modality": volume.modality,
        "kind": volume.kind,
        "contrast": volume.contrast,
        "evidence": list(volume.evidence),
        "shape": list(volume.shape),
        "spacing": [round(value, 6) for value in volume.spacing],
        "world": [[round(value, 9) for value in row] for row in volume.world.tolist()],
        "head": volume.head,
        "plane": orientation_of(volume),
        "flags": list(volume.flags),
        "splits": [list(split) for split in volume.splits],
        "missing_slices": list(volume.missing_slices),
        "identifier": volume.identifier,
    }


def _set_aside(item: SetAside) -> dict[str, Any]:
    return {
        "study": item.study_instance_uid,
        "series": item.series_instance_uid,
        "series_description": item.series_description,
        "reason": item.reason,
        "instances": len(item.sop_instance_uids),
    }
