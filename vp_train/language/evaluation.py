"""How often is what α writes right? On prompts of held-out templates and synonyms (paper 5; language).

Two measures: the same program, and the same result on a made-up brain. Refusals have their own calibration: what must
be refused, by kind, and what must not.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vp_model.agent import Agent, Plan
from vp_model.language.asked import segmented_in
from vp_model.language.reading import names, read
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume
from vp_model.vision.finding import shown_in
from vp_train.language.truth import result_of, same_result
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples
from vp_train.tasks.scene import Example

REFUSED = ("unknown structure", "not a brain question", "not understood")
Z = 1.959964
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Judged:
    """A sampled prompt, and what was planned for it."""

    example: Example
    program: str
    refused: bool
    same: bool = False
    """Another text with the same result on the made-up brain."""

    @property
    def should_refuse(self) -> bool:
        return self.example.program.startswith("refuse(")

    @property
    def wanted_reason(self) -> str:
        """`unknown structure`, `missing session`…, or an empty text."""
        return self.example.program.split('"')[1] if self.should_refuse else ""

    @property
    def exact(self) -> bool:
        """The same program; for a refusal, refused for whatever reason."""
        return self.refused if self.should_refuse else not self.refused and self.program == self.example.program

    @property
    def right(self) -> bool:
        """The same result."""
        return self.exact or (not self.refused and not self.should_refuse and self.same)


def judge_language(
    agent: Agent, count: int, held_out: bool, seed: int = 4242, progress: Callable[[int], None] | None = None
) -> tuple[dict[str, Any], list[Judged]]:
    """Plans `count` sampled prompts and compares with their target programs.

    Returns:
        Shares with 95 % intervals, and each judgement, to look at what went wrong.
    """
    judged: list[Judged] = []
    context = make_context(agent.checkpoint.regions, held_out)
    lesions = agent.checkpoint.lesions
    shows = {} if lesions is None else lesions.shows
    drawn = (example for example in examples(context, seed) if all_shown(example, shows))
    for number, example in enumerate(islice(drawn, count), 1):
        plan = agent.plan(example.prompt, example.scene.volumes)
        judged.append(_judged(example, plan, agent.checkpoint.regions))
        if progress is not None:
            progress(number)
    return summarise(judged, held_out), judged


def all_shown(example: Example, shows: Mapping[str, Sequence[str]]) -> bool:
    """Whether the study has images of the lesions that its program looks for; without, another answer is right.

    Args:
        shows: name → sequence types that show it, as in a checkpoint.
    """
    images = [(volume.session, volume.kind) for volume in example.scene.volumes]
    asked = {region for _, region in segmented_in(example.program.splitlines())}
    return all(name not in asked or shown_in(kinds, images) for name, kinds in shows.items())


def summarise(judged: Sequence[Judged], held_out: bool) -> dict[str, Any]:
    """`right` (result), `exact` (text), in all and by task, and the calibration of refusals by kind."""
    groups: dict[str, list[Judged]] = defaultdict(list)
    refusals: dict[str, list[Judged]] = defaultdict(list)
    for item in judged:
        groups[item.example.task].append(item)
        if item.should_refuse:
            refusals[item.wanted_reason].append(item)
    good = [item for item in judged if not item.should_refuse]
    bad = [item for item in judged if item.example.task in REFUSED]
    return {
        "prompts": len(judged),
        "held_out_phrasings": held_out,
        **_shares("right", (item.right for item in judged)),
        **_shares("right_of_good", (item.right for item in good)),
        "exact": _share([item.exact for item in judged]),
        "right_by_task": {task: _share([item.right for item in groups[task]]) for task in sorted(groups)},
        **_shares("refused_of_unknown", (item.refused for item in bad)),
        **_shares("refused_of_good", (item.refused for item in good)),
        "refused_by_reason": {
            reason: dict(_shares("refused", (item.refused for item in items))) | {"prompts": len(items)}
            for reason, items in sorted(refusals.items())
        },
        "answered_wrongly": _share([not item.refused and not item.right for item in good]),
    }


@dataclass(frozen=True)
class HandWritten:
    """A prompt that a person wrote, and what is expected of it."""

    prompt: str
    dates: tuple[str, ...]
    kinds: tuple[str, ...]
    status: str
    reason: str
    """Beginning of a refusal's reason: a key of `REFUSALS`; empty for any."""
    task: str
    structures: tuple[tuple[str, str], ...]

    @property
    def volumes(self) -> tuple[InputVolume, ...]:
        visits = sorted(set(self.dates))
        kinds = self.kinds or ("unknown",) * len(self.dates)
        return tuple(
            InputVolume(f"v{number}", kind, visit, visits.index(visit))
            for number, (visit, kind) in enumerate(zip(self.dates, kinds, strict=True), 1)
        )

    def fits(self, plan: Plan) -> bool:
        """The plan has the expected status; where answered, also task and structures with their sides: those expected,
        or the wider ones that the prompt names ("lesions" are of white matter, or of any kind, as the weights know).
        """
        if plan.status != self.status:
            return False
        named = names(read(self.prompt))
        wider = {(_said(name, named), side) for name, side in self.structures}
        found = set(plan.structures)
        return self.status == "refused" or (plan.task == self.task and found in (set(self.structures), wider))


