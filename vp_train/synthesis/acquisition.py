"""One image of a study: signal of the tissue, then what scanner and preparation make of it (paper B.2).

In order: partial volume and smoothing, bias field, noise, corruption of k-space, masking, scaling to [0, 1] as the node
does (`vp_model.vision.prepare`), exponential scaling. CT is made in Hounsfield units and has neither bias nor k-space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vp_model.geometry import Shape, World, spacing
from vp_model.vision.prepare import CT_WINDOW_HU, FOREGROUND, HIGH_PERCENTILE
from vp_train.synthesis.appearance import Appearance
from vp_train.synthesis.artefacts import average, blur
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.grids import Parts
from vp_train.synthesis.kspace import corrupt_kspace, draw_corruptions
from vp_train.synthesis.space import grid_axes, smooth_field

AIR_HU = -1000.0
LOWEST_SIGNAL = 0.02
"""Signal without diffusion weighting that counts as any."""
NOISE_FLOOR = 4.0
"""Standard deviations of the noise below which no diffusion coefficient is computed."""


@dataclass(frozen=True)
class Distortions:
    """Shares and strengths of what goes wrong with an image.

    Attributes:
        smoothing: standard deviation in parts of a voxel (low, high).
        bias: largest standard deviation of the logarithm of the bias field.
        noise: standard deviation of the signal's noise (low, high), relative to the scale of [0, 1].
        noise_hu: the same of CT.
        exponent: standard deviation of the logarithm of the exponential scaling.
        kspace: share of MR images whose k-space is corrupted.
    """

    smoothing: tuple[float, float] = (0.35, 0.9)
    bias: float = 0.35
    noise: tuple[float, float] = (0.002, 0.035)
    noise_hu: tuple[float, float] = (1.0, 8.0)
    exponent: float = 0.2
    kspace: float = 0.15


def fine_signal(
    visible: torch.Tensor, appearance: Appearance, chance: Chance
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Signal of every part of every voxel, and the diffusion coefficient in 10⁻⁶ mm²/s where the sequence shows it.

    Args:
        visible: (w·p, h·q, d·r) compact labels.
    """
    device = visible.device
    contrast = appearance.contrast
    signal = contrast.means.to(device)[visible]
    signal += contrast.deviations.to(device)[visible] * chance.noise(*visible.shape)
    diffusion = None if appearance.diffusion is None else appearance.diffusion.to(device)[visible]
    return signal, diffusion


def measured(
    signal: torch.Tensor,
    diffusion: torch.Tensor | None,
    seen: torch.Tensor,
    kind: str,
    b_value: float,
    parts: Parts,
    grid: tuple[Shape, World],
    distortions: Distortions,
    chance: Chance,
) -> torch.Tensor:
    """(w, h, d) in [0, 1] of the fine signal.

    Args:
        seen: (w·p, h·q, d·r) bool: False where the image was blanked (skull-stripping, masking).
        b_value: s/mm², for kinds that show diffusion.
    """
    smoothing = chance.number(*distortions.smoothing)
    noise = chance.number(*(distortions.noise_hu if kind == "CT" else distortions.noise))
    visible = average(seen.float(), parts) >= 0.5
    if kind == "CT":
        image = average(blur(signal, smoothing), parts)
        image = image + chance.noise(*image.shape) * noise
        image = torch.where(visible, image, AIR_HU)
        return exponentiated(normalised(image, kind), distortions, chance)
    corruptions = draw_corruptions(chance, distortions.kspace)
    bias = bias_field(grid, distortions, chance, signal.device)
    if diffusion is None:
        image = magnitude(average(blur(signal, smoothing), parts) * bias, noise, chance)
    else:
        weighted = signal.clamp(min=0.0) * torch.exp(-1e-6 * b_value * diffusion)
        image = magnitude(average(blur(weighted, smoothing), parts) * bias, noise / 2, chance)
        if kind == "ADC":
            without = magnitude(average(blur(signal, smoothing), parts) * bias, noise / 2, chance)
            least = max(2 * LOWEST_SIGNAL, NOISE_FLOOR * noise / 2)
            without, image = corrupt_kspace(without, corruptions), corrupt_kspace(image, corruptions)
            image = _coefficient(without, image, b_value, least)
            corruptions = ()
    image = corrupt_kspace(image, corruptions)
    image = torch.where(visible, image, 0.0)
    return exponentiated(normalised(image, kind), distortions, chance)


def _coefficient(without: torch.Tensor, weighted: torch.Tensor, b_value: float, least: float) -> torch.Tensor:
    """(w, h, d) apparent diffusion coefficient in 10⁻⁶ mm²/s from signals without and with weighting; 0 where that
    without is below `least`.
    """
    quotient = torch.log(without.clamp(min=LOWEST_SIGNAL) / weighted.clamp(min=1e-4)) / b_value * 1e6
    return torch.where(without > least, quotient.clamp(0.0, 4000.0), 0.0)


def normalised(image: torch.Tensor, kind: str) -> torch.Tensor:
    """`vp_model.vision.prepare.normalise` in torch, on the image's device: CT windowed, MR by percentiles."""
    if kind == "CT":
        low, high = CT_WINDOW_HU
    else:
        low = min(percentile(image, 0.5), float(image.max()))
        low = 0.0 if low > 0 and bool((image <= 0).any()) else low
        top = percentile(image, 99.9) - low
        foreground = image[image - low > FOREGROUND * top]
        high = percentile(foreground, HIGH_PERCENTILE) if foreground.numel() else low + 1.0
    return ((image - low) / max(high - low, 1e-6)).clamp(0.0, 1.0)


def percentile(values: torch.Tensor, percent: float) -> float:
    """As numpy's, by linear interpolation; of as many values as there are."""
    flat = values.flatten()
    position = percent / 100 * (flat.numel() - 1)
    below = int(position)
    first = float(torch.kthvalue(flat, below + 1).values)
    if position == below:
        return first
    second = float(torch.kthvalue(flat, below + 2).values)
    return first + (position - below) * (second - first)


def bias_field(
    grid: tuple[Shape, World], distortions: Distortions, chance: Chance, device: torch.device
) -> torch.Tensor:
    """(w, h, d) factor, along the grid's own axes."""
    shape, world = grid
    own = torch.eye(4, dtype=torch.float64).numpy()
    own[[0, 1, 2], [0, 1, 2]] = spacing(world)
    own[:3, 3] = -(torch.tensor(shape).numpy() - 1) / 2 * spacing(world)
    field = smooth_field(chance, chance.number(60.0, 140.0)).at(grid_axes(shape, own, (1, 1, 1), device))[0]
    return torch.exp(field * chance.number(0.0, distortions.bias))


def magnitude(image: torch.Tensor, noise: float, chance: Chance) -> torch.Tensor:
    """With noise in both channels of the complex signal (Rician)."""
    real = image + chance.noise(*image.shape) * noise
    imaginary = chance.noise(*image.shape) * noise
    return torch.hypot(real, imaginary)


def exponentiated(image: torch.Tensor, distortions: Distortions, chance: Chance) -> torch.Tensor:
    exponent = float(torch.exp(chance.normal(1) * distortions.exponent))
    return image if exponent == 1.0 else image**exponent
