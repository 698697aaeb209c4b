"""Series numbers of a run: each series another one, and none that a series of its images has."""

from __future__ import annotations

from collections.abc import Iterable


class SeriesNumbers:
    """Gives out numbers; the same requests in the same order get the same ones."""

    def __init__(self, taken: Iterable[int]) -> None:
        self._taken = set(taken)

    def take(self, wanted: int) -> int:
        """`wanted`, or the next above it that is free."""
        number = wanted
        while number in self._taken:
            number += 1
        self._taken.add(number)
        return number
