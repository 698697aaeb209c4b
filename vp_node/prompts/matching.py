"""Which standing prompts apply to a study."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from vp_node.database.models import Instance, Prompt, PromptVersion, Series, Study
from vp_node.prompts.conditions import StudyFacts
from vp_node.prompts.definition import PromptDefinition


def facts_of(session: Session, study: Study) -> StudyFacts:
    """What conditions may ask about a stored study. Series of this node's own results do not count."""
    series = session.scalars(
        select(Series)
        .where(Series.study_id == study.id)
        .where(Series.instances.any(Instance.own_result.is_(False)))
        .order_by(Series.id)
    ).all()
    return StudyFacts(
        called_ae_title=study.called_ae_title,
        calling_ae_title=study.calling_ae_title,
        modality=frozenset(item.modality for item in series),
        body_part=frozenset(item.body_part for item in series),
        study_description=study.description,
        series_description=frozenset(item.description for item in series),
        station=frozenset(item.station for item in series),
        institution=study.institution,
        protocol=frozenset(item.protocol for item in series),
        patient_sex=study.patient_sex,
        patient_age=study.patient_age_years,
        study_date=study.study_date,
    )


def matching_versions(session: Session, study: Study) -> Iterable[PromptVersion]:
    """The newest version of each enabled standing prompt whose conditions hold."""
    facts = facts_of(session, study)
    prompts = session.scalars(
        select(Prompt).where(Prompt.standing.is_(True), Prompt.enabled.is_(True)).order_by(Prompt.id)
    )
    return [
        prompt.versions[-1]
        for prompt in prompts
        if prompt.versions and PromptDefinition.from_json(prompt.versions[-1].definition).judge(facts).holds
    ]
