"""A whole training of m's read-out: data, kept voxels, learning, export; for the CLI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from vp_model.vision.config import preset
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import FILE as VISION_FILE
from vp_model.vision.weights import save_vision
from vp_train.datasets.maps import load_subjects, split, with_parcels
from vp_train.synthesis.lesions.anatomy import load_anatomies
from vp_train.training.condition import ConditionTable, read_table, save_conditions
from vp_train.training.examples import LesionSource, lesions_from
from vp_train.training.readout import ReadoutRecipe, keep_voxels, learn_readout
from vp_train.training.recipe import Recipe, Scale
from vp_train.training.vision import TABLE_FILE

GROWING = ("read_out.bend.", "read_out.below.")
"""Parts that start at nothing: a network without them is the same as one with them that has not learned yet."""
SPACINGS = {1.0: 0.5, 0.857: 0.15, 1.143: 0.25, 1.429: 0.1}
"""Spacings of the images, relative to the working spacing, and how often each is drawn."""


def train_readout(
    recipe: Recipe,
    data: Path,
    trained: Path,
    out: Path,
    working_spacing_mm: float,
    readout: ReadoutRecipe,
    lesions: bool = True,
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Learn the read-out of the export in `trained` and export the network to `out`.

    Args:
        recipe: with which the network was trained.
        data: folder of label maps, `synthseg_*_seg.nii.gz`.
        trained: folder with `vision.safetensors` and `condition_table.safetensors`; a read-out that is linear in φ
            becomes one that is not, and one that sees fewer levels sees more, if the recipe's preset has it so.
        lesions: whether the exported table keeps the recipe's pathologies.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    network, table = _grown(recipe, trained), read_table(trained / TABLE_FILE)
    subjects, _ = split(load_subjects(data, out / "cache"))
    if recipe.regions:
        subjects = with_parcels(subjects, data, out / "cache")
    source: LesionSource | None = None
    if recipe.lesions is not None:
        anatomies = load_anatomies(data, subjects, out / "cache")
        by_name = {subject.name: anatomy for subject, anatomy in zip(subjects, anatomies, strict=True)}
        source = lesions_from(by_name, recipe.lesions)
    mix = tuple(Scale(working_spacing_mm * factor, None, share) for factor, share in SPACINGS.items())
    # As finely as a GPU looks at label maps takes a CPU ten times as long.
    kept = keep_voxels(network, subjects, replace(recipe, mix=mix, part_mm=None), readout, source, say)
    learn_readout(network, table, recipe.targets, kept, readout, lambda name: 1.0, say)
    save_vision(network, out)
    save_conditions(table if lesions else _without(table, recipe.pathologies), out / TABLE_FILE)


def _grown(recipe: Recipe, trained: Path) -> VisionNetwork:
    """The export's network in the recipe's preset, whose read-out may bend what the export's does not, and see more
    levels of the decoder.

    Raises:
        ValueError: the export does not fit the preset.
    """
    network = VisionNetwork(preset(recipe.preset))
    weights = {name: value.to(torch.float32) for name, value in load_file(trained / VISION_FILE).items()}
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # of other shapes
        raise ValueError(f"{VISION_FILE} in {trained.name} does not fit the preset {recipe.preset}.") from error
    if unexpected or any(not name.startswith(GROWING) for name in missing):
        raise ValueError(f"{VISION_FILE} in {trained.name} does not fit the preset {recipe.preset}.")
    return network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def _without(table: ConditionTable, names: tuple[str, ...]) -> ConditionTable:
    kept = [name for name in table.names if name not in names]
    smaller = ConditionTable(kept, table.vectors.shape[1])
    with torch.no_grad():
        smaller.vectors.copy_(table.vectors[[table.names.index(name) for name in kept]])
    return smaller
