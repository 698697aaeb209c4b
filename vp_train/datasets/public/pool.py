"""The prepared cases of one part of the split, known by what their label maps mark; read when an example needs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vp_train.datasets.public.cases import PreparedCase, read_case
from vp_train.datasets.public.layout import load_table
from vp_train.datasets.public.prepare import CASE
from vp_train.datasets.public.splits import Part
from vp_train.datasets.public.truth import askable

CASES_KEPT = 4
"""Read cases that are kept, each some hundred megabytes at 1 mm."""


@dataclass(frozen=True)
class CasePlace:
    """A prepared case on disk.

    Attributes:
        source: digest of the files that it was made of.
        regions: what may be asked of any of its sessions; `marked` those of them of which it has voxels.
    """

    folder: Path
    source: str
    regions: tuple[str, ...]
    marked: tuple[str, ...]


@dataclass(frozen=True)
class CasePool:
    """Cases of one part with a label map of regions, sorted by data set and subject."""

    places: tuple[CasePlace, ...]

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that are marked in any case."""
        return tuple(sorted({region for place in self.places for region in place.marked}))

    @property
    def digest(self) -> str:
        """Of which cases there are and what they were made of."""
        found = hashlib.sha256()
        for place in self.places:
            found.update(f"{place.folder.parent.name}/{place.folder.name}|{place.source}\n".encode())
        return found.hexdigest()

    def case(self, number: int) -> PreparedCase:
        return _read(self.places[number].folder, self.places[number].source)


def read_pool(folder: Path, part: Part) -> CasePool:
    """The annotated cases below a folder that `vp-train data prepare` filled."""
    places = []
    for path in sorted(folder.glob(f"*/*/{CASE}")):
        described = json.loads(path.read_text(encoding="utf-8"))
        told = [_told(session) for session in described["sessions"]]
        regions = {region for marked in told for region in askable(marked)}
        if described["part"] == part and regions:
            there = {region for marked in told for region, voxels in marked.items() if voxels and region in regions}
            places.append(CasePlace(path.parent, described["source"], tuple(sorted(regions)), tuple(sorted(there))))
    return CasePool(tuple(places))


def _told(session: Mapping[str, Any]) -> dict[str, bool]:
    """Regions that the label maps of a session tell of, and whether any voxel is one."""
    found: dict[str, bool] = {}
    for image in session["images"]:
        for mask in image["masks"]:
            for label, regions in load_table(mask["table"]).items():
                for region in regions or ():
                    found[region] = found.get(region, False) or str(label) in mask["voxels"]
    return found


@lru_cache(maxsize=CASES_KEPT)
def _read(folder: Path, source: str) -> PreparedCase:
    """`source` is there so that a case that was prepared anew is read anew."""
    return read_case(folder, json.loads((folder / CASE).read_text(encoding="utf-8")))
