"""Processing again what was processed before: by study, date, prompt, failure or model; first said, then done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.config import PriorsSection
from vp_node.database.models import Prompt, PromptVersion, Run, RunState, Study, StudyState
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.matching import matching_versions
from vp_node.runs.choosing import choose_for_prompt
from vp_node.runs.control import retry_run
from vp_node.runs.identity import combined_digest
from vp_node.runs.planning import NO_ARCHIVE, PlanningError, predecessor, request_run, same_run


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


def plan_reprocess(
    session: Session,
    selectors: Selectors,
    data_folder: Path,
    model_hash: str,
    priors: PriorsSection = NO_ARCHIVE,
) -> list[Reprocess]:
    """What `reprocess` would do, in order of study; changes nothing.

    Raises:
        PlanningError: a study or prompt that is named does not exist.
    """
    return [
        _would_do(session, study, version, data_folder, model_hash, priors)
        for study in _selected_studies(session, selectors)
        for version in _selected_versions(session, study, selectors)
    ]


def reprocess(
    session: Session,
    plan: Sequence[Reprocess],
    requested_by: str,
    data_folder: Path,
    model_hash: str,
    now: datetime,
    priors: PriorsSection = NO_ARCHIVE,
) -> list[Run]:
    """Does what `plan_reprocess` said; returns the runs that were queued."""
    queued = []
    for item in plan:
        if item.action == "retry" and item.previous is not None:
            retry_run(session, item.previous, requested_by, now)
            queued.append(item.previous)
        elif item.action == "run":
            planned = request_run(
                session,
                item.study,
                item.version,
                requested_by,
                data_folder,
                model_hash,
                now,
                at_once=True,
                priors=priors,
            )
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


def _would_do(
    session: Session,
    study: Study,
    version: PromptVersion,
    data_folder: Path,
    model_hash: str,
    priors: PriorsSection,
) -> Reprocess:
    definition = PromptDefinition.from_json(version.definition)
    choice = choose_for_prompt(session, study, definition, data_folder, priors)
    digest = combined_digest([study.input_digest, *choice.other_digests])
    same = same_run(session, study, version, model_hash, digest)
    if same is None:
        previous = predecessor(session, study, version)
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
