"""A whole training of the network that finds lesions: what m leaves unexplained, learning, judging; for the CLI."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from vp_model.checkpoint import CONDITIONS_FILE, CONFIG_FILE, open_checkpoint
from vp_model.vision.config import config_from_dict
from vp_model.vision.lesions import LesionConfig, LesionNetwork, lesion_config, load_lesions, save_lesions
from vp_train.evaluation.card import CARD, OFFERED_FROM, merge_config
from vp_train.evaluation.finder import choose, judge
from vp_train.evaluation.pathology import PathologyScore
from vp_train.training.condition import read_table, save_conditions
from vp_train.training.departures_drawing import DeparturesSource
from vp_train.training.finder import learn_finder
from vp_train.training.finder_recipe import FinderRecipe
from vp_train.training.kept_departures import Study, finder_targets
from vp_train.training.recipe import Recipe

STATE = "finder_state.pt"
HELD_OUT_SEEDS = 5_001, 5_002
"""Of the images that choose and of those that judge."""
FURTHER_SEEDS = 5_003, 5_004
"""Of further ones, likewise."""
STUDIES_FOR = 4
"""Single images for each study among those that choose and judge."""


def train_finder(
    recipe: Recipe,
    data: Path,
    checkpoint: Path,
    table: Path,
    kept: Path,
    finder: FinderRecipe,
    judged: int = 60,
    say: Callable[[str], None] = print,
    further: Recipe | None = None,
    device: torch.device | str = "cpu",
    workers: int = 0,
    begin: Path | None = None,
    nowhere: Collection[str] = (),
) -> None:
    """Learn lesions on top of a checkpoint's m, judge them on held-out heads, and write both to the checkpoint.

    Args:
        recipe: how lesions are drawn; its mix is replaced by the checkpoint's working spacing.
        data: folder of label maps, `synthseg_*_seg.nii.gz`.
        checkpoint: with m and its conditions; gets `lesions.safetensors`, the conditions, and what is known of them.
        table: condition table that has the recipe's pathologies beside the checkpoint's regions.
        kept: folder for what was read of the label maps, and for the departures that were drawn: a run that was stopped
            goes on from there.
        judged: images of held-out heads that choose thresholds, and as many that judge; where studies are learned from,
            a quarter as many studies beside them.
        further: how as many images again are drawn, to choose and to judge, of kinds that are rare in the others.
        device: that learns; `workers`: processes that draw beside this one.
        begin: checkpoint whose network a new training begins with.
        nowhere: sequence types in which nothing is offered, whatever the synthetic images say: real ones may tell
            otherwise.

    Raises:
        ValueError: the recipe draws no lesions.
    """
    known = read_table(table)
    names = finder_targets(recipe)
    phi = known(1).detach()[[known.names.index(name) for name in names], 0]
    drawing = DeparturesSource(checkpoint, data, kept, recipe)
    learning = drawing.draw(finder.images, say, workers)
    learning += replace(drawing, whole=True).draw(finder.studies, say, workers)
    before = None if begin is None else open_finder(begin)
    config = LesionConfig() if before is None else before.config
    lesions = learn_finder(config, phi, learning, finder, kept / STATE, say, device, before)

    def held_out(seed: int, drawn: Recipe, whole: bool = False) -> list[Study]:
        source = replace(drawing, recipe=replace(drawn, seed=seed), held_out=True, whole=whole)
        return source.draw(judged // STUDIES_FOR if whole else judged, say, workers)

    first, second = (held_out(seed, recipe) for seed in HELD_OUT_SEEDS)
    if finder.studies:
        first, second = (
            [*given, *held_out(seed, recipe, True)] for given, seed in zip((first, second), HELD_OUT_SEEDS, strict=True)
        )
    if further is not None:
        first, second = (
            [*given, *held_out(seed, further)] for given, seed in zip((first, second), FURTHER_SEEDS, strict=True)
        )
    spacing = config_from_dict(open_checkpoint(checkpoint).vision).working_spacing_mm or 2.0
    voxel_ml = spacing**3 / 1000
    thresholds, shows = choose(lesions, phi, names, first, voxel_ml)
    shows = {name: tuple(kind for kind in kinds if kind not in nowhere) for name, kinds in shows.items()}
    scores = judge(lesions, phi, names, second, voxel_ml, thresholds, shows)
    write_finder(checkpoint, lesions, scores, shows)
    save_conditions(known, checkpoint / CONDITIONS_FILE)


def open_finder(checkpoint: Path) -> LesionNetwork:
    """The network that finds lesions of a checkpoint.

    Raises:
        ValueError: it has none.
    """
    found = open_checkpoint(checkpoint).lesions
    if found is None:
        raise ValueError(f"The checkpoint in {checkpoint} finds no lesions that a training could begin with.")
    return load_lesions(lesion_config(found.network), checkpoint)


def write_finder(
    checkpoint: Path,
    network: LesionNetwork,
    scores: Mapping[str, PathologyScore],
    shows: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """Weights, configuration and card of what may be offered; returns its names. What the checkpoint's m finds itself
    stays m's.
    """
    path = checkpoint / CONFIG_FILE
    structures = json.loads(path.read_text(encoding="utf-8"))["structures"]
    before = json.loads(path.read_text(encoding="utf-8")).get("lesions") or {"shows": {}}
    others = [item for item in structures if item["name"] not in before["shows"]]
    of_m = {item["name"] for item in others}
    offered = {
        name: shows[name]
        for name, score in scores.items()
        if name not in of_m and shows[name] and (score.dice or 0.0) >= OFFERED_FROM
    }
    entries = [
        {"name": name, "side": None, "dice": None, "experimental": True, "threshold": scores[name].threshold}
        for name in offered
    ]
    lesions = {"network": network.config.as_dict(), "shows": {name: list(kinds) for name, kinds in offered.items()}}
    merge_config(checkpoint, {"structures": [*others, *entries], "lesions": lesions if offered else None})
    save_lesions(network, checkpoint)
    card = checkpoint / CARD
    values = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    values["pathologies"] = {
        name: {**asdict(score), "shows": list(offered.get(name, ()))}
        for name, score in scores.items()
        if name not in of_m
    }
    card.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return tuple(offered)
