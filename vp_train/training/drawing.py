"""Examples drawn ahead, while the network learns from those before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from vp_train.datasets.maps import Subject
from vp_train.training.examples import Example, LesionSource, draw_example
from vp_train.training.recipe import Recipe

AT_ONCE = {"cpu": 1, "cuda": 8}
"""Threads that draw: on a GPU each of them often waits."""
AHEAD = {"cpu": 1, "cuda": 12}
"""Examples that are asked for before they are needed."""


class Drawing:
    """The examples of a recipe from a step on, in order.

    On a GPU each thread draws in a stream of its own: in one stream with the training, every number that drawing asks
    of the GPU would wait for a whole step of training.
    """

    def __init__(
        self, subjects: Sequence[Subject], recipe: Recipe, step: int, lesions: LesionSource | None = None
    ) -> None:
        self._subjects, self._recipe, self._lesions = subjects, recipe, lesions
        self._device = subjects[0].labels.device
        self._next = step
        self._pool = ThreadPoolExecutor(AT_ONCE[self._device.type], initializer=self._begin)
        self._upcoming: deque[Future[Example]] = deque()
        self._ask()

    def take(self) -> Example:
        """The next example."""
        example = self._upcoming.popleft().result()
        self._ask()
        if self._device.type == "cuda":
            here = torch.cuda.current_stream()
            for image in example.images:  # their memory goes back to another stream, which must not be faster than we
                image.placed.features.record_stream(here)
                image.targets.record_stream(here)
        return example

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _ask(self) -> None:
        while len(self._upcoming) < AHEAD[self._device.type]:
            self._upcoming.append(self._pool.submit(self._draw, self._next))
            self._next += 1

    def _begin(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(self._device))

    def _draw(self, step: int) -> Example:
        example = draw_example(self._subjects, self._recipe, step, self._lesions)
        if self._device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return example
