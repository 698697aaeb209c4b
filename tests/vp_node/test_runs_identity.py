"""Asking twice is asking once; anything that changes the answer changes the name."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vp_node.runs.identity import WORKFLOW_VERSION, combined_digest, run_identifier, workflow_identifier

DIGEST = "0f" * 32
VERSION = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def test_identity_of_a_run_is_fixed_for_ever() -> None:
    """Results in PACSs carry UIDs made of it: this value must never change."""
    name = run_identifier("1.2.840.1", VERSION, "ab" * 32, DIGEST)
    assert name == run_identifier("1.2.840.1", VERSION, "ab" * 32, DIGEST)
    assert name == "b9acbf88-fda6-513d-af4e-b4c8708d0cb7"
    assert UUID(name).version == 5


def test_each_part_changes_the_identity() -> None:
    parts = ["1.2.840.1", VERSION, "ab" * 32, DIGEST]
    names = {run_identifier(*parts)}
    for position, other in enumerate(["1.2.840.2", VERSION.replace("7", "8"), "cd" * 32, "1e" * 32]):
        names.add(run_identifier(*[*parts[:position], other, *parts[position + 1 :]]))
    assert len(names) == 5


def test_digest_of_one_study_is_its_own() -> None:
    assert combined_digest([DIGEST]) == DIGEST
    assert combined_digest([DIGEST, DIGEST]) == DIGEST


@given(st.lists(st.integers(0, 2**64), min_size=2, max_size=6, unique=True), st.randoms())
def test_combined_digest_depends_on_the_studies_and_not_on_their_order(numbers: list[int], random: object) -> None:
    digests = [f"{number:064x}" for number in numbers]
    shuffled = list(digests)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert combined_digest(digests) == combined_digest(shuffled)
    assert combined_digest(digests) != combined_digest(digests[:-1])


def test_a_retry_by_hand_has_a_workflow_of_its_own() -> None:
    assert workflow_identifier("run", 1) == f"run.1.v{WORKFLOW_VERSION}"
    assert workflow_identifier("run", 2) != workflow_identifier("run", 1)
