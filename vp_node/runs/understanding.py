"""What a closed study is understood to hold, written down for its revision."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.compute.codec import volume_from_json, volume_to_json
from vp_node.compute.failure import place_of
from vp_node.database.models import Instance, Series, SetAsideSeries, Study, StudyState, Volume
from vp_node.database.models import VolumeRule as StoredRule
from vp_node.intake.completeness import content_digest, instance_digests
from vp_node.operations.audit import record
from vp_node.studies.corrections import BY_RULE, VolumeRule
from vp_node.studies.headers import InstanceHeader
from vp_node.studies.model import SourceVolume, Understanding
from vp_node.studies.understanding import understand

LOG = logging.getLogger(__name__)


def not_understood(session: Session) -> list[int]:
    """Ids of closed studies whose revision nobody has looked at, oldest first."""
    query = (
        select(Study.id)
        .where(Study.state == StudyState.COMPLETE, Study.understood_revision < Study.revision)
        .order_by(Study.closed_at, Study.id)
    )
    return list(session.scalars(query))


@dataclass(frozen=True)
class StudyRevision:
    """A closed study as it is to be understood."""

    study_id: int
    revision: int
    headers: tuple[InstanceHeader, ...]
    rules: tuple[VolumeRule, ...] = ()
    """Corrections of what volumes are."""


def read_revision(session: Session, study_id: int, data_folder: Path) -> StudyRevision:
    """The headers of what a study holds, without what this node made."""
    study = session.get_one(Study, study_id)
    rows = session.execute(
        select(Instance.header, Instance.path, Instance.digest)
        .join(Series)
        .where(Series.study_id == study_id, Instance.own_result.is_(False))
        .order_by(Series.id, Instance.id)
    )
    headers = tuple(
        replace(InstanceHeader.from_json(row.header, data_folder / row.path), digest=row.digest) for row in rows
    )
    return StudyRevision(study_id, study.revision, headers, volume_rules(session))


def volume_rules(session: Session) -> tuple[VolumeRule, ...]:
    """The corrections, in the order in which they are asked."""
    rows = session.scalars(select(StoredRule).order_by(StoredRule.position, StoredRule.id))
    return tuple(VolumeRule.model_validate(row.definition) for row in rows)


def understand_revision(read: StudyRevision) -> Understanding | str:
    """Groups the instances of a study into volumes; where that fails, the sentence that says so.

    Needs no session: on SQLite an open one would keep the listener waiting.
    """
    try:
        return understand(list(read.headers), read.rules)
    except Exception as error:  # noqa: BLE001 (becomes the study's visible state, and is logged)
        reason = f"The series could not be understood: {type(error).__name__} in {place_of(error)}."
        LOG.error("Study %d: %s", read.study_id, reason)
        return reason


def store_understanding(session: Session, study: Study, understanding: Understanding | str, data_folder: Path) -> None:
    """Writes the volumes of the study's present revision, and what was set aside.

    A study that could not be understood is set aside as a whole, with the reason: it is seen, and not tried again for
    ever.
    """
    study.understood_revision = study.revision
    if isinstance(understanding, str):
        record(session, "node", "study not understood", study.study_instance_uid, reason=understanding)
        _set_all_aside(session, study, understanding)
        return
    for volume in understanding.volumes:
        session.add(
            Volume(
                study_id=study.id,
                revision=study.revision,
                identifier=volume.identifier,
                series_instance_uid=volume.series_instance_uid,
                kind=volume.kind,
                visit=volume.visit,
                description=volume_to_json(volume, relative_to=data_folder),
            )
        )
    for item in understanding.set_aside:
        session.add(
            SetAsideSeries(
                study_id=study.id,
                revision=study.revision,
                series_instance_uid=item.series_instance_uid,
                reason=item.reason,
                sop_instance_uids=list(item.sop_instance_uids),
            )
        )
    session.flush()
    study.input_digest = input_digest(session, study)
    record(
        session,
        "node",
        "study understood",
        study.study_instance_uid,
        revision=study.revision,
        volumes=len(understanding.volumes),
        set_aside=len(understanding.set_aside),
    )


def input_digest(session: Session, study: Study) -> str:
    """What a study holds, and how rules corrected it when it was understood: what makes a run another run.

    Without corrections it is the digest of the content alone.
    """
    content = content_digest(instance_digests(session, study))
    revision = study.understood_revision
    descriptions = select(Volume.description).where(Volume.study_id == study.id, Volume.revision == revision)
    reasons = select(SetAsideSeries.reason, SetAsideSeries.series_instance_uid).where(
        SetAsideSeries.study_id == study.id, SetAsideSeries.revision == revision
    )
    corrections = [
        f"{description['identifier']} {said}"
        for description in session.scalars(descriptions)
        for said in description["evidence"]
        if BY_RULE in said
    ]
    corrections += [f"{series} {reason}" for reason, series in session.execute(reasons) if BY_RULE in reason]
    if not corrections:
        return content
    return hashlib.sha256("\n".join([content, *sorted(corrections)]).encode()).hexdigest()


def stored_volumes(
    session: Session, study: Study, data_folder: Path, revision: int | None = None
) -> tuple[SourceVolume, ...]:
    """The volumes of a study's revision, by default of the present one, with absolute paths."""
    wanted = study.revision if revision is None else revision
    query = select(Volume).where(Volume.study_id == study.id, Volume.revision == wanted).order_by(Volume.id)
    return tuple(volume_from_json(row.description, data_folder) for row in session.scalars(query))


def _set_all_aside(session: Session, study: Study, reason: str) -> None:
    for series in session.scalars(select(Series).where(Series.study_id == study.id)):
        uids = sorted({instance.sop_instance_uid for instance in series.instances if not instance.own_result})
        if uids:
            session.add(
                SetAsideSeries(
                    study_id=study.id,
                    revision=study.revision,
                    series_instance_uid=series.series_instance_uid,
                    reason=reason,
                    sop_instance_uids=uids,
                )
            )
    session.flush()
