"""What is done to the intensities of a real image for an example (paper B.2)."""

from __future__ import annotations

import torch

from vp_model.geometry import Shape, World
from vp_model.vision.prepare import CT_WINDOW_HU
from vp_train.synthesis.acquisition import Distortions, bias_field, exponentiated, magnitude, normalised
from vp_train.synthesis.artefacts import blur
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.kspace import corrupt_kspace, draw_corruptions

SMOOTHED = 0.3
"""Share of images that are smoothed further: a scanner has smoothed them already."""


def distorted(
    image: torch.Tensor, kind: str, grid: tuple[Shape, World], distortions: Distortions, chance: Chance
) -> torch.Tensor:
    """(w, h, d) in [0, 1] of an image (w, h, d) in [0, 1]: smoothing, bias field, noise, corruption of k-space,
    exponential scaling. What is exactly 0 (stripped, masked, beyond the field of view) remains so.

    Args:
        kind: sequence type; CT has neither bias nor k-space.
    """
    smoothed, deviation = chance.happens(SMOOTHED), chance.number(*distortions.smoothing)
    seen = image > 0
    if smoothed:
        image = blur(image, deviation)
    if kind == "CT":
        low, high = CT_WINDOW_HU
        noise = chance.number(*distortions.noise_hu) / (high - low)
        image = (image + chance.noise(*image.shape) * noise).clamp(0.0, 1.0)
    else:
        corruptions = draw_corruptions(chance, distortions.kspace)
        image = image * bias_field(grid, distortions, chance, image.device)
        image = magnitude(image, chance.number(*distortions.noise), chance)
        image = torch.where(seen, corrupt_kspace(image, corruptions), 0.0)
        image = normalised(image, kind)
    return exponentiated(torch.where(seen, image, 0.0), distortions, chance)
