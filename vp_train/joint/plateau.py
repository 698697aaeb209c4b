"""The learning rate of the paper (A.4): halved where validation no longer improves, the end after four times."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Plateau:
    """Halves a rate after `patience` examples without a better accuracy.

    The paper's "steps" are read as its "model passes", of one example each (3.2). Training is over when the rate that
    was halved `reductions` times has brought nothing for as long either.

    Attributes:
        best: highest accuracy seen; `since`: examples seen when it was, or when the rate was last halved.
    """

    rate: float
    patience: int
    reductions: int
    best: float = field(default=float("-inf"))
    since: int = 0
    halvings: int = 0
    finished: bool = False

    @property
    def current_rate(self) -> float:
        return self.rate * 0.5**self.halvings

    def observe(self, accuracy: float, examples: int) -> bool:
        """Takes note of an accuracy measured after `examples`; whether it is the best."""
        if accuracy > self.best:
            self.best, self.since = accuracy, examples
            return True
        if examples - self.since >= self.patience:
            if self.halvings == self.reductions:
                self.finished = True
            else:
                self.halvings += 1
                self.since = examples
        return False

    def state(self) -> dict[str, Any]:
        return asdict(self)
