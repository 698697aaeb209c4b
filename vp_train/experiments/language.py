"""Language (section 5 "Limitations", B.1): does α write the program that is meant, and does what it writes give the
same result, on phrasings it was trained on and on others?
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vp_model.agent import Agent
from vp_train.experiments.checkpoint import named
from vp_train.experiments.report import Report
from vp_train.language.evaluation import judge_language

PAPER = "no figure; template-generated prompts limit generalisation to entirely novel ones (section 5)."
KINDS = {"trained phrasings": False, "held-out phrasings": True}


def run(settings: Mapping[str, Any], checkpoint: Path | None = None) -> Report:
    """Plan prompts of both kinds and compare with their target programs."""
    agent = Agent.load(checkpoint)
    results = {kind: judge_language(agent, int(settings["prompts"]), held_out)[0] for kind, held_out in KINDS.items()}
    rows = [
        (
            kind,
            str(result["prompts"]),
            _share(result, "right"),
            _share(result, "right_of_good"),
            f"{100 * result['exact']:.1f}",
            _share(result, "refused_of_unknown"),
            _share(result, "refused_of_good"),
        )
        for kind, result in results.items()
    ]
    tasks = results["held-out phrasings"]["right_by_task"]
    weakest = sorted(tasks, key=lambda task: float(tasks[task]))[: int(settings["shown"])]
    notes = (
        "Exact: the same program, token by token; right: the same masks, numbers and words when both run on a made-up "
        "brain. In brackets Wilson's 95 % intervals.",
        "Weakest tasks of the held-out phrasings: "
        + ", ".join(f"{task} {100 * tasks[task]:.0f} %" for task in weakest)
        + ".",
    )
    return Report(
        "language",
        "Language: exact programs, and equal results when run",
        PAPER,
        (
            "prompts",
            "n",
            "right (%)",
            "right, of those to answer (%)",
            "exact (%)",
            "refused, of those to refuse (%)",
            "refused, of those to answer (%)",
        ),
        tuple(rows),
        notes,
        {**settings, **named(checkpoint)},
        {"results": results},
    )


def _share(result: Mapping[str, Any], name: str) -> str:
    if result[name] is None:
        return "–"
    low, high = result[f"{name}_95"]
    return f"{100 * result[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
