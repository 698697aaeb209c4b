"""A whole training of the network that finds lesions: what m leaves unexplained, learning, judging; for the CLI."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from vp_model.checkpoint import CONDITIONS_FILE, CONFIG_FILE, open_checkpoint
from vp_model.vision.config import config_from_dict
from vp_model.vision.lesions import LesionConfig, LesionNetwork, save_lesions
from vp_model.vision.mirrored import load_conditions
from vp_model.vision.weights import load_vision
from vp_train.datasets.maps import Subject, load_subjects, split
from vp_train.evaluation.card import CARD, OFFERED_FROM, merge_config
from vp_train.evaluation.finder import choose, judge
from vp_train.evaluation.pathology import PathologyScore
from vp_train.synthesis.lesions.anatomy import load_anatomies
from vp_train.training.condition import read_table, save_conditions
from vp_train.training.examples import LesionSource, lesions_from
from vp_train.training.finder import learn_finder
from vp_train.training.finder_recipe import FinderRecipe
from vp_train.training.kept_departures import KeptDepartures, draw_departures, finder_targets
from vp_train.training.recipe import Recipe, Scale

FOLDER, STATE = "departures", "finder_state.pt"
HELD_OUT_SEEDS = 5_001, 5_002
"""Of the images that choose and of those that judge."""


def train_finder(
    recipe: Recipe,
    data: Path,
    checkpoint: Path,
    table: Path,
    kept: Path,
    finder: FinderRecipe,
    judged: int = 60,
    say: Callable[[str], None] = print,
) -> None:
    """Learn lesions on top of a checkpoint's m, judge them on held-out heads, and write both to the checkpoint.

    Args:
        recipe: how lesions are drawn; its mix is replaced by the checkpoint's working spacing.
        data: folder of label maps, `synthseg_*_seg.nii.gz`.
        checkpoint: with m and its conditions; gets `lesions.safetensors`, the conditions, and what is known of them.
        table: condition table that has the recipe's pathologies beside the checkpoint's regions.
        kept: folder for what was read of the label maps, and for the departures that were drawn: a run that was stopped
            goes on from there.
        judged: images of held-out heads that choose thresholds, and as many that judge.

    Raises:
        ValueError: the recipe draws no lesions.
    """
    drawing = recipe.lesions
    if drawing is None:
        raise ValueError("This recipe draws no lesions.")
    opened = open_checkpoint(checkpoint)
    network = load_vision(config_from_dict(opened.vision), checkpoint)
    conditions, known = load_conditions(checkpoint / CONDITIONS_FILE), read_table(table)
    spacing = network.config.working_spacing_mm or 2.0
    recipe = replace(recipe, mix=(Scale(spacing, None, 1.0),), part_mm=None)

    def keep(subjects: list[Subject], seed: int, count: int) -> list[KeptDepartures]:
        found = load_anatomies(data, subjects, kept)
        anatomies = {subject.name: anatomy for subject, anatomy in zip(subjects, found, strict=True)}
        source: LesionSource = lesions_from(anatomies, drawing)
        drawn = replace(recipe, seed=seed)
        return draw_departures(network, conditions, subjects, drawn, count, source, kept / FOLDER, say)

    learning, held_out = split(load_subjects(data, kept))
    names = finder_targets(recipe)
    phi = known(1).detach()[[known.names.index(name) for name in names], 0]
    state = kept / STATE
    lesions = learn_finder(LesionConfig(), phi, keep(learning, recipe.seed, finder.images), finder, state, say)
    first, second = (keep(held_out, seed, judged) for seed in HELD_OUT_SEEDS)
    voxel_ml = spacing**3 / 1000
    thresholds, shows = choose(lesions, phi, names, first, voxel_ml)
    scores = judge(lesions, phi, names, second, voxel_ml, thresholds, shows)
    write_finder(checkpoint, lesions, scores, shows)
    save_conditions(known, checkpoint / CONDITIONS_FILE)


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
