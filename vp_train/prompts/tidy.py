"""Small repairs of generated text."""

from __future__ import annotations

import re

REPAIRS = (
    (re.compile(r"\bthe (the|both|each|this)\b"), r"\1"),
    (re.compile(r"\bboth both\b"), "both"),
    (re.compile(r"\ba (?=[aeio][a-z]{3})"), "an "),
    (re.compile(r" ([,.;?!])"), r"\1"),
)


def tidy(text: str) -> str:
    """Single spaces, no doubled articles where a phrase brought its own, no space before punctuation."""
    text = " ".join(text.split())
    for pattern, replacement in REPAIRS:
        text = pattern.sub(replacement, text)
    return text.strip(" ,")
