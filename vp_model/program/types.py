"""The types of the language, and how an operation declares its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vp_model.program.values import (
    DerivedImage,
    Encoding,
    Point,
    Quantity,
    Roi,
    Value,
    Visit,
    VolumeReference,
)


class Type(StrEnum):
    """A type, by the name that errors and documentation use."""

    VOLUME = "Volume"
    ROI = "Roi"
    VISIT = "Visit"
    QUANTITY = "Quantity"
    POINT = "Point"
    IMAGE = "Image"
    ENCODING = "Encoding"
    NUMBER = "Number"
    TEXT = "Text"
    BOOLEAN = "Boolean"
    ROIS = "list of Roi"
    VISITS = "list of Visit"
    QUANTITIES = "list of Quantity"
    NOTHING = "nothing"

    @property
    def element(self) -> Type | None:
        """Type of a list's elements; None for what is no list."""
        return _ELEMENTS.get(self)


_ELEMENTS = {Type.ROIS: Type.ROI, Type.VISITS: Type.VISIT, Type.QUANTITIES: Type.QUANTITY}
LISTS = tuple(_ELEMENTS)


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation."""

    name: str
    types: tuple[Type, ...]
    choices: tuple[str, ...] = ()
    """A text parameter that must be written as one of these literals."""
    selects: Mapping[str, Type] | None = None
    """For each choice, the type that the next parameter then has."""
    regions: bool = False
    """A text literal that names a region which the loaded weights can find."""
    dates: bool = False
    """A text literal that is the date of one of the volumes."""
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    """Regular expression of a number within the bounds, for the grammar."""
    modulated: bool = False
    """A volume followed by `<MOD>`."""
    repeated: bool = False
    """The last parameter; one or more arguments."""
    optional: bool = False

    @property
    def literal(self) -> bool:
        """Whether the argument is a quoted text from a list."""
        return bool(self.choices) or self.regions or self.dates


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    name: str
    parameters: tuple[Parameter, ...]
    result: Type
    unit: str
    """UCUM unit of the result, or `""`."""
    documentation: str
    implementation: Callable[..., Value]
    cost: int = 1
    """Fuel that a call burns."""


def type_of(value: Value) -> Type:
    """The type of a value while the program runs."""
    if isinstance(value, bool):
        return Type.BOOLEAN
    if isinstance(value, int | float):
        return Type.NUMBER
    if isinstance(value, list):
        for kind, element in _ELEMENTS.items():
            if value and type_of(value[0]) is element:
                return kind
        return Type.ROIS
    for kind, python in _CLASSES.items():
        if isinstance(value, python):
            return kind
    return Type.NOTHING


_CLASSES: dict[Type, type] = {
    Type.VOLUME: VolumeReference,
    Type.ROI: Roi,
    Type.VISIT: Visit,
    Type.QUANTITY: Quantity,
    Type.POINT: Point,
    Type.IMAGE: DerivedImage,
    Type.ENCODING: Encoding,
    Type.TEXT: str,
}
