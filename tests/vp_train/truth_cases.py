"""Answerable examples of each task with their outcomes on the truth, and readings of them."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tests.vp_train.truth import REGIONS, Truth, millilitres, near, parts, run
from vp_model.outcome import Outcome
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples
from vp_train.tasks.scene import Example

Voxels = NDArray[np.bool_]


@cache
def drawn() -> dict[str, list[Example]]:
    """Answerable examples of each task, few of each."""
    found: dict[str, list[Example]] = defaultdict(list)
    for example in islice(examples(make_context(REGIONS), 21), 6000):
        if not example.program.startswith("refuse(") and len(found[example.task]) < 14:
            found[example.task].append(example)
    return found


def cases(task: str) -> list[tuple[Example, Truth, Outcome]]:
    made = []
    for example in drawn()[task]:
        truth, outcome = run(example)
        assert outcome.status == "answered", example.program
        made.append((example, truth, outcome))
    assert made
    return made


def segmented(example: Example) -> list[str]:
    return re.findall(r'segment\("([^"]+)"', example.program)


def used(example: Example) -> list[str]:
    """Volumes that the program segments on."""
    call = re.search(r'segment\("[^"]+", ([^)]*)\)', example.program)
    assert call is not None
    return [name.replace("<MOD>", "") for name in call.group(1).split(", ")]


def sessions(example: Example, truth: Truth) -> list[int]:
    return sorted({truth.session(name) for name in used(example)})


def values(outcome: Outcome, name: str) -> list[float]:
    return [item.value for item in outcome.measurements if item.name == name]


def region(example: Example, truth: Truth, session: int, names: list[str] | None = None) -> Voxels:
    """What a program's main region is, from the words of its selection alone."""
    program = example.program
    found = names if names is not None else segmented(example)
    if found[0] != "white matter lesion":
        return np.logical_or.reduce([truth.mask(name, session) for name in dict.fromkeys(found)])
    whole = truth.mask("white matter lesion", session)
    ventricles, cortex = truth.mask("lateral ventricle", session), truth.mask("cerebral cortex", session)
    if "_half" in program:
        side = "left" if "left cerebral white matter" in program else "right"
        return whole & truth.mask(f"{side} cerebral white matter", session)
    if "_inner" in program:
        return whole & ~near(ventricles, 5) & ~near(cortex, 3)
    if "_near" in program:
        return whole & (near(ventricles, 5) if "lateral ventricle" in program else near(cortex, 3))
    signal = re.search(r'with_signal\(\w+, \w+, "(\w+)", (v\d+)\)', program)
    if signal:
        around = voxels_of(truth, signal.group(2), truth.mask("cerebral white matter", session) & ~whole)
        kept = []
        for piece in parts(whole):
            away = (mean_of(truth, signal.group(2), piece) - around.mean(dtype=np.float64)) / around.std(
                dtype=np.float64
            )
            if ("isointense" if abs(away) < 1 else "hyperintense" if away > 0 else "hypointense") == signal.group(1):
                kept.append(piece)
        return np.logical_or.reduce([*kept, np.zeros_like(whole)])
    size = re.search(r"(larger|smaller)_than\(\w+, (\d+)\)", program)
    pieces = parts(whole)
    if size:
        limit = float(size.group(2)) / 1000
        kept = [piece for piece in pieces if (millilitres(piece) > limit) == (size.group(1) == "larger")]
        return np.logical_or.reduce([*kept, np.zeros_like(whole)])
    return pieces[0] if "largest(" in program else whole


def two(example: Example, truth: Truth, session: int, one: str, other: str) -> tuple[Voxels, Voxels]:
    found = []
    for variable in (one, other):
        names = re.findall(rf'^{variable}(?:_left|_right)? = segment\("([^"]+)"', example.program, re.MULTILINE)
        found.append(np.logical_or.reduce([truth.mask(name, session) for name in names]))
    return found[0], found[1]


def voxels_of(truth: Truth, image: str, where: Voxels) -> NDArray[np.float32]:
    return truth.images[image].voxels[where]


def mean_of(truth: Truth, image: str, where: Voxels) -> float:
    return float(voxels_of(truth, image, where).mean(dtype=np.float64))
