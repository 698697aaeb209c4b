"""Whole-brain segmentation of real scans (4.1 "Whole Brain Anatomical Segmentation", Fig. 3E), against the masks of any
other tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vp_model.checkpoint import open_checkpoint
from vp_model.volume import read_nifti
from vp_train.datasets.labels import load_labels
from vp_train.evaluation.anatomy import NOT_IN_REFERENCE, SMALLEST_REFERENCE, dice, read_reference, score_scan
from vp_train.experiments.checkpoint import load_network, named
from vp_train.experiments.report import Report
from vp_train.experiments.statistics import compare, summarise

PAPER = (
    "+1.1 ± 2.3 Dice against SynthSeg over 45 structures; +5.1 against SAMSEG and +70.8 against SAT over 22 (Fig. 3E)."
)
OURS = "VoxelPrompt"


def run(
    settings: Mapping[str, Any], scans: Path, checkpoint: Path | None = None, others: Mapping[str, Path] | None = None
) -> Report:
    """Dice of every structure in every scan.

    Args:
        scans: folder of `<scan>_t1.nii.gz` with `<scan>_seg.nii.gz` (FreeSurfer ids).
        others: by the tool's name, a folder of its label maps `<scan>_seg.nii.gz` on the same grids, in the same ids.

    Raises:
        FileNotFoundError: there is no scan with a reference.
    """
    labels = load_labels()
    network, table = load_network(checkpoint)
    opened = open_checkpoint(checkpoint)
    names = sorted(path.name.removesuffix("_seg.nii.gz") for path in scans.glob("*_seg.nii.gz"))
    names = [name for name in names if (scans / f"{name}_t1.nii.gz").is_file()]
    if not names:
        raise FileNotFoundError(f"{scans} holds no scan NAME_t1.nii.gz with its reference NAME_seg.nii.gz.")
    found: dict[str, dict[str, dict[str, float]]] = {OURS: {}}
    for name in names:
        reference = read_reference(scans / f"{name}_seg.nii.gz", labels)
        volume = read_nifti(scans / f"{name}_t1.nii.gz", kind="T1")
        found[OURS][name] = score_scan(network, table, [volume], reference, name, opened.mirrored, opened.refining).dice
        for tool, folder in (others or {}).items():
            masks = read_reference(folder / f"{name}_seg.nii.gz", labels)
            found.setdefault(tool, {})[name] = {
                target: dice(labels.mask(masks, target), labels.mask(reference, target))
                for target in labels.targets
                if labels.mask(reference, target).sum() >= SMALLEST_REFERENCE
                and target not in NOT_IN_REFERENCE.get(name, ())
                and target != "white matter lesion"
            }
    targets = [target for target in labels.targets if any(target in scores for scores in found[OURS].values())]
    rows = [
        (target, *(f"{found[tool][name][target]:.2f}" if target in found[tool][name] else "–"
                   for tool in found for name in names))
        for target in targets
    ]  # fmt: skip
    means = [f"{np.mean(list(found[tool][name].values())):.3f}" for tool in found for name in names]
    notes = [f"{len(names)} scans: {', '.join(names)}; left and right apart."]
    for tool in found:
        if tool == OURS:
            continue
        pairs = [
            (found[OURS][name][target], found[tool][name][target])
            for name in names
            for target in found[OURS][name]
            if target in found[tool][name]
        ]
        compared = compare([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
        notes.append(f"Against {tool}: {compared.difference.percent()} Dice, {compared.verdict()}.")
    every = [value for scores in found[OURS].values() for value in scores.values()]
    notes.append(f"All structures and scans: {summarise(every).percent()}.")
    return Report(
        "whole-brain",
        "Whole-brain segmentation of real T1 (Fig. 3E)",
        PAPER,
        ("structure", *(f"{tool} {name}" for tool in found for name in names)),
        (*rows, ("**mean**", *means)),
        tuple(notes),
        {**settings, **named(checkpoint)},
        {"dice": found},
    )
