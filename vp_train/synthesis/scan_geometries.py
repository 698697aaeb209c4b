"""The geometries of common scans: in-plane spacing, slice separation, field of view (paper C.4, Table 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from vp_train.synthesis.chance import Chance

Spacing = tuple[float, float, float]
ORIENTATIONS = ("sagittal", "coronal", "axial")
"""By the axis of RAS that the slices are stacked along."""


@dataclass(frozen=True)
class ScanGeometry:
    """A row of Table 2: ranges in mm; `slices` None where voxels are isotropic."""

    name: str
    in_plane: tuple[float, float]
    slices: tuple[float, float] | None

    def draw(self, chance: Chance, orientation: str = "axial", finest_mm: float = 0.0) -> Spacing:
        """Voxel spacing (3,) mm along right, anterior, superior.

        Args:
            orientation: of the slices, one of `ORIENTATIONS`.
            finest_mm: no axis is finer than this.
        """
        plane = max(chance.number(*self.in_plane), finest_mm)
        spacing = [plane, plane, plane]
        if self.slices is not None:
            spacing[ORIENTATIONS.index(orientation)] = max(chance.number(*self.slices), finest_mm)
        return spacing[0], spacing[1], spacing[2]


@dataclass(frozen=True)
class ScanGeometries:
    """Table 2 and what C.4 says beside it.

    Attributes:
        field_of_view_mm: (3,) mean size along right, anterior, superior; each varies by ± `deviation_mm`.
        finest_mm: spacings are clamped to it.
    """

    rows: Mapping[str, ScanGeometry]
    field_of_view_mm: tuple[float, float, float]
    deviation_mm: float
    finest_mm: float

    def draw_field_of_view(self, chance: Chance) -> tuple[float, float, float]:
        """(3,) mm."""
        first, second, third = (
            side + chance.number(-self.deviation_mm, self.deviation_mm) for side in self.field_of_view_mm
        )
        return first, second, third


@cache
def load_scan_geometries() -> ScanGeometries:
    table = json.loads(files("vp_train.synthesis").joinpath("scan_geometries.json").read_text(encoding="utf-8"))
    rows = {
        name: ScanGeometry(name, tuple(row["in_plane_mm"]), tuple(row["slices_mm"]) if row["slices_mm"] else None)
        for name, row in table["geometries"].items()
    }
    size = table["field_of_view_mm"]
    return ScanGeometries(rows, tuple(size["size"]), float(size["deviation"]), float(table["finest_mm"]))
