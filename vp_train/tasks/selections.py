"""Parts of a lesion load that a prompt can name and a program can select: by side, by place, by lobe, by size.

What is selected is measured, with regions and operations that these weights have: the left lesions are those in the
left cerebral white matter, the periventricular ones lie within 5 mm of the lateral ventricles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vp_model.ontology import Structure, load_ontology
from vp_model.ontology.places import load_places
from vp_model.program.places import lobes
from vp_train.prompts.data import read_part
from vp_train.prompts.naming import plural, written

NEAR_VENTRICLE_MM = 5
NEAR_CORTEX_MM = 3
SIZES_MM3 = (3, 5, 10, 15, 20, 25, 30, 50, 60, 75, 80, 100, 150, 200, 250, 300, 400, 500, 1000, 2000)
PLACES = ("periventricular", "juxtacortical", "deep", "side", "lobe")
LOBAR = 0.5
"""Share of the places that are one of the four large lobes."""
LARGE = ("frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe")
MILLILITRES = {"0.1": 100, "0.2": 200, "0.5": 500, "1": 1000, "2": 2000, "5": 5000}
"""As written in a prompt → mm³."""


@dataclass(frozen=True)
class Selection:
    """A part of a region.

    Attributes:
        kind: `side`, `periventricular`, `juxtacortical`, `deep`, `lobe`, `larger`, `smaller` or `largest`.
        side: for `side`.
        mm3: for `larger` and `smaller`.
        lobe: for `lobe`, one of `vp_model.program.places.lobes`.
    """

    kind: str
    side: str = ""
    mm3: int = 0
    lobe: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Structures, paired ones, that the program segments to select."""
        return {
            "side": ("cerebral white matter",),
            "periventricular": ("lateral ventricle",),
            "juxtacortical": ("cerebral cortex",),
            "deep": ("lateral ventricle", "cerebral cortex"),
            "lobe": tuple(load_places()["lobe"].cortex),
        }.get(self.kind, ())

    def lines(self, name: str, arguments: str, variable: str) -> list[str]:
        """Lines that segment `name` and leave the selected part of it in `variable`.

        Args:
            arguments: the volumes with their markers.
        """
        found = f"{variable}_all"
        first = f'{found} = segment("{name}", {arguments})'
        if self.kind == "side":
            half = f"{variable}_half"
            return [
                first,
                f'{half} = segment("{self.side} cerebral white matter", {arguments})',
                f"{variable} = intersection({found}, {half})",
            ]
        if self.kind == "lobe":
            return [first, f'{variable} = in_lobe({found}, "{self.lobe}")']
        near = f"{variable}_near"
        if self.kind == "periventricular":
            about = _both("lateral ventricle", arguments, near)
            return [first, *about, f"{variable} = intersection({found}, dilate({near}, {NEAR_VENTRICLE_MM}))"]
        if self.kind == "juxtacortical":
            about = _both("cerebral cortex", arguments, near)
            return [first, *about, f"{variable} = intersection({found}, dilate({near}, {NEAR_CORTEX_MM}))"]
        if self.kind == "deep":
            rim, inner = f"{variable}_rim", f"{variable}_inner"
            return [
                first,
                *_both("lateral ventricle", arguments, near),
                *_both("cerebral cortex", arguments, rim),
                f"{inner} = difference({found}, dilate({near}, {NEAR_VENTRICLE_MM}))",
                f"{variable} = difference({inner}, dilate({rim}, {NEAR_CORTEX_MM}))",
            ]
        call = {"larger": f"larger_than({found}, {self.mm3})", "smaller": f"smaller_than({found}, {self.mm3})"}
        return [first, f"{variable} = {call.get(self.kind, f'largest({found})')}"]


def _both(name: str, arguments: str, variable: str) -> list[str]:
    return [
        f'{variable}_left = segment("left {name}", {arguments})',
        f'{variable}_right = segment("right {name}", {arguments})',
        f"{variable} = union({variable}_left, {variable}_right)",
    ]


