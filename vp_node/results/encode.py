"""From an outcome to the objects of a run: SEGs, derived images, and one report that refers to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from vp_model.outcome import Mask, Outcome
from vp_node.config import Config
from vp_node.results.derived import make_derived
from vp_node.results.model import PromptProvenance, ResultObject, RunIdentity
from vp_node.results.report import WrittenSegment, make_report
from vp_node.results.segmentation import make_segmentation
from vp_node.results.sources import Sources, library_image, read_sources
from vp_node.studies.model import ChosenVolume


def encode(
    outcome: Outcome,
    volumes: Sequence[ChosenVolume],
    identity: RunIdentity,
    provenance: PromptProvenance,
    config: Config,
) -> tuple[ResultObject, ...]:
    """The objects of a run, the same bytes for the same run.

    Results belong to the study that the run was asked for: masks and derived images on volumes of an earlier study
    (priors) are measured and reported, and no object is written for them.

    Args:
        volumes: the run's volume set; at least one is of the run's study.

    Raises:
        ValueError: no volume is of the run's study.
        OSError: a source image cannot be read.
    """
    own = [chosen for chosen in volumes if chosen.volume.study_instance_uid == identity.study_instance_uid]
    if not own:
        raise ValueError("None of the run's volumes is of the run's study: there is nothing to refer to.")
    sources = {chosen.name: read_sources(chosen.volume) for chosen in own}
    objects: list[ResultObject] = []
    segments: dict[str, WrittenSegment] = {}
    evidence: list[Dataset] = [sources[own[-1].name].datasets[0]]
    for chosen in own:
        masks = _writable(outcome, chosen, sources[chosen.name])
        if not masks:
            continue
        segmentation = make_segmentation(
            masks, chosen, sources[chosen.name], len(objects) + 1, identity, provenance, outcome.model, config
        )
        objects.append(ResultObject("seg", segmentation))
        evidence.append(segmentation)
        evidence.extend(sources[chosen.name].datasets)
        segments |= {
            mask.identifier: WrittenSegment(segmentation, number) for number, mask in enumerate(masks, start=1)
        }
    for derived in outcome.derived:
        chosen_source = next((chosen for chosen in own if chosen.name == derived.source), None)
        if chosen_source is not None:
            images = make_derived(
                derived, chosen_source, sources[derived.source], identity, provenance, outcome.model, config
            )
            objects.extend(ResultObject("derived", image) for image in images)
    unique = list({str(dataset.SOPInstanceUID): dataset for dataset in evidence}.values())
    image = library_image(sources[own[-1].name], own[-1].volume)
    report = make_report(outcome, own, segments, unique, image, identity, provenance, config)
    return (*objects, ResultObject("sr", report))


def _writable(outcome: Outcome, chosen: ChosenVolume, sources: Sources) -> list[Mask]:
    """Masks of a volume that have a voxel on a slice with an image: a SEG without pixels stops viewers."""
    masks = [mask for mask in outcome.masks if mask.volume == chosen.name]
    return [mask for mask in masks if np.asarray(mask.voxels)[:, :, list(sources.slices)].any()]
