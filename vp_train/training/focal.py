"""Lesions drawn by other processes, so that a GPU need not wait for one Python interpreter."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from vp_train.datasets.maps import Subject, load_subjects
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy, load_anatomies
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.training.examples import LesionSource, draw_focal
from vp_train.training.recipe import LesionDrawing


@contextmanager
def lesion_workers(data: Path, kept: Path, drawing: LesionDrawing, count: int) -> Iterator[LesionSource]:
    """A source of lesions that `count` processes draw. They are the same as `lesions_from` draws in this process.

    Args:
        data: folder of label maps; `kept`: of what was read of them, their anatomies too.
    """
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        for _ in range(count):  # all of them start now, not when they are missed
            pool.submit(_prepare, data, kept)

        def draw(subject: Subject, seed: int) -> tuple[SyntheticLesion, ...]:
            # As bytes: tensors sent as such would take a shared file each.
            drawn = pool.submit(_draw, data, kept, drawing, subject.name, seed)
            found: tuple[SyntheticLesion, ...] = pickle.loads(drawn.result())  # noqa: S301 - of our own process
            return found

        yield draw


@cache
def _people(data: Path, kept: Path) -> Mapping[str, tuple[Subject, Anatomy]]:
    """By name, read once in a process."""
    torch.set_num_threads(1)
    subjects = load_subjects(data, kept)
    pairs = zip(subjects, load_anatomies(data, subjects, kept), strict=True)
    return {subject.name: (subject, anatomy) for subject, anatomy in pairs}


def _prepare(data: Path, kept: Path) -> None:
    _people(data, kept)


def _draw(data: Path, kept: Path, drawing: LesionDrawing, name: str, seed: int) -> bytes:
    return pickle.dumps(draw_focal(*_people(data, kept)[name], drawing, Chance.seeded(seed)))
