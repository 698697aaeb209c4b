"""Departures that a checkpoint's m leaves in synthetic images and studies, drawn by one process or by several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vp_model.checkpoint import CONDITIONS_FILE, open_checkpoint
from vp_model.vision.config import config_from_dict
from vp_model.vision.mirrored import load_conditions
from vp_model.vision.weights import load_vision
from vp_train.datasets.maps import load_subjects, split
from vp_train.synthesis.lesions.anatomy import load_anatomies
from vp_train.training.examples import lesions_from
from vp_train.training.kept_departures import (
    Anatomist,
    KeptDepartures,
    Study,
    draw_departures,
    finder_targets,
    open_kept,
    studies_of,
)
from vp_train.training.kept_studies import draw_studies, study_settings
from vp_train.training.recipe import Recipe, Scale

FOLDER = "departures"
STUDIES = 500
"""Added to the seed of a recipe for whole studies, which are drawn beside its single images."""


@dataclass(frozen=True)
class DeparturesSource:
    """Where departures come from.

    Attributes:
        checkpoint: with m and its conditions.
        data: folder of label maps, `synthseg_*_seg.nii.gz`.
        kept: folder for what was read of the label maps, and for the departures: what is there already is not drawn
            again.
        recipe: how images are drawn; its mix is replaced by the checkpoint's working spacing.
        whole: whole studies (`finder_studies.json`), instead of single images.
        held_out: whether the heads are those that nothing learns from.
    """

    checkpoint: Path
    data: Path
    kept: Path
    recipe: Recipe
    held_out: bool = False
    whole: bool = False

    def draw(self, count: int, say: Callable[[str], None] = print, workers: int = 0) -> list[Study]:
        """The first images of the recipe, or the first studies; images in which m finds no head are left out.

        Args:
            workers: processes that draw, each on one thread; 0: this one.

        Raises:
            ValueError: the recipe draws no lesions.
        """
        if not workers:
            return studies_of(self.draw_numbers(range(count), say))
        paths: list[Path] = []
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            parts = [pool.submit(_draw_part, self, range(first, count, workers)) for first in range(workers)]
            for part in parts:
                paths.extend(part.result())
                say(f"{len(paths)} of {count} images")
        return studies_of([open_kept(path) for path in sorted(paths)])

    def draw_numbers(self, numbers: Sequence[int], say: Callable[[str], None] = print) -> list[KeptDepartures]:
        """The images of these numbers, or of studies of these numbers."""
        drawing = self.recipe.lesions
        if drawing is None:
            raise ValueError("This recipe draws no lesions.")
        network = load_vision(config_from_dict(open_checkpoint(self.checkpoint).vision), self.checkpoint)
        conditions = load_conditions(self.checkpoint / CONDITIONS_FILE)
        subjects = split(load_subjects(self.data, self.kept))[int(self.held_out)]
        anatomies = load_anatomies(self.data, subjects, self.kept)
        anatomist, folder = Anatomist(network, conditions), self.kept / FOLDER
        if self.whole:
            targets, seed = finder_targets(self.recipe), self.recipe.seed + STUDIES
            settings = study_settings()
            return draw_studies(anatomist, subjects, anatomies, settings, targets, seed, numbers, folder, say)
        by_name = {subject.name: anatomy for subject, anatomy in zip(subjects, anatomies, strict=True)}
        scale = Scale(network.config.working_spacing_mm or 2.0, None, 1.0)
        recipe = replace(self.recipe, mix=(scale,), part_mm=None)
        lesions = lesions_from(by_name, drawing)
        return draw_departures(anatomist, subjects, recipe, numbers, lesions, folder, say)


def _draw_part(source: DeparturesSource, numbers: Sequence[int]) -> list[Path]:
    torch.set_num_threads(1)
    return [kept.path for kept in source.draw_numbers(numbers, lambda _: None)]
