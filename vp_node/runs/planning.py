"""From a study and prompts to runs: standing prompts when a study is closed, ad-hoc prompts when somebody asks.

All of it is rows in the node's database. The workers pick up queued runs from there (`vp_node.runs.engine`), so that
the command line can ask for a run without a worker in its process, and a crash between the two loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.database.models import (
    FINAL_RUN_STATES,
    Prompt,
    PromptVersion,
    Run,
    RunState,
    Study,
    StudyState,
)
from vp_node.operations.audit import record
from vp_node.prompts.definition import PromptDefinition
from vp_node.runs.choosing import choose_for
from vp_node.runs.identity import combined_digest, run_identifier

STANDING = "standing prompt"
"""`Run.requested_by` of a run that no person asked for."""


class PlanningError(ValueError):
    """The run cannot be asked for; the message says why."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that was asked for."""

    run: Run
    created: bool
    """False: the same study, prompt, model and images were asked before, and this is that run."""


def plan_standing_prompts(session: Session, study: Study, model_hash: str, now: datetime) -> tuple[Run, ...]:
    """Asks for the runs of every standing prompt that matches a closed study's revision; returns the new ones.

    Runs of an earlier revision that have not begun are superseded; one that has begun or ended is named as the
    predecessor of its follower. Asking again changes nothing.
    """
    from vp_node.prompts.matching import matching_versions

    versions = list(matching_versions(session, study))
    waiting = _not_begun_on_earlier_revisions(session, study)
    asked_by = {version.id: STANDING for version in versions}
    for run in waiting:
        if not run.prompt_version.prompt.standing and run.prompt_version_id not in asked_by:
            versions.append(run.prompt_version)
            asked_by[run.prompt_version_id] = run.requested_by
    planned = [request_run(session, study, version, asked_by[version.id], model_hash, now) for version in versions]
    for run in waiting:
        _supersede(session, run, now)
    return tuple(item.run for item in planned if item.created)


def request_run(
    session: Session,
    study: Study,
    version: PromptVersion,
    requested_by: str,
    model_hash: str,
    now: datetime,
    *,
    priority: int | None = None,
    at_once: bool = False,
) -> PlannedRun:
    """Asks for one run.

    Args:
        requested_by: `STANDING` or the name of a person.
        model_hash: content hash of the checkpoint that will run it.
        priority: lower goes first; by default the prompt's.
        at_once: leaves out the prompt's time window.

    Raises:
        PlanningError: the study is not closed.
    """
    if study.state != StudyState.COMPLETE:
        raise PlanningError(f"The study is {study.state}: a prompt can run once it is complete.")
    definition = PromptDefinition.from_json(version.definition)
    choice = choose_for(session, study, definition)
    digest = combined_digest([study.input_digest, *choice.other_digests])
    identifier = run_identifier(study.study_instance_uid, version.id, model_hash, digest)
    existing = session.get(Run, identifier)
    if existing is not None:
        return PlannedRun(existing, created=False)
    opens_at = None if at_once else definition.schedule.opens_at(now)
    predecessor = _predecessor(session, study, version)
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
        supersedes_run_id=predecessor.id if predecessor else None,
        choices=list(choice.entries),
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


def _predecessor(session: Session, study: Study, version: PromptVersion) -> Run | None:
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


@dataclass(frozen=True)
class Selectors:
    """Which study and prompt pairs to process again; what is left out selects everything."""

    study_instance_uids: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None
    """Study dates, both included."""
    prompts: tuple[str, ...] = ()
    """Names of prompts; their current versions are run. Without: the prompts that ran on each study, and those that
    match it."""
    failed_only: bool = False
    model_hash: str = ""
    """Only runs that this model made (a prefix of its content hash is enough)."""


@dataclass(frozen=True)
class Reprocess:
    """One thing that reprocessing would do."""

    study: Study
    version: PromptVersion
    previous: Run | None
    action: str
    """`run` (a new run), `retry` (the failed run again) or `nothing` (the same run is there)."""
    reason: str


