"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared_data_folder() -> Path:
    return Path(os.environ.get("VP_SHARED_DATA", REPOSITORY / ".." / "shared" / "data")).resolve()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real DICOM studies, label maps and images that are no part of the project."""
    folder = _shared_data_folder()
    if not folder.is_dir():
        pytest.skip("The shared data is absent: set VP_SHARED_DATA to its folder to run this test on real studies.")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY
