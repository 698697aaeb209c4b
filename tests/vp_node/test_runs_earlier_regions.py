"""Several lesions keep their tracking UIDs from one study to the next, wherever the patient lay."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.vp_node.results_support.cases import encoded, mask_of, outcome_of, written
from tests.vp_node.runs_support.index import closed_study, make_context
from tests.vp_node.runs_support.prompts import add_prompt
from tests.vp_node.runs_support.studies import write_phantom
from vp_model.outcome import Alignment, Mask, Outcome
from vp_node.database.models import PromptVersion, Result, Run, RunState, Study
from vp_node.results.model import TrackedRegion
from vp_node.results.sources import read_sources
from vp_node.results.tracking import regions_of, track
from vp_node.runs.choosing import gathered_volumes
from vp_node.runs.earlier_regions import laid_on, regions_of_earlier_studies
from vp_node.runs.planning import request_run
from vp_node.studies.model import ChosenVolume

LESION = "white matter lesion"


def lesion(item: ChosenVolume, identifier: str, corner: tuple[int, int, int]) -> Mask:
    voxels = np.zeros(item.volume.shape, bool)
    voxels[tuple(slice(start, start + 4) for start in corner)] = True
    return mask_of(item, identifier, LESION, "", voxels)


def motion() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [4, -7, 12], degrees=True).as_matrix()
    matrix[:3, 3] = [9.0, -14.0, 6.0]
    return matrix


@pytest.mark.requirement("the same tracking UID over time")
def test_lesions_of_a_later_study_have_the_uids_of_the_run_on_the_earlier_one(tmp_path: Path) -> None:
    context = make_context(tmp_path / "data")
    before = closed_study(context, write_phantom(tmp_path / "before", visit=date(2023, 3, 1)))
    after = closed_study(context, write_phantom(tmp_path / "after", visit=date(2024, 3, 1), seed=1))
    definition = {"selection": {"sessions": 2}}
    version_id = add_prompt(context.sessions, "lesions", "How have the lesions changed?", **definition)

    def ask(study_id: int) -> str:
        with context.sessions.begin() as session:
            study, version = session.get_one(Study, study_id), session.get_one(PromptVersion, version_id)
            folder = context.data_folder
            return request_run(session, study, version, "anna", folder, "ab" * 32, context.now()).run.id

    first, second = ask(before), ask(after)
    with context.sessions() as session:
        alone = gathered_volumes(session, session.get_one(Run, first), context.data_folder)
        both = gathered_volumes(session, session.get_one(Run, second), context.data_folder)
    corners = [(2, 3, 1), (13, 15, 5)]
    masks = tuple(lesion(alone[0], f"mask-{n}", corner) for n, corner in enumerate(corners, 1))
    (path, *_) = written(encoded(outcome_of(alone, masks=masks), alone), context.data_folder / "objects")
    known = regions_of(path)
    with context.sessions.begin() as session:
        session.get_one(Run, first).state = RunState.DONE
        session.add(
            Result(
                run_id=first,
                role="seg",
                sop_instance_uid="1.2.3.4",
                series_instance_uid="1.2.3",
                digest="",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
                path=str(path.relative_to(context.data_folder)),
            )
        )
    # The patient lies elsewhere a year later, and so does the grid: the lesions lie on the same voxels of it.
    moved = motion()
    earlier, later = both
    assert [item.volume.visit for item in both] == [date(2023, 3, 1), date(2024, 3, 1)]
    alignments = (
        Alignment(earlier.name, later.name, "rigid", moved),
        Alignment(later.name, later.name, "reference", np.eye(4)),
    )
    later = replace(later, volume=replace(later.volume, world=moved @ later.volume.world))
    found = tuple(
        replace(lesion(later, f"mask-{n}", corner), world=later.volume.world)
        for n, corner in enumerate(reversed(corners), 1)
    )
    outcome = outcome_of(both, masks=found, alignments=alignments)
    with context.sessions() as session:
        carried = regions_of_earlier_studies(
            session, session.get_one(Run, second), (earlier, later), outcome, context.data_folder
        )
    assert [region.tracking_uid for region in carried] == [region.tracking_uid for region in known]
    assert {region.frame_of_reference_uid for region in carried} == {later.volume.frame_of_reference_uid}
    uids = tracked(later, outcome, carried)
    assert uids == [known[1].tracking_uid, known[0].tracking_uid]
    assert set(tracked(later, outcome, ())) & set(uids) == set()
    # Where the registration failed nobody knows which lesion is which.
    failed = replace(outcome, alignments=(replace(alignments[0], method="failed"), alignments[1]))
    assert laid_on(later.volume.study_instance_uid, known, (earlier, later), failed) == ()


def tracked(item: ChosenVolume, outcome: Outcome, carried: tuple[TrackedRegion, ...]) -> list[str]:
    (source,) = read_sources([item])
    names = track([(source, mask) for mask in outcome.masks], carried)
    return [names[mask.identifier].uid for mask in outcome.masks]
