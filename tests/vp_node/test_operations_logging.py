"""What reaches the log, and in which form."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset

from vp_node.config import Config, NodeSection
from vp_node.operations.logging import QUOTING_LIBRARIES, configure_logging


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    names = ("", *QUOTING_LIBRARIES, "apscheduler", "alembic", "dbos", "sqlalchemy")
    before = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.requirement("no patient data in a log line")
def test_what_a_dicom_library_says_of_a_data_set_is_withheld(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Config(node=NodeSection.model_validate({"log_format": form, "log_level": "DEBUG"})))
    dataset = Dataset()
    dataset.PatientName = "Secret^Name"
    for name in ("pydicom", "pynetdicom.acse", "highdicom.sr"):
        logging.getLogger(name).debug("the data set: %s", dataset)
        logging.getLogger(name).warning("the data set: %s", dataset)
        try:
            raise ValueError(str(dataset))
        except ValueError:
            logging.getLogger(name).exception("failed with %s", dataset.PatientName)
    written = capsys.readouterr().err
    assert "Secret" not in written
    assert written.count("withheld") == 6


def test_a_line_for_a_collector_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Config(node=NodeSection(log_format="json")))
    logging.getLogger("vp_node.somewhere").info("two\nlines of %d", 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert {name: value for name, value in json.loads(line).items() if name != "at"} == {
        "level": "INFO",
        "logger": "vp_node.somewhere",
        "message": "two\nlines of 1",
    }
