"""Which software made an object: equipment module, Contributing Equipment, algorithm identification."""

from __future__ import annotations

from datetime import datetime

from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import AlgorithmIdentification
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

import vp_node
from vp_model.outcome import ModelIdentity
from vp_node.config import Config
from vp_node.results.uids import device_uid

ARTIFICIAL_INTELLIGENCE = codes.DCM.ArtificialIntelligence


def model_name(model: ModelIdentity) -> str:
    """Manufacturer's Model Name: the same wherever the algorithm is named (IHE AIR)."""
    return f"VoxelPrompt {model.name}"[:64]


def software_versions(model: ModelIdentity) -> str:
    """Node, weights, and the beginning of the weights' hash."""
    return f"{vp_node.__version__}/{model.version}/{model.content_hash[:12]}"[:64]


def segment_algorithm(model: ModelIdentity) -> AlgorithmIdentificationSequence:
    return AlgorithmIdentificationSequence(
        name=model_name(model), family=ARTIFICIAL_INTELLIGENCE, version=software_versions(model)
    )


def report_algorithm(model: ModelIdentity) -> AlgorithmIdentification:
    return AlgorithmIdentification(name=model_name(model), version=software_versions(model))


def mark(dataset: Dataset, config: Config, model: ModelIdentity, moment: datetime) -> None:
    """Adds what every result carries: content date, Contributing Equipment with Device UID, no verification.

    The date and time are those of the request: writing an object again gives the same bytes.
    """
    day, clock = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, clock
    dataset.ContentDate, dataset.ContentTime = day, clock
    dataset.SeriesDate, dataset.SeriesTime = day, clock
    if "TimezoneOffsetFromUTC" in dataset:
        del dataset.TimezoneOffsetFromUTC
    if config.results.institution:
        dataset.InstitutionName = config.results.institution
    item = Dataset()
    item.Manufacturer = config.results.manufacturer
    item.ManufacturerModelName = model_name(model)
    item.SoftwareVersions = software_versions(model)
    item.DeviceSerialNumber = config.results.device_serial_number
    item.DeviceUID = device_uid(model.content_hash)
    item.StationName = config.node.name[:16]
    item.ContributionDescription = "Made by software, for research use, unverified"
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item.PurposeOfReferenceCodeSequence = Sequence([purpose])
    dataset.ContributingEquipmentSequence = Sequence([item])
