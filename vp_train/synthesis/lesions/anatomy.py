"""Where each voxel of a label map lies: lobe, side, vascular territory, compartment, depth (`anatomy.json`,
`vp_model.ontology.places`).

From the parcels beside a label map (`<name>_parc.nii.gz`, same grid) where there are any; else from the label map's own
structures and boxes within the cerebrum.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.ontology.places import Aspect, load_places, places_text
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.parcels import load_parcels, read_parcels

DEEPEST_MM = 255
SHELL_MM = 3.0
"""Thickness of the space around the brain where a label map has none (no cerebrospinal fluid)."""
CLOSED_MM = 4
"""Gaps within the intracranial space up to twice this wide are no surface."""


@dataclass(frozen=True)
class Place:
    """Names of the ontology or none. `compartment`: `white matter`, `grey matter`, `ventricle`, `extra-axial`."""

    compartment: str = ""
    lobe: str = ""
    side: str = ""
    territory: str = ""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Beside a subject's labels (w, h, d), all uint8.

    Attributes:
        places, place: what there is, and its index at each voxel; 0 is outside the head's inside.
        dura: mm to the outside of the intracranial space, 0 there.
        ventricle: mm to the lateral ventricles, at most 255.
    """

    places: tuple[Place, ...]
    place: torch.Tensor
    dura: torch.Tensor
    ventricle: torch.Tensor

    def to(self, device: torch.device) -> Anatomy:
        return replace(
            self, place=self.place.to(device), dura=self.dura.to(device), ventricle=self.ventricle.to(device)
        )

    def inside(
        self, place: torch.Tensor, compartments: Collection[str], side: str = "", lobes: Collection[str] = ()
    ) -> torch.Tensor:
        """Where indices of places (any shape) are of these compartments, and of the side and lobes where given."""
        wanted = [
            row.compartment in compartments and side in ("", row.side) and (not lobes or row.lobe in lobes)
            for row in self.places
        ]
        return torch.tensor(wanted, device=place.device)[place.long()]

    def shares(self, aspect: str, place: torch.Tensor) -> dict[str, float]:
        """Of indices of places (n,): how large a share has which `lobe`, `side` or `territory`; those without any are
        left out. Largest first.
        """
        counts = torch.bincount(place.long().flatten(), minlength=len(self.places)).tolist()
        found: dict[str, float] = {}
        for row, count in zip(self.places, counts, strict=True):
            name = asdict(row)[aspect]
            if name and count:
                found[name] = found.get(name, 0.0) + count
        total = sum(found.values())
        return {name: found[name] / total for name in sorted(found, key=lambda name: -found[name])}


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(_text())
    return table


def _text() -> str:
    return files("vp_train.synthesis.lesions").joinpath("anatomy.json").read_text(encoding="utf-8")


def anatomy_of(subject: Subject, parcels: NDArray[np.integer] | None = None) -> Anatomy:
    """The anatomy beside a label map.

    Args:
        parcels: ids of regions on the grid of `subject.labels`; None where there are none.
    """
    labels = load_labels()
    compact = labels.plain.numpy()[subject.labels.cpu().numpy().astype(np.int64)]
    names = [name.removeprefix("left ").removeprefix("right ") for name in labels.names]
    table = _table()
    lobe_table, territory_table = load_places()["lobe"], load_places()["territory"]
    compartment = np.zeros(compact.shape, dtype=np.uint8)
    compartments = ["", *table["compartments"], "extra-axial"]
    for index, members in enumerate(table["compartments"].values(), start=1):
        compartment[np.isin(compact, [i for i, name in enumerate(names) if name in members])] = index
    brain = compartment > 0
    outside = compact == labels.index("cerebrospinal fluid")
    if outside.sum() < 0.02 * brain.sum():
        outside = ~brain & (ndimage.distance_transform_edt(~brain) <= SHELL_MM)
    compartment[outside] = len(compartments) - 1

    side = np.zeros(compact.shape, dtype=np.uint8)
    for index, wanted in enumerate(("left ", "right "), start=1):
        side[np.isin(compact, [i for i, name in enumerate(labels.names) if name.startswith(wanted)])] = index
    inside = compartment > 0
    side = np.where(inside, _nearest(side, inside), 0)
    side[np.isin(compact, [labels.index("third ventricle"), labels.index("fourth ventricle")])] = 3

    lobes, territories = (
        list(dict.fromkeys(["", *places.cortex.values(), *places.structures.values()]))
        for places in (lobe_table, territory_table)
    )
    lobe, territory = _cortex(compact, names, side, parcels, lobes, territories)
    cerebral = np.isin(compact, [i for i, name in enumerate(names) if name == "cerebral white matter"])
    lobe, territory = (np.where(cerebral, _nearest(values, cerebral), values) for values in (lobe, territory))
    for name, value in lobe_table.structures.items():
        here = np.isin(compact, [i for i, other in enumerate(names) if other == name])
        lobe[here] = lobes.index(value)
        territory[here] = territories.index(territory_table.structures.get(name, ""))
    parenchyma = np.where(lobe == lobes.index("ventricular system"), 0, lobe)
    lobe = np.where(outside, _nearest(parenchyma, outside), lobe)
    territory = np.where(outside, 0, territory)

    code = ((compartment.astype(np.int64) * len(lobes) + lobe) * 4 + side) * len(territories) + territory
    code[~inside] = 0
    found, place = np.unique(code, return_inverse=True)
    places = []
    for value in found.tolist():
        rest, at_territory = divmod(value, len(territories))
        rest, at_side = divmod(rest, 4)
        at_compartment, at_lobe = divmod(rest, len(lobes))
        sides = ("", "left", "right", "midline")
        places.append(Place(compartments[at_compartment], lobes[at_lobe], sides[at_side], territories[at_territory]))
    lateral = np.isin(compact, [i for i, name in enumerate(names) if name.endswith("lateral ventricle")])
    return Anatomy(
        tuple(places),
        torch.from_numpy(place.reshape(compact.shape).astype(np.uint8)),
        torch.from_numpy(_distance(_filled(inside))),
        torch.from_numpy(_distance(~lateral)),
    )


