"""What a data set's folder holds: subjects, their sessions in order, images and masks, and what was not understood."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from vp_train.datasets.public.layout import FilePattern, Layout, load_layouts, recognise

SUFFIXES = (".nii.gz", ".nii", ".img", ".mgz")


class DatasetError(ValueError):
    """A folder that cannot be read as a data set; the message says what to do."""


@dataclass(frozen=True)
class ImageFile:
    """`path` below the data set's folder; `kind` T1, T2, …; `contrast` "pre", "post" or unknown."""

    path: str
    kind: str
    contrast: str | None = None


@dataclass(frozen=True)
class MaskFile:
    """A label map: `table` says what its labels mean, `rater` who drew it where there are several."""

    path: str
    table: str
    rater: str | None = None


@dataclass(frozen=True)
class DatasetSession:
    """One visit: `label` as the data set names it; `day` counts from the subject's first session where known."""

    label: str
    day: int | None
    images: tuple[ImageFile, ...]
    masks: tuple[MaskFile, ...]


@dataclass(frozen=True)
class DatasetSubject:
    subject: str
    sessions: tuple[DatasetSession, ...]


@dataclass(frozen=True)
class DatasetIndex:
    """A data set in its folder.

    Attributes:
        subjects: sorted by name.
        unread: image files of the folder that no pattern takes, below it.
    """

    folder: Path
    layout: Layout
    subjects: tuple[DatasetSubject, ...]
    unread: tuple[str, ...]


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts `ses-2` before `ses-10`."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part)


def image_paths(folder: Path) -> list[str]:
    """Every image file below the folder, with `/` between parts, sorted."""
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}.")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name.endswith(SUFFIXES))


def read_dataset(folder: Path, layout: str | None = None) -> DatasetIndex:
    """The data set in a folder.

    Args:
        layout: key of a layout; recognised where None.

    Raises:
        DatasetError: no layout fits, or the given one finds no image.
    """
    paths = image_paths(folder)
    known = ", ".join(load_layouts())
    if layout is not None and layout not in load_layouts():
        raise DatasetError(f"There is no layout {layout!r}; there are: {known}.")
    chosen = load_layouts()[layout] if layout is not None else recognise(folder, paths)
    if chosen is None:
        raise DatasetError(
            f"None of the {len(paths)} image files fits a known layout. Name one ({known}), or arrange the files as "
            "SUBJECT/SESSION/t1.nii.gz, flair.nii.gz, …, with seg.nii.gz or lesion.nii.gz beside them."
        )
    found: dict[str, dict[str, tuple[list[ImageFile], list[MaskFile], list[date | int]]]]
    found = defaultdict(lambda: defaultdict(lambda: ([], [], [])))
    unread = []
    for path in paths:
        taken = _place(path, chosen.masks) or _place(path, chosen.images)
        if taken is None:
            unread.append(path)
            continue
        pattern, match = taken
        parts = match.groupdict()
        label = parts.get("session") or parts.get("day") or parts.get("date") or ""
        images, masks, days = found[match["subject"]][label]
        if pattern.table:
            masks.append(MaskFile(path, pattern.table, parts.get("rater")))
        else:
            images.append(ImageFile(path, pattern.kind_of(match), pattern.contrast_of(match)))
        if parts.get("day"):
            days.append(int(parts["day"]))
        elif parts.get("date"):
            days.append(date.fromisoformat(parts["date"]))
    if not any(images for sessions in found.values() for images, _, _ in sessions.values()):
        raise DatasetError(f"The layout of {chosen.name} finds no image among the {len(paths)} image files.")
    subjects = tuple(
        DatasetSubject(name, _sessions(found[name], chosen.session_order)) for name in sorted(found, key=natural)
    )
    return DatasetIndex(folder, chosen, subjects, tuple(unread))


def _place(path: str, patterns: Iterable[FilePattern]) -> tuple[FilePattern, re.Match[str]] | None:
    for pattern in patterns:
        match = pattern.pattern.search(path)
        if match:
            return pattern, match
    return None


def _sessions(
    found: dict[str, tuple[list[ImageFile], list[MaskFile], list[date | int]]], order: tuple[str, ...]
) -> tuple[DatasetSession, ...]:
    def key(label: str) -> tuple[int, tuple[tuple[int, int | str], ...]]:
        return (order.index(label) if label in order else len(order), natural(label))

    labels = sorted(found, key=key)
    days = [found[label][2][0] if found[label][2] else None for label in labels]
    first = next((day for day in days if day is not None), None)
    result = []
    for label, day in zip(labels, days, strict=True):
        since: int | None = None
        if isinstance(day, date) and isinstance(first, date):
            since = (day - first).days
        elif isinstance(day, int) and isinstance(first, int):
            since = day - first
        images, masks, _ = found[label]
        result.append(DatasetSession(label, since, tuple(images), tuple(masks)))
    return tuple(result)
