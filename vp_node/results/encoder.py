"""An outcome → the objects that leave the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from vp_model.outcome import Outcome
from vp_node.config import Config
from vp_node.results.derived import derived_series
from vp_node.results.equipment import equipment_of
from vp_node.results.groups import GroupWriter
from vp_node.results.model import Form, PromptProvenance, ResultError, ResultObject, RunIdentity, Wanted
from vp_node.results.numbers import SeriesNumbers
from vp_node.results.pages import PageSettings, capture, document
from vp_node.results.report import ReportInput, report
from vp_node.results.segmentation import (
    Segment,
    SegmentationSettings,
    SegmentedVolume,
    layers,
    segmentation,
    segments_of,
)
from vp_node.results.sources import Source, read_sources
from vp_node.results.stamping import character_set, content_time
from vp_node.studies.model import ChosenVolume, VolumeSet

DEFAULT = Wanted()


@dataclass(frozen=True, eq=False)
class _Study:
    """What stands for the study that was asked about."""

    header: Dataset
    modality: str
    patient_key: str


def encode(
    outcome: Outcome,
    volumes: VolumeSet | Sequence[ChosenVolume],
    identity: RunIdentity,
    provenance: PromptProvenance,
    config: Config,
    wanted: Wanted = DEFAULT,
    study_header: Dataset | None = None,
) -> tuple[ResultObject, ...]:
    """Makes the objects of a run: segmentations for each source volume with masks, derived series, a page and a PDF
    where a destination takes them, and last the SR that names them all, one for each form of segmentation.

    The same arguments make the same objects, byte for byte. Results stand in the study that was asked about: masks
    on images of a prior study are told in the SR, and belong into that study's own results.

    Args:
        volumes: that the run took; none for a run that found none, which gets a report only.
        study_header: of any instance of the study, for a run that found no volume.

    Raises:
        ResultError: a source image is gone, a mask does not lie on its volume's grid, or no volume is of the study.
    """
    chosen = volumes.chosen if isinstance(volumes, VolumeSet) else tuple(volumes)
    sources = read_sources(chosen)
    own = tuple(item for item in sources if item.chosen.volume.study_instance_uid == identity.study_instance_uid)
    study = _study(own, sources, study_header)
    settings = config.results
    equipment = equipment_of(outcome.model, settings, config.node.name)
    headers = [item.first for item in own] or [study.header]
    moment = content_time(provenance, headers)
    charset = character_set(study.header, _texts(outcome, provenance, config))
    numbers = SeriesNumbers(source.chosen.volume.series_number or 0 for source in sources)
    report_number = numbers.take(settings.report_series_number)
    shared = SegmentationSettings(identity, equipment, moment, charset, f"{equipment.model_name} {provenance.name}")
    regions = identity.predecessor.regions if identity.predecessor is not None else ()
    segments = segments_of(own, outcome.masks, (*regions, *identity.earlier_regions))
    forms: dict[Form, tuple[SegmentedVolume, ...]] = {
        form: _segmented(own, segments, shared, numbers, settings.segmentation_series_number, form)
        for form in dict.fromkeys(("binary", *wanted.forms))
    }
    binary = forms["binary"]
    derived = derived_series(
        outcome.derived, own, identity, equipment, numbers, settings.derived_series_number, moment, charset, binary
    )
    further = list(derived)
    page = PageSettings(study.header, identity, provenance, equipment, moment, charset)
    if wanted.capture and wanted.pictures:
        further += capture(outcome, page, wanted.pictures, numbers.take(settings.page_series_number))
    if wanted.pdf:
        further.append(document(outcome, page, wanted.pictures, numbers.take(settings.page_series_number)))
    named = _first_of_each_series(further)
    reports = []
    for form, segmented in forms.items():
        if form != "binary" and not segmented:
            continue  # the same report goes everywhere
        writer = GroupWriter(
            outcome, sources, segmented, identity, provenance, equipment, study.patient_key, tuple(named)
        )
        given = ReportInput(outcome, study.header, study.modality, sources, segmented, tuple(further), writer.write())
        number = report_number if form == "binary" else numbers.take(settings.report_series_number)
        written = report(given, identity, equipment, number, moment, charset, form)
        reports.append(ResultObject("sr", written, form if any(forms.values()) else None))
    return (
        *(ResultObject("seg", item.dataset, form) for form, made in forms.items() for item in made),
        *further,
        *reversed(reports),
    )


def _study(own: Sequence[Source], sources: Sequence[Source], header: Dataset | None) -> _Study:
    if own:
        volume = own[0].chosen.volume
        return _Study(own[0].first, volume.modality, volume.patient_key)
    if sources or header is None:
        raise ResultError("None of the volumes is of the study that was asked about, so no result can stand in it.")
    return _Study(header, "", str(header.get("StudyInstanceUID")))


def _segmented(
    sources: Sequence[Source],
    segments: dict[str, tuple[Segment, ...]],
    shared: SegmentationSettings,
    numbers: SeriesNumbers,
    first_number: int,
    form: Form,
) -> tuple[SegmentedVolume, ...]:
    made: list[SegmentedVolume] = []
    for source in sources:
        found = segments.get(source.chosen.name, ())
        for layer, part in enumerate(layers(found, form) if found else ()):
            number = numbers.take(first_number + 10 * len(made))
            made.append(segmentation(source, part, shared, number, form, layer))
    return tuple(made)


def _first_of_each_series(objects: Sequence[ResultObject]) -> list[ResultObject]:
    first: dict[str, ResultObject] = {}
    for item in objects:
        first.setdefault(item.series_instance_uid, item)
    return list(first.values())


def _texts(outcome: Outcome, provenance: PromptProvenance, config: Config) -> list[str]:
    return [
        outcome.transcript.prompt,
        outcome.transcript.program,
        *(text for step in outcome.transcript.steps for text in (step.output, step.error)),
        *(volume.kind for volume in outcome.transcript.volumes),
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
