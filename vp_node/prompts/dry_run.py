"""What a prompt would do with the studies that are there: said, not done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from vp_model.outcome import InputVolume
from vp_node.compute.codec import input_volumes
from vp_node.config import PriorsSection
from vp_node.database.models import Study, StudyState
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.matching import facts_of, match
from vp_node.runs.choosing import choose_for_prompt
from vp_node.runs.planning import NO_ARCHIVE

Planner = Callable[[str, tuple[InputVolume, ...]], Mapping[str, Any]]
"""Asks the model what it would do with a prompt on volumes: `vp_model.agent.Plan` as plain values."""


@dataclass(frozen=True)
class DryRun:
    """What a prompt would do with one study."""

    study_instance_uid: str
    study_date: date | None
    revision: int
    matched: bool
    explanation: tuple[str, ...]
    choices: tuple[dict[str, Any], ...]
    """As in `Run.choices`; empty where the prompt does not apply."""
    plan: Mapping[str, Any] | None
    """None where the prompt does not apply, takes no volume, or no planner was given."""

    @property
    def taken(self) -> int:
        return sum(bool(choice["taken"]) for choice in self.choices)


def complete_studies(session: Session, study_instance_uids: Sequence[str] = ()) -> list[int]:
    """Row ids of the studies that a prompt can run on, all or those with these UIDs, in order of date."""
    query = select(Study.id).where(Study.state == StudyState.COMPLETE).order_by(Study.study_date, Study.id)
    if study_instance_uids:
        query = query.where(Study.study_instance_uid.in_(study_instance_uids))
    return list(session.scalars(query))


def dry_run(
    sessions: sessionmaker[Session],
    definition: PromptDefinition,
    study_ids: Sequence[int],
    data_folder: Path,
    planner: Planner | None = None,
    priors: PriorsSection = NO_ARCHIVE,
) -> Iterator[DryRun]:
    """Yields one result for each study; nothing is stored.

    Planning takes seconds, and happens outside of any session: on SQLite an open one would keep the listener waiting.
    The same question about volumes of the same kinds and dates is planned once.
    """
    known: dict[tuple[InputVolume, ...], Mapping[str, Any]] = {}
    for study_id in study_ids:
        with sessions() as session:
            study = session.get_one(Study, study_id)
            uid, visit, revision = study.study_instance_uid, study.study_date, study.revision
            verdict = match(definition, facts_of(session, study))
            choice = choose_for_prompt(session, study, definition, data_folder, priors) if verdict.matched else None
        volumes = input_volumes(choice.volume_set.chosen) if choice else ()
        if volumes and planner is not None and volumes not in known:
            known[volumes] = planner(definition.text, volumes)
        yield DryRun(
            study_instance_uid=uid,
            study_date=visit,
            revision=revision,
            matched=verdict.matched,
            explanation=verdict.explanation,
            choices=choice.entries if choice else (),
            plan=known.get(volumes) if volumes else None,
        )
