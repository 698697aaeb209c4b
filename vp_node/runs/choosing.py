"""The volumes that a prompt takes of a study, and of the patient's earlier ones; chosen once, kept with the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.compute.codec import volume_from_json
from vp_node.database.models import Run, Study, StudyState, Volume
from vp_node.runs.states import RunFailure
from vp_node.runs.understanding import stored_volumes
from vp_node.studies.model import ChosenVolume, SourceVolume, VolumeSet
from vp_node.studies.model import Session as PatientSession
from vp_node.studies.sessions import sessions_of
from vp_node.studies.volume_set import SeriesSelection, choose


@dataclass(frozen=True)
class Choice:
    volume_set: VolumeSet
    entries: tuple[dict[str, Any], ...]
    """For `Run.choices`: one for each volume that was looked at, with `taken` and `reason`, and for a taken one its
    `name` and `session`."""
    other_digests: tuple[str, ...]
    """`Study.input_digest` of the other studies that taken volumes come from."""


def choose_for(session: Session, study: Study, selection: SeriesSelection, data_folder: Path) -> Choice:
    """Chooses the volume set of a prompt on a closed study.

    Where the prompt looks at several sessions, the earlier ones come from the patient's other complete studies that
    lie before this one. Another study of the same day is left alone: results stand beside the study that was asked
    about, and must refer to its own images.
    """
    own = volumes = stored_volumes(session, study, data_folder)
    studies = {study.study_instance_uid: study}
    if selection.sessions > 1:
        for other in _other_studies(session, study):
            earlier = _before(stored_volumes(session, other, data_folder), own)
            if earlier:
                studies[other.study_instance_uid] = other
                volumes = (*volumes, *earlier)
    volume_set = choose(_of_one_patient(volumes, study), selection)
    names = {item.volume.identifier: item for item in volume_set.chosen}
    entries = tuple(
        _entry(item.volume, studies[item.volume.study_instance_uid], item.reason, names.get(item.volume.identifier))
        for item in volume_set.choices
    )
    used = {item.volume.study_instance_uid for item in volume_set.chosen} - {study.study_instance_uid}
    return Choice(volume_set, entries, tuple(sorted(studies[uid].input_digest for uid in used)))


def gathered_volumes(session: Session, run: Run, data_folder: Path) -> tuple[ChosenVolume, ...]:
    """The volumes that a run takes, as they were when it was planned.

    Raises:
        RunFailure: one is no longer known.
    """
    taken = [entry for entry in run.choices if entry["taken"]]
    found = []
    for entry in taken:
        row = session.scalars(
            select(Volume).where(
                Volume.study_id == entry["study_id"],
                Volume.revision == entry["revision"],
                Volume.identifier == entry["identifier"],
            )
        ).one_or_none()
        if row is None:
            raise RunFailure("A volume that the run was planned with is no longer known. Ask for the run again.")
        found.append(ChosenVolume(entry["name"], entry["session"], volume_from_json(row.description, data_folder)))
    return tuple(sorted(found, key=lambda item: int(item.name.removeprefix("v"))))


def _entry(volume: SourceVolume, study: Study, reason: str, chosen: ChosenVolume | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "identifier": volume.identifier,
        "study_id": study.id,
        "revision": study.revision,
        "series": volume.series_instance_uid,
        "series_number": volume.series_number,
        "kind": volume.kind,
        "visit": volume.visit.isoformat() if volume.visit else "",
        "taken": chosen is not None,
        "reason": reason,
    }
    if chosen is not None:
        entry |= {"name": chosen.name, "session": chosen.session}
    return entry


def _other_studies(session: Session, study: Study) -> Sequence[Study]:
    query = select(Study).where(
        Study.patient_id == study.patient_id, Study.id != study.id, Study.state == StudyState.COMPLETE
    )
    return session.scalars(query.order_by(Study.study_date, Study.id)).all()


def _before(earlier: Sequence[SourceVolume], volumes: Sequence[SourceVolume]) -> tuple[SourceVolume, ...]:
    """Those that are dated before every dated volume of the study; none where the study has no date."""
    dates = [volume.visit for volume in volumes if volume.visit is not None]
    if not dates:
        return ()
    return tuple(volume for volume in earlier if volume.visit is not None and volume.visit < min(dates))


def _of_one_patient(volumes: Sequence[SourceVolume], study: Study) -> tuple[PatientSession, ...]:
    own = {volume.patient_key for volume in volumes if volume.study_instance_uid == study.study_instance_uid}
    return sessions_of([volume for volume in volumes if volume.patient_key in own])
