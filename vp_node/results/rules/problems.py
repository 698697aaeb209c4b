"""What a rule finds: its name in `rules.json`, and what is wrong, without patient data."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

Problem = tuple[str, str]


def items_at(dataset: Dataset, path: str) -> Iterator[Dataset]:
    """The items of nested sequences that `A.B.C` names; the data set itself for an empty path."""
    if not path:
        yield dataset
        return
    first, _, rest = path.partition(".")
    for item in dataset.get(first) or []:
        yield from items_at(item, rest)


def content_items(item: Dataset) -> Iterator[Dataset]:
    """All content items below one (PS3.3 C.17.3), in order."""
    for child in item.get("ContentSequence") or []:
        yield child
        yield from content_items(child)


def concept_of(item: Dataset) -> str:
    """Code value of a content item's concept name."""
    names = item.get("ConceptNameCodeSequence") or []
    return str(names[0].get("CodeValue", "")) if names else ""
