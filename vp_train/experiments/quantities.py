"""End-to-end quantities (4.1, C.3, Fig. 3F): a prompt in, a number out, against the truth of the label map, and against
code written by hand around the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vp_model.agent import Agent
from vp_model.geometry import spacing
from vp_model.volume import Volume
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.evaluation.anatomy import Finder
from vp_train.experiments.checkpoint import finder, load_network, named
from vp_train.experiments.fitting import draw_images
from vp_train.experiments.report import Report
from vp_train.experiments.statistics import compare, summarise
from vp_train.synthesis.chance import Chance

PAPER = "matches or exceeds wrappers written by hand in every task (Fig. 3F)."


Value = Callable[[Sequence[NDArray[np.bool_]], NDArray[np.float64], NDArray[np.float32]], float]
"""A number from masks (w, h, d), the lengths of a voxel in mm, and the image's voxels."""


@dataclass(frozen=True)
class Question:
    """A prompt of C.3, the measurement of its answer, and how the number follows from masks in an image of a kind."""

    prompt: str
    measurement: str
    unit: str
    targets: tuple[str, ...]
    value: Value
    kind: str = "T1"


def _volume_ml(masks: Sequence[NDArray[np.bool_]], lengths: NDArray[np.float64], voxels: NDArray[np.float32]) -> float:
    return float(masks[0].sum() * np.prod(lengths) / 1000)


def _asymmetry(masks: Sequence[NDArray[np.bool_]], lengths: NDArray[np.float64], voxels: NDArray[np.float32]) -> float:
    left, right = (float(mask.sum()) for mask in masks)
    return 100 * (left - right) / max((left + right) / 2, 1.0)


def _width(masks: Sequence[NDArray[np.bool_]], lengths: NDArray[np.float64], voxels: NDArray[np.float32]) -> float:
    columns = np.flatnonzero(masks[0].any(axis=(1, 2)))
    return float((columns[-1] - columns[0] + 1) * lengths[0]) if len(columns) else 0.0


def _mean(masks: Sequence[NDArray[np.bool_]], lengths: NDArray[np.float64], voxels: NDArray[np.float32]) -> float:
    return float(voxels[masks[0]].mean()) if masks[0].any() else 0.0


LESION = ("white matter lesion",)
QUESTIONS = (
    Question("compute volume of the left thalamus", "volume", "ml", ("left thalamus",), _volume_ml),
    Question("compute volume of the right putamen", "volume", "ml", ("right putamen",), _volume_ml),
    Question("compute volume of the brainstem", "volume", "ml", ("brainstem",), _volume_ml),
    Question(
        "compute volume asymmetry of the lateral ventricle",
        "asymmetry",
        "%",
        ("left lateral ventricle", "right lateral ventricle"),
        _asymmetry,
    ),
    Question("compute lateral width of the left hippocampus", "extent", "mm", ("left hippocampus",), _width),
    Question("compute lateral width of the white matter lesions", "extent", "mm", LESION, _width, "FLAIR"),
    Question("compute mean intensity of the white matter lesions", "mean intensity", "1", LESION, _mean, "FLAIR"),
)
"""The prompts of C.3; its pathologies are those that the bundled weights know."""


def run(settings: Mapping[str, Any], held_out: Sequence[Subject], checkpoint: Path | None = None) -> Report:
    """Ask every question of synthetic images of held-out subjects; about lesions, where there are any."""
    agent = Agent.load(checkpoint)
    network, table = load_network(checkpoint)
    names = load_labels().targets
    thresholds = {structure.region: structure.threshold for structure in agent.checkpoint.structures}
    errors: dict[str, dict[str, list[float]]] = {
        question.prompt: {"prompted": [], "by hand": []} for question in QUESTIONS
    }
    unanswered: dict[str, int] = {question.prompt: 0 for question in QUESTIONS}
    for sample in range(int(settings["samples"])):
        chance = Chance.seeded(7_000_000 + sample)
        for kind in dict.fromkeys(question.kind for question in QUESTIONS):
            asked = [question for question in QUESTIONS if question.kind == kind]
            subject = held_out[sample % len(held_out)]
            image = draw_images(subject, chance, float(settings["spacing_mm"]), 1, kind)[0]
            volume = Volume(image.placed.features[0], image.placed.world, "v1", kind, date(2024, 3, 1), 0)
            truth = (image.targets > 0.5).numpy()
            lengths, voxels = spacing(volume.world), volume.voxels
            masks = _masks(finder(network, table, [volume], checkpoint), asked, thresholds)
            for question in asked:
                there = [truth[names.index(name)] for name in question.targets]
                if not all(mask.any() for mask in there):
                    continue
                wanted = question.value(there, lengths, voxels)
                by_hand = question.value([masks[name] for name in question.targets], lengths, voxels)
                answered = _ask(agent, question, volume)
                if answered is None:
                    unanswered[question.prompt] += 1
                    continue
                errors[question.prompt]["prompted"].append(abs(answered - wanted))
                errors[question.prompt]["by hand"].append(abs(by_hand - wanted))
    rows = []
    for question in QUESTIONS:
        pair = errors[question.prompt]
        if not pair["prompted"]:
            rows.append((question.prompt, question.unit, "no answer", "–", "–", str(unanswered[question.prompt])))
            continue
        rows.append(
            (
                question.prompt,
                question.unit,
                summarise(pair["prompted"]).plain(),
                summarise(pair["by hand"]).plain(),
                compare(pair["prompted"], pair["by hand"]).verdict(),
                str(unanswered[question.prompt]),
            )
        )
    notes = (
        f"{settings['samples']} synthetic heads of held-out subjects at {settings['spacing_mm']} mm, as T1, and where "
        "lesions are asked for and there are any as FLAIR; absolute error against the label map.",
        "By hand: the same question as code around the same network's masks, with the vectors it was trained with "
        "instead of what the language model emits. A difference is what language costs.",
    )
    return Report(
        "end-to-end",
        "End-to-end quantities (Fig. 3F)",
        PAPER,
        ("prompt", "unit", "error, prompted", "error, by hand", "paired test", "unanswered"),
        tuple(rows),
        notes,
        {**settings, **named(checkpoint)},
        {"errors": errors, "unanswered": unanswered},
    )


def _masks(
    finds: Finder, questions: Sequence[Question], thresholds: Mapping[str, float]
) -> dict[str, NDArray[np.bool_]]:
    wanted = {name for question in questions for name in question.targets}
    return {name: (finds.find(name)[0] > thresholds.get(name, 0.5)).numpy() for name in sorted(wanted)}


def _ask(agent: Agent, question: Question, volume: Volume) -> float | None:
    with torch.inference_mode():
        outcome = agent.run(question.prompt, [volume])
    for measurement in outcome.measurements:
        if question.measurement in measurement.name:
            return measurement.value
    return None
