"""Log lines for people or for a collector. No level writes patient data.

The node's own modules log UIDs, counts and states only. The DICOM libraries do log data sets at their lower levels:
they are held at WARNING, and their warnings, which may quote an attribute's value, are replaced by a fixed sentence.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from datetime import UTC, datetime

from vp_node.config import Config

QUOTING_LIBRARIES = ("pydicom", "highdicom", "pynetdicom")
"""Their messages may hold values of a data set."""


class _WithoutQuotes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".")[0] in QUOTING_LIBRARIES:
            record.msg = "a message of the DICOM library is withheld because it may quote a data set (%s:%d)"
            record.args = (record.module, record.lineno)
            record.exc_info = None
            record.exc_text = None
        return True


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(config: Config) -> None:
    """Sends log lines to standard error in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    if config.node.log_format == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(_WithoutQuotes())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.node.log_level)
    for name in (*QUOTING_LIBRARIES, "apscheduler", "alembic", "dbos", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom warns about values that break the standard, and quotes them.
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
