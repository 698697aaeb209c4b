"""Standing prompts in the index of a node under test."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session, sessionmaker

from vp_node.database.models import Prompt, PromptVersion


def add_prompt(sessions: sessionmaker[Session], name: str, text: str, **definition: Any) -> str:
    """Adds an enabled standing prompt that matches every study; returns the id of its version."""
    version = PromptVersion(
        id=str(uuid4()),
        number=1,
        text=text,
        definition={"name": name, "owner": "Dr. Example", "text": text, **definition},
        created_by="Dr. Example",
    )
    with sessions.begin() as session:
        session.add(Prompt(name=name, owner="Dr. Example", versions=[version]))
    return version.id