def _filled(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the gaps (vessels, unlabelled voxels) within it."""
    around = np.pad(inside, CLOSED_MM, mode="edge")
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(around, iterations=CLOSED_MM))
    filled: NDArray[np.bool_] = closed[tuple(slice(CLOSED_MM, -CLOSED_MM) for _ in range(3))] | inside
    return filled


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """mm (voxels of 1 mm) of each voxel of a mask to what is outside it, rounded up; as far as can be where all is."""
    if mask.all():
        return np.full(mask.shape, DEEPEST_MM, dtype=np.uint8)
    return np.ceil(np.minimum(ndimage.distance_transform_edt(mask), DEEPEST_MM)).astype(np.uint8)


def _nearest(values: NDArray[np.integer], where: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Values, and where there are none (0) in `where`, those of the nearest voxel that has one."""
    if not (values > 0).any() or not (where & (values == 0)).any():
        return values
    index = ndimage.distance_transform_edt(values == 0, return_distances=False, return_indices=True)
    return np.where(where, values[tuple(index)], values)


def _cortex(
    compact: NDArray[np.integer],
    names: Sequence[str],
    side: NDArray[np.integer],
    parcels: NDArray[np.integer] | None,
    lobes: Sequence[str],
    territories: Sequence[str],
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """(lobe, territory) of cerebral cortex, as indices, 0 elsewhere."""
    lobe = np.zeros(compact.shape, dtype=np.uint8)
    territory = np.zeros(compact.shape, dtype=np.uint8)
    if parcels is not None:
        aspects: tuple[tuple[NDArray[np.integer], Aspect, Sequence[str]], ...] = (
            (lobe, "lobe", lobes),
            (territory, "territory", territories),
        )
        for values, aspect, order in aspects:
            for region, place in load_places()[aspect].cortex.items():
                values[np.isin(parcels, _ids(region))] = order.index(place)
        return lobe, territory
    table = _table()
    cerebrum = np.isin(compact, [i for i, name in enumerate(names) if name.startswith("cerebral ")])
    cortex = np.isin(compact, [i for i, name in enumerate(names) if name == "cerebral cortex"])
    seen = np.argwhere(cortex if cortex.any() else cerebrum)
    if not len(seen):
        return lobe, territory
    corners = np.argwhere(cerebrum)
    low, high = corners.min(axis=0), corners.max(axis=0) + 1
    right = (cerebrum & (side == 2)).any(axis=(1, 2))
    middle = float(np.argmax(right)) if right.any() else float(low[0] + high[0]) / 2
    at = {
        "lateral": np.abs(seen[:, 0] + 0.5 - middle) / max(middle - low[0], high[0] - middle),
        "forward": (seen[:, 1] - low[1]) / (high[1] - low[1]),
        "up": (seen[:, 2] - low[2]) / (high[2] - low[2]),
    }
    waiting = np.ones(len(seen), dtype=bool)
    for box in table["without_parcels"]["boxes"]:
        here = waiting.copy()
        for axis, coordinates in at.items():
            first, last = box.get(axis, (0.0, 1.0))
            here &= (coordinates >= first) & (coordinates <= last)
        points = tuple(seen[here].T)
        lobe[points] = lobes.index(box["lobe"])
        territory[points] = territories.index(box["territory"])
        waiting &= ~here
    return lobe, territory


def _ids(region: str) -> list[int]:
    """Of a region in the parcellation, both its sides."""
    parcels = load_parcels()
    return [
        one
        for name in (region, f"left {region}", f"right {region}")
        if name in parcels.names
        for one in parcels.ids(name)
    ]


def load_anatomies(folder: Path, subjects: Sequence[Subject], cache: Path | None = None) -> list[Anatomy]:
    """The anatomy of each subject of `load_subjects(folder)`; arrays are kept in `cache` where given.

    Raises:
        ValueError: parcels are not on their label map's grid.
    """
    labels = load_labels()
    return [kept_anatomy(subject, cache, partial(read_parcels, folder, subject.name, labels)) for subject in subjects]


def kept_anatomy(
    subject: Subject, cache: Path | None = None, parcels: Callable[[], NDArray[np.integer] | None] = lambda: None
) -> Anatomy:
    """The anatomy of a subject; its arrays are kept in `cache` where given.

    Args:
        parcels: gives ids of regions on the grid of the subject's labels, or None.
    """
    version = hashlib.sha256(f"{CLOSED_MM} {_text()} {places_text()}".encode()).hexdigest()[:8]
    kept = None if cache is None else cache / f"{subject.name}_anatomy_{version}.npz"
    if kept is not None and kept.exists():
        return _read(kept)
    anatomy = anatomy_of(subject, parcels())
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        places = json.dumps([asdict(place) for place in anatomy.places])
        arrays = {name: getattr(anatomy, name).numpy() for name in ("place", "dura", "ventricle")}
        draft = kept.with_suffix(f".{os.getpid()}.npz")  # other processes may want the same one now
        np.savez(draft, places=np.array(places), **arrays)
        draft.replace(kept)
    return anatomy


def _read(path: Path) -> Anatomy:
    with np.load(path) as kept:
        places = tuple(Place(**row) for row in json.loads(str(kept["places"])))
        place, dura, ventricle = (torch.from_numpy(kept[name]) for name in ("place", "dura", "ventricle"))
    return Anatomy(places, place, dura, ventricle)
