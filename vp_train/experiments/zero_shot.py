"""Text-prompted segmentation of lesions on data sets never trained on (4.1, C.2, Fig. 3B–C, Fig. 8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.agent import Agent
from vp_model.vision.inference import segment_volumes
from vp_model.volume import Volume, read_nifti
from vp_train.datasets.public.cases import prepared_cases
from vp_train.evaluation.anatomy import dice
from vp_train.experiments.checkpoint import load_network, named
from vp_train.experiments.lesions import threshold_lesions
from vp_train.experiments.report import Report
from vp_train.experiments.statistics import compare, summarise

PAPER = "mean Dice 12.5 points above the second-best method on BraTS-MEN, PediMS, EPISURG and BHSD (Fig. 3C)."
REAL = "real"
"""Name of the single patients in a folder of scans (`<name>_lesion.nii.gz` beside `<name>_flair.nii.gz`)."""
DAY = date(2024, 3, 1)


@dataclass(frozen=True, eq=False)
class LesionCase:
    """Volumes `v1`, `v2`, … of a subject, and where the first of them shows the lesion."""

    dataset: str
    volumes: tuple[Volume, ...]
    reference: NDArray[np.bool_]


def run(
    settings: Mapping[str, Any], scans: Path | None, prepared: Path | None = None, checkpoint: Path | None = None
) -> Report:
    """Prompt the checkpoint on every test case of the prepared data sets, and on single patients.

    Args:
        scans: folder of single patients; `prepared`: folder that `vp-train data prepare` filled.

    Raises:
        FileNotFoundError: neither holds a case.
    """
    agent = Agent.load(checkpoint)
    network, table = load_network(checkpoint)
    brain = table.names.index("brain")
    scores: dict[str, dict[str, list[float]]] = {}
    refused: dict[str, int] = {}
    for case in _cases(settings, scans, prepared):
        asked = settings["datasets"][case.dataset]["prompt"]
        with torch.inference_mode():
            outcome = agent.run(asked, case.volumes)
        found = np.zeros(case.reference.shape, dtype=bool)
        for mask in outcome.masks:
            if mask.volume == "v1":
                found |= mask.voxels
        inside = segment_volumes(network, case.volumes[:1], table(1).detach()[brain : brain + 1])[0][0] > 0.5
        threshold = threshold_lesions(case.volumes[0], inside.numpy())
        kept = scores.setdefault(case.dataset, {"prompted": [], "threshold": []})
        kept["prompted"].append(dice(found, case.reference))
        kept["threshold"].append(dice(threshold, case.reference))
        refused[case.dataset] = refused.get(case.dataset, 0) + (outcome.status == "refused")
    if not scores:
        raise FileNotFoundError(
            "There is no case: name prepared data sets with --prepared, or patients NAME_flair.nii.gz with "
            "NAME_lesion.nii.gz with --scans."
        )
    rows = [
        (
            dataset,
            settings["datasets"][dataset]["prompt"],
            str(len(kept["prompted"])),
            summarise(kept["prompted"]).percent(),
            summarise(kept["threshold"]).percent(),
            compare(kept["prompted"], kept["threshold"]).verdict() if len(kept["prompted"]) > 1 else "–",
            str(refused[dataset]),
        )
        for dataset, kept in scores.items()
    ]
    notes = (
        "A refused prompt counts as an empty mask: these weights refuse what they never learned.",
        "The threshold is that of `lesion-synthesis`, on the first volume.",
    )
    return Report(
        "zero-shot",
        "Text-prompted lesions on unseen data (Fig. 3C)",
        PAPER,
        ("data", "prompt", "cases", "prompted", "intensity threshold", "paired test", "refused"),
        tuple(rows),
        notes,
        named(checkpoint),
        {"dice": scores, "refused": refused},
    )


def _cases(settings: Mapping[str, Any], scans: Path | None, prepared: Path | None) -> Iterator[LesionCase]:
    for path in sorted(scans.glob("*_lesion.nii.gz")) if scans is not None else []:
        name = path.name.removesuffix("_lesion.nii.gz")
        image = read_nifti(path.with_name(f"{name}_flair.nii.gz"), kind="FLAIR")
        image = Volume(image.features, image.world, "v1", "FLAIR", DAY, 0)
        yield LesionCase(REAL, (image,), read_nifti(path).voxels > 0)
    if prepared is None:
        return
    for case in prepared_cases(prepared, "test"):
        wanted = settings["datasets"].get(case.dataset)
        if wanted is None:
            continue
        shown = [image for image in case.images if wanted["region"] in image.masks]
        if not shown:
            continue
        first = shown[0]
        others = [image for image in case.images if image.volume.session == first.volume.session and image is not first]
        volumes = tuple(
            Volume(image.volume.features, image.volume.world, f"v{number + 1}", image.volume.kind, DAY, 0)
            for number, image in enumerate([first, *others])
        )
        yield LesionCase(case.dataset, volumes, first.masks[wanted["region"]])
