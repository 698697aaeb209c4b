"""From an outcome to DICOM files and their rows: the same UIDs however often it is done."""

from __future__ import annotations

