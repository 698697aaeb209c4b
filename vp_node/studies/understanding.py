"""From instances to volumes: each instance is in a volume, or set aside with a reason."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from vp_node.studies.corrections import VolumeRule, corrected
from vp_node.studies.dates import visit_of
from vp_node.studies.exclusions import why_no_geometry, why_no_volume
from vp_node.studies.geometry import GeometryError, fit_stack, plane_of, world_matrix
from vp_node.studies.grouping import Group, Record, group, orientation_name, plane, records_of, scouts
from vp_node.studies.headers import InstanceHeader
from vp_node.studies.kind import Kind, kind_of
from vp_node.studies.model import MISSING_FRAME, FrameReference, SetAside, SourceVolume, StoredFrame, Understanding
from vp_node.studies.stored import same_pixels

LOG = logging.getLogger(__name__)

_LOCALIZER_ORIENTATIONS = 3
_LOCALIZER_SLICES = 15


def understand(headers: Sequence[InstanceHeader], rules: Sequence[VolumeRule] = ()) -> Understanding:
    """What a set of instances is: volumes with world matrices, and what is none, with the reason.

    Args:
        rules: corrections of what volumes are, in the order in which they are asked.

    The instances may belong to several studies and patients, in any order. Of several with one SOP Instance UID the
    last counts: hand them over in the order in which they arrived.
    """
    reasons: list[tuple[InstanceHeader, str]] = []
    unique, conflicting = _one_per_uid(headers, reasons)
    records: list[Record] = []
    for header in unique:
        reason = why_no_volume(header)
        if reason is None:
            placed, reason = _placed_records(header)
            records.extend(placed)
        if reason is not None:
            reasons.append((header, reason))
    records.sort(key=lambda record: (record.header.series_number or 0, record.order))
    groups = _without_localizers(group(records), reasons)
    visits = _visits(unique)
    b_values = _b_values(records)
    volumes: list[SourceVolume] = []
    for item in groups:
        reasons.extend((record.header, _why_duplicate(record, item)) for record in item.duplicates)
        header = item.records[0].header
        visit, flags = visits[header.study_instance_uid]
        if any(record.header.sop_instance_uid in conflicting for record in item.records):
            flags = (*flags, "conflicting-instance")
        of_series = b_values[header.study_instance_uid, header.series_instance_uid]
        kind, unwanted = corrected(kind_of(item.records[0], of_series), header, rules)
        if unwanted:
            reasons.extend((record.header, unwanted) for record in item.records)
            continue
        try:
            volumes.append(_volume(item, visit, flags, kind))
        except GeometryError as error:
            reasons.extend((record.header, f"no volume: {error}") for record in item.records)
    return Understanding(tuple(sorted(volumes, key=_volume_order)), _set_aside(reasons))


def _why_duplicate(record: Record, item: Group) -> str:
    """Said louder where it matters which of the two was taken."""
    normal = plane(record).normal

    def distance(other: Record) -> float:
        return abs(float(np.dot(np.subtract(other.frame.position or (), record.frame.position or ()), normal)))

    taken = min(item.records, key=distance)
    reason = "duplicate slice: another instance of this stack has the same position, and was taken"
    if same_pixels(_reference(taken), _reference(record)) is not False:
        return reason
    LOG.warning("A duplicate slice has other pixels than the one that was taken.")
    return f"{reason}; its pixels differ"


def _one_per_uid(
    headers: Sequence[InstanceHeader], reasons: list[tuple[InstanceHeader, str]]
) -> tuple[list[InstanceHeader], set[str]]:
    """One header for each SOP Instance UID, and the UIDs under which contents differ."""
    kept: dict[str, InstanceHeader] = {}
    conflicting: set[str] = set()
    for header in headers:
        earlier = kept.get(header.sop_instance_uid)
        if earlier is not None:
            if _same_content(earlier, header):
                reasons.append((earlier, "repeat: the same instance came more than once"))
            else:
                conflicting.add(header.sop_instance_uid)
                reasons.append(
                    (earlier, "conflict: another content came under the same SOP Instance UID, and the last is used")
                )
        kept[header.sop_instance_uid] = header
    if conflicting:
        LOG.warning("%d SOP Instance UIDs came with different contents; the last of each is used", len(conflicting))
    return list(kept.values()), conflicting


def _same_content(one: InstanceHeader, other: InstanceHeader) -> bool:
    if one.digest and other.digest:
        return one.digest == other.digest
    return replace(one, path=other.path, digest=other.digest) == other


def _placed_records(header: InstanceHeader) -> tuple[list[Record], str | None]:
    """The frames of an instance; none, and the reason, where one of them has no place."""
    records = records_of(header)
    for record in records:
        reason = why_no_geometry(record.frame)
        if reason is not None:
            return [], reason
        try:
            plane_of(record.frame.orientation or ())
        except GeometryError as error:
            return [], f"no geometry: {error}"
    return list(records), None


def _without_localizers(groups: list[Group], reasons: list[tuple[InstanceHeader, str]]) -> list[Group]:
    """Groups that are no scouts; series of a few slices in three orientations are scouts as a whole."""
    found = {id(item): "scout: a few slices across the rest of their series" for item in scouts(groups)}
    by_series: dict[tuple[str, str, int | None], list[Group]] = defaultdict(list)
    for item in groups:
        header = item.records[0].header
        by_series[(header.study_instance_uid, header.series_instance_uid, header.series_number)].append(item)
    for members in by_series.values():
        orientations = {orientation_name(member.records[0]) for member in members}
        few = all(len(member.records) <= _LOCALIZER_SLICES for member in members)
        if len(orientations) >= _LOCALIZER_ORIENTATIONS and few:
            found |= {id(member): "localizer: a few slices in each of three orientations" for member in members}
    for item in groups:
        if id(item) in found:
            reasons.extend((record.header, found[id(item)]) for record in (*item.records, *item.duplicates))
    return [item for item in groups if id(item) not in found]


def _visits(headers: Iterable[InstanceHeader]) -> dict[str, tuple[date | None, tuple[str, ...]]]:
    by_study: dict[str, list[InstanceHeader]] = defaultdict(list)
    for header in headers:
        by_study[header.study_instance_uid].append(header)
    return {study: visit_of(members) for study, members in by_study.items()}


def _b_values(records: Iterable[Record]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        values = found[record.header.study_instance_uid, record.header.series_instance_uid]
        if record.frame.b_value is not None:
            values.append(record.frame.b_value)
    return found


def _volume(item: Group, visit: date | None, flags: tuple[str, ...], kind: Kind) -> SourceVolume:
    first = item.records[0]
    header = first.header
    surface = plane(first)
    positions = np.array([record.frame.position for record in item.records], dtype=np.float64)
    stack = fit_stack(positions, surface, header.spacing_between_slices or first.frame.slice_thickness)
    assert first.frame.pixel_spacing is not None  # noqa: S101 (frames without one were set aside)
    frames = [MISSING_FRAME] * stack.length
    references = [_reference(record) for record in item.records]
    for index, reference in zip(stack.indices, references, strict=True):
        if index >= 0:
            frames[index] = reference
    return SourceVolume(
        identifier=_identifier(references),
        patient_key=header.patient_key,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        series_number=header.series_number,
        series_description=header.series_description,
        frame_of_reference_uid=header.frame_of_reference_uid,
        modality=header.modality,
        kind=kind.kind,
        contrast=kind.contrast,
        evidence=kind.evidence,
        shape=(header.columns, header.rows, stack.length),
        world=world_matrix(stack, surface, first.frame.pixel_spacing),
        frames=tuple(frames),
        visit=visit,
        flags=(*stack.flags, *item.flags, *flags, *_content_flags(item)),
        splits=item.splits,
        head=kind.head,
        order_key=header.order_key,
        uneven=tuple(zip(stack.places, references, strict=True)) if stack.places else (),
    )


def _reference(record: Record) -> FrameReference:
    header = record.header
    stored = None
    if header.layout is not None:
        offset = header.pixel_offset + ((record.number or 1) - 1) * header.layout.frame_bytes
        stored = StoredFrame(header.layout, offset, record.frame.slope, record.frame.intercept, header.file_state)
    return FrameReference(
        header.sop_instance_uid, header.sop_class_uid, header.path, record.number, stored, record.tile
    )


def _content_flags(item: Group) -> tuple[str, ...]:
    flags = []
    if item.records[0].header.photometric_interpretation == "MONOCHROME1":
        flags.append("inverted")
    if item.records[0].tile is not None:
        flags.append("tiled")
    if item.records[0].header.private_scaling:
        flags.append("private-scaling")
    if any(record.header.lossy for record in item.records):
        flags.append("lossy")
    if any(record.header.burned_in_annotation == "YES" for record in item.records):
        flags.append("burned-in-annotation")
    return tuple(flags)


def _identifier(frames: Sequence[FrameReference]) -> str:
    """See `SourceVolume.identifier`."""
    pairs = sorted((frame.sop_instance_uid, frame.frame_number or 0) for frame in frames)
    return hashlib.sha256("\n".join(f"{uid} {number}" for uid, number in pairs).encode()).hexdigest()[:32]


def _volume_order(volume: SourceVolume) -> tuple[str, str, int]:
    """Stable: the order of splits within a series is kept by the sort."""
    return (volume.patient_key, volume.study_instance_uid, volume.series_number or 0)


def _set_aside(reasons: Iterable[tuple[InstanceHeader, str]]) -> tuple[SetAside, ...]:
    """One entry for each series and reason. An enhanced object may stand under several reasons, frame by frame."""
    by_reason: dict[tuple[str, str, str], list[InstanceHeader]] = defaultdict(list)
    for header, reason in reasons:
        by_reason[header.study_instance_uid, header.series_instance_uid, reason].append(header)
    return tuple(
        SetAside(
            study,
            series,
            members[0].series_description,
            reason,
            tuple(dict.fromkeys(m.sop_instance_uid for m in members)),
        )
        for (study, series, reason), members in by_reason.items()
    )
