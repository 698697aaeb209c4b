"""Prompts in the database: versions that stay, names that are unique, changes that are audited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from vp_node.config import Config, Peer
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.database.models import AuditEvent, Prompt
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.errors import PromptConflict, PromptError, UnknownPrompt
from vp_node.prompts.files import example_prompts, parse_prompt, read_prompt_file
from vp_node.prompts.repository import (
    ad_hoc_prompt,
    add_prompt,
    check_destinations,
    current_version,
    edit_prompt,
    find_prompt,
    list_prompts,
    set_enabled,
    version_of,
)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'node.sqlite'}")
    upgrade(engine)
    with session_factory(engine)() as opened:
        yield opened
    engine.dispose()


def definition(**settings: Any) -> PromptDefinition:
    return PromptDefinition.from_json({"name": "volumes", "owner": "Dr. Example", "text": "measure", **settings})


def audited(session: Session) -> list[tuple[str, str, str]]:
    session.flush()
    return [(item.actor, item.action, item.subject) for item in session.query(AuditEvent).order_by(AuditEvent.id)]


def test_an_edit_is_a_new_version_and_the_old_one_says_what_it_said(session: Session) -> None:
    first = add_prompt(session, definition(), "anna")
    edited = edit_prompt(session, "volumes", definition(text="measure all", owner="Dr. New"), "ben")
    assert (edited.changed, edited.version.number) == (True, 2)
    prompt = find_prompt(session, "volumes")
    assert [version.text for version in prompt.versions] == ["measure", "measure all"]
    assert PromptDefinition.from_json(version_of(prompt, 1).definition) == definition()
    assert version_of(prompt, None) is current_version(prompt) is edited.version
    assert prompt.owner == "Dr. New"
    assert first.id != edited.version.id
    assert audited(session) == [("anna", "prompt added", "volumes"), ("ben", "prompt changed", "volumes")]
    assert session.query(AuditEvent).all()[1].detail["changed"] == ["owner", "text"]
    with pytest.raises(UnknownPrompt, match="versions 1 to 2, not 3"):
        version_of(prompt, 3)


def test_an_edit_that_changes_nothing_makes_no_version(session: Session) -> None:
    add_prompt(session, definition(priority=5), "anna")
    edited = edit_prompt(session, "volumes", definition(priority=5, destinations=[]), "ben")
    assert (edited.changed, edited.version.number) == (False, 1)
    assert len(audited(session)) == 1


def test_names_are_unique_kept_and_found(session: Session) -> None:
    add_prompt(session, definition(), "anna")
    with pytest.raises(PromptConflict, match="there already"):
        add_prompt(session, definition(text="other"), "anna")
    with pytest.raises(PromptConflict, match="kept for"):
        add_prompt(session, definition(name="ask-me"), "anna")
    with pytest.raises(PromptConflict, match="keeps its name"):
        edit_prompt(session, "volumes", definition(name="other"), "anna")
    with pytest.raises(UnknownPrompt, match="Did you mean 'volumes'"):
        find_prompt(session, "volume")


def test_switching_is_audited_where_it_changes_something(session: Session) -> None:
    add_prompt(session, definition(), "anna", enabled=False)
    assert set_enabled(session, "volumes", True, "ben")
    assert not set_enabled(session, "volumes", True, "ben")
    assert set_enabled(session, "volumes", False, "ben")
    assert [action for _, action, _ in audited(session)] == ["prompt added", "prompt enabled", "prompt disabled"]


def test_asking_the_same_once_more_is_the_same_prompt_and_no_standing_one(session: Session) -> None:
    first = ad_hoc_prompt(session, definition(), "anna")
    assert ad_hoc_prompt(session, definition(name="whatever"), "anna").id == first.id
    assert ad_hoc_prompt(session, definition(text="other"), "anna").id != first.id
    assert ad_hoc_prompt(session, definition(owner="Dr. New"), "ben").id != first.id
    assert list_prompts(session) == []
    assert [prompt.standing for prompt in list_prompts(session, ad_hoc=True)] == [False] * 3
    name = first.prompt.name
    with pytest.raises(PromptConflict, match="asked once"):
        edit_prompt(session, name, definition(name=name), "anna")
    with pytest.raises(PromptConflict, match="asked once"):
        set_enabled(session, name, False, "anna")


def test_a_rolled_back_change_leaves_no_prompt_and_no_audit(session: Session) -> None:
    add_prompt(session, definition(), "anna")
    session.rollback()
    assert session.query(Prompt).count() == session.query(AuditEvent).count() == 0


def test_destinations_must_be_peers_that_receive_results() -> None:
    config = Config(
        peers=(
            Peer(name="pacs", ae_title="PACS", host="h"),
            Peer(name="ct", ae_title="CT", host="h", receives_results=False),
        )
    )
    check_destinations(definition(destinations=["sender", "pacs"]), config)
    with pytest.raises(PromptError, match=r"destinations\[1\]: 'nobody' is no peer.*known are sender, pacs, ct"):
        check_destinations(definition(destinations=["pacs", "nobody"]), config)
    with pytest.raises(PromptError, match="receives_results = false"):
        check_destinations(definition(destinations=["ct"]), config)


@pytest.mark.parametrize("name", sorted(example_prompts()))
def test_the_examples_are_prompts(name: str) -> None:
    assert parse_prompt(example_prompts()[name]).conditions is not None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", b"name = \nowner = 1", "a.toml: not valid TOML: .*line 1"),
        ("a.json", b"{]", "a.json: not valid JSON: "),
        ("a.toml", b"\xff\xfe", "no text in UTF-8"),
        ("a.toml", b"x = " + b"[" * 100_000, "not valid TOML|too deeply nested"),
        ("a.toml", b"#" * (1 << 21), "larger than 1 MiB"),
        ("a.toml", b"nam = 'x'", "a.toml: nam is no setting of a prompt. Did you mean 'name'?"),
    ],
)
def test_a_file_that_is_no_prompt_is_told_with_its_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=said):
        read_prompt_file(tmp_path / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompt_file(tmp_path / "none.toml")
