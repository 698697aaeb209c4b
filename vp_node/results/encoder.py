"""An outcome → the objects that leave the node."""

from __future__ import annotations

from collections.abc import Sequence

from vp_model.outcome import Outcome
from vp_node.config import Config
from vp_node.results.derived import derived_series
from vp_node.results.equipment import equipment_of
from vp_node.results.groups import GroupWriter
from vp_node.results.model import PromptProvenance, ResultError, ResultObject, RunIdentity
from vp_node.results.report import ReportInput, report
from vp_node.results.segmentation import SegmentedVolume, segmentation, segments_of
from vp_node.results.sources import read_sources
from vp_node.results.stamping import character_set, content_time
from vp_node.studies.model import ChosenVolume, VolumeSet


def encode(
    outcome: Outcome,
    volumes: VolumeSet | Sequence[ChosenVolume],
    identity: RunIdentity,
    provenance: PromptProvenance,
    config: Config,
) -> tuple[ResultObject, ...]:
    """Makes the objects of a run: a SEG for each source volume with masks, derived series, and last the SR that
    names them all.

    The same arguments make the same objects, byte for byte. Results stand in the study that was asked about: masks
    on images of a prior study are told in the SR, and belong into that study's own results.

    Raises:
        ResultError: a source image is gone, a mask does not lie on its volume's grid, or no volume is of the study.
    """
    chosen = volumes.chosen if isinstance(volumes, VolumeSet) else tuple(volumes)
    sources = read_sources(chosen)
    own = tuple(item for item in sources if item.chosen.volume.study_instance_uid == identity.study_instance_uid)
    if not own:
        raise ResultError("None of the volumes is of the study that was asked about, so no result can stand in it.")
    settings = config.results
    equipment = equipment_of(outcome.model, settings, config.node.name)
    moment = content_time(provenance, own)
    charset = character_set(own[0].first, _texts(outcome, provenance, config))
    segmented: list[SegmentedVolume] = []
    for source in own:
        segments = segments_of(source, [mask for mask in outcome.masks if mask.volume == source.chosen.name])
        if segments:
            number = settings.segmentation_series_number + 10 * len(segmented)
            description = f"{equipment.model_name} {provenance.name} {source.chosen.volume.kind}"
            made = segmentation(source, segments, identity, equipment, number, moment, charset, description)
            segmented.append(made)
    derived = derived_series(
        outcome.derived, own, identity, equipment, settings.derived_series_number, moment, charset, tuple(segmented)
    )
    groups = GroupWriter(outcome, sources, tuple(segmented), identity, provenance, equipment).write()
    given = ReportInput(outcome, sources, tuple(segmented), derived, groups)
    document = report(given, own[0], identity, equipment, settings.report_series_number, moment, charset)
    return (
        *(ResultObject("seg", item.dataset) for item in segmented),
        *derived,
        ResultObject("sr", document),
    )


def _texts(outcome: Outcome, provenance: PromptProvenance, config: Config) -> list[str]:
    return [
        outcome.transcript.prompt,
        outcome.transcript.program,
        outcome.reason,
        *(text.text for text in outcome.texts),
        *(mask.label for mask in outcome.masks),
        *(item.label for item in outcome.measurements),
        *(item.label for item in outcome.derived),
        *outcome.warnings,
        provenance.text,
        provenance.name,
        provenance.owner,
        provenance.requested_by,
        config.node.name,
        config.results.manufacturer,
        config.results.institution,
    ]
