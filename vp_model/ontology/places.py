"""Lobes and arterial territories, by the regions that tell where they are (`places.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

Aspect = Literal["lobe", "territory"]
WHITE_MATTER = "cerebral white matter"
"""Belongs to the place of the nearest cortex."""


@dataclass(frozen=True)
class Places:
    """Regions, without their sides, and the place that each belongs to.

    Attributes:
        cortex: regions of the cerebral cortex, and the corpus callosum.
        structures: other structures.
        together: places that others make up.
        spoken: words for a place, before what lies there, that are no names of a structure.
    """

    cortex: Mapping[str, str]
    structures: Mapping[str, str]
    together: Mapping[str, tuple[str, ...]]
    spoken: Mapping[str, str]

    @property
    def of(self) -> Mapping[str, str]:
        """The place of any region."""
        return {**self.cortex, **self.structures}


@cache
def load_places() -> Mapping[Aspect, Places]:
    table = json.loads(places_text())
    aspects: tuple[Aspect, ...] = ("lobe", "territory")
    return MappingProxyType({key: _places(**table[key]) for key in aspects})


def places_text() -> str:
    """What the places are, as text: whoever keeps what follows from it can tell when it changes."""
    return files("vp_model.ontology").joinpath("places.json").read_text(encoding="utf-8")


def _places(
    cortex: Mapping[str, Sequence[str]],
    structures: Mapping[str, Sequence[str]],
    together: Mapping[str, Sequence[str]] = MappingProxyType({}),
    spoken: Mapping[str, str] = MappingProxyType({}),
) -> Places:
    made_up = {name: tuple(places) for name, places in together.items()}
    return Places(_by_region(cortex), _by_region(structures), made_up, spoken)


def _by_region(places: Mapping[str, Sequence[str]]) -> Mapping[str, str]:
    return {region: place for place, regions in places.items() for region in regions}
