"""How the files of a data set are named: patterns as data, and which data set a folder holds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

GROUPS = frozenset({"subject", "session", "day", "date", "suffix", "rater"})
"""Named parts that a pattern may have: `day` counts from the subject's entry, `date` is the calendar's."""


@dataclass(frozen=True)
class FilePattern:
    """Files of one role.

    Attributes:
        pattern: searched in the path below the data set's folder, with `/` between its parts.
        kind: sequence type of what matches; or `kinds`, by the pattern's `suffix`.
        contrast: "pre" or "post" of what matches; or `contrasts`, by the pattern's `suffix`.
        table: name of the label table, for masks.
    """

    pattern: re.Pattern[str]
    kind: str = ""
    kinds: dict[str, str] = field(default_factory=dict)
    contrast: str = ""
    contrasts: dict[str, str] = field(default_factory=dict)
    table: str = ""

    def kind_of(self, match: re.Match[str]) -> str:
        if self.kind:
            return self.kind
        suffix = match["suffix"]
        return self.kinds.get(suffix) or self.kinds[suffix.lower()]

    def contrast_of(self, match: re.Match[str]) -> str | None:
        if self.contrast:
            return self.contrast
        suffix = match.groupdict().get("suffix") or ""
        return self.contrasts.get(suffix) or self.contrasts.get(suffix.lower())


@dataclass(frozen=True)
class Layout:
    """A data set's layout.

    Attributes:
        key: name of its file; `name` is the data set's own.
        recognise: patterns of paths of which each data set has one; `recognise_name` is searched in the name that
            `dataset_description.json` gives, for data sets that look alike.
        generic: fits many data sets; taken only where no other does.
        session_order: session labels in their order in time, where sorting them does not give it.
        skull: "stripped" where the images come without.
        layout: where the layout is known from; "published" unless said otherwise.
    """

    key: str
    name: str
    about: str
    reference: str
    layout: str
    recognise: tuple[re.Pattern[str], ...]
    recognise_name: re.Pattern[str] | None
    images: tuple[FilePattern, ...]
    masks: tuple[FilePattern, ...]
    generic: bool = False
    session_order: tuple[str, ...] = ()
    skull: str = ""


def _file_pattern(values: dict[str, Any]) -> FilePattern:
    pattern = re.compile(values["pattern"])
    unknown = set(pattern.groupindex) - GROUPS
    if unknown or "subject" not in pattern.groupindex:
        raise ValueError(f"A pattern names a subject and may name {sorted(GROUPS)}: {values['pattern']}")
    return FilePattern(**{**values, "pattern": pattern})


@cache
def load_layouts() -> dict[str, Layout]:
    """Every layout by its key."""
    layouts = {}
    for entry in sorted(files("vp_train.datasets.public").joinpath("layouts").iterdir(), key=lambda item: item.name):
        values = json.loads(entry.read_text(encoding="utf-8"))
        name = values.pop("recognise_name", None)
        key = entry.name.removesuffix(".json")
        layouts[key] = Layout(
            key=key,
            recognise=tuple(re.compile(text) for text in values.pop("recognise")),
            recognise_name=re.compile(name) if name else None,
            images=tuple(_file_pattern(item) for item in values.pop("images")),
            masks=tuple(_file_pattern(item) for item in values.pop("masks")),
            session_order=tuple(values.pop("session_order", ())),
            **values,
        )
    return layouts


@cache
def load_table(name: str) -> dict[int, tuple[str, ...] | None]:
    """Label → the regions that it belongs to (names of the ontology, with a side where there is one), or None where a
    voxel says nothing: it is neither a region nor its absence.
    """
    text = files("vp_train.datasets.public").joinpath("tables", f"{name}.json").read_text(encoding="utf-8")
    labels = json.loads(text)["labels"]
    return {int(label): None if regions is None else tuple(regions) for label, regions in labels.items()}


def described_name(folder: Path) -> str:
    """The name in `dataset_description.json` (BIDS), or nothing."""
    path = folder / "dataset_description.json"
    if not path.is_file():
        return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("Name", ""))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return ""


def recognise(folder: Path, paths: Sequence[str]) -> Layout | None:
    """The layout of a folder: the one that most of the paths fit, those of single data sets before generic ones; of
    several that fit as well, the first by its key.
    """
    name = described_name(folder)
    fitting: list[tuple[bool, bool, int, str]] = []
    for layout in load_layouts().values():
        named = layout.recognise_name is not None and bool(layout.recognise_name.search(name))
        count = sum(any(pattern.search(path) for pattern in layout.recognise) for path in paths)
        if named or count:
            fitting.append((named, not layout.generic, count, layout.key))
    return load_layouts()[max(fitting, key=lambda item: item[:3])[3]] if fitting else None
