"""From a study and prompts to runs: standing prompts when a study is closed, ad-hoc prompts when somebody asks.

All of it is rows in the node's database. The workers pick up queued runs from there (`vp_node.runs.engine`), so that
the command line can ask for a run without a worker in its process, and a crash between the two loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.compute.failure import place_of
from vp_node.config import PriorsSection
from vp_node.database.models import (
    FINAL_RUN_STATES,
    PromptVersion,
    Run,
    RunState,
    Study,
    StudyState,
)
from vp_node.operations.audit import record
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.matching import matching_versions
from vp_node.prompts.priors import wants_priors
from vp_node.runs.choosing import choose_for_prompt, taken_identifiers
from vp_node.runs.identity import combined_digest, run_identifier

STANDING = "standing prompt"
"""`Run.requested_by` of a run that no person asked for."""


NO_ARCHIVE = PriorsSection()


class PlanningError(ValueError):
    """The run cannot be asked for; the message says why."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that was asked for."""

    run: Run
    created: bool
    """False: the same study, prompt, model and images were asked before, and this is that run."""


def plan_standing_prompts(
    session: Session,
    study: Study,
    data_folder: Path,
    model_hash: str,
    now: datetime,
    priors: PriorsSection = NO_ARCHIVE,
) -> tuple[Run, ...]:
    """Asks for the runs of every standing prompt that matches a closed study's revision; returns the new ones.

    Runs of an earlier revision that have not begun are superseded; one that has begun or ended is named as the
    predecessor of its follower. Asking again changes nothing. A prompt that cannot be planned becomes a failed run and
    holds up no other.
    """
    versions = list(matching_versions(session, study))
    waiting = _not_begun_on_earlier_revisions(session, study)
    asked_by = {version.id: STANDING for version in versions}
    for run in waiting:
        if not run.prompt_version.prompt.standing and run.prompt_version_id not in asked_by:
            versions.append(run.prompt_version)
            asked_by[run.prompt_version_id] = run.requested_by
    planned = []
    for version in versions:
        try:
            with session.begin_nested():
                item = request_run(
                    session, study, version, asked_by[version.id], data_folder, model_hash, now, priors=priors
                )
        except Exception as error:  # noqa: BLE001 (becomes a failed run, which an admin sees)
            item = _unplanned(session, study, version, asked_by[version.id], model_hash, now, error)
        planned.append(item)
    kept = {item.run.id for item in planned}
    for run in waiting:
        if run.id not in kept:
            _supersede(session, run, now)
    return tuple(item.run for item in planned if item.created)


def plan_later_studies(
    session: Session,
    study: Study,
    data_folder: Path,
    model_hash: str,
    now: datetime,
    priors: PriorsSection = NO_ARCHIVE,
) -> tuple[Run, ...]:
    """Asks again what was asked about later studies of the patient, where this one belongs into the answer.

    Studies may come in any order: a prompt about change that was asked before its prior came is asked again with it.
    Returns the new runs.
    """
    later = session.scalars(
        select(Study)
        .where(Study.patient_id == study.patient_id, Study.id != study.id, Study.state == StudyState.COMPLETE)
        .order_by(Study.study_date, Study.id)
    ).all()
    asked = []
    for other in later:
        latest: dict[str, Run] = {}
        runs = select(Run).where(Run.study_id == other.id, Run.revision == other.revision).order_by(Run.created_at)
        for run in session.scalars(runs):
            if run.state not in (RunState.SUPERSEDED, RunState.CANCELLED):
                latest[run.prompt_version_id] = run
        for run in latest.values():
            definition = PromptDefinition.from_json(run.prompt_version.definition)
            if not wants_priors(definition) or other.understood_revision < other.revision:
                continue
            choice = choose_for_prompt(session, other, definition, data_folder, priors)
            if taken_identifiers(choice.entries) == taken_identifiers(run.choices):
                continue
            if run.state in (RunState.QUEUED, RunState.SCHEDULED):
                continue  # it has not begun, and chooses when it does
            planned = request_run(
                session, other, run.prompt_version, run.requested_by, data_folder, model_hash, now, priors=priors
            )
            if planned.created:
                asked.append(planned.run)
    return tuple(asked)


def _unplanned(
    session: Session,
    study: Study,
    version: PromptVersion,
    requested_by: str,
    model_hash: str,
    now: datetime,
    error: Exception,
) -> PlannedRun:
    """A failed run in place of one that could not be planned."""
    reason = f"It could not be planned: {type(error).__name__} in {place_of(error)}."
    identifier = run_identifier(study.study_instance_uid, version.id, model_hash, study.input_digest)
    existing = session.get(Run, identifier)
    if existing is not None:
        return PlannedRun(existing, created=False)
    run = Run(
        id=identifier,
        study_id=study.id,
        revision=study.revision,
        prompt_version_id=version.id,
        model_hash=model_hash,
        input_digest=study.input_digest,
        state=RunState.FAILED,
        reason=reason,
        requested_by=requested_by,
        created_at=now,
        finished_at=now,
    )
    session.add(run)
    session.flush()
    record(session, "node", "run failed", identifier, reason=reason)
    return PlannedRun(run, created=True)


