"""Prompts as TOML files: what a radiologist or an admin writes."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vp_node.prompts.definition import PromptDefinition

LONGEST_TEXT = 1000
LONGEST_NAME = 64
OWN_KEYS = ("name", "owner", "text")


class PromptFileError(ValueError):
    """The file holds no prompt; the message names the file, the key and what is wrong."""


@dataclass(frozen=True)
class WrittenPrompt:
    """A prompt as somebody wrote it."""

    name: str
    owner: str
    text: str
    definition: PromptDefinition


def read_prompt_file(path: Path) -> WrittenPrompt:
    """Reads `name`, `owner`, `text` and the keys of `PromptDefinition`.

    Raises:
        PromptFileError
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptFileError(f"{path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PromptFileError(f"{path}: not valid TOML: {error}") from error
    for key, longest in zip(OWN_KEYS, (LONGEST_NAME, LONGEST_NAME, LONGEST_TEXT), strict=True):
        value = data.get(key)
        if not isinstance(value, str) or not value.strip():
            raise PromptFileError(f"{path}: {key} is missing or empty.")
        if len(value) > longest:
            raise PromptFileError(f"{path}: {key} is longer than {longest} characters.")
    rest = {key: value for key, value in data.items() if key not in OWN_KEYS}
    try:
        definition = PromptDefinition.model_validate(rest)
    except ValidationError as error:
        problems = "; ".join(_describe(item["loc"], item["msg"]) for item in error.errors())
        raise PromptFileError(f"{path}: {problems}.") from error
    return WrittenPrompt(data["name"].strip(), data["owner"].strip(), data["text"].strip(), definition)


def _describe(location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in location) or "the file"
    return f"{key}: {message.removeprefix('Value error, ')}"
