"""A listener with its database in a temporary folder, and small instances to send to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from sqlalchemy.orm import Session, sessionmaker

from vp_node.config import Config, DicomSection, NodeSection, Peer
from vp_node.database.engine import create_database_engine, session_factory, upgrade
from vp_node.dicom.listener import Listener

SENDER = "TESTSCU"


@dataclass(frozen=True)
class Receiving:
    config: Config
    listener: Listener
    sessions: sessionmaker[Session]

    @property
    def peer(self) -> Peer:
        return Peer(name="node", ae_title="VOXELPROMPT", host="127.0.0.1", port=self.listener.port)


def make_config(folder: Path, **dicom: object) -> Config:
    settings = {"host": "127.0.0.1", "port": 0, "accept_unknown_peers": True, "minimum_free_disk_gb": 0.05, **dicom}
    return Config(node=NodeSection(data_folder=folder), dicom=DicomSection.model_validate(settings))


@contextmanager
def receiving(config: Config) -> Iterator[Receiving]:
    config.node.data_folder.mkdir(parents=True, exist_ok=True)
    engine = create_database_engine(config.database_url)
    upgrade(engine)
    sessions = session_factory(engine)
    listener = Listener(config, sessions)
    listener.start()
    try:
        yield Receiving(config, listener, sessions)
    finally:
        listener.stop()
        engine.dispose()


def make_instance(**changes: object) -> Dataset:
    """A small MR instance with its own UIDs; `changes` by keyword, None removes."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "", "F", "040Y"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240102", "101112", ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = 8, 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = np.arange(64, dtype="<u2").tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    return dataset


def write_instance(path: Path, dataset: Dataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path
