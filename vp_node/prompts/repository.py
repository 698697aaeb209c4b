"""Prompts in the database: every change is a new version, nothing that was said is lost."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.database.models import Prompt, PromptVersion
from vp_node.operations.audit import record
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.files import WrittenPrompt


class PromptError(ValueError):
    """The change cannot be made; the message says why."""


def add_prompt(session: Session, written: WrittenPrompt, actor: str) -> PromptVersion:
    """Adds a standing prompt, enabled, as version 1.

    Raises:
        PromptError: the name is taken.
    """
    if _named(session, written.name) is not None:
        raise PromptError(
            f"There is a prompt {written.name!r} already: use `prompts edit` to make a new version of it."
        )
    prompt = Prompt(name=written.name, owner=written.owner, standing=True, enabled=True)
    session.add(prompt)
    return _append(session, prompt, written.text, written.definition, actor, "prompt added")


def edit_prompt(session: Session, written: WrittenPrompt, actor: str) -> tuple[PromptVersion, bool]:
    """Makes a new version of a standing prompt; returns the newest, and whether it is new.

    Raises:
        PromptError: there is no prompt of the name.
    """
    prompt = get_prompt(session, written.name)
    newest = prompt.versions[-1]
    same = newest.text == written.text and PromptDefinition.from_json(newest.definition) == written.definition
    if same and prompt.owner == written.owner:
        return newest, False
    prompt.owner = written.owner
    if same:
        record(session, actor, "prompt owner changed", prompt.name, owner=written.owner)
        return newest, False
    return _append(session, prompt, written.text, written.definition, actor, "prompt changed"), True


def ask_once(session: Session, text: str, definition: PromptDefinition, owner: str) -> PromptVersion:
    """An ad-hoc prompt: the same text and definition by the same person is the same prompt."""
    key = f"{owner}\0{text}\0{definition.model_dump_json(by_alias=True)}"
    name = f"asked-{uuid.uuid5(uuid.NAMESPACE_OID, key)}"
    known = _named(session, name)
    if known is not None:
        return known.versions[-1]
    prompt = Prompt(name=name, owner=owner, standing=False, enabled=True)
    session.add(prompt)
    return _append(session, prompt, text, definition, owner, "prompt asked")


def set_enabled(session: Session, name: str, enabled: bool, actor: str) -> None:
    """Raises PromptError where there is no prompt of the name."""
    prompt = get_prompt(session, name)
    if prompt.enabled != enabled:
        prompt.enabled = enabled
        record(session, actor, "prompt enabled" if enabled else "prompt disabled", name)


def list_prompts(session: Session, standing: bool | None = True) -> Sequence[Prompt]:
    """By name; `standing` None: ad-hoc ones too."""
    query = select(Prompt).order_by(Prompt.name)
    if standing is not None:
        query = query.where(Prompt.standing.is_(standing))
    return session.scalars(query).all()


def get_prompt(session: Session, name: str) -> Prompt:
    """Raises PromptError where there is no prompt of the name."""
    prompt = _named(session, name)
    if prompt is None:
        known = ", ".join(item.name for item in list_prompts(session)) or "none"
        raise PromptError(f"There is no prompt {name!r}. Standing prompts: {known}.")
    return prompt


def _named(session: Session, name: str) -> Prompt | None:
    return session.scalars(select(Prompt).where(Prompt.name == name)).one_or_none()


def _append(
    session: Session, prompt: Prompt, text: str, definition: PromptDefinition, actor: str, action: str
) -> PromptVersion:
    number = len(prompt.versions) + 1
    version = PromptVersion(
        id=str(uuid.uuid4()), number=number, text=text, definition=definition.to_json(), created_by=actor
    )
    prompt.versions.append(version)
    session.flush()
    record(session, actor, action, prompt.name, version=number)
    return version
