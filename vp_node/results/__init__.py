"""Result objects: from what a run found to DICOM SEG, SR and derived images, and the rules that they obey."""

from vp_node.results.checking import Finding, check_file, check_objects, check_with_sources
from vp_node.results.encoder import encode
from vp_node.results.model import PromptProvenance, ResultError, ResultObject, RunIdentity

check = check_file
"""The same, under the name that the workflow calls it by."""

__all__ = [
    "Finding",
    "PromptProvenance",
    "ResultError",
    "ResultObject",
    "RunIdentity",
    "check",
    "check_file",
    "check_objects",
    "check_with_sources",
    "encode",
]
