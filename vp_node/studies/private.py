"""The few private elements that classic MR objects keep diffusion, complex component and mosaics in.

Each is read only where the manufacturer's private creator has reserved its block (PS3.5 7.8.1).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from vp_node.studies.elements import integer, number, numbers, text

_SIEMENS = (0x0019, "SIEMENS MR HEADER")
_CSA = (0x0029, "SIEMENS CSA HEADER")
_PHILIPS = (0x2001, "Philips Imaging DD 001")
_PHILIPS_SCALE = (0x2005, "Philips MR Imaging DD 001")
_GE = (0x0043, "GEMS_PARM_01")
_UIH = (0x0065, "Image Private Header")

_SLOTS = (0x10, 0x11, 0x12, 0x13)
_ELEMENTS = {
    _SIEMENS: (0x0A, 0x0C, 0x0E),
    _CSA: (0x10,),
    _PHILIPS: (0x03,),
    _PHILIPS_SCALE: (0x0E,),
    _GE: (0x2F, 0x39),
    _UIH: (0x09, 0x37, 0x50, 0x51),
}


def private_tags() -> list[BaseTag]:
    """The creators and the elements that the functions here look at, in each block that they may stand in."""
    tags = [Tag(group, slot) for group, _ in _ELEMENTS for slot in _SLOTS]
    tags += [
        Tag(group, slot << 8 | element)
        for (group, _), elements in _ELEMENTS.items()
        for slot in _SLOTS
        for element in elements
    ]
    return tags


def private_diffusion(dataset: Dataset) -> tuple[float | None, tuple[float, ...]]:
    """b-value (s/mm²) and gradient direction (LPS), from Siemens, Philips, GE or UIH elements."""
    siemens = _numbers(dataset, _SIEMENS, 0x0C)
    if siemens:
        return siemens[0], _numbers(dataset, _SIEMENS, 0x0E)
    philips = _numbers(dataset, _PHILIPS, 0x03)
    if philips:
        return philips[0], ()
    ge = _numbers(dataset, _GE, 0x39)
    if ge:
        # GE adds 1e9 to the b-value of an acquisition with several of them.
        return ge[0] % 1e9 % 100000, ()
    uih = _numbers(dataset, _UIH, 0x09)
    if uih:
        return uih[0], _numbers(dataset, _UIH, 0x37)
    return None, ()


def private_complex_component(dataset: Dataset) -> str:
    """GE's raw data type: 0 magnitude, 1 phase, 2 real, 3 imaginary."""
    values = _numbers(dataset, _GE, 0x2F)
    return {0: "M", 1: "P", 2: "R", 3: "I"}.get(int(values[0]), "") if values else ""


def has_private_scaling(dataset: Dataset) -> bool:
    """Whether Philips' scale slope (2005,xx0E) is there, and says something."""
    values = _numbers(dataset, _PHILIPS_SCALE, 0x0E)
    return bool(values) and values[0] not in (0.0, 1.0)


def mosaic_tiles(dataset: Dataset) -> int | None:
    """How many slices a Siemens mosaic holds, where the header says it."""
    tag = _tag(dataset, _SIEMENS, 0x0A)
    return integer(dataset, tag) if tag is not None else None


def has_uih_frame_grid(dataset: Dataset) -> bool:
    """Whether UIH's VFRAME sequence (0065,xx51's count) is there."""
    tag = _tag(dataset, _UIH, 0x50)
    return tag is not None and number(dataset, tag) is not None


def uih_frames(dataset: Dataset) -> Sequence[Dataset]:
    """UIH's VFRAME sequence: an item for each slice in the frame; empty without it."""
    tag = _tag(dataset, _UIH, 0x51)
    value = dataset[tag].value if tag is not None else None
    return value if isinstance(value, DicomSequence) else ()


def csa_header(dataset: Dataset) -> bytes:
    """Siemens' CSA image header, in its own format; empty without it."""
    tag = _tag(dataset, _CSA, 0x10)
    value = getattr(dataset.get_item(tag), "value", None) if tag is not None else None
    return value if isinstance(value, bytes) else b""


def _numbers(dataset: Dataset, creator: tuple[int, str], element: int) -> tuple[float, ...]:
    tag = _tag(dataset, creator, element)
    if tag is None:
        return ()
    stored = dataset.get_item(tag)
    value = getattr(stored, "value", None)
    if getattr(stored, "VR", None) == "UN" and isinstance(value, bytes):
        return _from_unknown(value)
    return numbers(dataset, tag)


def _from_unknown(value: bytes) -> tuple[float, ...]:
    """Numbers of an element whose VR was lost on the way: text where it reads as such, else 64- or 32-bit floats."""
    try:
        return tuple(float(part) for part in value.strip(b" \0").split(b"\\"))
    except ValueError:
        pass
    for size, code in ((8, "d"), (4, "f")):
        if value and len(value) % size == 0:
            return struct.unpack(f"<{len(value) // size}{code}", value)
    return ()


def _tag(dataset: Dataset, creator: tuple[int, str], element: int) -> BaseTag | None:
    group, name = creator
    for slot in _SLOTS:
        tag = Tag(group, slot << 8 | element)
        if tag in dataset and text(dataset, Tag(group, slot)) == name:
            return tag
    return None
