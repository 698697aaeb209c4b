"""What m's anatomy does not explain in synthetic images with lesions, kept in files: m is asked once for each image,
and blocks of it are learned from many times. Images of one study are kept beside each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vp_model.geometry import Placed, moved_world, resample
from vp_model.ontology import load_ontology
from vp_model.vision.config import Refining
from vp_model.vision.departure import around_brain, departures
from vp_model.vision.network import VisionNetwork
from vp_model.vision.tissues import tissues_of
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.training.examples import LesionSource, draw_example
from vp_train.training.recipe import Recipe

HALF = 127
"""Of a share in bytes: above it a voxel belongs to a target."""


@dataclass(frozen=True)
class KeptDepartures:
    """The departures of one image around its brain, and the shares of its lesions, in a file.

    Attributes:
        kind: sequence type.
        shape: (w, h, d) of the box around the brain, voxels at m's working spacing.
        world: voxel → RAS mm, row by row.
        present: indices of the targets that the image shows.
        targets: how many there are.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    world: tuple[tuple[float, ...], ...]
    present: tuple[int, ...]
    targets: int

    @property
    def study(self) -> str:
        """What the images of one study share."""
        return self.path.stem.rsplit("_", 1)[0]

    def features(self, box: tuple[slice, ...] = (slice(None),) * 3) -> torch.Tensor:
        """(CHANNELS, …) float32 of a box."""
        return self._read("features", box).float()

    def shares(self, box: tuple[slice, ...] = (slice(None),) * 3) -> torch.Tensor:
        """(targets, …) float32 in [0, 1]."""
        shown = self._read("shares", box)
        found = torch.zeros(self.targets, *shown.shape[1:])
        found[list(self.present)] = shown.float() / 255
        return found

    def voxels_of(self, row: int) -> torch.Tensor:
        """(n, 3) of the `row`-th target present."""
        with safe_open(self.path, "pt") as file:
            return torch.nonzero(file.get_slice("shares")[row] > HALF)

    def _read(self, name: str, box: tuple[slice, ...]) -> torch.Tensor:
        with safe_open(self.path, "pt") as file:
            found: torch.Tensor = file.get_slice(name)[(slice(None), *box)]
        return found


Study = tuple[KeptDepartures, ...]
"""Images of one session, or a single one."""


def keep(path: Path, features: Placed, shares: torch.Tensor, kind: str) -> KeptDepartures:
    """Write the departures (1, CHANNELS, w, h, d) of one image, and shares (t, w, h, d) in [0, 1]; targets of no voxel
    are left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    amounts = (shares * 255).round().to(torch.uint8)
    present = [row for row, amount in enumerate(amounts) if bool((amount > HALF).any())]
    stored = {"features": features.features[0].to(torch.float16).contiguous(), "shares": amounts[present].contiguous()}
    told = {"kind": kind, "present": ",".join(str(row) for row in present), "targets": str(len(shares))}
    told["world"] = json.dumps(np.asarray(features.world).tolist())
    unfinished = path.with_suffix(".unfinished")
    save_file(stored, unfinished, told)
    unfinished.rename(path)
    return open_kept(path)


def open_kept(path: Path) -> KeptDepartures:
    """What `keep` wrote."""
    with safe_open(path, "pt") as file:
        told, shape = file.metadata(), file.get_slice("features").get_shape()
    present = tuple(int(row) for row in told["present"].split(",") if row)
    world = tuple(tuple(float(value) for value in row) for row in json.loads(told["world"]))
    return KeptDepartures(path, told["kind"], tuple(shape[1:]), world, present, int(told["targets"]))


def studies_of(images: Sequence[KeptDepartures]) -> list[Study]:
    """Images by the study that they are of, in order."""
    found: dict[str, list[KeptDepartures]] = {}
    for image in images:
        found.setdefault(image.study, []).append(image)
    return [tuple(study) for study in found.values()]


def finder_targets(recipe: Recipe) -> tuple[str, ...]:
    """What is learned: lesions of white matter, which every head may have, and the recipe's pathologies."""
    labels = load_labels()
    return (labels.names[labels.lesion], *recipe.pathologies)


@dataclass(frozen=True)
class Anatomist:
    """m, asked for the anatomy of images.

    Attributes:
        conditions: region → φ (d,) of m's anatomy.
    """

    network: VisionNetwork
    conditions: Mapping[str, torch.Tensor]

    @torch.inference_mode()
    def departures_of(self, image: Placed, kind: str) -> Placed | None:
        """(1, CHANNELS, w, h, d) of an image as m reads it, around the brain; None where m finds no head."""
        structures = load_ontology().structures
        pathologies = [name for name, structure in structures.items() if structure.kind == "pathology"]
        tissues = tissues_of(list(self.conditions), left_out=pathologies)
        regions = list(tissues)
        phi = torch.stack([self.conditions[region] for region in regions])[:, None]
        priors = torch.sigmoid(self.network([image], phi)[0])
        features = departures(priors, regions, image, kind, tissues, Refining())
        place = None if features is None else around_brain(features)
        if features is None or place is None:
            return None
        return Placed(features[:, *place][None], moved_world(image.world, place))


def draw_departures(
    anatomist: Anatomist,
    subjects: Sequence[Subject],
    recipe: Recipe,
    numbers: Sequence[int],
    lesions: LesionSource,
    folder: Path,
    say: Callable[[str], None] = print,
) -> list[KeptDepartures]:
    """What m's anatomy does not explain in single synthetic images, as the recipe draws them; images in which m finds
    no head are left out. What `folder` holds already is not drawn again.

    Args:
        numbers: of the images, each of which depends on the recipe and its number alone.
    """
    single = replace(recipe, several=0.0, regions=0)
    rows = [single.targets.index(name) for name in finder_targets(recipe)]
    kept = []
    for done, number in enumerate(numbers, start=1):
        path = folder / f"{recipe.seed}_{number:05d}_0.safetensors"
        if not path.is_file():
            (image,) = draw_example(subjects, single, number, lesions).images
            found = anatomist.departures_of(image.placed, image.kind)
            if found is None:
                continue
            shares = resample(Placed(image.targets[rows][None], image.placed.world), found.shape, found.world)[0]
            keep(path, found, shares, image.kind)
        kept.append(open_kept(path))
        if done % 20 == 0:
            say(f"{done} of {len(numbers)} images")
    return kept
