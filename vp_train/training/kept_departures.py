"""What m's anatomy does not explain in synthetic images with lesions, kept in files: m is asked once for each image,
and blocks of it are learned from many times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

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
        present: indices of the targets that the image shows.
        targets: how many there are.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    present: tuple[int, ...]
    targets: int

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


def keep(path: Path, features: torch.Tensor, shares: torch.Tensor, kind: str) -> KeptDepartures:
    """Write the departures (CHANNELS, w, h, d) of one image, and shares (t, w, h, d) in [0, 1]; targets of no voxel are
    left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    amounts = (shares * 255).round().to(torch.uint8)
    present = [row for row, amount in enumerate(amounts) if bool((amount > HALF).any())]
    stored = {"features": features.to(torch.float16).contiguous(), "shares": amounts[present].contiguous()}
    told = {"kind": kind, "present": ",".join(str(row) for row in present), "targets": str(len(shares))}
    unfinished = path.with_suffix(".unfinished")
    save_file(stored, unfinished, told)
    unfinished.rename(path)
    return KeptDepartures(path, kind, tuple(features.shape[1:]), tuple(present), len(shares))


def open_kept(path: Path) -> KeptDepartures:
    """What `keep` wrote."""
    with safe_open(path, "pt") as file:
        told, shape = file.metadata(), file.get_slice("features").get_shape()
    present = tuple(int(row) for row in told["present"].split(",") if row)
    return KeptDepartures(path, told["kind"], tuple(shape[1:]), present, int(told["targets"]))


def finder_targets(recipe: Recipe) -> tuple[str, ...]:
    """What is learned: lesions of white matter, which every head may have, and the recipe's pathologies."""
    labels = load_labels()
    return (labels.names[labels.lesion], *recipe.pathologies)


@torch.inference_mode()
def draw_departures(
    network: VisionNetwork,
    conditions: Mapping[str, torch.Tensor],
    subjects: Sequence[Subject],
    recipe: Recipe,
    numbers: Sequence[int],
    lesions: LesionSource,
    folder: Path,
    say: Callable[[str], None] = print,
) -> list[KeptDepartures]:
    """What m's anatomy does not explain in synthetic images, as the recipe draws them; images in which m finds no head
    are left out. What `folder` holds already is not drawn again.

    Args:
        conditions: region → φ (d,) of m's anatomy.
        numbers: of the images, each of which depends on the recipe and its number alone.
    """
    single = replace(recipe, several=0.0, regions=0)
    pathologies = [name for name, structure in load_ontology().structures.items() if structure.kind == "pathology"]
    tissues = tissues_of(list(conditions), left_out=pathologies)
    regions = list(tissues)
    phi = torch.stack([conditions[region] for region in regions])[:, None]
    rows = [single.targets.index(name) for name in finder_targets(recipe)]
    kept = []
    for done, number in enumerate(numbers, start=1):
        path = folder / f"{recipe.seed}_{number:05d}.safetensors"
        if not path.is_file():
            (image,) = draw_example(subjects, single, number, lesions).images
            priors = torch.sigmoid(network([image.placed], phi)[0])
            features = departures(priors, regions, image.placed, image.kind, tissues, Refining())
            place = None if features is None else around_brain(features)
            if features is None or place is None:
                continue
            box = (slice(None), *place)
            keep(path, features[box], image.targets[rows][box], image.kind)
        kept.append(open_kept(path))
        if done % 20 == 0:
            say(f"{done} of {len(numbers)} images")
    return kept