def request_run(
    session: Session,
    study: Study,
    version: PromptVersion,
    requested_by: str,
    data_folder: Path,
    model_hash: str,
    now: datetime,
    *,
    priority: int | None = None,
    at_once: bool = False,
    priors: PriorsSection = NO_ARCHIVE,
) -> PlannedRun:
    """Asks for one run.

    Its volumes are chosen now where they are known; where the study was closed a moment ago, or earlier studies are
    fetched first, the run chooses when it begins (`vp_node.runs.steps.gather`).

    Args:
        requested_by: `STANDING` or the name of a person.
        data_folder: the node's.
        model_hash: content hash of the checkpoint that will run it.
        priority: lower goes first; by default the prompt's.
        at_once: leaves out the prompt's time window.

    Raises:
        PlanningError: the study is not closed.
    """
    if study.state != StudyState.COMPLETE:
        raise PlanningError(f"The study is {study.state}: a prompt can run once it is complete.")
    definition = PromptDefinition.from_json(version.definition)
    entries: tuple[dict[str, Any], ...] = ()
    digest = study.input_digest
    if study.understood_revision >= study.revision:
        choice = choose_for_prompt(session, study, definition, data_folder, priors)
        entries, digest = choice.entries, combined_digest([study.input_digest, *choice.other_digests])
    identifier = run_identifier(study.study_instance_uid, version.id, model_hash, digest)
    existing = same_run(session, study, version, model_hash, digest)
    if existing is not None:
        return PlannedRun(existing, created=False)
    opens_at = None if at_once else definition.schedule.opens_at(now)
    earlier = predecessor(session, study, version)
    run = Run(
        id=identifier,
        study_id=study.id,
        revision=study.revision,
        prompt_version_id=version.id,
        model_hash=model_hash,
        input_digest=digest,
        state=RunState.QUEUED if opens_at is None else RunState.SCHEDULED,
        priority=definition.priority if priority is None else priority,
        not_before=opens_at,
        requested_by=requested_by,
        supersedes_run_id=earlier.id if earlier else None,
        choices=list(entries),
        created_at=now,
    )
    session.add(run)
    session.flush()
    record(
        session,
        "node" if requested_by == STANDING else requested_by,
        "run queued",
        identifier,
        prompt=version.prompt.name,
        version=version.number,
        study=study.study_instance_uid,
        revision=study.revision,
    )
    return PlannedRun(run, created=True)


def same_run(session: Session, study: Study, version: PromptVersion, model_hash: str, input_digest: str) -> Run | None:
    """The run that was asked for with the same study, prompt, model and images, if there is one.

    A run that fetched earlier studies draws on more than what its name was made of: what it drew on in the end counts.
    """
    identifier = run_identifier(study.study_instance_uid, version.id, model_hash, input_digest)
    named = session.get(Run, identifier)
    if named is not None:
        return named
    return session.scalars(
        select(Run)
        .where(
            Run.study_id == study.id,
            Run.prompt_version_id == version.id,
            Run.model_hash == model_hash,
            Run.input_digest == input_digest,
        )
        .order_by(Run.created_at.desc())
    ).first()


def predecessor(session: Session, study: Study, version: PromptVersion) -> Run | None:
    """The latest run of the same prompt on the same study that has begun: the one whose results may be in the PACS."""
    return session.scalars(
        select(Run)
        .join(PromptVersion)
        .where(
            Run.study_id == study.id,
            PromptVersion.prompt_id == version.prompt_id,
            Run.state.not_in([RunState.QUEUED, RunState.SCHEDULED, RunState.SUPERSEDED, RunState.CANCELLED]),
        )
        .order_by(Run.revision.desc(), Run.created_at.desc())
        .limit(1)
    ).first()


def _not_begun_on_earlier_revisions(session: Session, study: Study) -> list[Run]:
    query = select(Run).where(
        Run.study_id == study.id,
        Run.revision < study.revision,
        Run.state.in_([RunState.QUEUED, RunState.SCHEDULED]),
    )
    return list(session.scalars(query))


def _supersede(session: Session, run: Run, now: datetime) -> None:
    if run.state in FINAL_RUN_STATES:
        return
    run.state = RunState.SUPERSEDED
    run.reason = "More of the study arrived before this run began; its later revision is run instead."
    run.finished_at = now
    record(session, "node", "run superseded", run.id)
