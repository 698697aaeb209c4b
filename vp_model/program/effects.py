"""Operations that make images, and those that give something out: masks, measurements, words, a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vp_model.imaging import intensity, morphology
from vp_model.imaging.intensity import Image
from vp_model.imaging.region import Region
from vp_model.outcome import Side, Text
from vp_model.program.errors import ProgramError
from vp_model.program.regions import in_session
from vp_model.program.state import Reported, Shown, State
from vp_model.program.values import (
    DerivedImage,
    Part,
    Point,
    Quantity,
    Roi,
    Source,
    Value,
    VolumeReference,
)
from vp_model.program.vocabulary import ANSWER_TOPICS, FORMATS, MeasurementName, measurement_names


class Refused(Exception):
    """Ends a program: it refuses to answer."""


def task(state: State, name: str) -> None:
    state.findings.task = name


def refuse(state: State, reason: str) -> None:
    state.findings.refusal = reason
    raise Refused


def crop(state: State, reference: VolumeReference, roi: Roi, margin: float) -> DerivedImage:
    image, chosen, region = _chosen(state, reference, roi)
    if region.on(image.grid).empty:
        reason = f"{roi.label()} was not found on {reference.volume.name}: there is nothing to crop to"
        return DerivedImage("crop", reference.volume, image, chosen, missing=reason)
    _, shape = intensity.cropped_box(image.grid, region, margin)
    size = 4 * shape[0] * shape[1] * shape[2]
    state.reserve(size, kept=size)
    return DerivedImage("crop", reference.volume, intensity.crop(image, region, margin), chosen)


def remove(state: State, reference: VolumeReference, roi: Roi) -> DerivedImage:
    image, chosen, region = _chosen(state, reference, roi)
    state.reserve(image.voxels.nbytes, kept=image.voxels.nbytes)
    return DerivedImage("remove", reference.volume, intensity.remove(image, region), chosen)


def isolate(state: State, reference: VolumeReference, roi: Roi) -> DerivedImage:
    image, chosen, region = _chosen(state, reference, roi)
    state.reserve(image.voxels.nbytes, kept=image.voxels.nbytes)
    return DerivedImage("isolate", reference.volume, intensity.isolate(image, region), chosen)


def _chosen(state: State, reference: VolumeReference, roi: Roi) -> tuple[Image, Roi, Region]:
    chosen = in_session(state, roi, reference)
    region = chosen.parts[0].region
    for part in chosen.parts[1:]:
        region = morphology.union(region, part.region)
    return state.images[reference.volume.name], chosen, region


def show(state: State, roi: Roi) -> None:
    """Each part becomes a mask on each of its volumes; what was shown already is not shown twice."""
    for part in roi.parts:
        if any(shown.part is part for shown in state.findings.shown):
            continue
        state.room()
        state.give(sum(state.images[name].voxels.size for name in part.volumes))
        state.findings.shown.append(Shown(roi, part))
        if part.region.empty:
            label = roi.label(part.side)
            _say(state, Text(f"{label} was not found ({part.visit}).", "", roi.structure, part.side), (part,))


def report(state: State, name: str, value: Quantity | Point | Sequence[Value]) -> None:
    entry = measurement_names()[name]
    for part, quantity in _named(entry, value):
        state.room()
        if quantity.missing:
            words = f"{name} of {quantity.source.label}: {quantity.missing}."
            visit = quantity.source.visits[-1].date if quantity.source.visits else ""
            text = Text(words, "", quantity.source.structure, quantity.source.side, visit)
            if all(said != text for said, _ in state.findings.texts):
                _say(state, text, quantity.source.parts)
            continue
        if entry.units and quantity.unit not in entry.units:
            wanted = " or ".join(entry.units)
            raise ProgramError(f'report("{name}") takes a quantity in {wanted}, not in {quantity.unit}.')
        state.findings.reported.append(Reported(part, quantity))


def _named(entry: MeasurementName, value: Quantity | Point | Sequence[Value]) -> list[tuple[str, Quantity]]:
    """The quantities to report, with their names."""
    if entry.kind == "point":
        if not isinstance(value, Point):
            raise ProgramError(f'report("{entry.name}") takes a point, as center_of_mass gives it.')
        places = () if value.missing else (value.position,)
        return [
            (name, Quantity(coordinate, "mm", value.source, places, value.missing))
            for name, coordinate in zip(entry.parts, value.position, strict=True)
        ]
    if entry.kind == "box":
        quantities = [item for item in value if isinstance(item, Quantity)] if isinstance(value, list) else []
        if len(quantities) != len(entry.parts):
            raise ProgramError(f'report("{entry.name}") takes the three quantities that bounding_box gives.')
        return list(zip(entry.parts, quantities, strict=True))
    if not isinstance(value, Quantity):
        raise ProgramError(f'report("{entry.name}") takes one quantity.')
    return [(entry.name, value)]


def save(state: State, image: DerivedImage) -> None:
    state.room()
    if image.missing:
        date = image.source.visit
        structure, side, parts = ("", "", ()) if image.roi is None else _of(image.roi)
        _say(state, Text(f"{image.missing}.", "", structure, side, date), parts)
    elif all(saved is not image for saved in state.findings.saved):
        state.give(image.image.voxels.nbytes)
        state.findings.saved.append(image)


def _of(roi: Roi) -> tuple[str, Side, tuple[Part, ...]]:
    return roi.structure, roi.side, roi.parts


def answer(state: State, text: str, roi: Roi | None = None) -> None:
    state.room()
    topic = state.findings.task if state.findings.task in ANSWER_TOPICS else ""
    subject = roi if roi is not None else _subject(state)
    if subject is None:
        _say(state, Text(text, topic), ())
        return
    found = subject.visits
    date = found[0].date if len(found) == 1 else ""
    _say(state, Text(text, topic, subject.structure, subject.side, date), subject.parts)


def _subject(state: State) -> Roi | None:
    """What an answer is about where it does not say: the only region shown."""
    shown = {id(item.roi): item.roi for item in state.findings.shown}
    return next(iter(shown.values())) if len(shown) == 1 else None


def _say(state: State, text: Text, parts: tuple[Part, ...]) -> None:
    state.findings.texts.append((text, parts))


def print_value(state: State, value: Value) -> None:
    state.print(describe(value, state.limits.text))


def describe(value: Value, limit: int, specification: str = "") -> str:
    """How a value reads in an f-string or in printed feedback, within `limit` characters."""
    if specification and specification not in FORMATS:
        raise ProgramError(f"The format {specification!r} is not available; these are: {', '.join(FORMATS)}.")
    if isinstance(value, list):
        text = "[" + ", ".join(describe(item, limit, specification) for item in value[:64]) + "]"
    elif isinstance(value, VolumeReference):
        text = value.volume.name
    elif isinstance(value, Quantity):
        text = value.text(specification or ".2f")
    elif specification and isinstance(value, int | float):
        text = format(value, specification)
    elif specification:
        raise ProgramError("Only numbers and quantities take a format.")
    else:
        text = str(value)
    if len(text) > limit:
        raise ProgramError(f"A text is longer than {limit} characters.")
    return text


def combine(operator: str, first: Quantity | float, second: Quantity | float) -> Quantity | float:
    """`+ - * /` on numbers and quantities. Units and provenance go along; units that do not fit are an error."""
    one = first if isinstance(first, Quantity) else Quantity(float(first), "1")
    other = second if isinstance(second, Quantity) else Quantity(float(second), "1")
    source = one.source.joined(other.source)
    unit = _unit(operator, one, other, isinstance(first, Quantity), isinstance(second, Quantity))
    missing = one.missing or other.missing
    if operator == "/" and other.value == 0 and not missing:
        if not isinstance(first, Quantity):
            raise ProgramError("A division by zero.")
        missing = "it would be divided by zero"
    if missing:
        return replace(one, unit=unit, source=source, points=(), missing=missing, value=float("nan"))
    value = _apply(operator, one.value, other.value)
    if not isinstance(first, Quantity) and not isinstance(second, Quantity):
        return value
    return Quantity(value, unit, source if source != Source() else one.source)


def _unit(operator: str, one: Quantity, other: Quantity, first: bool, second: bool) -> str:
    if operator in ("+", "-"):
        if one.unit != other.unit:
            raise ProgramError(f"{one.unit} and {other.unit} cannot be added or subtracted.")
        return one.unit
    if operator == "*":
        if first and second and "1" not in (one.unit, other.unit):
            raise ProgramError(f"{one.unit} and {other.unit} cannot be multiplied.")
        return other.unit if one.unit == "1" else one.unit
    if one.unit == other.unit:
        return "1"
    if other.unit == "1":
        return one.unit
    raise ProgramError(f"{one.unit} cannot be divided by {other.unit}.")


def _apply(operator: str, one: float, other: float) -> float:
    if operator == "+":
        return one + other
    if operator == "-":
        return one - other
    if operator == "*":
        return one * other
    return one / other
