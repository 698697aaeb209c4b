"""What made the objects: the model as an algorithm, the node as a device (IHE AIR: equal wherever it is named)."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom import AlgorithmIdentificationSequence, ContributingEquipment
from highdicom.sr import AlgorithmIdentification
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import vp_node
from vp_model.outcome import ModelIdentity
from vp_node.config import ResultsSection
from vp_node.results.codes import identify_private_scheme
from vp_node.results.uids import device_uid
from vp_node.results.wording import line


@dataclass(frozen=True)
class Equipment:
    manufacturer: str
    model_name: str
    software_version: str
    """Of the model: it changes with what the model finds."""
    device_serial_number: str
    device_uid: str
    content_hash: str
    node_name: str
    node_version: str
    institution: str

    @property
    def parameters(self) -> dict[str, str]:
        return {"content hash (SHA-256)": self.content_hash, "node software": f"voxelprompt-node {self.node_version}"}


def equipment_of(model: ModelIdentity, settings: ResultsSection, node_name: str) -> Equipment:
    return Equipment(
        manufacturer=line(settings.manufacturer) or "unknown",
        model_name=line(model.name) or "VoxelPrompt",
        software_version=line(model.version or model.content_hash[:12]) or "unknown",
        device_serial_number=line(settings.device_serial_number) or "0",
        device_uid=device_uid(model.content_hash),
        content_hash=model.content_hash,
        node_name=line(node_name),
        node_version=vp_node.__version__,
        institution=line(settings.institution),
    )


def segment_algorithm(equipment: Equipment) -> AlgorithmIdentificationSequence:
    """Segmentation Algorithm Identification (0062,0007), PS3.3 10.16."""
    return AlgorithmIdentificationSequence(
        name=equipment.model_name,
        family=codes.DCM.ArtificialIntelligence,
        version=equipment.software_version,
        source=equipment.manufacturer,
        parameters=equipment.parameters,
    )


def report_algorithm(equipment: Equipment) -> AlgorithmIdentification:
    """TID 4019."""
    return AlgorithmIdentification(
        name=equipment.model_name,
        version=equipment.software_version,
        parameters=[f"{name}: {value}" for name, value in equipment.parameters.items()],
        manufacturer=equipment.manufacturer,
    )


def add_contributing_equipment(dataset: Dataset, equipment: Equipment) -> None:
    """Contributing Equipment Sequence (0018,A001) with the model's Device UID; what the source had is not repeated.

    The scheme of the project's own codes is identified beside it.
    """
    item = ContributingEquipment(
        manufacturer=equipment.manufacturer,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_version,
        device_serial_number=equipment.device_serial_number,
    )
    item.DeviceUID = equipment.device_uid
    dataset.ContributingEquipmentSequence = [item]
    identify_private_scheme(dataset, equipment.manufacturer)
