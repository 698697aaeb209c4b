"""Which subjects train, which choose, which judge: decided by the subject's name alone, so that it never changes.

A subject belongs to one part with all its sessions and images, in every run, on every machine, and also when others
join the data set.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Part = Literal["training", "validation", "test"]
SHARES = (0.70, 0.03, 0.27)
"""The paper's 4,852 / 213 / 1,860 volumes."""


def part_of(dataset: str, subject: str, shares: tuple[float, float, float] = SHARES) -> Part:
    """The part of a subject.

    Raises:
        ValueError: the shares do not add up to one.
    """
    if abs(sum(shares) - 1) > 1e-6 or min(shares) < 0:
        raise ValueError(f"Shares of training, validation and test must add up to 1, these are {shares}.")
    digest = hashlib.sha256(f"{dataset}/{subject}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < shares[0]:
        return "training"
    return "validation" if place < shares[0] + shares[1] else "test"
