"""Words of people and of the model as values of DICOM elements (PS3.5 6.2): nothing that ends a value or is no text."""

from __future__ import annotations

import unicodedata

_LARGEST = 0xFFFF
"""Validators and databases of 16-bit characters count one beyond as two, or refuse it."""


def line(text: str, limit: int = 64) -> str:
    """One line for LO, SH or ST: at most `limit` characters, no control characters, no backslash (it parts values)."""
    plain = "".join(_plain(character) for character in text).replace("\\", "/")
    return " ".join(plain.split())[:limit].strip()


def paragraph(text: str) -> str:
    """Text of many lines for UT: line feeds stay, other control characters become spaces."""
    return "".join(character if character in "\n\t" else _plain(character) for character in text).strip()


def _plain(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"):
        return " "
    return character if ord(character) <= _LARGEST else "?"
