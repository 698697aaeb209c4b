"""The vision part of a checkpoint folder: `config.json`'s vision keys and `vision_card.json` with what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vp_model.ontology import load_ontology
from vp_model.vision.mirrored import other_side
from vp_model.vision.network import VisionNetwork
from vp_train.evaluation.anatomy import Score
from vp_train.evaluation.contrasts import ByContrast
from vp_train.evaluation.pathology import PathologyScore
from vp_train.evaluation.regions import RegionScore
from vp_train.evaluation.synthetic import SyntheticScores

EXPERIMENTAL_BELOW = 0.6
"""A structure whose Dice on the first real scan is lower is called experimental in the results."""
CARD = "vision_card.json"
REAL_LESION = "white matter lesion"
"""The one pathology that real images judge."""
OFFERED_FROM = 0.3
"""A pathology whose Dice on synthetic images is lower is not offered."""
REGION_OFFERED_FROM = 0.5
"""A region of the parcellation whose Dice is lower is not offered."""


def structure_entries(
    names: tuple[str, ...],
    scores: list[Score],
    lesion: float,
    thresholds: Mapping[str, float],
    pathologies: Mapping[str, PathologyScore] = MappingProxyType({}),
    regions: Mapping[str, RegionScore] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """An entry for each target: name, side (`left`, `right` or none), Dice on the first scan, experimental or not.

    A target that no scan could judge has no Dice and is experimental. Pathologies that synthetic images alone could
    judge are experimental, or left out where they were not learned or not judged; so are regions, which one scan judges
    at most, and which are left out on both sides where either was not: who asks for a gyrus means both.
    """
    entries = []
    others = {name for name, item in load_ontology().structures.items() if item.kind == "pathology"} - {REAL_LESION}
    found = {name for name, score in regions.items() if (score.dice or 0.0) >= REGION_OFFERED_FROM}
    thresholds = {**thresholds, **{name: score.threshold for name, score in pathologies.items()}}
    for target in names:
        judged = pathologies.get(target)
        if target in others and (judged is None or (judged.dice or 0.0) < OFFERED_FROM):
            continue
        if target in regions and not {target, other_side(target)} & set(regions) <= found:
            continue
        side, _, rest = target.partition(" ")
        sided = side in ("left", "right")
        value = next((score.dice[target] for score in scores if target in score.dice), None)
        if target == REAL_LESION:
            value = lesion
        if target in regions:
            value = regions[target].real
        entries.append(
            {
                "name": rest if sided else target,
                "side": side if sided else None,
                "dice": None if value is None else round(value, 3),
                "experimental": value is None or value < EXPERIMENTAL_BELOW,
                "threshold": thresholds.get(target, 0.5),
            }
        )
    return entries


def merge_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Set keys of the folder's `config.json`, leaving those of other parts as they are."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    config.update(values)
    path.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_vision_part(
    folder: Path,
    network: VisionNetwork,
    names: tuple[str, ...],
    scores: list[Score],
    lesions: Mapping[str, float],
    synthetic: SyntheticScores,
    contrasts: ByContrast,
    run: Mapping[str, Any],
    thresholds: Mapping[str, float],
    pathologies: Mapping[str, PathologyScore] = MappingProxyType({}),
    regions: Mapping[str, RegionScore] = MappingProxyType({}),
) -> None:
    """`config.json` (vision, structures, working_spacing_mm) and `vision_card.json`.

    Args:
        lesions: Dice of `white matter lesion` on the MS patient, by the images given.
        contrasts: by sequence type, slice thickness and skull.
        run: steps, minutes, hardware and the like of the training run.
        thresholds: probability from which a voxel belongs to a target, where it is not one half.
        pathologies: those that synthetic images alone could judge.
        regions: of the parcellation.
    """
    sources = json.loads(files("vp_train.evaluation").joinpath("sources.json").read_text(encoding="utf-8"))
    entries = structure_entries(names, scores, lesions["FLAIR"], thresholds, pathologies, regions)
    spacing = network.config.working_spacing_mm
    merge_config(folder, {"vision": network.config.as_dict(), "structures": entries, "working_spacing_mm": spacing})
    card = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "run": dict(run),
        "real_scans": {score.scan: {"mean": round(score.mean, 3), "dice": _rounded(score.dice)} for score in scores},
        "white_matter_lesion": _rounded(lesions),
        "synthetic_held_out": asdict(synthetic),
        "contrasts": asdict(contrasts),
        "pathologies": {name: asdict(score) for name, score in pathologies.items()},
        "regions": {name: asdict(score) for name, score in regions.items()},
        **sources,
    }
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}
