"""Pieces of target programs that become one token each: what stands between names, volumes, numbers and dates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

PIECES = re.compile(r"(<MOD>|, v\d+(?=<MOD>)|\d{4}-\d\d-\d\d|\d+(?:\.\d+)?|v\d+)")
CODE = re.compile(r'["(=\n]')
VOLUMES = 12
RAREST = 12


def code_fragments(programs: Iterable[str], regions: Sequence[str]) -> list[str]:
    """Fragments, the longest first; regions (`left hippocampus`) are the same token with a side and without."""
    names = sorted({re.sub(r"^(left|right) ", "", region) for region in regions}, key=len, reverse=True)
    calls = re.compile(r'(segment\("(?:left |right )?)(' + "|".join(map(re.escape, names)) + r')(")')
    seen: Counter[str] = Counter()
    for program in programs:
        for line in program.splitlines(keepends=True):
            for part in calls.sub(r"\1\0\2\3\0", line).split("\0"):
                seen.update(piece for piece in PIECES.split(part)[::2] if len(piece) > 1 and CODE.search(piece))
    found = {piece for piece, count in seen.items() if count >= RAREST}
    found |= {f'{name}"' for name in names} | {f", v{number}" for number in range(1, VOLUMES + 1)}
    found |= {f"v{number}" for number in range(1, VOLUMES + 1)}
    return sorted(found, key=lambda piece: (-len(piece), piece))
