"""Judge a trained vision network and write its part of a checkpoint folder: `python -m vp_train.evaluation`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vp_model.checkpoint import CONDITIONS_FILE
from vp_model.vision.config import Refining, preset
from vp_model.vision.weights import load_vision, save_vision
from vp_train.datasets.maps import load_subjects, split, with_parcels
from vp_train.datasets.parcels import load_parcels
from vp_train.evaluation.anatomy import score_anatomy, score_lesions, write_scores
from vp_train.evaluation.calibration import best_threshold
from vp_train.evaluation.card import merge_config, write_vision_part
from vp_train.evaluation.contrasts import score_contrasts
from vp_train.evaluation.pathology import PathologyScore, score_pathologies
from vp_train.evaluation.regions import RegionScore, score_regions
from vp_train.evaluation.synthetic import score_synthetic
from vp_train.synthesis.lesions.anatomy import load_anatomies
from vp_train.training.condition import read_table, save_conditions
from vp_train.training.run import find_recipe

LESION = "white matter lesion"
LESION_INPUTS = (("FLAIR",), ("T1",), ("FLAIR", "T1", "T2"))


def evaluate_vision(
    trained: Path,
    validation: Path,
    data: Path,
    checkpoint: Path,
    run: dict[str, Any],
    working_spacing_mm: float | None = None,
    preset_name: str = "compact",
    samples: int = 16,
    mirrored: bool = False,
    refined: bool = False,
    recipe: str | None = None,
) -> None:
    """Score the export in `trained` and write weights, configuration and card to `checkpoint`.

    Args:
        trained: folder with `vision.safetensors` and `condition_table.safetensors`.
        validation, data: real scans with references; label maps, of which the held-out subjects are used.
        run: what the card says of the training run.
        working_spacing_mm: instead of the preset's.
        mirrored: average over the mirror image, here and in the checkpoint.
        recipe: with which the network was trained, if it draws lesions of many kinds: these are judged, too.
        refined: refine borders by the images' own intensities, here and in the checkpoint. Synthetic heads are judged
            without either.
    """
    config = preset(preset_name)
    if working_spacing_mm is not None:
        config = replace(config, working_spacing_mm=working_spacing_mm)
    network = load_vision(config, trained)
    table = read_table(trained / CONDITIONS_FILE)
    refining = Refining() if refined else None
    scores = score_anatomy(network, table, validation, mirrored=mirrored, refining=refining)
    _, held_out = split(load_subjects(data, trained / "cache"))
    spacing = config.working_spacing_mm or 3.0
    threshold = best_threshold(network, table, LESION, held_out, 4 * samples, spacing)
    lesions = {
        "+".join(kinds): score_lesions(network, table, validation, kinds, mirrored, threshold)
        for kinds in LESION_INPUTS
    }
    contrasts = score_contrasts(network, table, held_out, validation, max(1, samples // 4), mirrored, refining)
    synthetic = score_synthetic(network, table, held_out, samples, spacing)
    pathologies: dict[str, PathologyScore] = {}
    if recipe is not None and (drawing := find_recipe(recipe).lesions) is not None:
        found = load_anatomies(data, held_out, trained / "cache")
        anatomies = {subject.name: anatomy for subject, anatomy in zip(held_out, found, strict=True)}
        pathologies = score_pathologies(network, table, drawing, held_out, anatomies, samples, spacing)
    regions: dict[str, RegionScore] = {}
    if set(load_parcels().names) & set(table.names):
        parcelled = with_parcels(held_out, data, trained / "cache")
        regions = score_regions(network, table, validation, parcelled, samples, spacing, mirrored, refining)
    save_vision(network, checkpoint)
    save_conditions(table, checkpoint / CONDITIONS_FILE)
    merge_config(checkpoint, {"mirrored": mirrored, "refining": asdict(refining) if refining else None})
    write_vision_part(
        checkpoint,
        network,
        table.names,
        scores,
        lesions,
        synthetic,
        contrasts,
        run,
        {LESION: threshold},
        pathologies,
        regions,
    )
    write_scores(scores, trained)
