"""Structures that are assembled of parts: all parts are segmented and nothing else, then they are assembled."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vp_model.language.asked import SEGMENTED, SIDES, Asked, regions_of, segmented_in
from vp_model.ontology import load_ontology

PART = re.compile(r"^(?P<whole>\w+)_(?P<number>[1-9]\d?)$")
ASSEMBLED = re.compile(r'^(?P<name>\w+) = assemble\("(?P<structure>[^"]+)"')
OF_LIST = "roi"
"""Name before the number of one of several structures."""


def assembly_mended(statement: str, before: Sequence[str], asked: Sequence[Asked]) -> str:
    """A line about a part of what a prompt asks for, or about the whole, as it must be; itself where it may be so.

    Args:
        asked: what the prompt asks for.
    """
    assembled = ASSEMBLED.match(statement)
    if assembled is not None:
        names = [item.name for item in asked if load_ontology().structures[item.name].parts]
        if assembled["structure"] in names or len({*names}) != 1:
            return statement
        return statement.replace(f'"{assembled["structure"]}"', f'"{names[0]}"', 1)
    segmented = segmented_in([statement])
    part = PART.match(segmented[0][0]) if segmented else None
    if part is None or (part["whole"] == OF_LIST and len(asked) > 1):
        return statement
    whole, number, region = part["whole"], int(part["number"]), segmented[0][1]
    earlier = dict(segmented_in(before))
    done = [earlier[name] for index in range(1, number) if (name := f"{whole}_{index}") in earlier]
    if not done:
        return statement
    holding = [item for item in asked if done[0] in _parts_of(item, whole)]
    if len(holding) != 1:
        return statement
    left = [other for other in _parts_of(holding[0], whole) if other not in done]
    if region in left:
        return statement
    if left:
        return SEGMENTED.sub(f'{segmented[0][0]} = segment("{left[0]}"', statement)
    return f'{whole} = assemble("{holding[0].name}", {", ".join(f"{whole}_{index}" for index in range(1, number))})'


def _parts_of(asked: Asked, whole: str) -> list[str]:
    """Regions that are parts of a structure, in its order; of one side where the name that it gets tells one."""
    structures = load_ontology().structures
    told = [side for side in SIDES if side in whole.split("_")]
    regions = regions_of(asked)
    found = []
    for part in structures[asked.name].parts:
        named = [f"{side} {part}" for side in told or SIDES] if structures[part].paired else [part]
        found += [region for region in named if region in regions]
    return found
