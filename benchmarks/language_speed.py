"""Tokens per second of α with and without its constraint, and where the time of the constraint goes.

    python -m benchmarks.language_speed [--weights FOLDER] [--rounds 3] [--threads 1] [--json FILE]

Seconds are of the process's CPU time, on one thread unless told otherwise: what else the machine does changes little.
Unconstrained decoding writes as many tokens as the constrained one did, from the same state, so that both run the
network equally often: what differs is the grammar. The parts of the constraint are measured on the lines that were
written: making the grammar's text, compiling it, and the masks of its tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance import numpy as bitmasks
from safetensors.torch import load_file
from tokenizers import Tokenizer

from vp_model.checkpoint import LANGUAGE_FILE, TOKENIZER_FILE, Checkpoint, open_checkpoint
from vp_model.language.config import LanguageConfig
from vp_model.language.decoding import Writer, make_constraint
from vp_model.language.model import LanguageModel
from vp_model.language.state import encode, initial_text
from vp_model.language.tokens import END, load_tokenizer
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume
from vp_model.program.checker import Known
from vp_model.program.environment import initial_known, region_targets
from vp_model.program.writer import ProgramWriter

ONE = (InputVolume("v1", "T1", "2024-03-01", 0),)
TWO = (InputVolume("v1", "T1", "2024-03-01", 0), InputVolume("v2", "T1", "2025-03-04", 1))
PROMPTS = (
    ("segment the left hippocampus", ONE),
    ("what is the volume of the right thalamus?", ONE),
    ("compare the left and right lateral ventricle", ONE),
    ("how long is the brainstem from top to bottom?", ONE),
    ("where is the centre of mass of the left putamen?", ONE),
    ("crop the image to the brainstem with a margin of 10 mm", ONE),
    ("how has the volume of the left hippocampus changed?", TWO),
    ("compute the change in extent of the right caudate", TWO),
)


@dataclass(frozen=True)
class Measured:
    """One prompt: tokens read and written, lines; and medians over the rounds, in CPU seconds."""

    prompt: str
    read_tokens: int
    tokens: int
    lines: int
    read: float
    free: float
    constrained: float
    grammars: float
    compiling: float
    masks: float


def load(checkpoint: Checkpoint) -> tuple[LanguageModel, Tokenizer]:
    """α in single precision."""
    tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    model = LanguageModel(LanguageConfig(**checkpoint.language), tokenizer.get_vocab_size())
    weights = load_file(checkpoint.folder / LANGUAGE_FILE)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval(), tokenizer


def measure(
    checkpoint: Checkpoint, rounds: int, prompts: Sequence[tuple[str, tuple[InputVolume, ...]]] = PROMPTS
) -> list[Measured]:
    model, tokenizer = load(checkpoint)
    constraint = make_constraint(tokenizer)
    found = region_targets(load_ontology(), checkpoint.regions)
    targets = {name: target for name, target in found.items() if len(target.sides) == 1}
    results = []
    for prompt, volumes in prompts:
        known = initial_known(volumes, targets)
        text = initial_text(prompt, volumes, checkpoint.served)
        samples = []
        for number in range(rounds + 1):
            writer = Writer(model, tokenizer, constraint)
            started = time.process_time()
            writer.read(text)
            read = time.process_time() - started
            step = writer.write(known)
            constrained = time.process_time() - started - read
            ids = [*encode(tokenizer, step.code), tokenizer.token_to_id(END)]
            free = seconds_unconstrained(model, encode(tokenizer, text), len(ids), time.process_time)
            lines = step.code.splitlines()
            parts = _parts(lines, known, constraint, tokenizer)
            if number:  # the first round warms caches up
                samples.append((read, free, constrained, *parts))
        counts = len(encode(tokenizer, text)), len(ids), len(lines)
        results.append(Measured(prompt, *counts, *(statistics.median(column) for column in zip(*samples, strict=True))))
    return results


@torch.inference_mode()
def seconds_unconstrained(
    model: LanguageModel, prompt: Sequence[int], count: int, clock: Callable[[], float], device: str = "cpu"
) -> float:
    """Seconds for `count` tokens, each the most probable, after a prompt."""
    result = model(torch.tensor([prompt], device=device), None, None, use_cache=True)
    started = clock()
    for _ in range(count):
        token = int(result.logits[0, -1].argmax())
        result = model(torch.tensor([[token]], device=device), None, result.cache, use_cache=True)
    return clock() - started


def _parts(lines: list[str], known: Known, constraint: LLTokenizer, tokenizer: Tokenizer) -> tuple[float, float, float]:
    """Seconds for the texts of the grammars, for compiling them, and for the masks of all tokens."""
    writer = ProgramWriter(known)
    grammars = compiling = masks = 0.0
    mask = bitmasks.allocate_token_bitmask(1, constraint.vocab_size)
    for line in lines:
        started = time.process_time()
        text = writer.grammar((END,) if writer.complete else ())
        grammars += time.process_time() - started
        started = time.process_time()
        matcher = LLMatcher(constraint, LLMatcher.grammar_from_lark(text))
        compiling += time.process_time() - started
        started = time.process_time()
        for token in encode(tokenizer, line + "\n"):
            bitmasks.fill_next_token_bitmask(matcher, mask)
            matcher.consume_token(token)
        masks += time.process_time() - started
        writer.accept(line)
    return grammars, compiling, masks


def table(results: list[Measured]) -> str:
    rows = [
        "| prompt | read, tokens/s | written | free, tokens/s | constrained, tokens/s | constraint's share "
        "| grammar text, ms/line | compiling, ms/line | masks, ms/token |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for item in results:
        rows.append(
            f"| {item.prompt} | {item.read_tokens / item.read:.0f} | {item.tokens} | {item.tokens / item.free:.0f} "
            f"| {item.tokens / item.constrained:.0f} | {1 - item.free / item.constrained:.0%} "
            f"| {1e3 * item.grammars / item.lines:.1f} | {1e3 * item.compiling / item.lines:.1f} "
            f"| {1e3 * item.masks / item.tokens:.2f} |"
        )
    tokens = sum(item.tokens for item in results)
    free, constrained = sum(item.free for item in results), sum(item.constrained for item in results)
    rows.append(
        f"| **all** | {sum(i.read_tokens for i in results) / sum(i.read for i in results):.0f} | {tokens} "
        f"| {tokens / free:.0f} | {tokens / constrained:.0f} | {1 - free / constrained:.0%} | | | |"
    )
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="checkpoint folder; default: the bundled one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the numbers too")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    checkpoint = open_checkpoint(chosen.weights)
    results = measure(checkpoint, chosen.rounds)
    print(
        f"{torch.get_num_threads()} thread(s), fp32, checkpoint {checkpoint.identity.name}, median of {chosen.rounds}\n"
    )
    print(table(results))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(item) for item in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
