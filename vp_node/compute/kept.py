"""The volumes of the last job stay at hand: the standing prompts of a study come one after another, and decoding,
alignment and what m sees before it is told what to look for are the same for all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vp_node.compute.codec import RunJob

if TYPE_CHECKING:
    from vp_model.imaging.alignment import Aligned
    from vp_model.volume import Volume

KEPT_SECONDS = 60.0
"""After which, without a further job, the memory is given back."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Volumes as decoded, the same laid on each other, and the agent's sight of these."""

    volumes: Sequence[Volume]
    aligned: Aligned
    sight: Any


@dataclass(eq=False)
class Kept:
    """At most one prepared set of volumes."""

    _key: str = ""
    _prepared: Prepared | None = field(default=None)

    def prepared(self, job: RunJob, prepare: Callable[[RunJob], Prepared]) -> Prepared:
        """What was prepared for an earlier job on the same files in the same order, laid on each other in the same way;
        else what `prepare` gives. The earlier is forgotten before: memory never holds two.
        """
        key = _key_of(job)
        if self._prepared is None or key != self._key:
            self.forget()
            self._prepared, self._key = prepare(job), key
        return self._prepared

    def forget(self) -> None:
        self._prepared, self._key = None, ""


def _key_of(job: RunJob) -> str:
    """Everything of a job but its prompt, its notes and where it writes; and of each file its size and time."""
    data = job.to_json()
    paths = sorted({frame.path for item in job.volumes for frame in item.volume.frames})
    states = [(stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in paths if path.is_file())]
    return hashlib.sha256(json.dumps([data["volumes"], data["alignment"], states]).encode()).hexdigest()
