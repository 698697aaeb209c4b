"""Parts of a lesion load that a prompt can name and a program can select: by side, by place, by size.

What is selected is measured, with regions and operations that these weights have: the left lesions are those in the
left cerebral white matter, the periventricular ones lie within 5 mm of the lateral ventricles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vp_model.ontology import Structure, load_ontology
from vp_train.prompts.data import read_part
from vp_train.prompts.naming import plural, written

NEAR_VENTRICLE_MM = 5
NEAR_CORTEX_MM = 3
SIZES_MM3 = (3, 5, 10, 15, 20, 25, 30, 50, 60, 75, 80, 100, 150, 200, 250, 300, 400, 500, 1000, 2000)
PLACES = ("periventricular", "juxtacortical", "deep", "side")
MILLILITRES = {"0.1": 100, "0.2": 200, "0.5": 500, "1": 1000, "2": 2000, "5": 5000}
"""As written in a prompt → mm³."""


@dataclass(frozen=True)
class Selection:
    """A part of a region.

    Attributes:
        kind: `side`, `periventricular`, `juxtacortical`, `deep`, `larger`, `smaller` or `largest`.
        side: for `side`.
        mm3: for `larger` and `smaller`.
    """

    kind: str
    side: str = ""
    mm3: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        """Structures, paired ones, that the program segments to select."""
        return {
            "side": ("cerebral white matter",),
            "periventricular": ("lateral ventricle",),
            "juxtacortical": ("cerebral cortex",),
            "deep": ("lateral ventricle", "cerebral cortex"),
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

    for kind in ("side", "side", "periventricular", "juxtacortical", "deep"):
        if set(Selection(kind).needs) <= set(known):
            possible.append(sided if kind == "side" else placed(kind))
    possible += [sized("larger"), sized("smaller"), placed("largest")]
    return chance.choice(possible)()


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
    trained, kept = (read_part("selections.json", part)[f"place {kind}"] for part in (False, True))
    words = chance.choice(kept if held_out and chance.random() < 0.5 else trained)
    return words.replace("{side}", side), Selection(kind, side)
