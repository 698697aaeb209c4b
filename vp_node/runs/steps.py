"""The steps of a run: `fetch → gather → infer → encode → check → send → commit`.

A step may be repeated after a crash, from its beginning, also by another worker; each leaves the same rows and files
then. What it found out is in the node's database and in the run's folder, never in the engine's tables.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from sqlalchemy.exc import OperationalError

from vp_model.outcome import OUTCOME_FILE, Outcome
from vp_node.compute.codec import RunJob
from vp_node.compute.failure import ComputeFailure, place_of
from vp_node.database.models import Run, RunState, StudyState
from vp_node.operations.audit import record
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.priors import number_wanted
from vp_node.runs.choosing import are_known, choose_for_prompt, gathered_volumes
from vp_node.runs.context import RunContext, WorkerStopping
from vp_node.runs.delivery import fill_outbox, outcome_status, settle
from vp_node.runs.destinations import destinations_of
from vp_node.runs.encoding import check_results, encode_results
from vp_node.runs.identity import combined_digest
from vp_node.runs.no_volume import leaves_a_report, refuse_with_report
from vp_node.runs.priors import PriorReport, search_priors
from vp_node.runs.states import RunFailure, RunRefused, RunStopped, advance, is_stopped

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Before the second try of a step; doubles after each."""


def perform(context: RunContext, step: str, run_id: str, attempt: int) -> str:
    """Does one step of a run.

    Returns:
        `next` when the run goes on, otherwise how it ended: `failed`, `refused` or `stopped`. The reason is written
        into the run, where an admin sees it and can retry it; this function raises only where the node's database
        cannot be written.
    """
    tries = context.config.workflow.step_attempts
    for number in range(1, tries + 1):
        try:
            STEPS[step](context, run_id, attempt)
            return "next"
        except RunStopped:
            return "stopped"
        except RunRefused as refusal:
            return _end(context, run_id, attempt, step, RunState.REFUSED, str(refusal))
        except Exception as error:  # noqa: BLE001 (the boundary of a step: what went wrong becomes the run's state)
            failure = _failure_of(step, error)
        if context.stopping.is_set():
            raise WorkerStopping
        if not failure.may_pass or number == tries:
            break
        LOG.warning("Run %s: step %s failed (%s); trying again.", run_id, step, failure)
        if context.stopping.wait(RETRY_SECONDS * 2 ** (number - 1)):
            raise WorkerStopping
    LOG.error("Run %s failed in step %s: %s", run_id, step, failure)
    return _end(context, run_id, attempt, step, RunState.FAILED, str(failure))


def fetch(context: RunContext, run_id: str, attempt: int) -> None:
    """Looks for the patient's earlier studies where the prompt needs them; what it came to stands in the run."""
    with context.sessions() as session:
        run = session.get_one(Run, run_id)
        definition = PromptDefinition.from_json(run.prompt_version.definition)
        if number_wanted(definition, context.config.priors) == 0 or run.priors.get("attempt") == attempt:
            return
    with context.sessions.begin() as session:
        advance(session, run_id, attempt, RunState.FETCHING, started_at=context.now(), reason="")
    report = search_priors(context, run_id, attempt)
    with context.sessions.begin() as session:
        found = report.to_json() if report is not None else {"wanted": 0, "attempt": attempt}
        advance(session, run_id, attempt, RunState.FETCHING, priors=found)


def gather(context: RunContext, run_id: str, attempt: int) -> None:
    """Begins the run, and makes sure that there are images for it to take, and that they are there."""
    with context.sessions.begin() as session:
        advance(session, run_id, attempt, RunState.GATHERING, started_at=context.now(), reason="")
        run = session.get_one(Run, run_id, populate_existing=True)
        vanished = bool(run.choices) and not are_known(session, run)
        if vanished:
            _move_to_present_revision(run)
        if not run.choices or run.priors or vanished:
            definition = PromptDefinition.from_json(run.prompt_version.definition)
            choice = choose_for_prompt(
                session, run.study, definition, context.data_folder, context.config.priors, run.revision
            )
            run.choices = list(choice.entries)
            run.input_digest = combined_digest([_own_digest(run), *choice.other_digests])
        volumes = gathered_volumes(session, run, context.data_folder)
        looked_at = len(run.choices)
        leaves_report = leaves_a_report(run, context.config)
    if not volumes:
        reason = (
            f"The prompt takes none of the {looked_at} volumes. See `vp-node run show` for the reasons."
            if looked_at
            else "The study holds no volume: every series was set aside. See `vp-node volumes` for the reasons."
        )
        if not leaves_report:
            raise RunRefused(reason)
        refuse_with_report(context, run_id, attempt, reason)
    paths = {frame.path for item in volumes for frame in item.volume.sources}
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise RunFailure(f"{len(missing)} of its source images are no longer in the data folder. Send the study again.")


