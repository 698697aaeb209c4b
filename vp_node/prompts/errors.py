"""Errors of prompts, and how a failed validation is told to the person who wrote the prompt."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError


class PromptError(ValueError):
    """A prompt is not written as it must be; the message says where and what."""


class UnknownPrompt(LookupError):
    """No prompt has the name; the message says which is near."""


class PromptConflict(ValueError):
    """The prompt cannot be added or changed as asked; the message says what to do instead."""


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for each thing that is wrong: its place in the prompt (`conditions.and[1].operator`) and the reason."""
    # A list whose parts are all wrong counts as empty too: the parts say enough.
    items = [item for item in error.errors() if not (item["type"] == "too_short" and item["input"])]
    return "\n".join(_line(item, model) for item in items)


def _line(item: Any, model: type[BaseModel]) -> str:
    # Parts in angle brackets are the tags by which pydantic tells kinds of conditions apart: nobody wrote them.
    location = [part for part in item["loc"] if not (isinstance(part, str) and part.startswith("<"))]
    place = _place(location)
    if item["type"] == "extra_forbidden":
        return f"{place} is no setting of a prompt.{_suggestion(location, model)}"
    if item["type"] == "missing":
        return f"{place} is missing."
    message = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{place}: {message}." if place else f"{message}."


def _place(location: list[Any]) -> str:
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        else:
            place += f".{part}" if place else str(part)
    return place


def _suggestion(location: list[Any], model: type[BaseModel]) -> str:
    known: Any = model
    for part in location[:-1]:
        field = known.model_fields.get(part) if isinstance(part, str) else None
        known = field.annotation if field is not None else None
        if not (isinstance(known, type) and issubclass(known, BaseModel)):
            return ""
    names = [field.alias or name for name, field in known.model_fields.items()]
    close = get_close_matches(str(location[-1]), names, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known here: {', '.join(names)}."
