"""Pixels that stand for no measurement (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset


def padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """The stored values that Pixel Padding Value and its limit span, both included; None where there is none.

    They get the sign of the pixels: their VR is often written with the other one.
    """
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    bits = int(dataset.get("BitsStored", dataset.BitsAllocated))
    signed = dataset.get("PixelRepresentation", 0) == 1
    ends = [_as_stored(end, bits, signed) for end in (value, limit if isinstance(limit, int) else value)]
    return min(ends), max(ends)


def _as_stored(value: int, bits: int, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def within(stored: NDArray[Any], ends: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Where padding stands; None where there is none."""
    mask: NDArray[np.bool_] = (stored >= ends[0]) & (stored <= ends[1])
    return mask if mask.any() else None


class Padding:
    """Padding over a volume. Masks are kept as bits: a volume of 2,000 slices has 60 MB of them, not 500."""

    def __init__(self) -> None:
        self._masks: dict[int, NDArray[np.uint8]] = {}

    def add(self, slice_index: int, mask: NDArray[np.bool_] | None) -> None:
        if mask is not None:
            self._masks[slice_index] = np.packbits(mask)

    def apply(self, voxels: NDArray[np.float32], modality: str) -> None:
        """Padding far from all real values would stretch every intensity scale: it becomes the smallest real value.

        MR padding that continues the background (0 under 1) stays as it is.

        Args:
            voxels: (slices, rows, columns), changed in place.
        """
        if not self._masks:
            return
        low, high = self._real_range(voxels)
        if not np.isfinite(low):
            return
        for slice_index in self._masks:
            mask = self._mask(slice_index, voxels)
            value = float(voxels[slice_index][mask][0])
            far = value > high or low - value > high - low
            if far or (modality == "CT" and value < low):
                voxels[slice_index][mask] = low

    def _real_range(self, voxels: NDArray[np.float32]) -> tuple[float, float]:
        low, high = np.inf, -np.inf
        for slice_index, plane in enumerate(voxels):
            real = plane[~self._mask(slice_index, voxels)] if slice_index in self._masks else plane
            if real.size:
                low, high = min(low, float(real.min())), max(high, float(real.max()))
        return low, high

    def _mask(self, slice_index: int, voxels: NDArray[np.float32]) -> NDArray[np.bool_]:
        rows, columns = voxels.shape[1:]
        bits = np.unpackbits(self._masks[slice_index], count=rows * columns)
        return bits.view(np.bool_).reshape(rows, columns)
