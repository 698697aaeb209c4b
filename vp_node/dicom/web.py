"""An archive that is asked by DICOMweb: QIDO-RS finds, WADO-RS retrieves (PS3.18 10.4, 10.6)."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from vp_node.config import PriorSource
from vp_node.dicom.archive import (
    MATCHES_AT_MOST,
    ArchiveError,
    Deadline,
    Receive,
    SeriesMatch,
    StudyMatch,
    series_match,
    series_query,
    study_match,
    study_query,
)

LOG = logging.getLogger(__name__)

ANY_SYNTAX = (("application/dicom", "*"),)
"""As it is stored: the archive need not decompress."""
SECONDS_FOR_ONE_ANSWER = 60.0


class WebArchive:
    """Args:
    source: with the address and the headers of every request.
    incoming: folder for files as they arrive.
    """

    def __init__(self, source: PriorSource, incoming: Path) -> None:
        self._source = source
        self._incoming = incoming

    def find_studies(self, patient_id: str, first: date, last: date, deadline: Deadline) -> list[StudyMatch]:
        keys = study_query(patient_id, first, last)
        with self._asking(deadline) as client:
            found = client.search_for_studies(
                search_filters=_filters(keys), fields=_fields(keys), limit=MATCHES_AT_MOST + 1
            )
        return [match for item in self._bounded(found) if (match := study_match(item)) is not None]

    def find_series(self, study_instance_uid: str, deadline: Deadline) -> list[SeriesMatch]:
        keys = {key: value for key, value in series_query(study_instance_uid).items() if key != "StudyInstanceUID"}
        with self._asking(deadline) as client:
            found = client.search_for_series(study_instance_uid, fields=_fields(keys), limit=MATCHES_AT_MOST + 1)
        return [match for item in self._bounded(found) if (match := series_match(item, study_instance_uid)) is not None]

    def retrieve(self, series: SeriesMatch, receive: Receive, deadline: Deadline) -> int:
        count = 0
        with self._asking(deadline) as client:
            instances = client.iter_series(
                series.study_instance_uid, series.series_instance_uid, media_types=ANY_SYNTAX
            )
            for dataset in instances:
                deadline.check()
                self._keep(dataset, receive)
                count += 1
        return count

    def _keep(self, dataset: Dataset, receive: Receive) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".dcm", dir=self._incoming)
        os.close(descriptor)
        path = Path(name)
        try:
            dataset.save_as(path, enforce_file_format=True)
            named = (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
            receive(path, named, UID(dataset.file_meta.TransferSyntaxUID))
        finally:
            path.unlink(missing_ok=True)

    def _bounded(self, found: list[dict[str, Any]]) -> list[Dataset]:
        if len(found) > MATCHES_AT_MOST:
            raise ArchiveError(f"{self._source.name} found more than {MATCHES_AT_MOST} matches")
        return [Dataset.from_json(item) for item in found]

    @contextmanager
    def _asking(self, deadline: Deadline) -> Iterator[DICOMwebClient]:
        """A client for one transaction; what goes wrong becomes an ArchiveError without the address or the query."""
        deadline.check()
        name = self._source.name
        client = DICOMwebClient(
            self._source.url.rstrip("/"),
            headers=dict(self._source.headers),
            timeout=max(min(deadline.seconds_left, SECONDS_FOR_ONE_ANSWER), 1.0),
        )
        client.set_http_retry_params(retry=False)
        try:
            yield client
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "an error"
            raise ArchiveError(f"{name} answered with {status}") from error
        except requests.RequestException as error:
            raise ArchiveError(f"{name} cannot be reached, or did not answer in time") from error
        except (InvalidDicomError, json.JSONDecodeError, ValueError, KeyError, AttributeError) as error:
            raise ArchiveError(f"{name} answered with something that is no DICOMweb") from error


def _filters(keys: dict[str, str]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value}


def _fields(keys: dict[str, str]) -> list[str]:
    return [key for key, value in keys.items() if not value]
