"""Which frames make one volume: splits by what the header says, then by place.

Nothing is stacked silently: whatever has several frames at one position becomes several volumes, in the order of what
tells them apart, or duplicates, which are named.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vp_node.studies.frames import FrameHeader
from vp_node.studies.geometry import Plane, plane_of, same_positions
from vp_node.studies.headers import InstanceHeader, is_enhanced

ORIENTATION_TOLERANCE = 5e-3
"""Largest difference of a direction cosine within one orientation."""
_SCOUT_SLICES = 3
"""So few slices at another orientation than the rest of their series are a scout ..."""
_SCOUT_FRACTION = 0.1
"""... where they are no more than this part of the series' largest stack."""
_DUPLICATE_FRACTION = 0.5
"""Repeated positions are a volume of their own from this part of all positions on; fewer are duplicated slices."""

Splits = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Record:
    """One stored frame and the header of its instance."""

    header: InstanceHeader
    frame: FrameHeader
    number: int | None
    """1-based in multi-frame objects, else None."""
    tile: tuple[int, int] | None = None
    """Where the slice's first pixel lies in the frame, if it is a tile of it: column and row."""

    @property
    def order(self) -> tuple[float, float, float, float, int, str]:
        """Time order: temporal index, acquisition, trigger, instance, frame; the UID decides what is left."""
        return (
            _or_zero(self.frame.temporal_index),
            _or_zero(self.frame.acquisition_number),
            _or_zero(self.frame.trigger_time),
            _or_zero(self.header.instance_number),
            self.number or 0,
            self.header.sop_instance_uid,
        )


@dataclass(frozen=True)
class Group:
    """Frames with one orientation, at most one at each position, ordered along the normal."""

    records: tuple[Record, ...]
    splits: Splits
    flags: tuple[str, ...] = ()
    duplicates: tuple[Record, ...] = ()
    """Frames at a position that a frame of the group already has."""


def records_of(header: InstanceHeader) -> tuple[Record, ...]:
    """The frames of an instance, or the tiles of its one frame."""
    if header.tiles is not None:
        slices = replace(header, columns=header.tiles.columns, rows=header.tiles.rows)
        return tuple(
            Record(slices, replace(header.frames[0], position=position), None, header.tiles.corner(index))
            for index, position in enumerate(header.tiles.positions)
        )
    if header.number_of_frames == 1 and not _is_multi_frame(header):
        return (Record(header, header.frames[0], None),)
    return tuple(Record(header, frame, number) for number, frame in enumerate(header.frames, start=1))


def group(records: Iterable[Record]) -> list[Group]:
    """Volumes to be, in a stable order. All records have a position, an orientation and a pixel spacing."""
    groups: list[Group] = []
    for series in _by(records, lambda record: (record.header.study_instance_uid, record.header.series_instance_uid)):
        for part, splits in _split_by_header(series):
            for cluster, oriented in _orientations(part, splits):
                groups.extend(_stacks(cluster, oriented))
    return groups


def scouts(groups: Sequence[Group]) -> list[Group]:
    """Groups of a few slices that lie across a much larger stack of the same series."""
    by_series: dict[tuple[str, str, int | None], list[Group]] = defaultdict(list)
    for item in groups:
        header = item.records[0].header
        by_series[(header.study_instance_uid, header.series_instance_uid, header.series_number)].append(item)
    found: list[Group] = []
    for members in by_series.values():
        largest = max(members, key=lambda member: len(member.records))
        limit = min(_SCOUT_SLICES, _SCOUT_FRACTION * len(largest.records))
        for member in members:
            if len(member.records) <= limit and not _parallel(member.records[0], largest.records[0]):
                found.append(member)
    return found


def plane(record: Record) -> Plane:
    """The plane of a record's frame.

    Raises:
        GeometryError: its orientation is not one.
    """
    return plane_of(record.frame.orientation or ())


def _is_multi_frame(header: InstanceHeader) -> bool:
    return is_enhanced(header.sop_class_uid)


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None else float(value)


def _by(records: Iterable[Record], key: Callable[[Record], object]) -> list[list[Record]]:
    parts: dict[object, list[Record]] = defaultdict(list)
    for record in records:
        parts[key(record)].append(record)
    return list(parts.values())


# What tells volumes of one series apart by header alone: name for people, value.
_HEADER_SPLITS: tuple[tuple[str, Callable[[Record], object]], ...] = (
    ("series number", lambda record: record.header.series_number),
    ("frame of reference", lambda record: record.header.frame_of_reference_uid),
    ("matrix", lambda record: f"{record.header.columns}x{record.header.rows}"),
    ("pixel spacing", lambda record: tuple(round(value, 4) for value in record.frame.pixel_spacing or ())),
    ("photometric interpretation", lambda record: record.header.photometric_interpretation),
    ("component", lambda record: record.frame.component),
    ("echo time", lambda record: _rounded(record.frame.echo_time, 2)),
    ("inversion time", lambda record: _rounded(record.frame.inversion_time, 0)),
    ("map", lambda record: derived_map(record.frame.image_type)),
    ("b-value", lambda record: _rounded(record.frame.b_value, 0)),
    ("gradient direction", lambda record: tuple(round(value, 2) + 0.0 for value in record.frame.gradient or ())),
)

# What may tell frames at one position apart.
_REPEAT_SPLITS: tuple[tuple[str, Callable[[Record], object]], ...] = (
    ("image type", lambda record: record.frame.image_type),
    ("temporal position", lambda record: record.frame.temporal_index),
    ("trigger time", lambda record: record.frame.trigger_time),
    ("acquisition number", lambda record: record.frame.acquisition_number),
    ("acquisition time", lambda record: record.header.acquisition_time),
    ("instance", lambda record: record.header.sop_instance_uid if record.number is not None else ""),
)

