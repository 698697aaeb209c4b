"""UIDs that are the same however often a run is encoded (PS3.5 B.2: `2.25.` and a UUID)."""

from __future__ import annotations

import uuid

from vp_node.results.model import RunIdentity

NAMESPACE = uuid.UUID("5b0f0f0a-6d0c-5f0e-9c55-0e5a7c1d8a11")


def result_uid(identity: RunIdentity, role: str) -> str:
    """For one object or series of a run: `seg v1`, `sr`, `derived derived-1 17`…"""
    return _uid("result", identity.run_id, role)


def tracking_uid(patient_key: str, structure: str, side: str) -> str:
    """The same structure of the same patient keeps it, from session to session and run to run."""
    return _uid("tracking", patient_key, structure, side)


def device_uid(model_hash: str) -> str:
    """Of the algorithm as a device: changes whenever the weights change (IHE AIR)."""
    return _uid("device", model_hash)


def frame_of_reference_uid(series_instance_uid: str) -> str:
    """For a source series that has none."""
    return _uid("frame of reference", series_instance_uid)


def _uid(*parts: str) -> str:
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(parts)).int}"
