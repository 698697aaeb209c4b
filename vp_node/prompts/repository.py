"""Prompts in the node's database: added, edited as new versions, switched on and off, asked once.

A version is never changed: an edit writes the next one. Every change is audited in its own transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from vp_node.config import Config
from vp_node.database.models import Prompt, PromptVersion
from vp_node.operations.audit import record
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.errors import PromptConflict, PromptError, UnknownPrompt

AD_HOC_PREFIX = "ask-"
"""Begins the names of prompts that were asked once; the rest is a digest of what was asked."""
SENDER = "sender"


@dataclass(frozen=True)
class Edited:
    version: PromptVersion
    changed: bool
    """False: the prompt says this already."""


def add_prompt(session: Session, definition: PromptDefinition, actor: str, *, enabled: bool = True) -> PromptVersion:
    """Adds a standing prompt as its version 1.

    Raises:
        PromptConflict: the name is taken, or kept for prompts that are asked once.
    """
    if definition.name.startswith(AD_HOC_PREFIX):
        raise PromptConflict(f"Names that begin with {AD_HOC_PREFIX!r} are kept for prompts that are asked once.")
    if _named(session, definition.name) is not None:
        raise PromptConflict(
            f"A prompt named {definition.name!r} is there already. Change it with `vp-node prompts edit`, "
            "or give the new one another name."
        )
    prompt = Prompt(name=definition.name, owner=definition.owner, standing=True, enabled=enabled)
    version = _next_version(prompt, definition, actor)
    session.add(prompt)
    session.flush()
    record(session, actor, "prompt added", prompt.name, version=1, enabled=enabled, owner=prompt.owner)
    return version


def edit_prompt(session: Session, name: str, definition: PromptDefinition, actor: str) -> Edited:
    """Writes what a standing prompt says from now on as its next version; runs keep the version they had.

    Raises:
        UnknownPrompt
        PromptConflict: the definition has another name, or the prompt was asked once.
    """
    prompt = find_prompt(session, name)
    if not prompt.standing:
        raise PromptConflict(f"The prompt {name!r} was asked once and cannot be edited. Ask again with other words.")
    if definition.name != name:
        raise PromptConflict(f"The definition is of {definition.name!r}, not of {name!r}: a prompt keeps its name.")
    current = current_version(prompt)
    if PromptDefinition.from_json(current.definition) == definition:
        return Edited(current, changed=False)
    version = _next_version(prompt, definition, actor)
    prompt.owner = definition.owner
    session.flush()
    record(
        session,
        actor,
        "prompt changed",
        name,
        version=version.number,
        owner=prompt.owner,
        changed=_changed_keys(current.definition, version.definition),
    )
    return Edited(version, changed=True)


def set_enabled(session: Session, name: str, enabled: bool, actor: str) -> bool:
    """Switches a standing prompt on or off; returns whether that changed anything.

    Raises:
        UnknownPrompt
        PromptConflict: the prompt was asked once.
    """
    prompt = find_prompt(session, name)
    if not prompt.standing:
        raise PromptConflict(f"The prompt {name!r} was asked once: it applies to no further study anyway.")
    if prompt.enabled == enabled:
        return False
    prompt.enabled = enabled
    record(session, actor, "prompt enabled" if enabled else "prompt disabled", name)
    return True


def ad_hoc_prompt(session: Session, definition: PromptDefinition, actor: str) -> PromptVersion:
    """A prompt that is asked once; the same words, owner, series and destinations are the same prompt.

    Args:
        definition: its name is not used.
    """
    content = {**definition.to_json(), "name": ""}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    name = f"{AD_HOC_PREFIX}{digest[:16]}"
    known = _named(session, name)
    if known is not None:
        return current_version(known)
    prompt = Prompt(name=name, owner=definition.owner, standing=False, enabled=True)
    version = _next_version(prompt, definition.model_copy(update={"name": name}), actor)
    session.add(prompt)
    session.flush()
    record(session, actor, "prompt asked", name, owner=prompt.owner)
    return version


def find_prompt(session: Session, name: str) -> Prompt:
    """Raises UnknownPrompt."""
    prompt = _named(session, name)
    if prompt is None:
        names = list(session.scalars(select(Prompt.name).where(Prompt.standing.is_(True)).order_by(Prompt.name)))
        close = get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "See `vp-node prompts list`."
        raise UnknownPrompt(f"No prompt is named {name!r}. {hint}")
    return prompt


def list_prompts(session: Session, *, ad_hoc: bool = False) -> Sequence[Prompt]:
    """Standing prompts in order of name, with their versions; with `ad_hoc` also those that were asked once."""
    query = select(Prompt).options(selectinload(Prompt.versions)).order_by(Prompt.standing.desc(), Prompt.name)
    if not ad_hoc:
        query = query.where(Prompt.standing.is_(True))
    return session.scalars(query).all()


def current_version(prompt: Prompt) -> PromptVersion:
    return prompt.versions[-1]


def version_of(prompt: Prompt, number: int | None) -> PromptVersion:
    """The version with a number, or the current one.

    Raises:
        UnknownPrompt
    """
    if number is None:
        return current_version(prompt)
    for version in prompt.versions:
        if version.number == number:
            return version
    raise UnknownPrompt(f"The prompt {prompt.name!r} has versions 1 to {len(prompt.versions)}, not {number}.")


def check_destinations(definition: PromptDefinition, config: Config) -> None:
    """Holds a prompt's destinations against the configured peers.

    Raises:
        PromptError: results could not be sent to one of them.
    """
    for place, name in enumerate(definition.destinations):
        others = [item.name for item in (*config.web_destinations, *config.folder_destinations)]
        if name == SENDER or name in others:
            continue
        peers = {peer.name: peer for peer in config.peers}
        if name not in peers:
            raise PromptError(
                f"destinations[{place}]: {name!r} is no peer in the configuration; "
                f"known are {', '.join([SENDER, *peers, *others])}."
            )
        if not peers[name].receives_results:
            raise PromptError(f"destinations[{place}]: the peer {name!r} has receives_results = false.")


def _named(session: Session, name: str) -> Prompt | None:
    return session.scalars(select(Prompt).where(Prompt.name == name)).one_or_none()


def _next_version(prompt: Prompt, definition: PromptDefinition, actor: str) -> PromptVersion:
    version = PromptVersion(
        id=str(uuid4()),
        number=len(prompt.versions) + 1,
        text=definition.text,
        definition=definition.to_json(),
        created_by=actor[:64],
    )
    prompt.versions.append(version)
    return version


def _changed_keys(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
