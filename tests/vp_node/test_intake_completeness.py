"""When is a study whole?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from tests.vp_node.wire_support.nodes import SENDER, Receiving, make_config, make_instance, receiving, write_instance
from vp_node.config import CompletenessSection
from vp_node.database.models import Association, Study, StudyState, now
from vp_node.dicom.sender import send
from vp_node.intake.completeness import StudyFacts, Verdict, close_whole_studies, complete_by_hand, decide

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = CompletenessSection()


def facts(first: float, last: float, series: tuple[float, ...] = (), connected: bool = False) -> StudyFacts:
    """Times in seconds after START."""
    return StudyFacts(
        START + timedelta(seconds=first),
        START + timedelta(seconds=last),
        tuple(START + timedelta(seconds=value) for value in series),
        connected,
    )


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_study_is_closed_once_it_and_its_series_are_quiet_and_its_sender_is_gone() -> None:
    assert decide(facts(0, 10, (5, 10)), SETTINGS, at(309)).verdict is Verdict.WAIT
    assert decide(facts(0, 10, (5, 10)), SETTINGS, at(310)).verdict is Verdict.CLOSE
    assert decide(facts(0, 10, (5, 10), connected=True), SETTINGS, at(310)).verdict is Verdict.WAIT


def test_a_series_that_still_moves_keeps_the_study_open() -> None:
    short = CompletenessSection(series_quiet_seconds=60, study_quiet_seconds=5)
    assert decide(facts(0, 10, (10,)), short, at(20)).verdict is Verdict.WAIT
    assert decide(facts(0, 10, (10,)), short, at(70)).verdict is Verdict.CLOSE


@given(
    arrivals=st.lists(st.floats(0, 4000), min_size=1, max_size=20),
    moment=st.floats(0, 10_000),
    connected=st.booleans(),
)
def test_a_study_is_never_closed_while_something_moves_and_always_at_the_force_limit(
    arrivals: list[float], moment: float, connected: bool
) -> None:
    decision = decide(facts(min(arrivals), max(arrivals), tuple(arrivals), connected), SETTINGS, at(moment))
    if moment - min(arrivals) >= SETTINGS.force_seconds + 1e-3:
        assert decision.verdict is Verdict.FORCE
    elif decision.verdict is Verdict.CLOSE:
        assert not connected
        assert moment - max(arrivals) >= SETTINGS.study_quiet_seconds - 1e-3


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Receiving]:
    with receiving(make_config(tmp_path / "node")) as running:
        yield running


def received(node: Receiving, tmp_path: Path, **changes: object) -> None:
    path = write_instance(tmp_path / "one.dcm", make_instance(**changes))
    assert [report.outcome for report in send(node.peer, [path], SENDER)] == ["sent"]
    with node.sessions.begin() as session:  # the listener may still be busy with the release
        for row in session.scalars(select(Association)):
            row.closed_at = now()


def study(node: Receiving) -> Study:
    with node.sessions() as session:
        return session.scalars(select(Study)).one()


def test_closing_counts_revisions_and_digests_what_they_hold(node: Receiving, tmp_path: Path) -> None:
    received(node, tmp_path, StudyInstanceUID="1.2.3")
    later = now() + timedelta(seconds=400)
    assert close_whole_studies(node.sessions, node.config, now()) == []
    assert close_whole_studies(node.sessions, node.config, later) == [study(node).id]
    first = study(node)
    assert (first.state, first.revision) == (StudyState.COMPLETE, 1)
    received(node, tmp_path, StudyInstanceUID="1.2.3")
    assert study(node).state == StudyState.RECEIVING
    close_whole_studies(node.sessions, node.config, now() + timedelta(seconds=400))
    second = study(node)
    assert second.revision == 2
    assert second.input_digest != first.input_digest


@pytest.mark.parametrize(
    ("action", "state"),
    [("proceed", StudyState.COMPLETE), ("hold", StudyState.HELD), ("discard", StudyState.DISCARDED)],
)
def test_the_force_limit_does_what_the_configuration_says(
    tmp_path: Path, node: Receiving, action: str, state: StudyState
) -> None:
    received(node, tmp_path)
    config = node.config.model_copy(
        update={"completeness": CompletenessSection.model_validate({"force_action": action, "force_seconds": 5400})}
    )
    with node.sessions.begin() as session:  # a sender that never hangs up
        session.scalars(select(Association)).first().closed_at = None  # type: ignore[union-attr]
    close_whole_studies(node.sessions, config, now() + timedelta(seconds=400))
    assert study(node).state == StudyState.RECEIVING
    close_whole_studies(node.sessions, config, now() + timedelta(seconds=5500))
    assert study(node).state == state
    assert "forced" in study(node).flags


def test_a_person_may_say_that_a_study_is_whole(node: Receiving, tmp_path: Path) -> None:
    received(node, tmp_path)
    with node.sessions.begin() as session:
        assert complete_by_hand(session, session.scalars(select(Study)).one(), SETTINGS, now(), "admin")
    assert study(node).closed_reason == "completed by hand"
