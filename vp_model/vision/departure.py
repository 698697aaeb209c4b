"""What the tissues of a head do not explain: how far each voxel's intensity lies from what m expects to be there.

A lesion differs from the tissue around it before anything is known of its kind (Van Leemput et al. 2001; SAMSEG,
Cerri et al. 2021). m says which tissue may be where, the mixture of the image (`tissues.py`) how bright each is; what
is left over looks alike in every sequence type and contrast. `lesions.py` learns from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vp_model.geometry import Placed, spacing
from vp_model.vision.config import Refining
from vp_model.vision.tissues import Tissues, learn_tissues

SHOWN = ("fluid", "cerebral cortex", "cerebral white matter")
"""Tissues whose places are told beside the departure: borders between them depart from either."""
CHANNELS = 4 + len(SHOWN)
"""Of what `departures` gives: the image, its departure, the same smoothed, the brain, and the tissues shown."""
BRAIN, PRIORS = 3, 4
"""The brain among them, and the first of the tissues shown."""
MARGIN = 3
"""Voxels around the brain that are looked at."""
LEAST_SHARE = 1e-6
FURTHEST = 6.0
"""Standard deviations; what lies further is no odder."""
CLOSED_MM = 6.0
"""Gaps of this radius in what m finds belong to the brain: m knows no tissue for what fills them."""
SMOOTHED_MM = 2.0
NOT_BIASED = ("CT", "ADC")
"""Sequence types without a bias field."""


def departures(
    priors: torch.Tensor,
    regions: Sequence[str],
    image: Placed,
    kind: str,
    tissues: Mapping[str, str],
    refining: Refining,
) -> torch.Tensor | None:
    """(CHANNELS, w, h, d) of one image, each about within −2 to 2; None where m finds too little of a head in it.

    Args:
        priors: (k, w, h, d) m's probabilities of `regions`.
        image: as m reads it, (1, 1, w, h, d).
        tissues: region → tissue (`tissues.tissues_of`).
    """
    names = sorted({tissues[region] for region in regions})
    belongs = torch.tensor([names.index(tissues[region]) for region in regions])
    values = image.features[0, 0].float().cpu()
    lengths = [float(length) for length in spacing(image.world)]
    found = learn_tissues(priors, belongs, values, lengths, refining, kind.upper() not in NOT_BIASED)
    if found is None:
        return None
    of_tissues = torch.zeros(len(names), *values.shape).index_add_(0, belongs, priors)
    inside = brain_of(priors.sum(dim=0), lengths)
    scaled = found.scaled(values if found.gain is None else values / found.gain)
    deviation = deviation_of(of_tissues, inside, found, scaled).numpy() * inside
    sigma = [SMOOTHED_MM / length for length in lengths]
    smoothed = ndimage.gaussian_filter(deviation, sigma, truncate=2.5)
    shown = [of_tissues[names.index(name)] if name in names else torch.zeros(values.shape) for name in SHOWN]
    made = [torch.from_numpy(part.astype(np.float32)) for part in (deviation / 3, smoothed / 2, inside)]
    return torch.stack([scaled.clamp(-0.5, 2.0), *made, *shown])


def deviation_of(
    of_tissues: torch.Tensor, inside: NDArray[np.bool_], tissues: Tissues, scaled: torch.Tensor
) -> torch.Tensor:
    """(w, h, d) standard deviations by which intensities lie above (or, negative, below) what the tissues there show:
    the normal quantile of the share of the mixture that is darker.

    Args:
        of_tissues: (t, w, h, d) what m finds of each tissue.
        inside: (w, h, d) the brain. Where m finds less than all of a voxel, the rest is any tissue of the brain.
        scaled: (w, h, d) intensities as the mixture sees them.
    """
    seen = torch.isfinite(tissues.deviation)
    usual = of_tissues[:, torch.from_numpy(inside)].sum(dim=1) * seen
    if not bool(usual.sum() > 0):
        return torch.zeros(scaled.shape)
    usual = usual / usual.sum()
    below, total = torch.zeros(scaled.shape), of_tissues[seen].sum(dim=0)
    missing = (1 - total).clamp_(min=LEAST_SHARE)
    for tissue in torch.nonzero(seen).flatten().tolist():
        darker = torch.special.ndtr((scaled - float(tissues.mean[tissue])) / float(tissues.deviation[tissue]))
        below.addcmul_(torch.add(of_tissues[tissue], missing, alpha=float(usual[tissue])), darker)
    share = (below / (total + missing)).clamp_(1e-9, 1 - 1e-6)
    return torch.special.ndtri(share).clamp_(-FURTHEST, FURTHEST)


def brain_of(total: torch.Tensor, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """(w, h, d): where m finds any tissue, and what that encloses."""
    found = (total > 0.5).numpy()
    radius = np.array([CLOSED_MM / float(step) for step in spacing_mm])
    reach = np.ceil(radius).astype(int)
    padded = np.pad(found, [(n + 1, n + 1) for n in reach])
    near = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= CLOSED_MM
    closed = ndimage.distance_transform_edt(near, sampling=spacing_mm) > CLOSED_MM
    inner = tuple(slice(n + 1, size - n - 1) for n, size in zip(reach, closed.shape, strict=True))
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(closed[inner] | found)
    return filled


def around_brain(features: torch.Tensor) -> tuple[slice, slice, slice] | None:
    """The box of departures (CHANNELS, w, h, d) around the brain; None where there is none."""
    where = torch.nonzero(features[BRAIN])
    if not len(where):
        return None
    low, high = (where.amin(dim=0) - MARGIN).clamp(min=0).tolist(), (where.amax(dim=0) + MARGIN + 1).tolist()
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
