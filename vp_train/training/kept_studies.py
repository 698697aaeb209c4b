"""What m's anatomy does not explain in the images of whole synthetic studies, of one session each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from vp_model.geometry import Placed, resample
from vp_model.vision.prepare import prepare
from vp_model.volume import Volume
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import Anatomy
from vp_train.synthesis.lesions.kinds import load_kinds
from vp_train.synthesis.planning import StudySettings, plan_study
from vp_train.synthesis.study import SyntheticStudy, render_study
from vp_train.training.examples import SEED_STRIDE
from vp_train.training.kept_departures import Anatomist, KeptDepartures, keep, open_kept

LEAST_IMAGES = 2
"""A study of fewer is left out: single images are drawn otherwise."""


def study_settings() -> StudySettings:
    """How studies are drawn that lesions are learned from (`finder_studies.json`)."""
    text = files("vp_train.training").joinpath("finder_studies.json").read_text(encoding="utf-8")
    values = json.loads(text)
    left_out = set(values.pop("left_out"))
    kinds = tuple(kind for kind in load_kinds() if kind not in left_out)
    return replace(StudySettings(), **{**values, "protocols": tuple(values["protocols"]), "kinds": kinds})


def draw_studies(
    anatomist: Anatomist,
    subjects: Sequence[Subject],
    anatomies: Sequence[Anatomy],
    settings: StudySettings,
    targets: Sequence[str],
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    say: Callable[[str], None] = print,
) -> list[KeptDepartures]:
    """The images of studies that have several; those in which m finds no head are left out. What `folder` holds
    already is not drawn again.

    Args:
        anatomies: of the subjects.
        targets: names of what is learned.
        numbers: of the studies, each of which depends on the settings, the seed and its number alone.
    """
    kept: list[KeptDepartures] = []
    for done, number in enumerate(numbers, start=1):
        index = number % len(subjects)
        chance = Chance.seeded(seed * SEED_STRIDE + number)
        plan = plan_study(subjects[index], load_labels(), chance, settings, anatomies[index])
        count = len(plan.scene.volumes)
        paths = [folder / f"{seed}_{number:05d}_{image}.safetensors" for image in range(count)]
        if count >= LEAST_IMAGES:
            drawn = folder / f"{seed}_{number:05d}.drawn"
            if not drawn.is_file():
                study = render_study(plan)
                for image, path in enumerate(paths):
                    _keep_image(anatomist, study, image, targets, path)
                folder.mkdir(parents=True, exist_ok=True)
                drawn.touch()
            kept += [open_kept(path) for path in paths if path.is_file()]
        if done % 20 == 0:
            say(f"{done} of {len(numbers)} studies")
    return kept


def _keep_image(anatomist: Anatomist, study: SyntheticStudy, image: int, targets: Sequence[str], path: Path) -> None:
    placed, kind = study.images[image].placed, study.scene.volumes[image].kind
    spacing = anatomist.network.config.working_spacing_mm
    read = prepare(Volume(placed.features[0], placed.world, kind=kind), spacing).image
    found = anatomist.departures_of(read, kind)
    if found is None:
        return
    shares = torch.stack([study.target(image, name).float() for name in targets])
    keep(path, found, resample(Placed(shares[None], placed.world), found.shape, found.world)[0], kind)
