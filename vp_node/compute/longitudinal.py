"""What a comparison over time always says, whatever the program reported: every date, the change, and its rate.

The program may measure both sessions and report only one number. From its own measurements the missing ones are worked
out: absolute change, change in percent of the earlier, and change per year. Nothing is measured again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from vp_model.outcome import Mask, Measurement, Outcome, Side

DAYS_PER_YEAR = 365.25
"""A Julian year, which is what UCUM's `a` means."""


@dataclass(frozen=True)
class _Changes:
    """Names in `vp_model/program/measurements.json` of the changes of a quantity; empty where there is none."""

    absolute: str
    relative: str
    annual: str


_VOLUME = _Changes("volume change", "relative volume change", "annual volume change")
_LENGTH = _Changes("extent change", "relative extent change", "annual change")
CHANGES = {
    "volume": _VOLUME,
    "left-right extent": _LENGTH,
    "anterior-posterior extent": _LENGTH,
    "superior-inferior extent": _LENGTH,
    "longest diameter": _LENGTH,
    "plane diameter": _LENGTH,
    "perpendicular diameter": _LENGTH,
    "surface area": _Changes("surface change", "", ""),
    "cross section": _Changes("surface change", "", ""),
    "mean intensity": _Changes("intensity change", "relative intensity change", ""),
    "median intensity": _Changes("intensity change", "relative intensity change", ""),
}

_Key = tuple[str, Side]


def complete(outcome: Outcome) -> Outcome:
    """The outcome with the measurements that belong to a comparison; the same outcome where there is one date."""
    dates = sorted({volume.visit for volume in outcome.transcript.volumes if volume.visit})
    if outcome.status != "answered" or len(dates) < 2:
        return outcome
    found = [*outcome.measurements]
    found += _volumes_of_compared(found, outcome.masks)
    found += _changes(found)
    return replace(outcome, measurements=tuple(found))


def _volumes_of_compared(found: Sequence[Measurement], masks: Sequence[Mask]) -> list[Measurement]:
    """The volumes at the dates of a change that was reported without them, where one mask a date is all of it."""
    added = []
    compared = {(item.structure, item.side) for item in found if item.name in (_VOLUME.absolute, _VOLUME.relative)}
    for structure, side in sorted(compared):
        known = {item.visit for item in found if item.name == "volume" and _key(item) == (structure, side)}
        by_visit: dict[str, list[Mask]] = defaultdict(list)
        for mask in masks:
            if mask.structure == structure and mask.visit:
                by_visit[mask.visit].append(mask)
        for visit, members in sorted(by_visit.items()):
            sides = {mask.side for mask in members}
            if visit in known or len(members) != 1 or sides != {side}:
                continue
            added.append(_volume_of(members[0]))
    return added


def _volume_of(mask: Mask) -> Measurement:
    millilitres = float(np.count_nonzero(mask.voxels)) * abs(float(np.linalg.det(mask.world[:3, :3]))) / 1000
    return Measurement(
        name="volume",
        value=millilitres,
        unit="ml",
        structure=mask.structure,
        side=mask.side,
        visit=mask.visit,
        label=mask.label,
        masks=(mask.identifier,),
        experimental=mask.experimental,
    )


def _changes(found: Sequence[Measurement]) -> list[Measurement]:
    """Changes of what was measured once at each of several dates, earliest against latest, that nobody reported."""
    reported = {(item.name, *_key(item), item.unit) for item in found}
    series: dict[tuple[str, _Key, str], dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for item in found:
        if item.name in CHANGES and item.visit and len(item.visits) < 2:
            series[item.name, _key(item), item.unit][item.visit].append(item)
    named: dict[tuple[str, _Key], int] = defaultdict(int)
    for name, key, _ in series:
        named[CHANGES[name].absolute, key] += 1
    added: list[Measurement] = []
    for (name, key, _), by_date in series.items():
        dates = sorted(by_date)
        if len(dates) < 2 or any(len(members) != 1 for members in by_date.values()):
            continue  # one date, or several regions of one name: what belongs together is not known
        names = CHANGES[name]
        if named[names.absolute, key] > 1 and any(label[0] == names.absolute for label in reported):
            continue  # several lengths, and a change of one of them was reported: which one is not known
        before, after = by_date[dates[0]][0], by_date[dates[-1]][0]
        for change in _changes_between(before, after, names):
            if (change.name, *_key(change), change.unit) not in reported:
                added.append(change)
    return added


def _changes_between(before: Measurement, after: Measurement, names: _Changes) -> list[Measurement]:
    if not np.isfinite([before.value, after.value]).all():
        return []
    difference = after.value - before.value
    base = replace(
        after,
        masks=tuple(dict.fromkeys((*before.masks, *after.masks))),
        visits=(before.visit, after.visit),
        points=(),
        volume="",
        experimental=before.experimental or after.experimental,
    )
    changes = [replace(base, name=names.absolute, value=difference)]
    percent = 100 * difference / before.value if before.value else None
    if names.relative and percent is not None:
        changes.append(replace(base, name=names.relative, value=percent, unit="%"))
    years = (date.fromisoformat(after.visit) - date.fromisoformat(before.visit)).days / DAYS_PER_YEAR
    if names.annual and years > 0:
        changes.append(replace(base, name=names.annual, value=difference / years, unit=f"{after.unit}/a"))
        if percent is not None:
            changes.append(replace(base, name=names.annual, value=percent / years, unit="%/a"))
    return changes


def _key(item: Measurement) -> _Key:
    return item.structure, item.side
