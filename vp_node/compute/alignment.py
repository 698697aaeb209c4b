"""Laying the volumes of a run on each other before the model sees them, by what the node knows of each.

How it is done, and how an outcome is brought back, is `vp_model.imaging.alignment`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vp_model.imaging import alignment
from vp_model.imaging.alignment import Aligned, Origin, Settings, bring_back
from vp_node.config import AlignmentSection
from vp_node.studies.model import ChosenVolume

if TYPE_CHECKING:
    from vp_model.volume import Volume

__all__ = ["Aligned", "align", "bring_back"]


def align(
    volumes: Sequence[Volume],
    chosen: Sequence[ChosenVolume],
    settings: AlignmentSection,
    threads: int,
    progress: Callable[[str], None],
) -> Aligned:
    """Lays volumes on each other.

    Args:
        volumes: as the model would get them, in their own geometry.
        chosen: what the node knows of each, in the same order.
        threads: for the registration.
    """
    source = {item.name: Origin(item.volume.kind, item.volume.frame_of_reference_uid or "") for item in chosen}
    wanted = Settings(settings.within_sessions, settings.across_sessions, settings.finest_mm)
    return alignment.align(volumes, source, wanted, threads, progress)
