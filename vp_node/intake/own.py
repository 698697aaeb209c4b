"""Knowing what a node made when it comes back: also what another node made, or this one under a lost index."""

from __future__ import annotations

from pydicom.dataset import Dataset

from vp_node.results.codes import PRIVATE_SCHEME


def has_marks_of_a_result(dataset: Dataset) -> bool:
    """Whether the data set says that a VoxelPrompt node made it.

    Every result names the project's private coding scheme (0008,0110) and the equipment that contributed (0018,A001).
    """
    schemes = dataset.get("CodingSchemeIdentificationSequence") or []
    return "ContributingEquipmentSequence" in dataset and any(
        item.get("CodingSchemeDesignator") == PRIVATE_SCHEME for item in schemes
    )
