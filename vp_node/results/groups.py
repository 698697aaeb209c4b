"""Measurement groups of a report: one for each segment (TID 1411), and of TID 1501 for what has no segment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom.sr import (
    CodedConcept,
    CompositeContentItem,
    ContentItem,
    CoordinatesForMeasurement3D,
    FindingSite,
    GraphicTypeValues3D,
    ImageContentItem,
    ImageRegion3D,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TextContentItem,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from vp_model import outcome as found
from vp_model.outcome import Outcome, Side
from vp_model.program.narration import readable
from vp_node.results.alignments import alignment_words
from vp_node.results.codes import (
    brain,
    coded_answer,
    measurement_code,
    places_in,
    private,
    structure_codes,
    unit_code,
)
from vp_node.results.equipment import Equipment, report_algorithm
from vp_node.results.model import PromptProvenance, ResultObject, RunIdentity
from vp_node.results.segmentation import Segment, SegmentedVolume
from vp_node.results.sources import LPS, Source
from vp_node.results.uids import tracking_uid, uid_of
from vp_node.results.wording import line, paragraph

Group = (
    VolumetricROIMeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
)

Point = tuple[float, float, float]

SOURCE_OF_MEASUREMENT = CodedConcept("121112", "DCM", "Source of Measurement")
"""CID 7551, which TID 1500 gives to row 10 of TID 1501; highdicom before 0.29 writes (260753009, SCT, "Source")."""

DISCLAIMER = "Made by software, for research use only, not verified by a person."


@dataclass(frozen=True, eq=False)
class ReportGroups:
    measured: tuple[Group, ...]


@dataclass(frozen=True, eq=False)
class GroupWriter:
    """Writes groups of one outcome."""

    outcome: Outcome
    sources: tuple[Source, ...]
    segmented: tuple[SegmentedVolume, ...]
    identity: RunIdentity
    provenance: PromptProvenance
    equipment: Equipment
    patient_key: str
    further: tuple[ResultObject, ...] = ()
    """Objects of the run that no other group refers to: derived images, the page, the PDF."""

    def write(self) -> ReportGroups:
        """All groups: segments, other measurements, texts, absent structures, and what was asked and done."""
        owner = self._owners()
        of_segment: dict[int, list[found.Measurement]] = defaultdict(list)
        free: dict[tuple[str, Side, str, tuple[str, ...]], list[found.Measurement]] = defaultdict(list)
        points: dict[tuple[str, Side, str, tuple[str, ...], Point], list[found.Measurement]] = defaultdict(list)
        for index, measurement in enumerate(self.outcome.measurements):
            if index in owner:
                of_segment[owner[index]].append(measurement)
            elif len(measurement.points) == 1 and self._frame_of_reference(measurement):
                place = measurement.points[0]
                key_of_point = (
                    measurement.structure,
                    measurement.side,
                    measurement.label,
                    _dates(measurement),
                    place,
                )
                points[key_of_point].append(measurement)
            else:
                key = (measurement.structure, measurement.side, measurement.label, _dates(measurement))
                free[key].append(measurement)
        groups: list[Group] = []
        number = 0
        for volume in self.segmented:
            for segment in volume.segments:
                groups.append(self._segment_group(volume, segment, of_segment[number]))
                number += 1
        groups += [self._point_group(items) for items in points.values()]
        groups += [self._free_group(items) for items in free.values()]
        groups += self._absent()
        groups += self._texts()
        groups.append(self._provenance())
        return ReportGroups(tuple(groups))

    def _owners(self) -> dict[int, int]:
        """Index of a measurement → index of its segment, over all SEGs in order.

        A segment's group takes numbers of its own visit and structure. Lengths and points need coordinates, which
        TID 1411 does not take; a change belongs to two dates.
        """
        segments = [segment for volume in self.segmented for segment in volume.segments]
        of_mask = {segment.mask.identifier: index for index, segment in enumerate(segments)}
        owners = {}
        for index, measurement in enumerate(self.outcome.measurements):
            if measurement.points or measurement.visits or not math.isfinite(measurement.value):
                continue
            candidates = [of_mask[mask] for mask in measurement.masks if mask in of_mask]
            regions = {(segments[number].mask.label, segments[number].mask.session) for number in candidates}
            same = [
                number
                for number in candidates
                if segments[number].mask.structure == measurement.structure
                and segments[number].mask.side == measurement.side
            ]
            # A number over several regions (both sides, a ratio) is of none of them alone.
            everywhere = {
                (self.outcome.mask(mask).label, self.outcome.mask(mask).session) for mask in measurement.masks
            }
            if len(regions) == 1 and len(everywhere) == 1 and same:
                preferred = [number for number in same if segments[number].mask.volume == measurement.volume]
                owners[index] = (preferred or same)[0]
        return owners

    def _segment_group(
        self, volume: SegmentedVolume, segment: Segment, measurements: Sequence[found.Measurement]
    ) -> Group:
        mask, source = segment.mask, volume.source
        referenced = ReferencedSegment(
            sop_class_uid=str(volume.dataset.SOPClassUID),
            sop_instance_uid=str(volume.dataset.SOPInstanceUID),
            segment_number=segment.number,
            **_sources_of_segment(source, segment),
        )
        group = VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=segment.tracking_uid, identifier=segment.tracking_id),
            referenced_segment=referenced,
            algorithm_id=report_algorithm(self.equipment),
            time_point_context=_time_point(mask.visit, mask.session),
            measurements=[self._measurement(item, source.chosen.volume.modality) for item in measurements],
            **_finding(mask.structure, mask.side),
        )
        notes = [f"{mask.label} on {source.chosen.name} ({source.chosen.volume.kind})"]
        if mask.experimental or any(item.experimental for item in measurements):
            notes.append(f"{mask.label}: the model is not accurate enough on this structure; experimental.")
        _add_comments(group, notes)
        return group

    def _free_group(self, measurements: Sequence[found.Measurement]) -> Group:
        """Numbers of one region and date that no segment takes."""
        first = measurements[0]
        dates = _dates(first)
        finite = [item for item in measurements if math.isfinite(item.value)]
        comments = [
            f"{item.name} of {item.label or item.structure}: could not be computed (no finite value)."
            for item in measurements
            if not math.isfinite(item.value)
        ]
        if len(dates) > 1:
            names = ", ".join(dict.fromkeys(item.name for item in measurements))
            comments.append(f"{first.label or first.structure}: {names} between {' and '.join(dates)}.")
        else:
            comments.append(f"{first.label or first.structure}" + (f", {dates[0]}" if dates else ""))
        elsewhere = self._elsewhere(first.masks)
        if elsewhere:
            comments.append(elsewhere)
        if any(item.experimental for item in measurements):
            comments.append("The model is not accurate enough on this structure; experimental.")
        modality = self._modality(first.volume)
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(first),
            algorithm_id=report_algorithm(self.equipment),
            time_point_context=_time_point(dates[-1] if dates else "", None),
            measurements=[self._measurement(item, modality) for item in finite],
            source_images=self._images_of(measurements),
            **_finding(first.structure, first.side),
        )
        _add_comments(group, comments)
        return group

    def _images_of(self, measurements: Sequence[found.Measurement]) -> list[SourceImageForMeasurementGroup] | None:
        """One image of each volume that numbers come from, so that a change cites all of its sessions: the image on
        which the region is largest, or the middle one. The library names the others."""
        masks = [
            self.outcome.mask(name) for name in dict.fromkeys(name for item in measurements for name in item.masks)
        ]
        volumes = {mask.volume for mask in masks} | {item.volume for item in measurements if item.volume}
        dates = {date for item in measurements for date in item.visits} if not volumes else set()
        images = []
        for source in self.sources:
            volume = source.chosen.volume
            if source.chosen.name not in volumes and (volume.visit.isoformat() if volume.visit else "") not in dates:
                continue
            on_it = [mask.voxels for mask in masks if mask.volume == source.chosen.name]
            for (sop_class, instance), frames in largest_image_under(source, on_it).items():
                image = SourceImageForMeasurementGroup(sop_class, instance, frames or None)
                image.ConceptNameCodeSequence = [SOURCE_OF_MEASUREMENT]
                images.append(image)
        return images or None

    def _point_group(self, measurements: Sequence[found.Measurement]) -> Group:
        """TID 1410: a point as the region, and its coordinates as numbers."""
        first = measurements[0]
        dates = _dates(first)
        modality = self._modality(first.volume)
        group = PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(first),
            referenced_region=ImageRegion3D(
                graphic_type=GraphicTypeValues3D.POINT,
                graphic_data=np.asarray(first.points, dtype=np.float64) @ LPS[:3, :3],
                frame_of_reference_uid=self._frame_of_reference(first),
            ),
            algorithm_id=report_algorithm(self.equipment),
            time_point_context=_time_point(dates[-1] if dates else "", None),
            measurements=[
                self._measurement(item, modality, with_points=False)
                for item in measurements
                if math.isfinite(item.value)
            ],
            geometric_purpose=CodedConcept("111010", "DCM", "Center"),
            **_finding(first.structure, first.side),
        )
        words = f"{first.label or first.structure}" + (f", {dates[-1]}" if dates else "")
        comments = [words, self._elsewhere(first.masks)]
        if any(item.experimental for item in measurements):
            comments.append("The model is not accurate enough on this structure; experimental.")
        _add_comments(group, [comment for comment in comments if comment])
        return group

    def _measurement(self, item: found.Measurement, modality: str, *, with_points: bool = True) -> Measurement:
        name, derivation = measurement_code(item, modality)
        return Measurement(
            name=name,
            value=float(f"{item.value:.9g}"),
            unit=unit_code(item.unit),
            derivation=derivation,
            referenced_coordinates=(self._coordinates(item) or None) if with_points else None,
        )

    def _coordinates(self, item: found.Measurement) -> list[CoordinatesForMeasurement3D]:
        """RAS points of a length as SCOORD3D, in the Frame of Reference of the images that it was made on."""
        frame_of_reference = self._frame_of_reference(item)
        if not item.points or not frame_of_reference:
            return []
        points = np.asarray(item.points, dtype=np.float64) @ LPS[:3, :3]
        kind = GraphicTypeValues3D.POINT if len(points) == 1 else GraphicTypeValues3D.POLYLINE
        return [
            CoordinatesForMeasurement3D(
                graphic_type=kind,
                graphic_data=points,
                frame_of_reference_uid=frame_of_reference,
                purpose=CodedConcept("111010", "DCM", "Center") if len(points) == 1 else codes.DCM.Path,
            )
        ]

    def _frame_of_reference(self, item: found.Measurement) -> str:
        """Of the images that a measurement was made on; empty where they have none in common."""
        volumes = {self.outcome.mask(mask).volume for mask in item.masks} | {item.volume}
        sources = [source for source in self.sources if source.chosen.name in volumes] or list(self.sources)
        frames = {source.frame_of_reference_uid for source in sources}
        return frames.pop() if len(frames) == 1 else ""

    def _absent(self) -> list[Group]:
        """Structures that were asked for, looked for and not found: volume 0 and a coded negative."""
        if self.outcome.status != "answered":
            return []
        there = {mask.structure for mask in self.outcome.masks}
        told = {(item.structure, item.side) for item in self.outcome.measurements if item.name == "volume"}
        asked_for_regions = self.outcome.masks or not (self.outcome.texts or self.outcome.derived)
        groups: list[Group] = []
        for structure, side in self.outcome.structures if asked_for_regions else ():
            if structure in there or any(
                item.structure == structure and item.value for item in self.outcome.measurements
            ):
                continue
            zero = found.Measurement("volume", 0.0, "ml", structure, side, "", structure)
            group = MeasurementsAndQualitativeEvaluations(
                tracking_identifier=self._tracking_of(structure, side, "", ()),
                algorithm_id=report_algorithm(self.equipment),
                measurements=[] if (structure, side) in told else [self._measurement(zero, "")],
                qualitative_evaluations=[QualitativeEvaluation(codes.DCM.PresenceOfProperty, codes.DCM.Absent)],
                **_finding(structure, side),
            )
            _add_comments(group, [f"{_words(structure, side)}: looked for and not found."])
            groups.append(group)
        return groups

    def _texts(self) -> list[Group]:
        """Answers in words, coded as well where a code says the same."""
        groups: list[Group] = []
        for text in self.outcome.texts:
            structure = text.structure or "brain"
            answer = coded_answer(text.topic, text.text)
            about = _finding(structure, text.side)
            if text.topic == "location":
                sites = [FindingSite(place, laterality=side) for place, side in places_in(text.text)]
                about["finding_sites"] = sites or about["finding_sites"]
            group = MeasurementsAndQualitativeEvaluations(
                tracking_identifier=self._tracking_of(structure, text.side, text.topic, text.masks),
                algorithm_id=report_algorithm(self.equipment),
                time_point_context=_time_point(text.visit, None),
                qualitative_evaluations=[QualitativeEvaluation(*answer)] if answer else None,
                **about,
            )
            topic = f"{text.topic}: " if text.topic else ""
            _add_comments(group, [f"{topic}{text.text}"])
            groups.append(group)
        return groups

    def _provenance(self) -> Group:
        """Who asked for what, and what did it: readable by someone who has the PACS alone."""
        outcome, given = self.outcome, self.provenance
        entries: list[tuple[str, str]] = [
            ("Notice", DISCLAIMER),
            ("Prompt", given.text or outcome.transcript.prompt),
            ("Prompt name and version", f"{given.name}, version {given.version}"),
            ("Prompt owner", given.owner),
            ("Requested by", given.requested_by),
            ("Outcome", f"{outcome.status}. {outcome.reason}".strip()),
            ("Program", outcome.transcript.program),
            ("Program in words", readable(outcome.transcript) if outcome.transcript.steps else ""),
            ("Model", f"{outcome.model.name} {outcome.model.version}, SHA-256 {outcome.model.content_hash}"),
            ("Node", f"{self.equipment.node_name}, voxelprompt-node {self.equipment.node_version}"),
            ("Run", self.identity.run_id),
            ("Images", "; ".join(_image_words(source) for source in self.sources) or "none"),
        ]
        predecessor = self.identity.predecessor
        if predecessor is not None and predecessor.same_model:
            entries.append(("Revision", f"Replaces the report of run {predecessor.run_id}."))
        elif predecessor is not None:
            words = f"Stands beside the report of run {predecessor.run_id}, made by another model: {predecessor.model}."
            entries.append(("Other model", words))
        entries += [("Warning", warning) for warning in outcome.warnings]
        entries += [("Alignment", words) for words in alignment_words(outcome)]
        entries += [("Derived image", f"{item.label} ({item.operation} of {item.source})") for item in outcome.derived]
        elsewhere = self._elsewhere([mask.identifier for mask in outcome.masks])
        if elsewhere:
            entries.append(("Masks of other studies", elsewhere))
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                uid=uid_of("provenance", self.identity.run_id), identifier="prompt and model"
            ),
            algorithm_id=report_algorithm(self.equipment),
        )
        content = group[0].ContentSequence
        for name, text in ((name, paragraph(text)) for name, text in entries):
            if text:
                content.append(TextContentItem(private(name), text, relationship_type=RelationshipTypeValues.CONTAINS))
        content.extend(_references(self.further))
        if outcome.status != "answered":
            _add_comments(group, [f"No result: {outcome.reason or 'the prompt was not answered.'}"])
        return group

    def _elsewhere(self, masks: Iterable[str]) -> str:
        """Words on regions found on images of other studies, which get no SEG here."""
        written = {segment.mask.identifier for volume in self.segmented for segment in volume.segments}
        kinds = {source.chosen.name: source.chosen.volume.kind for source in self.sources}
        words = []
        for identifier in masks:
            if identifier in written:
                continue
            mask = self.outcome.mask(identifier)
            words.append(f"{mask.label} on {kinds.get(mask.volume, mask.volume)} of {mask.visit or 'an earlier visit'}")
        return f"Found on another study, without a segmentation here: {', '.join(words)}." if words else ""

    def _tracking(self, measurement: found.Measurement) -> TrackingIdentifier:
        return self._tracking_of(measurement.structure, measurement.side, measurement.label, measurement.masks)

    def _tracking_of(self, structure: str, side: str, extra: str, masks: Sequence[str]) -> TrackingIdentifier:
        """Of the segment that something was measured on, where it is of one alone; otherwise of the structure."""
        of_mask = {segment.mask.identifier: segment for volume in self.segmented for segment in volume.segments}
        segments = {
            of_mask[mask].tracking_uid: of_mask[mask]
            for mask in masks
            if mask in of_mask and (of_mask[mask].mask.structure, of_mask[mask].mask.side) == (structure, side)
        }
        if len(segments) == 1:
            (segment,) = segments.values()
            return TrackingIdentifier(uid=segment.tracking_uid, identifier=segment.tracking_id)
        uid = tracking_uid(self.patient_key, structure or "brain", side)
        name = " ".join(word for word in (side, structure) if word) or extra or "brain"
        return TrackingIdentifier(uid=uid, identifier=line(name) or "region")

    def _modality(self, volume: str) -> str:
        for source in self.sources:
            if source.chosen.name == volume:
                return source.chosen.volume.modality
        modalities = {source.chosen.volume.modality for source in self.sources}
        return modalities.pop() if len(modalities) == 1 else ""


def _finding(structure: str, side: str) -> dict[str, Any]:
    """Finding and Finding Site: an anatomical structure is its own site, a pathology lies in the brain."""
    written = structure_codes(structure or "brain", side)
    site = FindingSite(written.type if written.is_anatomy else brain(), laterality=written.laterality)
    return {"finding_type": written.type, "finding_category": written.category, "finding_sites": [site]}


def _sources_of_segment(source: Source, segment: Segment) -> dict[str, Any]:
    """The source of a segment: its series in one item, or the images where the series holds other volumes too."""
    volume = source.chosen.volume
    if not volume.splits:
        return {"source_series": SourceSeriesForSegmentation(volume.series_instance_uid)}
    images = images_under(source, [segment.mask.voxels])
    return {
        "source_images": [
            SourceImageForSegmentation(sop_class, instance, numbers or None)
            for (sop_class, instance), numbers in images.items()
        ]
    }


def images_under(source: Source, masks: Sequence[NDArray[np.bool_]]) -> dict[tuple[str, str], list[int]]:
    """SOP Class and Instance UID of the images that regions lie on, with their frame numbers where they have any.

    The middle image stands for a volume on which nothing lies.
    """
    shape = source.chosen.volume.shape
    lies = np.zeros(shape[2], bool)
    for mask in masks:
        lies |= mask.any(axis=(0, 1))
    images = _images_at(source, np.flatnonzero(lies))
    there = [index for index in range(shape[2]) if not source.reference(index).is_missing]
    return images or _images_at(source, there[len(there) // 2 : len(there) // 2 + 1])


def largest_image_under(source: Source, masks: Sequence[NDArray[np.bool_]]) -> dict[tuple[str, str], list[int]]:
    """As `images_under`, of the one slice that holds most of the regions."""
    sizes = np.zeros(source.chosen.volume.shape[2], np.int64)
    for mask in masks:
        sizes += mask.sum(axis=(0, 1))
    images = _images_at(source, np.argsort(-sizes, kind="stable")[:1]) if sizes.any() else {}
    return images or images_under(source, [])


def _images_at(source: Source, slices: Iterable[int]) -> dict[tuple[str, str], list[int]]:
    images: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index in slices:
        frame = source.reference(int(index))
        if not frame.is_missing:
            numbers = images[frame.sop_class_uid, frame.sop_instance_uid]
            if frame.frame_number is not None:
                numbers.append(frame.frame_number)
    return dict(images)


def _references(objects: Sequence[ResultObject]) -> list[ContentItem]:
    """One item for each series: IMAGE where it is one, COMPOSITE for a document."""
    items: list[ContentItem] = []
    names = {"derived": "Derived image", "capture": "Page", "pdf": "Document"}
    for item in objects:
        kind = CompositeContentItem if item.role == "pdf" else ImageContentItem
        items.append(
            kind(
                name=private(names[item.role]),
                referenced_sop_class_uid=item.sop_class_uid,
                referenced_sop_instance_uid=item.sop_instance_uid,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    return items


def _time_point(visit: str, session: int | None) -> TimePointContext | None:
    if not visit:
        return None
    return TimePointContext(time_point=visit, time_point_order=None if session is None else session + 1)


def _dates(measurement: found.Measurement) -> tuple[str, ...]:
    return measurement.visits or ((measurement.visit,) if measurement.visit else ())


def _words(structure: str, side: str) -> str:
    return " ".join(word for word in (side, structure) if word)


def _image_words(source: Source) -> str:
    volume = source.chosen.volume
    visit = volume.visit.isoformat() if volume.visit else "no date"
    flags = f" ({', '.join(volume.flags)})" if volume.flags else ""
    return f"{source.chosen.name} = {volume.kind}, {visit}{flags}"


def _add_comments(group: Group, texts: Iterable[str]) -> None:
    for text in filter(None, map(paragraph, texts)):
        group[0].ContentSequence.append(
            TextContentItem(codes.DCM.Comment, text, relationship_type=RelationshipTypeValues.CONTAINS)
        )
