"""UIDs that follow from what they name (PS3.5 B.2: `2.25.` and a UUID as a decimal number)."""

from __future__ import annotations

from uuid import UUID, uuid5

_NAMESPACE = UUID("6f0c6a0e-5d0f-5c36-9b0b-2f6f1a3f7d11")


def uid_of(*parts: str) -> str:
    """A UID for these parts, always the same."""
    return f"2.25.{uuid5(_NAMESPACE, '|'.join(parts)).int}"


def object_uid(run_id: str, role: str) -> str:
    """UID of a series or instance of a run.

    Args:
        run_id: follows from the study, the prompt's version, the model's hash and the input's digest
            (`vp_node.runs.identity`), so that it stands for all of them; and what a later run knows of this one.
        role: tells the objects of a run apart: `sr/instance`, `seg/<volume>/series`…
    """
    return uid_of("run", run_id, role)


def tracking_uid(patient_key: str, structure: str, side: str, ordinal: int = 1) -> str:
    """The same for the same structure of the same patient, in every session and whatever was asked."""
    return uid_of("tracking", patient_key, structure, side, str(ordinal))


def device_uid(model_hash: str) -> str:
    """Device UID (0018,1002): changes whenever the weights change."""
    return uid_of("device", model_hash)


def frame_of_reference_uid(series_instance_uid: str) -> str:
    """For a source series that states none."""
    return uid_of("frame-of-reference", series_instance_uid)