def plan_reprocess(session: Session, selectors: Selectors, model_hash: str) -> list[Reprocess]:
    """What `reprocess` would do, in order of study; changes nothing.

    Raises:
        PlanningError: a study or prompt that is named does not exist.
    """
    return [
        _would_do(session, study, version, model_hash)
        for study in _selected_studies(session, selectors)
        for version in _selected_versions(session, study, selectors)
    ]


def reprocess(
    session: Session, plan: Sequence[Reprocess], requested_by: str, model_hash: str, now: datetime
) -> list[Run]:
    """Does what `plan_reprocess` said; returns the runs that were queued."""
    from vp_node.runs.control import retry_run

    queued = []
    for item in plan:
        if item.action == "retry" and item.previous is not None:
            retry_run(session, item.previous, requested_by, now)
            queued.append(item.previous)
        elif item.action == "run":
            planned = request_run(session, item.study, item.version, requested_by, model_hash, now, at_once=True)
            if planned.created:
                queued.append(planned.run)
    return queued


def _selected_studies(session: Session, selectors: Selectors) -> list[Study]:
    query = select(Study).where(Study.state == StudyState.COMPLETE).order_by(Study.study_date, Study.id)
    if selectors.study_instance_uids:
        query = query.where(Study.study_instance_uid.in_(selectors.study_instance_uids))
    if selectors.from_date is not None:
        query = query.where(Study.study_date >= selectors.from_date)
    if selectors.to_date is not None:
        query = query.where(Study.study_date <= selectors.to_date)
    studies = list(session.scalars(query))
    unknown = set(selectors.study_instance_uids) - {study.study_instance_uid for study in studies}
    if unknown:
        raise PlanningError(f"No complete study here has the UID {sorted(unknown)[0]}. See `vp-node studies`.")
    return studies


def _selected_versions(session: Session, study: Study, selectors: Selectors) -> list[PromptVersion]:
    from vp_node.prompts.matching import matching_versions

    runs = [
        run
        for run in session.scalars(select(Run).where(Run.study_id == study.id).order_by(Run.created_at))
        if (not selectors.failed_only or run.state == RunState.FAILED)
        and run.model_hash.startswith(selectors.model_hash)
        and (not selectors.prompts or run.prompt_version.prompt.name in selectors.prompts)
    ]
    if selectors.failed_only or selectors.model_hash:
        prompts = {run.prompt_version.prompt_id: run.prompt_version.prompt for run in runs}
    elif selectors.prompts:
        prompts = {prompt.id: prompt for prompt in (_prompt(session, name) for name in selectors.prompts)}
    else:
        prompts = {run.prompt_version.prompt_id: run.prompt_version.prompt for run in runs}
        prompts |= {version.prompt_id: version.prompt for version in matching_versions(session, study)}
    return [prompt.versions[-1] for prompt in prompts.values()]


def _prompt(session: Session, name: str) -> Prompt:
    prompt = session.scalars(select(Prompt).where(Prompt.name == name)).first()
    if prompt is None:
        raise PlanningError(f"No prompt is named {name!r}. See `vp-node prompts list`.")
    return prompt


def _would_do(session: Session, study: Study, version: PromptVersion, model_hash: str) -> Reprocess:
    choice = choose_for(session, study, PromptDefinition.from_json(version.definition))
    digest = combined_digest([study.input_digest, *choice.other_digests])
    same = session.get(Run, run_identifier(study.study_instance_uid, version.id, model_hash, digest))
    if same is None:
        previous = _predecessor(session, study, version)
        return Reprocess(study, version, previous, "run", _what_changed(previous, version, model_hash))
    if same.state in (RunState.FAILED, RunState.CANCELLED):
        return Reprocess(study, version, same, "retry", f"the same run is {same.state}")
    return Reprocess(
        study, version, same, "nothing", f"the same run is {same.state}: prompt, model and images are as then"
    )


def _what_changed(previous: Run | None, version: PromptVersion, model_hash: str) -> str:
    if previous is None:
        return "never run on this study"
    changes = []
    if previous.prompt_version_id != version.id:
        changes.append("the prompt")
    if previous.model_hash != model_hash:
        changes.append("the model")
    return f"{' and '.join(changes) or 'the images'} changed since the last run"
