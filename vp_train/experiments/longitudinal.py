"""Longitudinal effect sizes (4.1 "Longitudinal Analyses", Fig. 3D): do changes between two sessions tell patients from
controls? Here on a made-up cohort, whose true changes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vp_model.volume import Volume
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.anatomy import Finder
from vp_train.experiments.checkpoint import finder, load_network, named
from vp_train.experiments.report import Report
from vp_train.experiments.statistics import cohens_d, summarise
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import Scene, draw_grid, draw_scene, render
from vp_train.synthesis.space import Deformation

PAPER = "effect sizes comparable to longitudinal FreeSurfer, SAMSEG and SynthSeg on 100 subjects of ADNI (Fig. 3D)."
STRUCTURES = (
    ("lateral ventricle", ("left lateral ventricle", "right lateral ventricle")),
    ("hippocampus", ("left hippocampus", "right hippocampus")),
    ("thalamus", ("left thalamus", "right thalamus")),
)
"""What is measured: what grows, what shrinks, and what stays in this disease."""


@dataclass(frozen=True)
class Change(Deformation):
    """A deformation after time has passed: structures swell or shrink about their centres.

    Attributes:
        centres: (n, 3) label-map index of each centre; `strengths` (n,) relative growth along each axis there, negative
            to shrink; `widths` (n,) index distance over which it fades.
    """

    centres: torch.Tensor
    strengths: torch.Tensor
    widths: torch.Tensor

    def voxels(self, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
        places = torch.stack(super().voxels(axes))
        moved = places.clone()
        for centre, strength, width in zip(self.centres, self.strengths, self.widths, strict=True):
            away = places - centre[:, None, None, None]
            fading = torch.exp(-away.square().sum(dim=0) / (2 * width.square()))
            moved = moved - strength * fading * away
        return list(moved)


def changed(scene: Scene, growth: Mapping[str, float], width_mm: float) -> Scene:
    """The scene later: each named structure (of a side) grown by about `growth` along each axis."""
    labels = load_labels()
    centres, strengths = [], []
    for name, strength in growth.items():
        places = (scene.subject.labels == labels.index(name)).nonzero().float()
        if len(places):
            centres.append(places.mean(dim=0))
            strengths.append(strength)
    before = scene.deformation
    if not centres:
        return scene
    later = Change(
        before.matrix,
        before.shift,
        before.fields,
        before.strength_mm,
        before.mirrored,
        torch.stack(centres),
        torch.tensor(strengths),
        torch.full((len(centres),), width_mm),
    )
    return replace(scene, deformation=later)


def run(settings: Mapping[str, Any], held_out: Sequence[Subject], checkpoint: Path | None = None) -> Report:
    """Two sessions of each person of two groups, measured by the checkpoint and by the truth."""
    network, table = load_network(checkpoint)
    count, spacing = int(settings["people"]), float(settings["spacing_mm"])
    found: dict[str, dict[str, dict[str, list[float]]]] = {
        name: {source: {"patients": [], "controls": []} for source in ("truth", "measured")} for name, _ in STRUCTURES
    }
    for person in range(2 * count):
        group = "patients" if person < count else "controls"
        chance = Chance.seeded(5_000_000 + person)
        subject = held_out[person % len(held_out)]
        first = draw_scene(subject, load_labels(), chance, 0.5)
        mean = settings["growth"][group]
        spread = float(chance.normal(1)) * float(settings["spread"])
        growth = {
            name: float(mean.get(structure, 0.0)) * (1 + spread) + float(chance.normal(1)) * float(settings["noise"])
            for structure, names in STRUCTURES
            for name in names
        }
        volumes = [
            _volumes(scene, subject, lambda volume: finder(network, table, [volume], checkpoint), spacing, chance)
            for scene in (first, changed(first, growth, float(settings["width_mm"])))
        ]
        for structure, names in STRUCTURES:
            for source in ("truth", "measured"):
                before, after = (sum(volume[source][name] for name in names) for volume in volumes)
                if before > 0:
                    found[structure][source][group].append(100 * (after - before) / before)
    rows = []
    for structure, _ in STRUCTURES:
        groups = found[structure]
        if min(len(values) for source in groups.values() for values in source.values()) < 2:
            continue
        effects = [cohens_d(groups[source]["patients"], groups[source]["controls"]) for source in ("truth", "measured")]
        changes = [summarise(groups["measured"][group]).plain() for group in ("patients", "controls")]
        rows.append((structure, *(f"{effect:+.2f}" for effect in effects), *changes))
    notes = (
        f"{count} patients and {count} controls: held-out heads, deformed, each imaged twice as T1 at {spacing:g} mm; "
        "patients' ventricles grow and their hippocampi shrink by a drawn amount, everybody else's change is noise.",
        "The truth is the change of the label map; its effect size is the best that any method could show.",
    )
    return Report(
        "longitudinal",
        "Longitudinal effect sizes (Fig. 3D)",
        PAPER,
        (
            "structure",
            "effect size, truth",
            "effect size, measured",
            "change in patients (%)",
            "change in controls (%)",
        ),
        tuple(rows),
        notes,
        {**{key: value for key, value in settings.items() if not isinstance(value, Mapping)}, **named(checkpoint)},
        {"changes": found},
    )


def _volumes(
    scene: Scene, subject: Subject, find: Callable[[Volume], Finder], spacing: float, chance: Chance
) -> dict[str, dict[str, float]]:
    """Volumes (ml) of every structure of the table in a new image of the scene: the truth, and measured."""
    labels = load_labels()
    image = render(scene, labels, *draw_grid(subject, [spacing] * 3, None, chance), chance, "T1")
    finds = find(Volume(image.placed.features[0], image.placed.world, "v1", "T1"))
    voxel = spacing**3 / 1000
    wanted = {name for _, names in STRUCTURES for name in names}
    return {
        "truth": {
            name: float(image.targets[index].sum()) * voxel
            for index, name in enumerate(labels.targets)
            if name in wanted
        },
        "measured": {name: float(finds.find(name)[0].sum()) * voxel for name in wanted},
    }
