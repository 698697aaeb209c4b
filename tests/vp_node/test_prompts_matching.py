"""Which stored studies a prompt applies to, and what it would do with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.vp_node.runs_support.index import closed_study, make_context
from tests.vp_node.runs_support.studies import write_phantom
from vp_model.outcome import InputVolume
from vp_node.database.models import AuditEvent, Instance, Prompt, PromptVersion, Run, Series, Study
from vp_node.prompts.definition import PromptDefinition
from vp_node.prompts.dry_run import complete_studies, dry_run
from vp_node.prompts.matching import facts_of, matching_versions
from vp_node.prompts.repository import add_prompt, set_enabled
from vp_node.runs.context import RunContext


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(tmp_path / "data")


def definition(name: str, modality: str, **more: Any) -> PromptDefinition:
    condition = {"field": "modality", "operator": "equals", "value": modality}
    return PromptDefinition.from_json(
        {"name": name, "owner": "Dr. Example", "text": f"measure {name}", "conditions": condition, **more}
    )


def study_of(context: RunContext, folder: Path, day: int = 1) -> int:
    return closed_study(context, write_phantom(folder, visit=date(2024, 3, day), seed=day))


def test_facts_are_those_of_the_study_and_its_received_series(context: RunContext, tmp_path: Path) -> None:
    study_id = study_of(context, tmp_path / "study")
    with context.sessions.begin() as session:
        own = Series(study_id=study_id, series_instance_uid="1.2.3", modality="SEG", description="made here")
        session.add(own)
        session.flush()
        template = session.query(Instance).first()
        assert template is not None
        session.add(
            Instance(
                series_id=own.id,
                sop_instance_uid="1.2.3.4",
                sop_class_uid="1.2",
                transfer_syntax_uid="1.2",
                path="own",
                digest="d",
                size=1,
                header=template.header,
                own_result=True,
            )
        )
    with context.sessions() as session:
        found = facts_of(session, session.get_one(Study, study_id))
    assert found.modality == ("MR",)
    assert found.body_part == ("BRAIN",)
    assert found.study_description == ("Brain MR",)
    assert found.series_description == ("T1 MPRAGE",)
    assert found.study_date == (date(2024, 3, 1),)
    assert found.called_ae_title == ("VOXELPROMPT",)
    assert found.calling_ae_title == ("TESTPACS",)
    assert found.patient_sex == ("O",)
    assert found.patient_age == ()


def test_enabled_standing_prompts_that_fit_apply_in_their_current_version(context: RunContext, tmp_path: Path) -> None:
    study_id = study_of(context, tmp_path / "study")
    with context.sessions.begin() as session:
        for name, modality in (("fits", "MR"), ("not", "CT"), ("off", "MR")):
            add_prompt(session, definition(name, modality), "anna")
        set_enabled(session, "off", False, "anna")
        broken = PromptVersion(id="b", number=1, text="t", definition={"from": "the future"}, created_by="x")
        session.add(Prompt(name="broken", owner="x", versions=[broken]))
        session.add(
            Prompt(
                name="once",
                owner="x",
                standing=False,
                versions=[
                    PromptVersion(
                        id="o", number=1, text="t", definition=definition("once", "MR").to_json(), created_by="x"
                    )
                ],
            )
        )
    with context.sessions() as session:
        found = matching_versions(session, session.get_one(Study, study_id))
        assert [version.prompt.name for version in found] == ["fits"]


def test_a_dry_run_says_what_would_happen_and_stores_nothing(context: RunContext, tmp_path: Path) -> None:
    first, second = study_of(context, tmp_path / "1", 1), study_of(context, tmp_path / "2", 2)
    asked: list[tuple[str, tuple[InputVolume, ...]]] = []

    def planner(prompt: str, volumes: tuple[InputVolume, ...]) -> Mapping[str, Any]:
        asked.append((prompt, volumes))
        return {"status": "answered", "reason": "", "task": "t", "structures": [], "program": "show(x)"}

    with context.sessions() as session:
        assert complete_studies(session) == [first, second]
        before = (session.query(Run).count(), session.query(AuditEvent).count())
    two_visits = definition("change", "MR", selection={"sessions": 2})
    found = list(dry_run(context.sessions, two_visits, [first, second], context.data_folder, planner))
    assert [item.matched for item in found] == [True, True]
    assert [item.taken for item in found] == [1, 2]
    assert found[0].plan is not None and found[0].plan["program"] == "show(x)"
    assert [[volume.visit for volume in volumes] for _, volumes in asked] == [
        ["2024-03-01"],
        ["2024-03-01", "2024-03-02"],
    ]
    assert all("of kind T1" in choice["reason"] for choice in found[1].choices)
    with context.sessions() as session:
        assert (session.query(Run).count(), session.query(AuditEvent).count()) == before
        assert session.query(Prompt).count() == 0


def test_a_dry_run_asks_the_model_only_where_the_prompt_applies(context: RunContext, tmp_path: Path) -> None:
    study_id = study_of(context, tmp_path / "study")

    def planner(*_: Any) -> Mapping[str, Any]:
        raise AssertionError("the prompt does not apply")

    (found,) = dry_run(context.sessions, definition("ct", "CT"), [study_id], context.data_folder, planner)
    assert (found.matched, found.choices, found.plan) == (False, (), None)
    assert found.explanation == ("no  modality is MR, wanted CT",)
