"""Sizes, margins and percentiles that the numbers of a prompt mean."""

from __future__ import annotations

import re
from itertools import pairwise

from vp_model.language.reading import words_of

ML = frozenset({"ml", "cc", "cm3", "milliliter", "milliliters", "millilitre", "millilitres"})
CUBIC, CUBED_MM = "cubic", frozenset({"mm", "mm3", "millimeter", "millimeters", "millimetre", "millimetres"})
MM3_IN_ML = 1000.0
DEFAULT_MARGIN = 10.0
"""mm around a cropped region, where the prompt names no margin."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
PERCENTILE = re.compile(r"(?<![\w.,-])p?(\d{1,2})(?:st|nd|rd|th)?(?![\d.,])")
PERCENTILES = frozenset({1, 5, 10, 25, 50, 75, 90, 95, 99})
"""Those that are asked for."""
MM_IN = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
}


def sizes_of(prompt: str) -> tuple[float, ...]:
    """Volumes in mm³ that the numbers of a prompt mean; of a number without a unit, both that it can mean."""
    words = words_of(prompt)
    found: list[float] = []
    for index, word in enumerate(words):
        if NUMBER.fullmatch(word):
            following = words[index + 1 : index + 3]
            unit = following[-1] if following[:1] == [CUBIC] else "".join(following[:1])
            cubed_mm = unit in CUBED_MM
            millilitres = unit in ML or (following[:1] == [CUBIC] and not cubed_mm)
            found += [float(word)] * (not millilitres) + [float(word) * MM3_IN_ML] * (not cubed_mm)
    return tuple(dict.fromkeys(round(size, 3) for size in found))


def margins_of(prompt: str) -> tuple[float, ...]:
    """Margins in mm that a prompt may mean: lengths that it names, but for those of a place ("within 3 mm of the
    cortex"); without any, its numbers, and the default.
    """
    words = words_of(prompt)
    lengths: list[float] = []
    numbers: list[float] = []
    for before, (word, unit) in zip(["", *words], pairwise([*words, ""]), strict=False):
        if NUMBER.fullmatch(word) and before != "within":
            numbers.append(float(word))
            if unit in MM_IN:
                lengths.append(round(float(word) * MM_IN[unit], 3))
    return tuple(dict.fromkeys(lengths or [DEFAULT_MARGIN, *numbers]))


def percentiles_of(prompt: str) -> tuple[int, ...]:
    """Percentiles that a prompt may mean."""
    found = (int(number) for number in PERCENTILE.findall(prompt.lower()))
    return tuple(dict.fromkeys(number for number in found if number in PERCENTILES))
