"""How often does α write the right program? On prompts of held-out templates and synonyms (paper 5; language)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vp_model.agent import Agent
from vp_train.tasks.context import make_context
from vp_train.tasks.registry import examples
from vp_train.tasks.scene import Example

REFUSED = ("unknown structure", "not a brain question", "not understood")


@dataclass(frozen=True)
class Judged:
    example: Example
    program: str
    refused: bool

    @property
    def should_refuse(self) -> bool:
        return self.example.program.startswith("refuse(")

    @property
    def right(self) -> bool:
        """The same program; for a refusal, refused for whatever reason."""
        return self.refused if self.should_refuse else not self.refused and self.program == self.example.program


def judge_language(
    agent: Agent, count: int, held_out: bool, seed: int = 4242, progress: Callable[[int], None] | None = None
) -> tuple[dict[str, Any], list[Judged]]:
    """Plans `count` sampled prompts and compares with their target programs.

    Returns:
        Shares: `right` in all and by task, `refused_of_unknown` (structures, questions), `refused_of_good`; and each
        judgement, to look at what went wrong.
    """
    judged: list[Judged] = []
    context = make_context(agent.checkpoint.regions, held_out)
    for number, example in enumerate(islice(examples(context, seed), count), 1):
        plan = agent.plan(example.prompt, example.scene.volumes)
        judged.append(Judged(example, plan.program, plan.status == "refused"))
        if progress is not None:
            progress(number)
    return summarise(judged, held_out), judged


def summarise(judged: list[Judged], held_out: bool) -> dict[str, Any]:
    asked, right = Counter[str](), Counter[str]()
    for item in judged:
        asked[item.example.task] += 1
        right[item.example.task] += item.right
    good = [item for item in judged if not item.should_refuse]
    bad = [item for item in judged if item.example.task in REFUSED]
    return {
        "prompts": len(judged),
        "held_out_phrasings": held_out,
        "right": _share(sum(right.values()), len(judged)),
        "right_by_task": {task: _share(right[task], asked[task]) for task in sorted(asked)},
        "refused_of_unknown": _share(sum(item.refused for item in bad), len(bad)),
        "refused_of_good": _share(sum(item.refused for item in good), len(good)),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
