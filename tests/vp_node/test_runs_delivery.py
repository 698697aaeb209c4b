"""The outbox: every object arrives once, an unreachable destination holds up nothing, what is given up is visible."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.vp_node.runs_support.index import PACS, closed_study, make_context
from tests.vp_node.runs_support.nodes import free_port
from tests.vp_node.runs_support.studies import write_phantom
from vp_model.outcome import ModelIdentity, Outcome, Transcript
from vp_node.config import DeliverySection, Peer
from vp_node.database.models import (
    AuditEvent,
    Delivery,
    DeliveryState,
    Prompt,
    PromptVersion,
    Result,
    Run,
    RunState,
    Study,
)
from vp_node.demo.pacs import received, receiving_pacs
from vp_node.runs.context import RunContext
from vp_node.runs.control import retry_deliveries
from vp_node.runs.delivery import NoDestination, delay, deliver_due, due_destinations, fill_outbox, resolve
from vp_node.runs.locks import FileLocks, holding

RUN = "11111111-1111-5111-8111-111111111111"


def context_with_results(folder: Path, *, status: Any = "answered", count: int = 2, **sections: Any) -> RunContext:
    """A run that is being sent, with `count` objects."""
    context = make_context(folder / "data", delivery=DeliverySection(attempts=3), **sections)
    paths = write_phantom(folder / "study")
    study_id = closed_study(context, paths)
    outcome = context.data_folder / "runs" / RUN
    outcome.mkdir(parents=True)
    Outcome(status, Transcript("p", ()), ModelIdentity("m", "1", "ab"), reason="Because.").save(outcome)
    with context.sessions.begin() as session:
        version = PromptVersion(id="v", number=1, text="p", definition={}, created_by="test")
        session.add(Prompt(name="p", owner="test", versions=[version]))
        session.flush()
        run = Run(
            id=RUN,
            study_id=study_id,
            revision=1,
            prompt_version_id="v",
            model_hash="ab",
            input_digest="cd",
            state=RunState.SENDING,
            outcome_folder=f"runs/{RUN}",
        )
        session.add(run)
        for number, path in enumerate(paths[:count]):
            shutil.copy(path, outcome / path.name)
            dataset = dcmread(path, stop_before_pixels=True)
            run.results.append(
                Result(
                    role="seg" if number == 0 else "sr",
                    sop_class_uid=str(dataset.SOPClassUID),
                    sop_instance_uid=str(dataset.SOPInstanceUID),
                    series_instance_uid=str(dataset.SeriesInstanceUID),
                    path=f"runs/{RUN}/{path.name}",
                    digest="",
                )
            )
    return context


def peer(name: str, port: int, **more: Any) -> Peer:
    return Peer(name=name, ae_title=more.pop("ae_title", PACS), host="127.0.0.1", port=port, **more)


def fill(context: RunContext, *destinations: str) -> None:
    with context.sessions.begin() as session:
        fill_outbox(session, context.config, session.get_one(Run, RUN), destinations, context.now())


def deliveries(context: RunContext) -> list[Delivery]:
    with context.sessions() as session:
        return list(session.query(Delivery).order_by(Delivery.id))


def state_of_run(context: RunContext) -> tuple[str, str]:
    with context.sessions() as session:
        run = session.get_one(Run, RUN)
        return run.state, run.reason


def make_due(context: RunContext) -> None:
    with context.sessions.begin() as session:
        for delivery in session.query(Delivery):
            delivery.next_attempt_at = context.now() - timedelta(seconds=1)


@pytest.mark.parametrize(("status", "ends"), [("answered", RunState.DONE), ("refused", RunState.REFUSED)])
def test_every_object_arrives_and_the_last_one_ends_the_run(tmp_path: Path, status: str, ends: RunState) -> None:
    with receiving_pacs(tmp_path / "pacs", PACS) as port:
        context = context_with_results(tmp_path, status=status, peers=(peer("pacs", port),))
        fill(context, "sender")
        fill(context, "sender")
        assert [item.destination for item in deliveries(context)] == ["pacs", "pacs"]
        assert deliver_due(context, "pacs") == 2
        assert deliver_due(context, "pacs") == 0
    assert {item.state for item in deliveries(context)} == {DeliveryState.SENT}
    assert sum(len(paths) for paths in received(tmp_path / "pacs").values()) == 2
    assert state_of_run(context) == (ends, "Because.")


def test_an_unreachable_destination_is_tried_again_then_given_up_and_holds_up_no_other(tmp_path: Path) -> None:
    with receiving_pacs(tmp_path / "pacs", PACS) as port:
        peers = (peer("pacs", port), peer("gone", free_port(), ae_title="GONE"))
        context = context_with_results(tmp_path, count=1, peers=peers)
        fill(context, "pacs", "gone")
        with context.sessions() as session:
            assert due_destinations(session, context.now()) == ["gone", "pacs"]
        assert deliver_due(context, "gone") == 0
        assert deliver_due(context, "pacs") == 1
        assert state_of_run(context)[0] == RunState.SENDING
        waiting = next(item for item in deliveries(context) if item.destination == "gone")
        assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 1)
        assert waiting.next_attempt_at is not None
        assert waiting.next_attempt_at > datetime.now(UTC) + timedelta(seconds=20)
        assert "cannot be reached" in waiting.last_error
        for _ in range(2):
            make_due(context)
            deliver_due(context, "gone")
        dead = next(item for item in deliveries(context) if item.destination == "gone")
        assert (dead.state, dead.attempts) == (DeliveryState.DEAD, 3)
        state, reason = state_of_run(context)
        assert state == RunState.DONE
        assert "1 of 2 deliveries did not arrive (gone)" in reason
    with context.sessions() as session:
        assert session.query(AuditEvent).filter(AuditEvent.action == "delivery failed").count() == 1


def test_a_study_from_an_unknown_sender_ends_in_a_dead_letter_that_can_be_retried(tmp_path: Path) -> None:
    context = context_with_results(tmp_path, count=1)
    fill(context, "sender")
    (dead,) = deliveries(context)
    assert (dead.state, dead.destination) == (DeliveryState.DEAD, "sender")
    assert "no peer in the configuration" in dead.last_error
    with receiving_pacs(tmp_path / "pacs", PACS) as port:
        config = context.config.model_copy(update={"peers": (peer("pacs", port),)})
        wiser = RunContext(config, context.sessions, context.compute, context.locks)
        with context.sessions.begin() as session:
            assert retry_deliveries(session, session.get_one(Run, RUN), "admin", context.now()) == 1
        assert deliver_due(wiser, "sender") == 1
    assert state_of_run(context) == (RunState.DONE, "Because.")


def test_a_destination_is_served_by_one_worker_at_a_time(tmp_path: Path) -> None:
    with receiving_pacs(tmp_path / "pacs", PACS) as port:
        context = context_with_results(tmp_path, peers=(peer("pacs", port),))
        fill(context, "pacs")
        with holding(FileLocks(context.data_folder / "locks"), "deliveries to pacs"):
            assert deliver_due(context, "pacs") == 0
        assert deliver_due(context, "pacs") == 2


def test_an_object_whose_file_is_gone_is_a_dead_letter_and_the_others_go(tmp_path: Path) -> None:
    with receiving_pacs(tmp_path / "pacs", PACS) as port:
        context = context_with_results(tmp_path, peers=(peer("pacs", port),))
        fill(context, "pacs")
        with context.sessions() as session:
            (context.data_folder / session.query(Result).order_by(Result.id).first().path).unlink()  # type: ignore[union-attr]
        assert deliver_due(context, "pacs") == 1
    assert [item.state for item in deliveries(context)] == [DeliveryState.DEAD, DeliveryState.SENT]


def test_results_go_back_to_the_address_that_the_study_came_from(tmp_path: Path) -> None:
    near, far = peer("near", 104), Peer(name="far", ae_title=PACS, host="192.0.2.9", port=104)
    silent = peer("silent", 104, ae_title="SILENT", receives_results=False)
    context = make_context(tmp_path / "data", peers=(far, near, silent))
    study = Study(calling_ae_title=PACS, sender_address="127.0.0.1")
    assert resolve(context.config, study, "sender").name == "near"
    assert resolve(context.config, study, "far").name == "far"
    for destination, from_title in [("sender", "SILENT"), ("silent", PACS), ("nobody", PACS), ("sender", "UNKNOWN")]:
        with pytest.raises(NoDestination):
            resolve(context.config, Study(calling_ae_title=from_title), destination)


def test_delays_double_up_to_their_bound() -> None:
    rules = DeliverySection(first_delay_seconds=30, longest_delay_seconds=3600)
    assert [delay(rules, attempts) for attempts in (1, 2, 3, 7, 8, 4000)] == [30, 60, 120, 1920, 3600, 3600]
