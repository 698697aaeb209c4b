"""One network for all targets against a specialist for each (4.2 "Multi-Task Training", Fig. 4A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.experiments.fitting import dice_by_target, draw_images, fit, read_fit
from vp_train.experiments.report import Bars, Report, flat
from vp_train.experiments.statistics import compare, summarise
from vp_train.synthesis.chance import Chance

PAPER = (
    "13 of 17 targets on par with or above their specialists; +4.3 ± 5.7 Dice for pathology, −0.1 ± 0.3 for anatomy "
    "(Fig. 4A)."
)


def run(settings: Mapping[str, Any], subjects: Sequence[Subject], held_out: Sequence[Subject]) -> Report:
    """Train all together and each alone, with the same network, steps and images, and judge them on the same heads.

    Args:
        settings: `targets`, what is judged; `together`, what one network learns, everything where absent.

    Raises:
        ValueError: what is judged is not learned together.
    """
    targets = tuple(settings["targets"])
    unlearned = set(targets) - set(settings.get("together") or targets)
    if unlearned:
        raise ValueError(f"The one network must learn what it is judged by: {', '.join(sorted(unlearned))}.")
    spacing = float(settings["fit"]["spacing_mm"])
    judged = [
        draw_images(held_out[sample % len(held_out)], Chance.seeded(8_000_000 + sample), spacing, 1)[0]
        for sample in range(int(settings["samples"]))
    ]

    everything = load_labels().targets

    def judge(names: Sequence[str] | None) -> list[dict[str, float]]:
        network, table = fit(read_fit(dict(settings["fit"])), subjects, names)
        found = []
        for image in judged:
            with torch.inference_mode():
                logits = network([image.placed], table(1))[0]
            places = [everything.index(name) for name in table.names]
            found.append(dice_by_target(logits, image.targets[places], table.names))
        return found

    together = judge(settings.get("together"))
    scores: dict[str, dict[str, list[float]]] = {}
    for target in targets:
        alone = judge((target,))
        both = [(a[target], b[target]) for a, b in zip(together, alone, strict=True) if target in a and target in b]
        scores[target] = {"together": [a for a, _ in both], "alone": [b for _, b in both]}
    rows, on_par = [], 0
    for target, pair in scores.items():
        compared = compare(pair["together"], pair["alone"])
        worse = compared.p_t < 0.05 and compared.difference.mean < 0
        on_par += not worse
        rows.append(
            (
                target,
                summarise(pair["together"]).percent(),
                summarise(pair["alone"]).percent(),
                compared.difference.percent(),
                compared.verdict(),
            )
        )
    bars = Bars(
        targets,
        {name: [summarise(scores[target][name]) for target in targets] for name in ("together", "alone")},
        "Dice",
    )
    notes = (
        f"On par with or above the specialist: {on_par} of {len(targets)}.",
        f"The one network learns {len(settings.get('together') or everything)} targets. "
        f"{settings['samples']} heads of {len(held_out)} held-out subjects; every network had the same steps and "
        "images, so that the specialist spent all of its steps on the one target.",
    )
    return Report(
        "specialists",
        "One network for all against specialists (Fig. 4A)",
        PAPER,
        ("target", "together", "alone", "difference", "paired test"),
        tuple(rows),
        notes,
        flat({key: value for key, value in settings.items() if key not in ("targets", "together")}),
        {"dice": scores},
        bars,
    )