def infer(context: RunContext, run_id: str, attempt: int) -> None:
    """Runs the prompt in the compute process; the outcome lies in the run's folder afterwards."""
    folder = context.run_folder(run_id, attempt) / "outcome"
    with context.sessions.begin() as session:
        advance(session, run_id, attempt, RunState.INFERRING)
        run = session.get_one(Run, run_id, populate_existing=True)
        prompt = run.prompt_version.text
        volumes = gathered_volumes(session, run, context.data_folder)
        notes = prior_notes(run)
    if not (folder / OUTCOME_FILE).exists():
        unfinished = folder.with_name(f"outcome-{uuid4().hex}")
        unfinished.mkdir(parents=True)
        try:
            with context.compute.process() as process:
                job = RunJob(prompt, volumes, unfinished, context.config.alignment, notes)
                process.run(job, cancelled=lambda: _is_cancelled(context, run_id, attempt))
            _put(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    outcome = Outcome.load(folder)
    if outcome.status == "failed":
        raise RunFailure(outcome.reason or "The model did not finish, and gave no reason.")
    with context.sessions.begin() as session:
        advance(
            session,
            run_id,
            attempt,
            RunState.INFERRING,
            task=outcome.task,
            program=outcome.transcript.program,
            reason=" ".join((outcome.reason, *notes)).strip() if outcome.status == "refused" else outcome.reason,
            outcome_folder=str(folder.relative_to(context.data_folder)),
        )


def encode(context: RunContext, run_id: str, attempt: int) -> None:
    """Writes SEG, SR and derived images; again with the same UIDs where it is repeated."""
    with context.sessions.begin() as session:
        advance(session, run_id, attempt, RunState.ENCODING)
    encode_results(context, run_id, attempt)


def check(context: RunContext, run_id: str, attempt: int) -> None:
    """Holds every object against the rules; an object that breaks one is not sent."""
    with context.sessions.begin() as session:
        advance(session, run_id, attempt, RunState.CHECKING)
    check_results(context, run_id)


def send(context: RunContext, run_id: str, attempt: int) -> None:
    """Puts the objects into the outbox, from which they are sent in the background (`vp_node.runs.delivery`)."""
    with context.sessions.begin() as session:
        advance(session, run_id, attempt, RunState.SENDING)
        run = session.get_one(Run, run_id, populate_existing=True)
        status, _ = outcome_status(context, run)
        destinations = destinations_of(context.config, run, status)
        fill_outbox(session, context.config, run, destinations, context.now())


def commit(context: RunContext, run_id: str, attempt: int) -> None:
    """Ends the run if every delivery has ended; otherwise the last delivery ends it."""
    with context.sessions.begin() as session:
        settle(session, context, run_id)


STEPS: dict[str, Callable[[RunContext, str, int], None]] = {
    "fetch": fetch,
    "gather": gather,
    "infer": infer,
    "encode": encode,
    "check": check,
    "send": send,
    "commit": commit,
}
"""In their order."""


def prior_notes(run: Run) -> tuple[str, ...]:
    """What the result says about earlier studies."""
    return PriorReport.from_json(run.priors).notes if run.priors.get("wanted") else ()


def _own_digest(run: Run) -> str:
    """Of the study at the revision that the run is about; a later revision has another, and runs of its own."""
    return run.study.input_digest if run.study.revision == run.revision else run.input_digest


def _move_to_present_revision(run: Run) -> None:
    """For a run whose volumes are no longer in the index: it chooses anew from what its study holds now.

    Raises:
        RunFailure: nobody knows what the study holds now.
    """
    study = run.study
    if study.state != StudyState.COMPLETE or study.understood_revision < study.revision:
        raise RunFailure(
            "The volumes that it was planned with are no longer in the index, and its study is not complete now. "
            "Send the study again, or complete it by hand, and retry the run."
        )
    run.revision = study.revision


def _failure_of(step: str, error: Exception) -> RunFailure:
    """The error in words for a person, without its text where that may quote a data set."""
    if isinstance(error, RunFailure):
        return error
    if isinstance(error, ComputeFailure):
        return RunFailure(str(error), error.may_pass)
    passing = isinstance(error, OSError | OperationalError)
    return RunFailure(f"The step {step!r} failed: {type(error).__name__} in {place_of(error)}.", passing)


def _end(context: RunContext, run_id: str, attempt: int, step: str, state: RunState, reason: str) -> str:
    try:
        with context.sessions.begin() as session:
            advance(session, run_id, attempt, state, reason=reason, finished_at=context.now())
            record(session, "node", f"run {state.value}", run_id, step=step, reason=reason)
    except RunStopped:
        return "stopped"
    return state.value


def _is_cancelled(context: RunContext, run_id: str, attempt: int) -> bool:
    if context.stopping.is_set():
        return True
    with context.sessions() as session:
        return is_stopped(session, run_id, attempt)


def _put(unfinished: Path, folder: Path) -> None:
    """Moves a finished outcome into its place; where another worker was first, its outcome stays."""
    try:
        unfinished.rename(folder)
    except OSError:
        if not (folder / OUTCOME_FILE).exists():
            raise
