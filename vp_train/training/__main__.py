"""`python -m vp_train.training`: train m on synthetic images, watch it on real ones, export it."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from vp_train.datasets.maps import load_subjects, split
from vp_train.evaluation.anatomy import score_anatomy, score_lesions
from vp_train.training.recipe import bundled_recipe, read_recipe
from vp_train.training.vision import Learner, averaged, export, load_learner, train


def watch_validation(learner: Learner, folder: Path, out: Path) -> None:
    """Print and append to `validation.csv` the mean Dice on real scans at several working spacings; export."""
    network, table = averaged(learner)
    for spacing in (4.0, 3.0, 2.0):
        network.config = replace(network.config, working_spacing_mm=spacing)
        score = score_anatomy(network, table, folder, ("real_vxm",))[0]
        lesion = score_lesions(network, table, folder, ("FLAIR",)) if spacing < 4 else float("nan")
        print(f"{time.strftime('%H:%M:%S')} step {learner.step} at {spacing} mm: {score.mean:.3f} lesion {lesion:.3f}")
        if spacing < 4:
            print({name: round(value, 2) for name, value in score.dice.items()}, flush=True)
        with (out / "validation.csv").open("a", encoding="utf-8") as file:
            file.write(f"{learner.step},{learner.seconds:.0f},{spacing},{score.mean:.4f},{lesion:.4f}\n")
    export(learner, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="compact", help="a bundled recipe's name or a JSON file")
    parser.add_argument("--data", type=Path, required=True, help="folder of label maps (synthseg_*_seg.nii.gz)")
    parser.add_argument("--validation", type=Path, help="folder of real scans with references; never trained on")
    parser.add_argument("--out", type=Path, required=True, help="state, curve and export; an existing state is resumed")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--watch-minutes", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = Path(options.recipe)
    recipe = read_recipe(path if path.suffix == ".json" else bundled_recipe(options.recipe))
    subjects, _ = split(load_subjects(options.data, options.out / "cache"))
    learner = load_learner(recipe, options.out)
    print(f"step {learner.step} of {recipe.steps}, {len(subjects)} subjects", flush=True)

    def watch(current: Learner) -> None:
        if options.validation is not None:
            watch_validation(current, options.validation, options.out)

    train(learner, subjects, recipe, options.out, options.minutes, watch, options.watch_minutes)
    watch(learner)
    export(learner, options.out)


if __name__ == "__main__":
    main()
