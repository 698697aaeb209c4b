"""Stream interaction (Table 3, Fig. 4C, C.5, C.6): attention against mean and maximum, one to three images, with and
without an image that shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.experiments.fitting import dice_by_target, draw_images, fit, read_fit
from vp_train.experiments.report import Bars, Report, flat
from vp_train.experiments.statistics import compare, summarise
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import corrupt

KINDS = ("attention", "max", "mean")
COUNTS = (1, 2, 3)
PAPER = (
    "83.7 / 85.8 / 86.9 Dice with 1 / 2 / 3 images by attention, 83.5 / 85.8 / 87.1 by maximum, 83.0 / 85.7 / 86.7 by "
    "mean (Table 3); a corrupted image costs 0.6, 4.6 and 5.4 (Fig. 4C)."
)


def run(settings: Mapping[str, Any], subjects: Sequence[Subject], held_out: Sequence[Subject]) -> Report:
    """Train the three variants alike and judge them on the same sets of images of held-out subjects."""
    scores: dict[str, dict[str, list[float]]] = {}
    for kind in KINDS:
        network, table = fit(read_fit(dict(settings["fit"]), interaction=kind), subjects)
        measured: dict[str, list[float]] = {name: [] for name in (*map(str, COUNTS), "corrupted")}
        for sample in range(int(settings["samples"])):
            chance = Chance.seeded(9_000_000 + sample)
            images = draw_images(held_out[sample % len(held_out)], chance, settings["fit"]["spacing_mm"], max(COUNTS))
            sets = {str(count): images[:count] for count in COUNTS}
            sets["corrupted"] = [*images[:2], corrupt(images[2], chance)]
            for name, given in sets.items():
                with torch.inference_mode():
                    logits = network([image.placed for image in given], table(len(given)))
                # The images that show the head are judged; there is nothing to find in the spoiled one.
                shown = given[:2] if name == "corrupted" else given
                found = [
                    np.mean(list(dice_by_target(item, image.targets, table.names).values()))
                    for item, image in zip(logits, shown, strict=False)
                ]
                measured[name].append(float(np.mean(found)))
        scores[kind] = measured

    def loss(kind: str) -> list[float]:
        return [after - before for after, before in zip(scores[kind]["corrupted"], scores[kind]["2"], strict=True)]

    rows = []
    for kind in KINDS:
        against = "" if kind == "attention" else compare(scores["attention"]["3"], scores[kind]["3"]).verdict()
        rows.append(
            (
                kind,
                *(summarise(scores[kind][str(count)]).percent() for count in COUNTS),
                summarise(loss(kind)).percent(),
                against,
            )
        )
    bars = Bars(
        ("1 image", "2 images", "3 images", "2 and a corrupted one"),
        {kind: [summarise(scores[kind][name]) for name in ("1", "2", "3", "corrupted")] for kind in KINDS},
        "Dice",
    )
    notes = (
        f"{settings['samples']} sets of images of {len(held_out)} held-out subjects, the same for the three variants; "
        f"mean over {len(load_labels().targets)} targets, sides apart.",
        "The last column but one: Dice with two good images and a corrupted third, less that with the two alone; "
        "the last compares three images by attention with three by the variant.",
    )
    return Report(
        "interaction",
        "Stream interaction: attention, maximum, mean (Table 3, Fig. 4C)",
        PAPER,
        ("variant", "1 image", "2 images", "3 images", "corrupted image", "attention against it"),
        tuple(rows),
        notes,
        flat(settings),
        {"dice": scores},
        bars,
    )
