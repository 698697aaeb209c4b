"""A whole training run of m: data, watching on real scans, export; for `python -m vp_train.training` and the CLI."""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vp_model.vision.device import find_device
from vp_train.datasets.maps import load_subjects, split, with_parcels
from vp_train.evaluation.anatomy import score_anatomy, score_lesions
from vp_train.evaluation.curves import plot_curves
from vp_train.synthesis.lesions.anatomy import load_anatomies
from vp_train.training.examples import LesionSource, lesions_from
from vp_train.training.focal import lesion_workers
from vp_train.training.recipe import Recipe, bundled_recipe, read_recipe
from vp_train.training.vision import Learner, averaged, begin_from, export, load_learner, train

WATCHED_SPACINGS_MM = (3.0,)
WATCHED_SCAN = "real_vxm"


def find_recipe(name_or_file: str) -> Recipe:
    """A bundled recipe by name, or one from a JSON file."""
    path = Path(name_or_file)
    return read_recipe(path if path.suffix == ".json" else bundled_recipe(name_or_file))


def watch_validation(learner: Learner, validation: Path, out: Path, say: Callable[[str], None] = print) -> None:
    """Mean Dice on a real scan at several working spacings, to `validation.csv`; an export of the averaged weights."""
    network, table = averaged(learner)
    configured = network.config
    path = out / "validation.csv"
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "seconds", "spacing_mm", "mean_dice", "lesion_dice"])
        for spacing in WATCHED_SPACINGS_MM:
            network.config = replace(configured, working_spacing_mm=spacing)
            score = score_anatomy(network, table, validation, (WATCHED_SCAN,))[0]
            lesion = score_lesions(network, table, validation, ("FLAIR",))
            writer.writerow([learner.step, round(learner.seconds), spacing, f"{score.mean:.4f}", f"{lesion:.4f}"])
            now = time.strftime("%H:%M:%S")
            say(f"{now} step {learner.step} at {spacing} mm: {score.mean:.3f}, lesion {lesion:.3f}")
            say(json.dumps({name: round(value, 2) for name, value in score.dice.items()}))
    export(learner, out)
    plot_curves(out)


def train_vision(
    recipe: Recipe,
    data: Path,
    out: Path,
    validation: Path | None = None,
    minutes: float = 60.0,
    watch_minutes: float = 6.0,
    threads: int | None = None,
    say: Callable[[str], None] = print,
    begin: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
) -> Learner:
    """Train m (or go on with the state in `out`) and export it.

    Args:
        data: folder of label maps, `synthseg_*_seg.nii.gz`.
        out: gets state, curves, `vision.safetensors` and `condition_table.safetensors`.
        validation: folder of real scans with references, never trained on.
        begin: folder of weights to begin from where `out` holds no state yet.
        device: that draws and learns: `cpu`, `cuda` or `auto`.
        workers: processes that draw lesions beside this one.
        minutes: after which training stops, resumable; a file `stop` in `out` or SIGTERM stops it earlier.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    subjects, held_out = split(load_subjects(data, out / "cache"))
    at = find_device(device)
    learner = load_learner(recipe, out, at)
    if begin is not None and learner.step == 0:
        begin_from(learner, begin)
    say(f"step {learner.step} of {recipe.steps}; {len(subjects)} subjects, {len(held_out)} held out; on {at.type}")
    if recipe.regions:
        subjects = with_parcels(subjects, data, out / "cache")

    def watch(current: Learner) -> None:
        if validation is None:
            export(current, out)
        else:
            watch_validation(current, validation, out, say)

    with contextlib.ExitStack() as stack:
        lesions: LesionSource | None = None
        if recipe.lesions is not None:
            if workers:
                lesions = stack.enter_context(lesion_workers(data, out / "cache", recipe.lesions, workers))
            else:
                found = load_anatomies(data, subjects, out / "cache")
                by_name = {subject.name: anatomy for subject, anatomy in zip(subjects, found, strict=True)}
                lesions = lesions_from(by_name, recipe.lesions)
        there = [subject.to(at) for subject in subjects]
        train(learner, there, recipe, out, minutes, watch, watch_minutes, lesions)
    watch(learner)
    return learner
