"""Result objects: from what a run found to DICOM SEG, SR and derived images, and the rules that they obey."""

from vp_node.results.checking import Finding, check, check_with_sources
from vp_node.results.encoder import encode
from vp_node.results.model import PromptProvenance, ResultError, ResultObject, RunIdentity

__all__ = [
    "Finding",
    "PromptProvenance",
    "ResultError",
    "ResultObject",
    "RunIdentity",
    "check",
    "check_with_sources",
    "encode",
]
