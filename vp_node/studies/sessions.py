"""Volumes become sessions: one patient on one visit date."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date

from vp_node.studies.model import Session, SourceVolume


def sessions_of(volumes: Sequence[SourceVolume]) -> tuple[Session, ...]:
    """Sessions by patient, then in order of date.

    Studies of one patient on one date are one session. A study without any date is a session of its own, before the
    dated ones: it is never taken for the latest while a dated one is there.
    """
    by_visit: dict[tuple[str, date | None, str], list[SourceVolume]] = defaultdict(list)
    for volume in volumes:
        study = "" if volume.visit else volume.study_instance_uid
        by_visit[volume.patient_key, volume.visit, study].append(volume)
    ordered = sorted(by_visit.items(), key=lambda entry: (entry[0][0], entry[0][1] or date.min, entry[0][2]))
    return tuple(
        Session(patient, visit, tuple(dict.fromkeys(member.study_instance_uid for member in members)), tuple(members))
        for (patient, visit, _), members in ordered
    )
