"""The model card of a checkpoint, from what was measured: `config.json`, `vision_card.json`, `language_card.json`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vp_model.checkpoint import CARD_FILE, Checkpoint
from vp_train.evaluation.card import EXPERIMENTAL_BELOW, OFFERED_FROM, REGION_OFFERED_FROM
from vp_train.language.evaluation import markdown

VISION_CARD, LANGUAGE_CARD = "vision_card.json", "language_card.json"


def write_card(checkpoint: Checkpoint) -> Path:
    """Writes `MODEL_CARD.md` into the checkpoint's folder.

    Raises:
        FileNotFoundError: the vision network or the language model was not measured.
    """
    folder = checkpoint.folder
    vision = json.loads((folder / VISION_CARD).read_text(encoding="utf-8"))
    language = json.loads((folder / LANGUAGE_CARD).read_text(encoding="utf-8"))
    parts = [
        f"# Model card: {checkpoint.identity.name} {checkpoint.identity.version}",
        "For research use only. Not a medical device. Made by software, unverified.",
        _what(checkpoint, vision),
        _language(language),
        _accuracy(checkpoint, vision),
        _data(vision),
        _limits(vision),
    ]
    path = folder / CARD_FILE
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _what(checkpoint: Checkpoint, vision: dict[str, Any]) -> str:
    run = vision["run"]
    config = checkpoint.language
    return (
        "## What it is\n\n"
        f"A vision network m ({vision['parameters']:,} parameters, conditions in the read-out, working spacing "
        f"{checkpoint.vision['working_spacing_mm']:g} mm) and a language model α ({config['layers']} layers, "
        f"{config['hidden_size']} hidden) after *VoxelPrompt*. m was trained for {run['steps']:,} steps "
        f"({run['minutes']} minutes, {run['hardware']}, beside other work); α on prompts and target programs, on the "
        "same machine. The recipe and the commands are in docs/TRAINING.md."
    )


def _language(results: dict[str, Any]) -> str:
    return (
        "## Language\n\n"
        "Sampled prompts against their target programs: `right` is the same result on a made-up brain (masks, numbers, "
        "words), `exact` the same text; both as the system writes, held to what the prompt names. Prompts written by "
        "hand were written after the templates, by the same author, and nobody looked into what went wrong with them; "
        "expected are task, structures and sides, or a refusal. Held-out phrasings were never trained on, but what "
        "went wrong with some of them was looked at when the rules were made that α's lines are held to. "
        "In brackets 95 % intervals.\n\n" + markdown(results).rstrip()
    )


def _accuracy(checkpoint: Checkpoint, vision: dict[str, Any]) -> str:
    scans = vision["real_scans"]
    names = list(scans)
    header = "| region | " + " | ".join(names) + " | offered |\n|---|" + "---|" * (len(names) + 1)
    rows = []
    for structure in checkpoint.structures:
        if structure.region in vision.get("regions", {}) or structure.region in vision.get("pathologies", {}):
            continue
        cells = " | ".join(_number(scans[name]["dice"].get(structure.region)) for name in names)
        offered = "experimental" if structure.experimental else "yes"
        rows.append(f"| {structure.region} | {cells} | {offered} |")
    means = "| **mean** | " + " | ".join(_number(scans[name]["mean"]) for name in names) + " | |"
    lesions = ", ".join(f"{kind}: {_number(value)}" for kind, value in vision["white_matter_lesion"].items())
    synthetic = json.dumps(vision["synthetic_held_out"])
    return (
        "## Accuracy\n\nDice on real scans that were never trained on. Structures marked experimental are so marked in "
        f"every result.\n\n{header}\n" + "\n".join([*rows, means]) + "\n\n"
        f"White matter lesions, one patient with MS, Dice by input: {lesions}. An intensity threshold with clean-up "
        "reaches 0.428 on the same FLAIR. The probability from which a voxel is lesion was chosen on synthetic "
        "heads.\n\n"
        f"Synthetic images of held-out heads: `{synthetic}`."
        + _regions(vision, checkpoint.regions)
        + _pathologies(vision)
        + _contrasts(vision)
    )


def _pathologies(vision: dict[str, Any]) -> str:
    """Empty where none were learned but white matter lesions."""
    found = vision.get("pathologies")
    if not found:
        return ""
    rows = "\n".join(
        f"| {name} | {_number(score['dice'])} | {score['images']} | "
        + ", ".join(f"{kind} {_number(value)}" for kind, value in score["by_contrast"].items())
        + f" | {score['elsewhere_ml']:.1f} | {_looked_for(score)} |"
        for name, score in found.items()
    )
    return (
        "\n\nLesions of other kinds were learned from synthetic images and could be judged on synthetic images of "
        "held-out heads alone, single images and images with the others of their session: what this says of patients "
        "is not known. All of them are experimental, and looked for in the sequence types named in the last column "
        "alone; what was not learned is refused.\n\n"
        "| pathology | Dice | images | by sequence | ml found where there is none | offered |\n"
        "|---|---|---|---|---|---|\n" + rows
    )


def _looked_for(score: dict[str, Any]) -> str:
    """Whether a pathology is offered, and in which sequence types."""
    if (score["dice"] or 0.0) < OFFERED_FROM:
        return "no"
    return (f"{', '.join(score['shows'])}: " if score.get("shows") else "") + "experimental"


def _regions(vision: dict[str, Any], offered: Collection[str]) -> str:
    """Empty where none of the parcellation were learned."""
    found = vision.get("regions")
    if not found:
        return ""
    rows = "\n".join(
        f"| {name} | {_number(score['real'])} | {_number(score['synthetic'])} | "
        f"{_offered(score) if name in offered else 'no'} |"
        for name, score in found.items()
    )
    return (
        "\n\nRegions of a parcellation that atlases were propagated to. CerebrA's parcels on `real_icbm152` judge "
        "those that it has, synthetic images of held-out heads (any sequence type) the others, which are "
        "experimental; below "
        f"a Dice of {REGION_OFFERED_FROM} a region is refused, on both sides if it is paired.\n\n"
        "| region | Dice, real T1 | Dice, synthetic | offered |\n|---|---|---|---|\n" + rows
    )


def _offered(score: dict[str, Any]) -> str:
    return "experimental" if score["real"] is None or score["real"] < EXPERIMENTAL_BELOW else "yes"


def _contrasts(vision: dict[str, Any]) -> str:
    """Empty where they were not measured."""
    found = vision.get("contrasts")
    if found is None:
        return ""
    rows = "\n".join(f"| {kind} | {' | '.join(map(_number, values))} |" for kind, values in found["synthetic"].items())
    real = ", ".join(f"{scan} {_number(value)}" for scan, value in found["thick_real"].items())
    return (
        "\n\nMean Dice by sequence type, on synthetic images of held-out heads (1.5 mm in plane; real references are "
        f"of T1 alone), {found['samples']} heads each:\n\n"
        "| sequence | isotropic, skull | isotropic, stripped | 5 mm slices, skull | 5 mm slices, stripped |\n"
        f"|---|---|---|---|---|\n{rows}\n\nReal T1 with axial slices averaged to 5 mm: {real}."
    )


def _data(vision: dict[str, Any]) -> str:
    trained = "\n".join(
        f"- {item['name']} ({item['source']}, {item['licence']}): {item['use']}" for item in vision["training_data"]
    )
    judged = "\n".join(
        f"- {item['name']}: {item['source']} ({item['licence']}); {item['reference']}"
        for item in vision["validation_data"]
    )
    return f"## Data\n\nTrained on:\n\n{trained}\n\nJudged on:\n\n{judged}"


def _limits(vision: dict[str, Any]) -> str:
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in vision["limits"])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "–"
