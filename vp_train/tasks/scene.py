"""What a training example is made of: the volumes that α is told about, and the regions that a prompt names."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Literal

from vp_model.ontology import Structure, load_ontology
from vp_model.outcome import InputVolume
from vp_train.datasets.parcels import load_parcels
from vp_train.prompts.naming import adjective, written
from vp_train.tasks.selections import Selection

KINDS = ("T1", "T1+C", "T2", "FLAIR", "PD", "GRE", "SWI", "DWI", "ADC", "CT", "STIR", "PERFUSION", "TOF", "unknown")
"""`+C`: after contrast agent."""
KIND_WEIGHTS = (30, 6, 12, 22, 3, 3, 3, 5, 4, 8, 1, 1, 1, 5)
MR_KINDS = frozenset(KINDS) - {"CT", "unknown"}
SEVERAL_VISITS = 0.45
SAME_KINDS = 0.6
"""Share of later sessions that repeat the first one's protocol."""
MAXIMUM_VOLUMES = 8


Signal = Literal["hyperintense", "hypointense", "isointense"]
Stage = Literal["acute", "subacute", "chronic", ""]


@dataclass(frozen=True)
class Lesion:
    """What is known of a lesion: by synthesis, by a label map, or by a reader (paper B.5, B.6).

    Empty texts and None mean that it is not known or does not apply.
    """

    structure: str
    """Name in the ontology: `infarct`, `white matter lesion`."""
    side: Literal["left", "right", "midline", "both", ""] = ""
    lobe: str = ""
    """`frontal lobe`, `parietal lobe`, `temporal lobe`, `occipital lobe`, `insular cortex`, `cerebellum`, `brainstem`,
    `basal ganglia`, `thalamus`, `ventricular system`…: a name of the ontology."""
    compartment: Literal["parenchymal", "ventricular", "extra-axial", ""] = ""
    territory: str = ""
    """`anterior cerebral artery`, `middle cerebral artery`, `posterior cerebral artery`, `vertebrobasilar`."""
    volume_mm3: float = 0.0
    signal: Mapping[str, Signal] = field(default_factory=dict)
    """By sequence type (`FLAIR`, `T1`, `CT`…), relative to the tissue around."""
    enhancing: bool | None = None
    """Brighter after contrast agent."""
    restricted: bool | None = None
    """Bright on DWI and dark on ADC."""
    stage: Stage = ""
    texture: Literal["solid", "cystic", "necrotic", "mixed", ""] = ""
    components: tuple[str, ...] = ()
    """Names of parts that have masks of their own: `edema`, `necrosis`, `enhancing tumor`, `cyst`…"""
    session: int = 0
    """The first session in which it is seen."""


@dataclass(frozen=True)
class Scene:
    """The volumes of a study, named `v1`, `v2`, … in order of session."""

    volumes: tuple[InputVolume, ...]
    lesions: tuple[Lesion, ...] = ()
    """What the images show, where that is known; a sampler without images knows nothing of them."""

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

    @property
    def modality(self) -> str:
        """`MR` or `CT` where all volumes are; else an empty text."""
        kinds = {volume.kind for volume in self.volumes}
        return "MR" if kinds <= MR_KINDS else "CT" if kinds == {"CT"} else ""

    def of_session(self, session: int) -> tuple[InputVolume, ...]:
        """Volumes of the first session (0) or of the last (-1)."""
        wanted = self.volumes[session].session
        return tuple(volume for volume in self.volumes if volume.session == wanted)

    def of_kind(self, kind: str) -> Scene | None:
        """The volumes of one sequence type alone; None where there are none."""
        chosen = matching(self.volumes, kind)
        return replace(self, volumes=chosen) if chosen else None


def matching(volumes: Sequence[InputVolume], kind: str) -> tuple[InputVolume, ...]:
    """Volumes of a sequence type; where a plain T1 is asked for and none is there, those after contrast agent."""
    chosen = tuple(volume for volume in volumes if volume.kind == kind)
    return chosen or tuple(volume for volume in volumes if volume.kind == f"{kind}+C")


def sample_scene(chance: random.Random, several: float = SEVERAL_VISITS) -> Scene:
    """One session or, in a share of `several`, two, sometimes three; each of one to four volumes."""
    sessions = 1 if chance.random() > several else chance.choice((2, 2, 2, 2, 3))
    day = date(1998, 1, 1) + timedelta(days=chance.randrange(11_000))
    volumes: list[InputVolume] = []
    first: list[str] = []
    for session in range(sessions):
        undated = sessions == 1 and chance.random() < 0.05
        kinds = chance.choices(KINDS, KIND_WEIGHTS, k=chance.choice((1, 1, 1, 2, 2, 3, 4)))
        kinds = first if first and chance.random() < SAME_KINDS else kinds
        first = first or kinds
        for kind in kinds:
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
    selection: Selection | None = None
    """The part of it that is meant; None for all."""
    adjective: str = ""
    """Before a measure: `left hippocampal`; empty where there is none."""

    @property
    def sided_names(self) -> tuple[str, ...]:
        """Names for `segment`, one for each side."""
        if not self.structure.paired:
            return (self.structure.name,)
        sides = (self.side,) if self.side else ("left", "right")
        return tuple(f"{side} {self.structure.name}" for side in sides)


def known_structures(regions: Sequence[str]) -> tuple[Structure, ...]:
    """The structures of a checkpoint's region names (`left hippocampus`), and those that are put together from them."""
    ontology = load_ontology()
    found: dict[str, Structure] = {}
    for region in regions:
        resolved = ontology.resolve(region)
        if resolved is None:
            raise ValueError(f"The ontology does not know the region {region!r}.")
        found[resolved[0].name] = resolved[0]
    return (*found.values(), *(ontology.structures[name] for name in sorted(ontology.assembled(found))))


