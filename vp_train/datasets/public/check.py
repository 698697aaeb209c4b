"""What was understood of a data set's folder, in words: for `vp-train data check`."""

from __future__ import annotations

from collections import Counter

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from vp_train.datasets.public.index import DatasetIndex
from vp_train.datasets.public.layout import load_table
from vp_train.datasets.public.splits import part_of

SAMPLED_MASKS = 5
"""Label maps whose labels are read and compared with their table."""
SHOWN = 8


def report(index: DatasetIndex) -> tuple[list[str], list[str]]:
    """(lines of what was understood, problems)."""
    layout = index.layout
    sessions = [session for subject in index.subjects for session in subject.sessions]
    kinds = Counter(
        " ".join(filter(None, (image.kind, image.contrast))) for session in sessions for image in session.images
    )
    tables = Counter(mask.table for session in sessions for mask in session.masks)
    parts = Counter(part_of(layout.key, subject.subject) for subject in index.subjects)
    several = sum(len(subject.sessions) > 1 for subject in index.subjects)
    lines = [
        f"{layout.name}: {layout.about}",
        f"  {len(index.subjects)} subjects, {len(sessions)} sessions, {several} subjects with more than one",
        "  images: " + (", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"),
        "  label maps: " + (", ".join(f"{count} {table}" for table, count in tables.most_common()) or "none"),
        "  parts: " + ", ".join(f"{parts[part]} {part}" for part in ("training", "validation", "test")),
    ]
    if layout.layout != "published":
        lines.append(f"  layout: {layout.layout}")
    problems = [
        f"{subject.subject} {session.label}: a label map but no image".replace("  ", " ")
        for subject in index.subjects
        for session in subject.sessions
        if session.masks and not session.images
    ]
    problems += _labels(index)
    if index.unread:
        shown = ", ".join(index.unread[:SHOWN]) + (", …" if len(index.unread) > SHOWN else "")
        lines.append(f"  {len(index.unread)} image files that the layout has no use for: {shown}")
    return lines, problems


def _labels(index: DatasetIndex) -> list[str]:
    """Labels of the first label maps that their table does not know, and label maps that cannot be read."""
    masks = [mask for subject in index.subjects for session in subject.sessions for mask in session.masks]
    problems = []
    for mask in masks[:SAMPLED_MASKS]:
        try:
            image = nibabel.load(index.folder / mask.path)
            labels = np.unique(np.rint(np.asarray(image.dataobj)))  # type: ignore[attr-defined]
        except (ImageFileError, OSError, EOFError, ValueError) as error:
            problems.append(f"{mask.path} cannot be read: {error}")
            continue
        table = load_table(mask.table)
        strange = [int(label) for label in labels if label and int(label) not in table]
        if strange and mask.table != "freesurfer":  # FreeSurfer writes many labels that are no structure of ours
            problems.append(f"{mask.path} has labels that the table {mask.table} does not know: {strange[:SHOWN]}")
    return problems
