"""A step of training as a CUDA graph: kernels that were recorded once are started together, instead of one by one from
Python, which at these sizes takes longer than the kernels do.

A graph is of one grid and one number of targets, so that it needs recipes whose images have a fixed field of view
(`Scale.field_mm`) and whose conditions are fixed. Any other example is learned from as without graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vp_model.geometry import Placed, Shape, spacing
from vp_model.vision.network import VisionNetwork
from vp_train.datasets.parcels import load_parcels
from vp_train.synthesis.scene import Image, placed_field
from vp_train.training.loss import recipe_loss
from vp_train.training.recipe import Recipe

WARMING = 3
"""Passes before one is recorded: libraries choose their kernels in them."""
Key = tuple[Shape, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class _Recorded:
    """Where a graph reads and writes: nothing of it may be kept beyond the next replay."""

    graph: torch.cuda.CUDAGraph
    image: torch.Tensor
    targets: torch.Tensor
    phi: torch.Tensor
    weights: torch.Tensor
    loss: torch.Tensor
    dice: torch.Tensor
    gradients: list[torch.Tensor | None]


class StepGraphs:
    """Forward and backward passes of a network, one graph for each of a recipe's grids."""

    def __init__(self, network: VisionNetwork, recipe: Recipe, device: torch.device) -> None:
        self.network, self.recipe, self.device = network, recipe, device
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[Key, _Recorded] = {}
        for scale in recipe.mix:
            if scale.field_mm is not None:
                shape, world = placed_field(scale.field_mm, [scale.spacing] * 3, np.zeros(3))
                self._recorded[_key(shape, world)] = self._record(shape, world)

    def run(
        self, images: Sequence[Image], phi: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(loss, mean Dice) of an example, its gradients in place; None where no graph is of its grid.

        Args:
            phi: (k, n, d); weights: (k,).
        """
        if len(images) != 1:
            return None
        placed, targets = images[0].placed, images[0].targets
        found = self._recorded.get(_key(placed.shape, placed.world))
        if found is None or found.targets.shape != targets.shape:
            return None
        for to, source in (
            (found.image, placed.features),
            (found.targets, targets),
            (found.phi, phi.detach()),
            (found.weights, weights),
        ):
            to.copy_(source)
        found.graph.replay()
        for parameter, gradient in zip(self.parameters, found.gradients, strict=True):
            parameter.grad = gradient
        return found.loss, found.dice

    def _record(self, shape: Shape, world: np.ndarray) -> _Recorded:
        count = len(self.recipe.targets) - (len(_regions(self.recipe)) - self.recipe.regions)
        image = torch.rand(1, 1, *shape, device=self.device)
        targets = torch.rand(count, *shape, device=self.device)
        phi = torch.rand(count, 1, self.network.config.condition_size, device=self.device)
        weights = torch.ones(count, device=self.device)

        def passed() -> tuple[torch.Tensor, torch.Tensor]:
            # What autocast keeps for later would be read by graphs that did not make it.
            with torch.autocast("cuda", torch.bfloat16, enabled=self.recipe.bf16, cache_enabled=False):
                (logits,) = self.network([Placed(image, world)], phi)
            loss, dice = recipe_loss(self.recipe, logits.float(), targets, weights)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach(), dice.detach()

        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARMING):
                self._forget()
                passed()
        torch.cuda.current_stream().wait_stream(beside)
        self._forget()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            loss, dice = passed()
        gradients = [parameter.grad for parameter in self.parameters]
        self._forget()
        return _Recorded(graph, image, targets, phi, weights, loss, dice, gradients)

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def _regions(recipe: Recipe) -> Sequence[str]:
    return load_parcels().names if recipe.regions else ()


def _key(shape: Shape, world: np.ndarray) -> Key:
    return shape, tuple(round(float(length), 4) for length in spacing(world))
