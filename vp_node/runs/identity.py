"""What makes two requests the same run.

A run is named by what goes into it: the study, the words of the prompt, the weights and the images. Whoever asks twice
gets the run that is there already; whoever asks after something changed gets a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from uuid import UUID, uuid5

RUN_NAMESPACE = UUID("6f1d8c0a-5c0e-5a53-9f5d-2b7c4f0f7e1b")
"""Fixed for ever: a change would give every old run a new name, and its objects new UIDs."""


def run_identifier(study_instance_uid: str, prompt_version_id: str, model_hash: str, input_digest: str) -> str:
    """UUIDv5 over the four parts; `|` occurs in none of them (a UID, a UUID and two hexadecimal digests)."""
    return str(uuid5(RUN_NAMESPACE, "|".join((study_instance_uid, prompt_version_id, model_hash, input_digest))))


def combined_digest(study_digests: Sequence[str]) -> str:
    """Digest of the input of a run that draws on one or more studies.

    Args:
        study_digests: `Study.input_digest` of each study that a taken volume comes from, in any order, and of the
            study that was asked about. One study gives its own digest.
    """
    distinct = sorted(set(study_digests))
    if len(distinct) == 1:
        return distinct[0]
    return hashlib.sha256("\n".join(distinct).encode("ascii")).hexdigest()


WORKFLOW_VERSION = "2"
"""Changes when the order of the steps of a run does: what an older release began is then begun again under a new name,
since its record fits other steps."""


def workflow_identifier(run_id: str, attempt: int) -> str:
    """Name of the durable workflow: never used before, for every attempt and every order of the steps."""
    return f"{run_id}.{attempt}.v{WORKFLOW_VERSION}"
