"""The volumes that a prompt takes of a study, and of the patient's earlier ones; chosen once, kept with the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.compute.codec import volume_from_json
from vp_node.config import PriorsSection
from vp_node.database.models import Run, Study, StudyState, Volume
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.priors import selection_with_priors, wants_priors
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


def choose_for(
    session: Session,
    study: Study,
    selection: SeriesSelection,
    data_folder: Path,
    revision: int | None = None,
    maximum_age_days: int | None = None,
) -> Choice:
    """Chooses the volume set of a prompt on a closed study.

    Args:
        revision: of the study; by default the present one.
        maximum_age_days: earlier sessions that are older than this before the study's are left out.

    Where the prompt looks at several sessions, the earlier ones come from the patient's other studies that lie before
    this one: complete ones, and those that were fetched as priors. Another study of the same day belongs to the session
    where it shares a frame of reference with this one, that is, where the patient lay in the scanner once and the
    images were filed as two studies, or where both answer one order; otherwise it is left alone.
    """
    own = volumes = stored_volumes(session, study, data_folder, revision)
    studies = {study.study_instance_uid: study}
    for other in _other_studies(session, study):
        held = stored_volumes(session, other, data_folder, other.understood_revision)
        joining = _of_the_same_session(held, own)
        if selection.sessions > 1:
            joining = (*joining, *_before(held, own, maximum_age_days))
        if joining:
            studies[other.study_instance_uid] = other
            volumes = (*volumes, *joining)
    volume_set = choose(_of_one_patient(volumes, study), selection)
    names = {item.volume.identifier: item for item in volume_set.chosen}
    entries = tuple(
        _entry(
            item.volume,
            studies[item.volume.study_instance_uid],
            study.revision if revision is None else revision,
            study,
            item.reason,
            names.get(item.volume.identifier),
        )
        for item in volume_set.choices
    )
    used = {item.volume.study_instance_uid for item in volume_set.chosen} - {study.study_instance_uid}
    return Choice(volume_set, entries, tuple(sorted(studies[uid].input_digest for uid in used)))


def choose_for_prompt(
    session: Session,
    study: Study,
    definition: PromptDefinition,
    data_folder: Path,
    priors: PriorsSection,
    revision: int | None = None,
) -> Choice:
    """`choose_for` with the earlier sessions that the prompt needs."""
    age = definition.priors.maximum_age_days or priors.maximum_age_days
    selection = selection_with_priors(definition, priors)
    return choose_for(session, study, selection, data_folder, revision, age if wants_priors(definition) else None)


def taken_identifiers(choices: Sequence[dict[str, Any]]) -> frozenset[str]:
    """Of `Run.choices`: the volumes that were taken."""
    return frozenset(entry["identifier"] for entry in choices if entry["taken"])


def are_known(session: Session, run: Run) -> bool:
    """Whether the volumes that a run was planned with are still in the index."""
    return all(row is not None for _, row in _rows(session, run))


def _rows(session: Session, run: Run) -> list[tuple[dict[str, Any], Volume | None]]:
    """The choices that were taken, each with its volume."""
    return [
        (
            entry,
            session.scalars(
                select(Volume).where(
                    Volume.study_id == entry["study_id"],
                    Volume.revision == entry["revision"],
                    Volume.identifier == entry["identifier"],
                )
            ).one_or_none(),
        )
        for entry in run.choices
        if entry["taken"]
    ]


def gathered_volumes(session: Session, run: Run, data_folder: Path) -> tuple[ChosenVolume, ...]:
    """The volumes that a run takes, as they were when it was planned.

    Raises:
        RunFailure: one is no longer known.
    """
    found = []
    for entry, row in _rows(session, run):
        if row is None:
            raise RunFailure("A volume that the run was planned with is no longer in the index. Retry the run.")
        found.append(ChosenVolume(entry["name"], entry["session"], volume_from_json(row.description, data_folder)))
    return tuple(sorted(found, key=lambda item: int(item.name.removeprefix("v"))))


def _entry(
    volume: SourceVolume, holder: Study, revision: int, study: Study, reason: str, chosen: ChosenVolume | None
) -> dict[str, Any]:
    """
    Args:
        holder: the study that the volume is of.
        revision: of `study`, which the run is about.
    """
    entry: dict[str, Any] = {
        "identifier": volume.identifier,
        "study_id": holder.id,
        "revision": revision if holder.id == study.id else holder.understood_revision,
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
        Study.patient_id == study.patient_id,
        Study.id != study.id,
        Study.state.in_([StudyState.COMPLETE, StudyState.PRIOR]),
    )
    return session.scalars(query.order_by(Study.study_date, Study.id)).all()


def _of_the_same_session(others: Sequence[SourceVolume], volumes: Sequence[SourceVolume]) -> tuple[SourceVolume, ...]:
    """Those of the same day that share a frame of reference or an order."""
    frames = {(volume.visit, volume.frame_of_reference_uid) for volume in volumes if volume.frame_of_reference_uid}
    orders = {(volume.visit, volume.order_key) for volume in volumes if volume.order_key}
    return tuple(
        volume
        for volume in others
        if volume.visit is not None
        and ((volume.visit, volume.frame_of_reference_uid) in frames or (volume.visit, volume.order_key) in orders)
    )


def _before(
    earlier: Sequence[SourceVolume], volumes: Sequence[SourceVolume], maximum_age_days: int | None
) -> tuple[SourceVolume, ...]:
    """Those that are dated before every dated volume of the study, and not too long; none where the study has no
    date."""
    dates = [volume.visit for volume in volumes if volume.visit is not None]
    if not dates:
        return ()
    last = min(dates)
    first = last - timedelta(days=maximum_age_days) if maximum_age_days is not None else date.min
    return tuple(volume for volume in earlier if volume.visit is not None and first <= volume.visit < last)


def _of_one_patient(volumes: Sequence[SourceVolume], study: Study) -> tuple[PatientSession, ...]:
    own = {volume.patient_key for volume in volumes if volume.study_instance_uid == study.study_instance_uid}
    return sessions_of([volume for volume in volumes if volume.patient_key in own])