def _said(name: str, named: Collection[str]) -> str:
    """A structure; or of a lesion, the wider one that a prompt names in its place."""
    if name in named or load_ontology().structures[name].kind != "pathology":
        return name
    return next((wider for wider in sorted(load_ontology().ancestors(name)) if wider in named), name)


def read_prompts(path: Path) -> tuple[HandWritten, ...]:
    """Prompts of a JSON file: `prompt`, `dates`, `kinds`, `status`, `reason`, `task`, `structures` ([name, side])."""
    rows: list[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["prompts"]
    return tuple(
        HandWritten(
            row["prompt"],
            tuple(row.get("dates", ("2024-03-01",))),
            tuple(row.get("kinds", ())),
            row["status"],
            row.get("reason", ""),
            row.get("task", ""),
            tuple((name, side) for name, side in row.get("structures", ())),
        )
        for row in rows
    )


def judge_prompts(
    agent: Agent, prompts: Sequence[HandWritten]
) -> tuple[dict[str, Any], list[tuple[HandWritten, Plan]]]:
    """Hand-written prompts: shares as expected, and those that are not, with their plans."""
    planned = [(item, agent.plan(item.prompt, item.volumes)) for item in prompts]
    good = [(item, plan) for item, plan in planned if item.status == "answered"]
    bad = [(item, plan) for item, plan in planned if item.status == "refused"]
    results = {
        "prompts": len(planned),
        **_shares("as_expected", (item.fits(plan) for item, plan in planned)),
        **_shares("good_as_expected", (item.fits(plan) for item, plan in good)),
        **_shares("refused_of_good", (plan.status == "refused" for _, plan in good)),
        **_shares("refused_of_bad", (plan.status == "refused" for _, plan in bad)),
    }
    return results, [(item, plan) for item, plan in planned if not item.fits(plan)]


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as a table, one row for each set of prompts."""
    shown = (
        "right",
        "right_of_good",
        "exact",
        "as_expected",
        "refused_of_unknown",
        "refused_of_bad",
        "refused_of_good",
    )
    lines = [
        f"| prompts | n | {' | '.join(name.replace('_', ' ') for name in shown)} |",
        f"|---|---|{'---|' * len(shown)}",
    ]
    for kind, result in results.items():
        cells = [_cell(result, name) for name in shown]
        lines.append(f"| {kind} | {result['prompts']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def interval(part: int, whole: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not whole:
        return 0.0, 1.0
    share, square = part / whole, Z * Z / whole
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / whole + square / (4 * whole)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _judged(example: Example, plan: Plan, regions: Sequence[str]) -> Judged:
    judged = Judged(example, plan.program, plan.status == "refused")
    if judged.exact or judged.refused or judged.should_refuse:
        return judged
    wanted = result_of(example.program, example.prompt, example.scene.volumes, regions)
    given = result_of(plan.program, example.prompt, example.scene.volumes, regions)
    same = wanted is not None and given is not None and same_result(wanted, given)
    return Judged(example, plan.program, False, same)


def _shares(name: str, judgements: Iterable[bool]) -> dict[str, Any]:
    found = list(judgements)
    low, high = interval(sum(found), len(found))
    return {name: _share(found), f"{name}_95": [round(low, 4), round(high, 4)]}


def _share(judgements: Sequence[bool]) -> float | None:
    return round(sum(judgements) / len(judgements), 4) if judgements else None


def _cell(result: Mapping[str, Any], name: str) -> str:
    share = result.get(name)
    if share is None:
        return ""
    low, high = result.get(f"{name}_95", (None, None))
    return f"{100 * share:.1f} %" + (f" ({100 * low:.1f}–{100 * high:.1f})" if low is not None else "")
