"""Prompts in files, as their owners keep and send them: TOML, or JSON by the file's ending."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.errors import PromptError

MAXIMUM_BYTES = 1 << 20


def read_prompt_file(path: Path) -> PromptDefinition:
    """Reads and validates a prompt.

    Raises:
        PromptError: the file cannot be read, is no TOML or JSON, or what it says is no prompt.
    """
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise PromptError(f"{path}: larger than 1 MiB, so that it is hardly a prompt.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: is no text in UTF-8.") from error
    try:
        return parse_prompt(text, as_json=path.suffix.casefold() == ".json")
    except PromptError as error:
        raise PromptError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def parse_prompt(text: str, *, as_json: bool = False) -> PromptDefinition:
    """Raises PromptError."""
    try:
        data = json.loads(text) if as_json else tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise PromptError(f"not valid JSON: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"not valid TOML: {error}") from error
    except RecursionError as error:
        raise PromptError("too deeply nested.") from error
    return PromptDefinition.from_json(data)


def prompt_to_toml(definition: PromptDefinition) -> str:
    """The prompt as a file that `parse_prompt` reads back; what is at its default is left out."""
    data = definition.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    lines = [f"{key} = {_value(value)}" for key, value in data.items() if not isinstance(value, dict)]
    for key, value in data.items():
        if isinstance(value, dict):
            table = [f"{_key(name)} = {_value(item, 0)}" for name, item in value.items() if item is not None]
            lines += ["", f"[{key}]", *table]
    return "\n".join(lines) + "\n"


def example_prompts() -> dict[str, str]:
    """TOML text of the examples that the package brings, by the file's name."""
    folder = resources.files("vp_node.prompts") / "examples"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=lambda item: item.name)
    return {item.name.removesuffix(".toml"): item.read_text(encoding="utf-8") for item in files}


def _value(value: Any, indent: int | None = None) -> str:
    """A TOML value; lists of tables get a line for each where `indent` says how deep they stand."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string (TOML 1.0), but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{ {inside} }}"
    if isinstance(value, list):
        if indent is not None and any(isinstance(item, dict) for item in value):
            return "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
        return f"[{', '.join(_value(item) for item in value)}]"
    return repr(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else json.dumps(name)
