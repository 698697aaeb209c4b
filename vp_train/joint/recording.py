"""What can be watched of a run: curves as CSV, TensorBoard with pictures, a progress bar."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from scipy import ndimage
from torch.utils.tensorboard import SummaryWriter

from vp_train.joint.examples import JointExample
from vp_train.joint.model import Answer, Losses
from vp_train.joint.validation import Validation

CURVE_FILE, VALIDATION_FILE = "curve.csv", "validation.csv"
LINE_EVERY = 50
"""Examples (of this process) in a line of the curve."""
TARGET_COLOUR, FOUND_COLOUR = (0.1, 0.9, 0.2), (1.0, 0.25, 0.1)
ENLARGED_TO = 256
"""Pixels of a picture's longer side, at least."""


class Recorder:
    """Records a run in its folder; only the main process has one that does (`folder` is not None)."""

    def __init__(self, folder: Path | None, minutes: float) -> None:
        self._folder = folder
        self._minutes = minutes
        self._losses: list[tuple[float, ...]] = []
        self._writer = None if folder is None else SummaryWriter(str(folder / "tensorboard"))
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), disable=folder is None
        )
        self._task = self._progress.add_task("joint training", total=minutes)

    def __enter__(self) -> Recorder:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def example(self, losses: Losses, examples: int, seconds: float, minutes: float, rate: float) -> None:
        """Takes note of an example's losses.

        Args:
            examples: of all processes so far; `seconds` of training in all, `minutes` of this start.
        """
        if self._writer is None:
            return
        self._losses.append(
            (float(losses.total.detach()), *map(float, (losses.cross_entropy, losses.segmentation, losses.dice)))
        )
        if len(self._losses) < LINE_EVERY:
            return
        total, entropy, segmentation, dice = (_mean(column) for column in zip(*self._losses, strict=True))
        self._losses.clear()
        row = {"loss": total, "cross_entropy": entropy, "segmentation": segmentation, "soft_dice": dice, "rate": rate}
        self._line(CURVE_FILE, examples, seconds, row)
        for name, value in row.items():
            self._writer.add_scalar(f"training/{name}", value, examples)
        self._progress.update(
            self._task,
            completed=min(minutes, self._minutes),
            description=f"{examples} examples · cross-entropy {entropy:.3f} · Dice {dice:.3f} · rate {rate:.1e}",
        )

    def validation(self, found: Validation, examples: int, seconds: float) -> None:
        if self._writer is None:
            return
        row = {
            "accuracy": found.accuracy,
            "exact": found.exact,
            "dice": found.dice,
            "cross_entropy": found.cross_entropy,
        }
        self._line(VALIDATION_FILE, examples, seconds, row)
        for name, value in row.items():
            self._writer.add_scalar(f"validation/{name}", value, examples)
        self._progress.console.print(
            f"{examples} examples: exact programs {found.exact:.3f}, Dice {found.dice:.3f}", highlight=False
        )

    def say(self, text: str) -> None:
        if self._folder is not None:
            self._progress.console.print(text, highlight=False)

    def picture(self, example: JointExample, answer: Answer, examples: int) -> None:
        """An image with the outlines of a target and of what was found for it."""
        if self._writer is None:
            return
        asked, logits = example.passes[0], answer.logits[0]
        fullest = int(torch.stack([targets[0].sum() for targets in asked.targets]).argmax())
        image = example.images[asked.volumes[fullest]].features[0, 0]
        drawn = outlines(_array(image), _array(asked.targets[fullest][0]) > 0.5, _array(logits[fullest][0]) > 0)
        self._writer.add_image("validation/outlines", drawn, examples, dataformats="HWC")
        self._writer.add_text("validation/prompt", f"{example.prompt} → {asked.regions[0]}", examples)
        self._writer.flush()

    def _line(self, file: str, examples: int, seconds: float, row: Mapping[str, float]) -> None:
        if self._folder is None:
            return
        path = self._folder / file
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            if new:
                writer.writerow(["examples", "seconds", *row])
            writer.writerow([examples, round(seconds), *(f"{value:.6g}" for value in row.values())])


def outlines(image: NDArray[np.float32], target: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(h, w, 3) in [0, 1]: the axial slice that shows most of the target, its outline in green, what was found in red.

    Args:
        image, target, found: (w, h, d), axes along right, anterior, superior. Anterior is up, the patient's right is
            on the right.
    """
    level = int(target.sum(axis=(0, 1)).argmax())
    plain, wanted, drawn = (array[:, :, level].T[::-1] for array in (image, target, found))
    factor = max(1, math.ceil(ENLARGED_TO / max(plain.shape)))
    plain, wanted, drawn = (np.kron(array, np.ones((factor, factor), array.dtype)) for array in (plain, wanted, drawn))
    picture = np.repeat(np.clip(plain, 0, 1)[..., None].astype(np.float32), 3, axis=2)
    for mask, colour in ((wanted, TARGET_COLOUR), (drawn, FOUND_COLOUR)):
        edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
        picture[edge] = colour
    return picture


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _mean(values: tuple[float, ...]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else float("nan")
