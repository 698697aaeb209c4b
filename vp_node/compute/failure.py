"""How computing can go wrong, in words that hold no patient data."""

from __future__ import annotations

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