_MAP_NAMES = (
    "ADC EADC EXP_ADC ADC_UNSPECIFIED FA TRACEW TRACE CBF RCBF RELCBF CBV RCBV RELCBV MTT TTP TMAX SWI MNIP MIP "
    "T1_MAP T2_MAP"
)
_MAPS = frozenset(_MAP_NAMES.split())


def derived_map(image_type: Sequence[str]) -> str:
    """Which computed map the Image Type names; empty for images as acquired."""
    for value in image_type[2:]:
        token = value.replace(" ", "_")
        if token in _MAPS:
            return token
    return ""


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits) + 0.0


def _split_by_header(records: list[Record]) -> list[tuple[list[Record], Splits]]:
    parts: list[tuple[list[Record], Splits]] = [(records, ())]
    for name, key in _HEADER_SPLITS:
        divided: list[tuple[list[Record], Splits]] = []
        for part, splits in parts:
            pieces = sorted(_by(part, key), key=lambda piece: _sortable(key(piece[0])))
            for piece in pieces:
                named = (*splits, (name, _say(key(piece[0])))) if len(pieces) > 1 else splits
                divided.append((piece, named))
        parts = divided
    return parts


def _sortable(value: object) -> tuple[bool, Any]:
    """An order of split values in which an absent one comes first."""
    return (value is not None, value if value is not None else 0)


def _say(value: object) -> str:
    if value is None or value == () or value == "":
        return "none"
    if isinstance(value, tuple):
        return "\\".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _orientations(records: list[Record], splits: Splits) -> list[tuple[list[Record], Splits]]:
    """Clusters of one orientation, the first of each its measure."""
    clusters: list[tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[Record]]] = []
    for record in sorted(records, key=lambda item: item.order):
        cosines = np.asarray(record.frame.orientation, dtype=np.float64)
        for centre, members in clusters:
            if float(np.abs(cosines - centre).max()) <= ORIENTATION_TOLERANCE:
                members.append(record)
                break
        else:
            clusters.append((cosines, [record]))
    if len(clusters) == 1:
        return [(clusters[0][1], splits)]
    return [(members, (*splits, ("orientation", orientation_name(members[0])))) for _, members in clusters]


def orientation_name(record: Record) -> str:
    """`axial`, `coronal` or `sagittal`, by the nearest axis of the normal."""
    axis = int(np.argmax(np.abs(plane(record).normal)))
    return ("sagittal", "coronal", "axial")[axis]


def _parallel(one: Record, other: Record) -> bool:
    return float(np.abs(plane(one).normal @ plane(other).normal)) > 1 - ORIENTATION_TOLERANCE


def _stacks(records: list[Record], splits: Splits) -> list[Group]:
    """Frames of one orientation as stacks with one frame at each position."""
    normal = plane(records[0]).normal
    places = same_positions([float(np.dot(record.frame.position or (), normal)) for record in records])
    placed = [(place, record) for place, record in zip(places, records, strict=True)]
    return [
        replace(
            item,
            records=tuple(sorted(item.records, key=lambda record: float(np.dot(record.frame.position or (), normal)))),
        )
        for item in _divide(placed, splits, len(set(places)))
    ]


def _divide(placed: list[tuple[int, Record]], splits: Splits, positions: int) -> list[Group]:
    counts = Counter(place for place, _ in placed)
    if max(counts.values()) == 1:
        ragged = ("ragged",) if len(counts) < positions else ()
        return [Group(tuple(record for _, record in placed), splits, ragged)]
    for name, key in _REPEAT_SPLITS:
        parts: dict[object, list[tuple[int, Record]]] = defaultdict(list)
        for place, record in placed:
            parts[key(record)].append((place, record))
        if len(parts) > 1 and _tells_apart(list(parts.values()), len(counts)):
            ordered = sorted(parts.items(), key=lambda part: min(record.order for _, record in part[1]))
            return [
                found for value, part in ordered for found in _divide(part, (*splits, (name, _say(value))), positions)
            ]
    return _by_rank(placed, splits, positions)


def _tells_apart(parts: list[list[tuple[int, Record]]], positions: int) -> bool:
    """Whether a split makes whole volumes: each part covers the positions, or a good half of them and none twice."""
    covered = [Counter(place for place, _ in part) for part in parts]
    if all(len(counts) == positions for counts in covered):
        return True
    enough = all(len(counts) >= _DUPLICATE_FRACTION * positions for counts in covered)
    return enough and all(max(counts.values()) == 1 for counts in covered)


def _by_rank(placed: list[tuple[int, Record]], splits: Splits, positions: int) -> list[Group]:
    """The n-th frame at each position, in time order, belongs to the n-th volume; a few extra are duplicates."""
    at_place: dict[int, list[Record]] = defaultdict(list)
    for place, record in placed:
        at_place[place].append(record)
    ranks: dict[int, list[Record]] = defaultdict(list)
    for members in at_place.values():
        for rank, record in enumerate(sorted(members, key=lambda item: item.order)):
            ranks[rank].append(record)
    whole = [rank for rank in sorted(ranks) if rank == 0 or len(ranks[rank]) >= _DUPLICATE_FRACTION * len(at_place)]
    extra = tuple(record for rank in sorted(ranks) if rank not in whole for record in ranks[rank])
    groups = []
    for rank in whole:
        flags = ("ragged",) if len(ranks[rank]) < positions else ()
        named = (*splits, ("repeat", str(rank + 1))) if len(whole) > 1 else splits
        last = rank == whole[-1]
        if last and extra:
            flags = (*flags, "duplicate-slice")
        groups.append(Group(tuple(ranks[rank]), named, flags, extra if last else ()))
    return groups
