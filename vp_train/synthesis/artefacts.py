"""What a scanner does to an image: blur, slice thickness, bias field, noise, gamma; and images that are corrupted."""

from __future__ import annotations

import torch
from torch.nn import functional

from vp_train.synthesis.chance import Chance
from vp_train.synthesis.space import smooth_field


def blur(image: torch.Tensor, deviation: float) -> torch.Tensor:
    """(w, h, d) smoothed by a Gaussian of `deviation` voxels along each axis (separable, borders repeated)."""
    radius = max(1, int(3 * deviation + 0.5))
    offsets = torch.arange(-radius, radius + 1).float()
    kernel = torch.exp(-(offsets**2) / (2 * deviation * deviation))
    kernel = kernel / kernel.sum()
    for axis in range(3):
        size = image.shape[axis]
        index = torch.arange(size, device=image.device)
        result = torch.zeros_like(image)
        for weight, offset in zip(kernel.tolist(), range(-radius, radius + 1), strict=True):
            if weight < 1e-3:
                continue
            moved = image.index_select(axis, (index + offset).clamp(0, size - 1))
            result.add_(moved, alpha=weight)
        image = result
    return image


def average(image: torch.Tensor, parts: tuple[int, int, int]) -> torch.Tensor:
    """(w, h, d) → each block of `parts` voxels becomes its mean: partial volume and slice thickness."""
    if parts == (1, 1, 1):
        return image
    return functional.avg_pool3d(image[None, None], parts)[0, 0]


def acquire(image: torch.Tensor, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor], chance: Chance) -> torch.Tensor:
    """Bias field, noise, scaling by a high percentile of the foreground to [0, 1], gamma."""
    bias = smooth_field(chance, chance.number(60.0, 140.0)).at(axes)[0]
    image = image * torch.exp(bias * chance.number(0.0, 0.35))
    image = image + chance.noise(*image.shape) * chance.number(0.002, 0.035)
    foreground = image[image > 0.04 * image.max()]
    if foreground.numel() > 100:
        index = torch.randint(foreground.numel(), (20000,), generator=chance.generator)
        picked = foreground[index.to(image.device)]
        image = image / (torch.quantile(picked, chance.number(0.985, 0.999)) + 1e-6)
    return image.clamp(0.0, 1.0) ** float(torch.exp(chance.normal(1) * 0.2))


def corrupted(shape: tuple[int, int, int], chance: Chance) -> torch.Tensor:
    """An image without anatomy (paper C.5): 10–20 maps of noise of several scales; each voxel takes an intensity
    drawn for the map that is highest there.
    """
    count = 10 + chance.integer(11)
    maps = torch.zeros(count, *shape, device=chance.device)
    for scale in (2, 4, 8, 16):
        size = [max(2, side // scale) for side in shape]
        noise = chance.noise(1, count, *size) * scale
        maps += functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0]
    means = chance.uniform(0.05, 1.0, count).to(maps.device)
    image = means[maps.argmax(dim=0)] + chance.noise(*shape) * 0.04
    return image.clamp(0.0, 1.0)