@cache
def frequency(structure: Structure) -> float:
    """How often a structure is drawn, relative to others (`frequencies.json`): the many parcels, and kinds of lesions
    that few weights know, must not crowd out what is asked for most.
    """
    table = json.loads((Path(__file__).parent / "frequencies.json").read_text(encoding="utf-8"))
    if structure.name in table["own"]:
        return float(table["own"][structure.name])
    parcels = {name.removeprefix("left ").removeprefix("right ") for name in load_parcels().names}
    kind = "others"
    if structure.kind == "pathology":
        kind = "lesions"
    elif structure.name in table["lobes"]:
        kind = "lobes"
    elif structure.name in parcels:
        kind = "parcels"
    return float(table[f"of {kind}"])


def sample_structures(structures: Sequence[Structure], count: int, chance: random.Random) -> list[Structure]:
    """Different structures, each as often as its `frequency` says; all of them where there are fewer."""
    waiting = list(structures)
    found: list[Structure] = []
    while waiting and len(found) < count:
        found.append(chance.choices(waiting, [frequency(item) for item in waiting])[0])
        waiting.remove(found[-1])
    return found


def sample_regions(
    structures: Sequence[Structure], count: int, chance: random.Random, held_out: bool = False
) -> list[Region]:
    """Regions of different structures, as they stand beside each other in a prompt.

    Where one has a side, the others say "both" if they mean it; where all have the same, it may be said once.
    """
    chosen = sample_structures(structures, count, chance)
    shared = chance.choice(("left", "right", "", None, None, None))
    sides = [chance.choice(("", "left", "right")) if shared is None else shared for _ in chosen]
    sides = [side if structure.paired else "" for side, structure in zip(sides, chosen, strict=True)]
    if count > 1 and all(sides) and len(set(sides)) == 1 and chance.random() < 0.5:
        terms = [written(structure, "", chance, plain=True) for structure in chosen]
        if chance.random() < 0.7:
            terms[0] = f"{sides[0]} {terms[0]}"
        else:
            terms[-1] = f"{terms[-1]} on the {sides[0]}"
        return [Region(term, structure, side) for term, structure, side in zip(terms, chosen, sides, strict=True)]
    return [
        sample_region([structure], chance, side, held_out, explicit=any(sides), listed=count > 1)
        for structure, side in zip(chosen, sides, strict=True)
    ]


def sample_region(
    structures: Sequence[Structure],
    chance: random.Random,
    side: str | None = None,
    held_out: bool = False,
    explicit: bool = False,
    listed: bool = False,
) -> Region:
    """A region by one of its terms, with a side or without, every side as likely as any other.

    Args:
        side: None for any.
        held_out: name the side in a way that was kept from training.
        explicit: say so where both sides are meant.
        listed: it stands beside another region in the prompt.
    """
    structure = sample_structures(structures, 1, chance)[0]
    chosen = side if side is not None else chance.choice(("", "left", "right"))
    chosen = chosen if structure.paired else ""
    term = written(structure, chosen, chance, held_out, explicit, listed)  # type: ignore[arg-type]
    return Region(term, structure, chosen, adjective=adjective(structure, chosen, chance, explicit))


def segment_lines(region: Region, names: Sequence[str], variable: str = "roi") -> list[str]:
    """Lines that leave the region in `variable`; a paired one without a side is the union of its sides."""
    arguments = ", ".join(f"{name}<MOD>" for name in names)
    calls = region.sided_names
    if region.selection is not None:
        return region.selection.lines(calls[0], arguments, variable)
    if len(calls) == 1:
        return _found(region.structure, region.side, arguments, variable)
    left, right = sides_of(variable)
    return [
        *_found(region.structure, "left", arguments, left),
        *_found(region.structure, "right", arguments, right),
        f"{variable} = union({left}, {right})",
    ]


def _found(structure: Structure, side: str, arguments: str, variable: str) -> list[str]:
    """Lines for one side; of a structure that has parts, each is segmented."""
    if not structure.parts:
        return [f'{variable} = segment("{f"{side} {structure.name}".strip()}", {arguments})']
    ontology = load_ontology()
    parts = [
        f"{one} {name}".strip()
        for name in structure.parts
        for one in ((side,) if side else ("left", "right") if ontology.structures[name].paired else ("",))
    ]
    pieces = [f"{variable}_{number}" for number in range(1, len(parts) + 1)]
    return [
        *(f'{piece} = segment("{part}", {arguments})' for piece, part in zip(pieces, parts, strict=True)),
        f'{variable} = assemble("{structure.name}", {", ".join(pieces)})',
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
    context: str = ""
    """Clinical context in the prompt, which may name what is not asked for; empty where there is none."""
    later: tuple[str, ...] = ()
    """Programs of the steps after the first: each is written when the one before has given its feedback."""
    targets: tuple[Lesion, ...] = ()
    """The lesions that the prompt means, where it singles out some of those that the images show."""
    meant: tuple[tuple[Lesion, ...], ...] = ()
    """Of each call of `segment`, in order, the lesions among the targets that it means; empty where each means all."""


def lines(*parts: str | Sequence[str]) -> str:
    """A program of lines."""
    found: list[str] = []
    for part in parts:
        found += [part] if isinstance(part, str) else list(part)
    return "".join(line + "\n" for line in found)
