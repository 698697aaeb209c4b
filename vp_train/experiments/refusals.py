"""Calibration of refusals: does α know when it must refuse, and what is left wrong when unsure answers are withheld?

Two probabilities of α are looked at. That a program begins with a refusal, against whether the prompt had to be
refused: reliability, Brier's score, expected calibration error. And that of all that it wrote, against whether it was
right: risk and coverage (El-Yaniv and Wiener 2010), when the least certain prompts are left to a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn import functional

from vp_model.agent import Agent
from vp_model.language.model import LanguageModel
from vp_model.language.state import encode, initial_text
from vp_model.language.tokens import END
from vp_train.experiments.checkpoint import load_language, named
from vp_train.experiments.report import Curve, Report
from vp_train.language.evaluation import Judged, interval, judge_language

PAPER = "no figure; the paper does not refuse."
BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
COVERAGES = (1.0, 0.98, 0.95, 0.9, 0.8)
REFUSING, ANSWERING = "refuse(", "task("
"""How programs begin."""


@dataclass(frozen=True)
class Certainty:
    """What α held probable before it wrote.

    Attributes:
        refusal: that the program begins with a refusal, of all programs that begin as programs do.
        program: of the whole program, token by token.
    """

    refusal: float
    program: float


def certainty(
    language: LanguageModel, tokenizer: Tokenizer, state: str, program: str, beginnings: Mapping[str, torch.Tensor]
) -> Certainty:
    """Of a program that was written after a state.

    Args:
        beginnings: the tokens with which each of `REFUSING` and `ANSWERING` can begin (see `first_tokens`).
    """
    read = encode(tokenizer, state)
    written = [token for line in program.splitlines(keepends=True) for token in encode(tokenizer, line)]
    written += encode(tokenizer, END)
    with torch.inference_mode():
        logits = language(torch.tensor([[*read, *written]])).logits[0, len(read) - 1 : -1].float()
    chances = functional.softmax(logits[0], dim=0)
    refusing, answering = (float(chances[beginnings[name]].sum()) for name in (REFUSING, ANSWERING))
    taken = functional.log_softmax(logits, dim=1)[torch.arange(len(written)), torch.tensor(written)]
    return Certainty(refusing / max(refusing + answering, 1e-12), float(taken.sum().exp()))


def first_tokens(tokenizer: Tokenizer) -> dict[str, torch.Tensor]:
    """For each way in which programs begin, the tokens that agree with it."""
    texts = [tokenizer.decode([token], skip_special_tokens=False) for token in range(tokenizer.get_vocab_size())]
    return {
        name: torch.tensor(
            [token for token, text in enumerate(texts) if text and (name.startswith(text) or text.startswith(name))]
        )
        for name in (REFUSING, ANSWERING)
    }


def calibration_error(chances: NDArray[np.float64], happened: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error: mean distance between stated and observed share over equal bins, by their number."""
    place = np.minimum((chances * bins).astype(int), bins - 1)
    gaps = [
        (place == number).mean() * abs(chances[place == number].mean() - happened[place == number].mean())
        for number in range(bins)
        if (place == number).any()
    ]
    return float(np.sum(gaps))


def risks(certainties: NDArray[np.float64], wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of wrong ones among the most certain 1, 2, … n."""
    order = np.argsort(-certainties, kind="stable")
    found: NDArray[np.float64] = np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)
    return found


def run(settings: Mapping[str, Any], checkpoint: Path | None = None) -> Report:
    """Plan prompts of held-out phrasings, among them such that must be refused, and look how certain α was."""
    agent = Agent.load(checkpoint)
    language, tokenizer = load_language(checkpoint)
    beginnings = first_tokens(tokenizer)
    _, judged = judge_language(agent, int(settings["prompts"]), True, seed=int(settings["seed"]))
    known = agent.checkpoint.served
    found = [
        certainty(
            language,
            tokenizer,
            initial_text(item.example.prompt, item.example.scene.volumes, known),
            item.program,
            beginnings,
        )
        for item in judged
    ]
    refusal = np.array([item.refusal for item in found])
    must = np.array([item.should_refuse for item in judged])
    whole = np.array([item.program for item in found])
    wrong = np.array([not item.right for item in judged])
    curve = risks(whole, wrong)
    values = {
        "refusal": refusal.tolist(),
        "must_refuse": must.tolist(),
        "program": whole.tolist(),
        "wrong": wrong.tolist(),
        "brier": float(np.mean((refusal - must) ** 2)),
        "calibration_error": calibration_error(refusal, must),
        "area_under_risk": float(curve.mean()),
    }
    coverage = [(share, curve[max(1, round(share * len(curve))) - 1]) for share in COVERAGES]
    notes = (
        f"{len(judged)} prompts of held-out phrasings, {must.sum()} of them to be refused.",
        f"Probability of refusing: Brier's score {values['brier']:.4f}, expected calibration error "
        f"{values['calibration_error']:.4f} (ten bins).",
        "Wrong when the least certain prompts are left to a person, certainty being the probability of the whole "
        "program: "
        + ", ".join(f"{100 * risk:.1f} % at {100 * share:.0f} % coverage" for share, risk in coverage)
        + f"; area under the curve {100 * values['area_under_risk']:.2f} %.",
        "Refused is what the whole system refuses; behind α stands the check that a program is grounded in its prompt.",
        _by_kind(judged),
    )
    shares = np.arange(1, len(curve) + 1) / len(curve)
    return Report(
        "refusals",
        "Calibration of refusals: reliability, risk and coverage",
        PAPER,
        ("α's probability of refusing", "prompts", "stated (%)", "to be refused (%)", "refused by the system (%)"),
        tuple(_bins(refusal, must, np.array([item.refused for item in judged]))),
        notes,
        {**settings, **named(checkpoint)},
        values,
        curve=Curve(
            "share of prompts answered", "share wrong", {"most certain first": (shares.tolist(), curve.tolist())}
        ),
    )


def _bins(refusal: NDArray[np.float64], must: NDArray[np.bool_], refused: NDArray[np.bool_]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for low, high in pairwise(BINS):
        here = (refusal >= low) & ((refusal < high) | (high == BINS[-1]))
        if not here.any():
            continue
        bounds = interval(int(must[here].sum()), int(here.sum()))
        rows.append(
            (
                f"{low:g} to {high:g}",
                str(int(here.sum())),
                f"{100 * refusal[here].mean():.1f}",
                f"{100 * must[here].mean():.1f} [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]",
                f"{100 * refused[here].mean():.1f}",
            )
        )
    return rows


def _by_kind(judged: Sequence[Judged]) -> str:
    """Refused by kind of prompt, with Wilson's intervals."""
    groups: dict[str, list[bool]] = {}
    for item in judged:
        groups.setdefault(item.wanted_reason or "to be answered", []).append(item.refused)
    parts = []
    for name, refused in sorted(groups.items()):
        low, high = interval(sum(refused), len(refused))
        parts.append(f"{name} {sum(refused)} of {len(refused)} [{100 * low:.0f}, {100 * high:.0f} %]")
    return "Refused, by kind of prompt: " + "; ".join(parts) + "."
