"""How computing can go wrong, in words that hold no patient data."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Literal

FailureKind = Literal["input", "program", "memory", "time", "output", "crash", "cancelled", "internal", "start"]


class ComputeFailure(Exception):
    """The compute process did not bring a result; the message says what happened and what can be done.

    Kinds:
        input: the pixels of a source image cannot be decoded.
        program: the program of the model could not be evaluated.
        memory, time, output: a limit of the `[compute]` section was passed; the process was killed.
        crash: the process ended by itself.
        cancelled: the caller asked for it.
        internal: an error in the process that is none of the above.
        start: the process did not start, or the checkpoint cannot be loaded.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def may_pass(self) -> bool:
        """Whether the same job may succeed when it is tried again."""
        return self.kind in ("crash", "start")


def place_of(error: BaseException) -> str:
    """`package/module.py:123` of the innermost frame in this project's code, or of the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    own = [frame for frame in frames if "vp_node" in frame.filename or "vp_model" in frame.filename]
    frame = (own or list(frames))[-1]
    path = Path(frame.filename)
    return f"{path.parent.name}/{path.name}:{frame.lineno}"
