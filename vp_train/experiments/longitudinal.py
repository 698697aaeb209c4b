"""Longitudinal effect sizes (4.1 "Longitudinal Analyses", Fig. 3D): do changes between two sessions tell patients from
controls? Here on a made-up cohort, whose true changes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vp_model.volume import Volume
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.anatomy import Finder
from vp_train.experiments.checkpoint import finder, load_network, named
from vp_train.experiments.report import Report
from vp_train.experiments.statistics import cohens_d, summarise
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.growth import grown
from vp_train.synthesis.scene import Scene, draw_grid, draw_scene, render

PAPER = "effect sizes comparable to longitudinal FreeSurfer, SAMSEG and SynthSeg on 100 subjects of ADNI (Fig. 3D)."
STRUCTURES = (
    ("lateral ventricle", ("left lateral ventricle", "right lateral ventricle")),
    ("hippocampus", ("left hippocampus", "right hippocampus")),
    ("thalamus", ("left thalamus", "right thalamus")),
)
"""What is measured: what grows, what shrinks, and what yields to its neighbour alone."""


def changed(scene: Scene, moved_mm: Mapping[str, float]) -> Scene:
    """The scene later: the boundary of each named structure (of a side) has moved outwards by so many mm."""
    return replace(scene, deformation=grown(scene.subject, scene.deformation, moved_mm, load_labels()))


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
        mean = settings["moved_mm"][group]
        spread = float(chance.normal(1)) * float(settings["spread"])
        moved = {
            name: float(mean.get(structure, 0.0)) * (1 + spread) + float(chance.normal(1)) * float(settings["noise_mm"])
            for structure, names in STRUCTURES
            for name in names
        }
        volumes = [
            _volumes(scene, subject, lambda volume: finder(network, table, [volume], checkpoint), spacing, chance)
            for scene in (first, changed(first, moved))
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
        "patients' ventricles grow and their hippocampi shrink by a drawn amount, more than controls' do, and every "
        "boundary moves by some noise; the thalamus yields to the ventricles beside it.",
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
