"""SEG, SR and derived images of a run, and the check that they pass before they are sent."""

from vp_node.results.check import Finding, check
from vp_node.results.encode import encode
from vp_node.results.model import PromptProvenance, ResultObject, RunIdentity

__all__ = ["Finding", "PromptProvenance", "ResultObject", "RunIdentity", "check", "encode"]
