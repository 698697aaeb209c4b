"""What a training example is made of: the volumes that α is told about, and the regions that a prompt names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from vp_model.ontology import Structure, load_ontology
from vp_model.outcome import InputVolume

KINDS = ("T1", "T2", "FLAIR", "PD", "GRE", "SWI", "DWI", "ADC", "CT", "unknown")
KIND_WEIGHTS = (30, 12, 22, 3, 3, 3, 4, 3, 8, 6)
SEVERAL_VISITS = 0.45
MAXIMUM_VOLUMES = 8


@dataclass(frozen=True)
class Scene:
    """The volumes of a study, named `v1`, `v2`, … in order of session."""

    volumes: tuple[InputVolume, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(volume.name for volume in self.volumes)

    @property
    def visits(self) -> tuple[str, ...]:
        """Dates of the sessions, earliest first."""
        return tuple(dict.fromkeys(volume.visit for volume in self.volumes))

    @property
    def longitudinal(self) -> bool:
        return len(self.visits) > 1

    def of_session(self, session: int) -> tuple[InputVolume, ...]:
        """Volumes of a session; -1 for the last."""
        last = max(volume.session for volume in self.volumes)
        return tuple(volume for volume in self.volumes if volume.session == (last if session < 0 else session))


def sample_scene(chance: random.Random) -> Scene:
    """One session or two, sometimes three, each of one to four volumes."""
    sessions = 1 if chance.random() > SEVERAL_VISITS else chance.choice((2, 2, 2, 2, 3))
    day = date(1998, 1, 1) + timedelta(days=chance.randrange(11_000))
    volumes: list[InputVolume] = []
    for session in range(sessions):
        undated = sessions == 1 and chance.random() < 0.05
        for kind in chance.choices(KINDS, KIND_WEIGHTS, k=chance.choice((1, 1, 1, 2, 2, 3, 4))):
            if len(volumes) < MAXIMUM_VOLUMES:
                visit = "" if undated else day.isoformat()
                volumes.append(InputVolume(f"v{len(volumes) + 1}", kind, visit, session))
        day += timedelta(days=chance.choice((7, 30, 81, 180, 365, 366, 730)) + chance.randrange(20))
    return Scene(tuple(volumes))


@dataclass(frozen=True)
class Region:
    """A region as a prompt names it and as a program segments it."""

    term: str
    """As written in the prompt: `left hippocampus`, `thalami`, `hippocampus on the right`."""
    structure: Structure
    side: str
    """`left`, `right`, or `""`: both where the structure is paired."""

    @property
    def sided_names(self) -> tuple[str, ...]:
        """Names for `segment`, one for each side."""
        if not self.structure.paired:
            return (self.structure.name,)
        sides = (self.side,) if self.side else ("left", "right")
        return tuple(f"{side} {self.structure.name}" for side in sides)


def known_structures(regions: Sequence[str]) -> tuple[Structure, ...]:
    """The structures of a checkpoint's region names (`left hippocampus`, `brainstem`)."""
    ontology = load_ontology()
    found: dict[str, Structure] = {}
    for region in regions:
        resolved = ontology.resolve(region)
        if resolved is None:
            raise ValueError(f"The ontology does not know the region {region!r}.")
        found[resolved[0].name] = resolved[0]
    return tuple(found.values())


def sample_region(structures: Sequence[Structure], chance: random.Random, side: str | None = None) -> Region:
    """A region by one of its terms, with a side or without."""
    structure = chance.choice(structures)
    chosen = side if side is not None else (chance.choice(("", "left", "right")) if structure.paired else "")
    term = chance.choice((structure.name, chance.choice(structure.terms)))
    if not chosen:
        if structure.paired and not term.endswith(("s", "i")) and chance.random() < 0.5:
            prefix = chance.choice(("left and right ", "bilateral ", "both ", ""))
            return Region(prefix + (plural(term) if prefix in ("both ", "") else term), structure, "")
        return Region(term, structure, "")
    form = chance.random()
    if form < 0.7:
        words = f"{chosen} {term}"
    elif form < 0.78:
        words = f"{term} on the {chosen}"
    elif form < 0.84:
        words = f"{chosen}-sided {term}"
    elif form < 0.90:
        words = f"{term} ({chosen})"
    elif form < 0.95:
        words = f"{chosen[0]} {term}"
    else:
        words = f"{term} within the {chosen} hemisphere"
    return Region(words, structure, chosen)


def plural(term: str) -> str:
    """A simple English plural."""
    if term.endswith("us"):
        return term[:-2] + "i"
    if term.endswith(("s", "x", "m")):
        return term
    return term[:-1] + "ies" if term.endswith("y") else term + "s"


def segment_lines(region: Region, names: Sequence[str], variable: str = "roi") -> list[str]:
    """Lines that leave the region in `variable`; a paired one without a side is the union of its sides."""
    arguments = ", ".join(f"{name}<MOD>" for name in names)
    calls = region.sided_names
    if len(calls) == 1:
        return [f'{variable} = segment("{calls[0]}", {arguments})']
    left, right = sides_of(variable)
    return [
        f'{left} = segment("{calls[0]}", {arguments})',
        f'{right} = segment("{calls[1]}", {arguments})',
        f"{variable} = union({left}, {right})",
    ]


def sides_of(variable: str) -> tuple[str, str]:
    """Names of the two sides of a paired region's variable."""
    return ("left", "right") if variable == "roi" else (f"{variable}_left", f"{variable}_right")


@dataclass(frozen=True)
class Example:
    """A prompt on volumes and the program that answers it."""

    task: str
    prompt: str
    scene: Scene
    program: str
    """Lines with `<MOD>` markers, each ended by a newline."""


def lines(*parts: str | Sequence[str]) -> str:
    """A program of lines."""
    found: list[str] = []
    for part in parts:
        found += [part] if isinstance(part, str) else list(part)
    return "".join(line + "\n" for line in found)