def sample_selection(
    structure: Structure, known: Sequence[str], chance: random.Random, held_out: bool = False
) -> tuple[str, Selection] | None:
    """Words and selection of a part of a lesion load; None where the known structures allow none.

    Args:
        known: names of the structures that the weights know.
    """
    possible: list[Callable[[], tuple[str, Selection]]] = []

    def placed(kind: str) -> Callable[[], tuple[str, Selection]]:
        return lambda: (_words(structure, kind, chance, held_out), Selection(kind))

    def sided() -> tuple[str, Selection]:
        side: Literal["left", "right"] = chance.choice(("left", "right"))
        return written(structure, side, chance, held_out, listed=True, many=True), Selection("side", side)

    def sized(kind: str) -> Callable[[], tuple[str, Selection]]:
        def one() -> tuple[str, Selection]:
            size = chance.choice(SIZES_MM3)
            amount, unit = str(size), chance.choice(("mm3", "mm3", "mm³", "cubic mm", "cubic millimeters"))
            if chance.random() < 0.25:
                amount = chance.choice(tuple(MILLILITRES))
                size, unit = MILLILITRES[amount], chance.choice(("ml", "cc"))
            words = _words(structure, kind, chance, held_out)
            return words.replace("{size}", f"{amount} {unit}"), Selection(kind, mm3=size)

        return one

    def lobar() -> tuple[str, Selection]:
        return _lobar_words(structure, chance, held_out)

    special = {"side": sided, "lobe": lobar}
    for kind in ("side", "side", "periventricular", "juxtacortical", "deep", "lobe", "lobe", "lobe"):
        if set(Selection(kind).needs) <= set(known):
            possible.append(special.get(kind) or placed(kind))
    possible += [sized("larger"), sized("smaller"), placed("largest")]
    return chance.choice(possible)()


def _lobar_words(structure: Structure, chance: random.Random, held_out: bool) -> tuple[str, Selection]:
    """Lesions of a lobe, as a phrase around the lobe's name or with a word for it: `left frontal lesions`."""
    lobe = sample_lobe(chance)
    words = _words(structure, "lobe", chance, held_out)
    side, name = _side_and_name(lobe)
    spoken = [word for word, place in load_places()["lobe"].spoken.items() if place == name]
    if spoken and (name in load_places()["lobe"].together or chance.random() < 0.5):
        many = plural(written(structure, "", chance, plain=True), structure)
        shape = chance.choice(read_part("selections.json", held_out and chance.random() < 0.5)["lobe spoken"])
        words = shape.replace("{plural}", many).replace("{spoken}", f"{side} {spoken[0]}".strip())
    return words.replace("{lobe}", lobe_written(lobe, chance, held_out)), Selection("lobe", lobe=lobe)


def sample_lobe(chance: random.Random) -> str:
    """A place of `in_lobe`; a large lobe in half of the cases."""
    every = lobes()
    if chance.random() < LOBAR:
        every = tuple(lobe for lobe in every if lobe.endswith(LARGE))
    return chance.choice(every)


def lobe_written(lobe: str, chance: random.Random, held_out: bool) -> str:
    """A place as people write it."""
    side, name = _side_and_name(lobe)
    known = load_ontology().structures
    return written(known[name], side, chance, held_out, listed=True) if name in known else name


def _side_and_name(lobe: str) -> tuple[Literal["left", "right", ""], str]:
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    for side in sides:
        if lobe.startswith(f"{side} "):
            return side, lobe.removeprefix(f"{side} ")
    return "", lobe


def _words(structure: Structure, kind: str, chance: random.Random, held_out: bool) -> str:
    trained, kept = read_part("selections.json", False)[kind], read_part("selections.json", True)[kind]
    form = chance.choice(kept if held_out and chance.random() < 0.5 else trained)
    term = written(structure, "", chance, plain=True)
    many = plural(term, structure)
    words = form.replace("{term}", term).replace("{plural}", many)
    # "deep white matter disease": a term of the lesion and an adjective never make another structure's name
    found = load_ontology().find(words)
    return words if found is None or found.name == structure.name else f"{many} ({kind})"


def sample_share(known: Sequence[str], chance: random.Random, held_out: bool = False) -> tuple[str, Selection]:
    """Words for a part of a lesion load, as a prompt asks for its share ("periventricular"), and its selection."""
    kinds = [kind for kind in PLACES if set(Selection(kind).needs) <= set(known)]
    kind = chance.choice(kinds)
    side = chance.choice(("left", "right")) if kind == "side" else ""
    lobe = sample_lobe(chance) if kind == "lobe" else ""
    trained, kept = (read_part("selections.json", part)[f"place {kind}"] for part in (False, True))
    words = chance.choice(kept if held_out and chance.random() < 0.5 else trained)
    words = words.replace("{side}", side)
    if lobe:
        words = words.replace("{lobe}", lobe_written(lobe, chance, held_out))
    return words, Selection(kind, side, lobe=lobe)
