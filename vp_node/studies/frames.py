"""What the header says about each stored frame, the same for classic and for enhanced objects.

Enhanced objects (PS3.3 C.7.6.16) say it in functional groups, of which only the standard ones are read; classic objects
say it at the top level, and for b-values that several manufacturers keep in private elements these are read too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydicom.dataset import Dataset

from vp_node.studies.elements import integer, item, number, numbers, tags_of, text, texts
from vp_node.studies.private import private_complex_component, private_diffusion

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class FrameHeader:
    """One frame's place, timing and meaning. Positions and directions in mm, patient coordinates (LPS)."""

    position: Triple | None = None
    """Centre of the first stored pixel (0020,0032)."""
    orientation: tuple[float, ...] | None = None
    """Direction of the rows, then of the columns (0020,0037): six cosines."""
    pixel_spacing: tuple[float, float] | None = None
    """mm between rows, then between columns (0028,0030)."""
    slice_thickness: float | None = None
    echo_time: float | None = None
    repetition_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    b_value: float | None = None
    gradient: Triple | None = None
    temporal_index: int | None = None
    acquisition_number: int | None = None
    trigger_time: float | None = None
    component: str = ""
    """`M` magnitude, `P` phase, `R` real, `I` imaginary, or empty."""
    image_type: tuple[str, ...] = ()
    acquisition_contrast: str = ""
    slope: float = 1.0
    intercept: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        return {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FrameHeader:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


_DEFAULTS = asdict(FrameHeader())

FRAME_TAGS = tags_of(
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness EchoTime RepetitionTime InversionTime "
    "FlipAngle DiffusionBValue DiffusionGradientOrientation TemporalPositionIdentifier TemporalPositionIndex "
    "AcquisitionNumber TriggerTime ComplexImageComponent ImageType AcquisitionContrast RescaleSlope RescaleIntercept "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)
"""What a classic object says about its frame, and where an enhanced one says it."""

_T = FRAME_TAGS | tags_of(
    "PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence MREchoSequence EffectiveEchoTime "
    "MRTimingAndRelatedParametersSequence MRModifierSequence InversionTimes MRDiffusionSequence "
    "DiffusionGradientDirectionSequence FrameContentSequence FrameAcquisitionNumber MRImageFrameTypeSequence "
    "CTImageFrameTypeSequence FrameType PixelValueTransformationSequence CardiacSynchronizationSequence "
    "NominalCardiacTriggerDelayTime"
)

_COMPONENTS = {
    "M": "M",
    "MAGNITUDE": "M",
    "M_FFE": "M",
    "M_SE": "M",
    "M_IR": "M",
    "M_PCA": "M",
    "P": "P",
    "PHASE": "P",
    "PHASE MAP": "P",
    "R": "R",
    "REAL": "R",
    "I": "I",
    "IMAGINARY": "I",
}


def frame_headers(dataset: Dataset, frames: int) -> tuple[FrameHeader, ...]:
    """The frames of an instance.

    Args:
        dataset: its header.
        frames: its number of frames; several without functional groups share what the top level says, position
            excepted.
    """
    top = _top_level(dataset)
    per_frame = dataset[_T["PerFrameFunctionalGroupsSequence"]].value if _has_functional_groups(dataset) else ()
    if not per_frame:
        if frames == 1:
            return (top,)
        # A multi-frame object without functional groups says where its first frame lies at most.
        return (_changed(top, {"position": None}),) * frames
    shared = item(dataset, _T["SharedFunctionalGroupsSequence"])
    common = _changed(top, _groups(shared) if shared is not None else {})
    found = [_changed(common, _groups(group)) for group in per_frame[:frames]]
    # Frames that no group speaks of have no place of their own.
    return (*found, *[_changed(common, {"position": None})] * (frames - len(found)))


def _has_functional_groups(dataset: Dataset) -> bool:
    return _T["PerFrameFunctionalGroupsSequence"] in dataset


def _changed(frame: FrameHeader, values: dict[str, Any]) -> FrameHeader:
    return FrameHeader(**{**frame.__dict__, **values}) if values else frame


def _top_level(dataset: Dataset) -> FrameHeader:
    position = numbers(dataset, _T["ImagePositionPatient"])
    orientation = numbers(dataset, _T["ImageOrientationPatient"])
    spacing = numbers(dataset, _T["PixelSpacing"])
    gradient = numbers(dataset, _T["DiffusionGradientOrientation"])
    b_value = number(dataset, _T["DiffusionBValue"])
    if b_value is None:
        b_value, private_gradient = private_diffusion(dataset)
        gradient = gradient or private_gradient
    temporal = integer(dataset, _T["TemporalPositionIndex"])
    if temporal is None:
        temporal = integer(dataset, _T["TemporalPositionIdentifier"])
    image_type = texts(dataset, _T["ImageType"])
    component = text(dataset, _T["ComplexImageComponent"])
    slope = number(dataset, _T["RescaleSlope"])
    return FrameHeader(
        position=_triple(position),
        orientation=orientation if len(orientation) == 6 else None,
        pixel_spacing=(spacing[0], spacing[1]) if len(spacing) == 2 else None,
        slice_thickness=number(dataset, _T["SliceThickness"]),
        echo_time=number(dataset, _T["EchoTime"]),
        repetition_time=number(dataset, _T["RepetitionTime"]),
        inversion_time=number(dataset, _T["InversionTime"]),
        flip_angle=number(dataset, _T["FlipAngle"]),
        b_value=b_value,
        gradient=_direction(gradient, b_value),
        temporal_index=temporal,
        acquisition_number=integer(dataset, _T["AcquisitionNumber"]),
        trigger_time=number(dataset, _T["TriggerTime"]),
        component=_COMPONENTS.get(component) or _component_of(image_type) or private_complex_component(dataset),
        image_type=image_type,
        acquisition_contrast=text(dataset, _T["AcquisitionContrast"]),
        slope=1.0 if slope is None else slope,
        intercept=number(dataset, _T["RescaleIntercept"]) or 0.0,
    )


def _groups(group: Dataset) -> dict[str, Any]:
    """What one item of the functional groups says, by field of `FrameHeader` (PS3.3 C.7.6.16.2, C.8.13.5, C.8.15.3)."""
    values: dict[str, Any] = {
        "position": _triple(_numbers_in(group, "PlanePositionSequence", "ImagePositionPatient")),
        "orientation": _sized(_numbers_in(group, "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        "pixel_spacing": _sized(_numbers_in(group, "PixelMeasuresSequence", "PixelSpacing"), 2),
        "slice_thickness": _first(_numbers_in(group, "PixelMeasuresSequence", "SliceThickness")),
        "echo_time": _first(_numbers_in(group, "MREchoSequence", "EffectiveEchoTime")),
        "repetition_time": _first(_numbers_in(group, "MRTimingAndRelatedParametersSequence", "RepetitionTime")),
        "flip_angle": _first(_numbers_in(group, "MRTimingAndRelatedParametersSequence", "FlipAngle")),
        "inversion_time": _first(_numbers_in(group, "MRModifierSequence", "InversionTimes")),
        "temporal_index": _whole(_numbers_in(group, "FrameContentSequence", "TemporalPositionIndex")),
        "acquisition_number": _whole(_numbers_in(group, "FrameContentSequence", "FrameAcquisitionNumber")),
        "trigger_time": _first(_numbers_in(group, "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")),
        "slope": _first(_numbers_in(group, "PixelValueTransformationSequence", "RescaleSlope")),
        "intercept": _first(_numbers_in(group, "PixelValueTransformationSequence", "RescaleIntercept")),
    }
    diffusion = item(group, _T["MRDiffusionSequence"])
    if diffusion is not None:
        b_value = number(diffusion, _T["DiffusionBValue"])
        direction = item(diffusion, _T["DiffusionGradientDirectionSequence"])
        gradient = numbers(direction, _T["DiffusionGradientOrientation"]) if direction is not None else ()
        values |= {"b_value": b_value, "gradient": _direction(gradient, b_value)}
    for keyword in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
        frame_type = item(group, _T[keyword])
        if frame_type is not None:
            image_type = texts(frame_type, _T["FrameType"])
            component = text(frame_type, _T["ComplexImageComponent"])
            values |= {
                "image_type": image_type or None,
                "component": _COMPONENTS.get(component) or _component_of(image_type) or None,
                "acquisition_contrast": text(frame_type, _T["AcquisitionContrast"]) or None,
            }
    return {name: value for name, value in values.items() if value is not None}


def _numbers_in(group: Dataset, sequence: str, keyword: str) -> tuple[float, ...]:
    inner = item(group, _T[sequence])
    return numbers(inner, _T[keyword]) if inner is not None else ()


def _component_of(image_type: tuple[str, ...]) -> str:
    """The complex component by the third and later values of Image Type, as manufacturers write it."""
    for value in image_type[2:]:
        if value in _COMPONENTS:
            return _COMPONENTS[value]
    return ""


def _direction(gradient: tuple[float, ...], b_value: float | None) -> Triple | None:
    """A gradient direction that means something: without diffusion weighting there is none."""
    triple = _triple(gradient)
    if triple is None or not b_value or not any(triple):
        return None
    return triple


def _triple(values: tuple[float, ...]) -> Triple | None:
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def _sized(values: tuple[float, ...], length: int) -> tuple[float, ...] | None:
    return values if len(values) == length else None


def _first(values: tuple[float, ...]) -> float | None:
    return values[0] if values else None


def _whole(values: tuple[float, ...]) -> int | None:
    return int(values[0]) if values else None
