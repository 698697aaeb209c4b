"""Training α: cross-entropy on target programs, and the conditions φ of a warm-started vision network at `<MOD>`.

The condition table comes from the vision network's own training, where each region had a φ of its own; α learns to
write it. From there on, joint training (`vp_train.joint`) carries the segmentation loss into α through φ.
"""

from __future__ import annotations

import json
import math
import random
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional

from vp_model.checkpoint import TOKENIZER_FILE
from vp_model.language.config import PRESETS, LanguageConfig
from vp_model.language.model import LanguageModel
from vp_model.language.reading import marks, reading_of
from vp_model.language.tokens import load_tokenizer, train_tokenizer
from vp_train.language.fragments import code_fragments
from vp_train.language.growth import begin_from, grown_tokenizer
from vp_train.language.optimisation import ADAMW, MovingAverage, Optimisers, weights_of_tokens
from vp_train.language.sequences import IGNORED, TokenSequence, to_batch, to_sequence
from vp_train.tasks.context import Context, make_context
from vp_train.tasks.registry import examples

TOKENIZER_EXAMPLES = 20_000
STATE_FILE = "language_state.pt"
RECIPE_FILE = "language_recipe.json"
LOG_EVERY = 50
BUCKET_BATCHES = 40
SAVE_SECONDS = 60
FIT_STEPS = 500
"""Steps of the fit of φ, of some milliseconds each."""
RAREST, MEMORY = 0.15, 0.99
"""Of `Focus`: smallest share of a task's examples that are taken; decay of its mean losses."""


@dataclass(frozen=True)
class LanguageRecipe:
    """Numbers of a training run of α."""

    preset: str = "compact"
    vocabulary: int = 2200
    batch: int = 32
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    minutes: float = 25
    condition_weight: float = 1.0
    seed: int = 1
    threads: int = 1
    focus: float = 0.0
    """How much more often tasks are drawn that are not yet learned: 0 as the registry says, 1 nearly in proportion to
    the loss."""
    optimiser: str = ADAMW
    """`adamw` or `muon` (`optimisation.py`)."""
    average: float = 0.0
    """Decay of a moving average of the weights, which takes their place in what is written; 0: none."""
    first_weight: float = 1.0
    """How many times more than another token the first one of a program counts, which chooses the task."""


@dataclass(eq=False)
class Focus:
    """The mean loss of each task, and from it how often an example of it is taken."""

    strength: float
    losses: dict[str, float] = field(default_factory=dict)

    def takes(self, task: str, chance: random.Random) -> bool:
        """Whether an example is taken: always of the task with the largest loss, of others the less the stronger."""
        if not self.strength or task not in self.losses:
            return True
        share = (self.losses[task] / max(self.losses.values())) ** self.strength
        return chance.random() < max(RAREST, share)

    def learn(self, tasks: Sequence[str], losses: torch.Tensor) -> None:
        """Takes note of the losses (b,) of a batch."""
        for task, loss in zip(tasks, losses.tolist(), strict=True):
            self.losses[task] = loss if task not in self.losses else self.losses[task] * MEMORY + loss * (1 - MEMORY)


def train_language(
    folder: Path,
    regions: Sequence[str],
    recipe: LanguageRecipe,
    table: Mapping[str, NDArray[np.float32]],
    begin: Path | None = None,
) -> None:
    """Trains α into `folder` (tokenizer.json, language.safetensors, language_curve.csv), or goes on from what is there.

    Ends after `recipe.minutes` of training in all, or at SIGTERM, with everything saved.

    Args:
        regions: what the weights know: `left hippocampus`, `brainstem`…
        table: φ after SiLU of each region; regions without one teach no φ.
        begin: checkpoint folder from which a new run begins.

    Raises:
        ValueError: α cannot begin from the checkpoint.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    context = make_context(regions)
    if begin is not None and not (folder / TOKENIZER_FILE).exists():
        grown_tokenizer(begin, known_names(context)).save(str(folder / TOKENIZER_FILE))
    tokenizer = _tokenizer(folder, context, recipe)
    config = PRESETS[recipe.preset]
    model = LanguageModel(config, tokenizer.get_vocab_size())
    if begin is not None and not (folder / STATE_FILE).exists():
        begin_from(model, tokenizer, begin, known_names(context))
    optimisers = Optimisers(model, recipe.optimiser, recipe.learning_rate)
    average = MovingAverage(model, recipe.average) if recipe.average else None
    step, used = _resume(folder, model, optimisers, average)
    stopped = _stop_flag()
    focus = Focus(recipe.focus)
    batches = _batches(tokenizer, context, recipe, recipe.seed + 1000 * (step + 1), focus)
    start = saved = time.monotonic()
    budget = recipe.minutes * 60
    totals = np.zeros(3)
    while (elapsed := used + time.monotonic() - start) < budget and not stopped:
        rate = _rate(recipe, step, elapsed / budget)
        tasks, sequences = zip(*next(batches), strict=True)
        batch = to_batch(sequences, tokenizer, table, config.condition_size)
        hidden = model.decoder(input_ids=batch.ids).last_hidden_state
        # The vocabulary is wide and the state is long: only what is to be predicted is projected.
        asked = batch.targets != IGNORED
        logits, targets = model.vocabulary(hidden[asked]), batch.targets[asked]
        each = functional.cross_entropy(logits, targets, reduction="none")
        rows = asked.nonzero()[:, 0]
        code = (weights_of_tokens(rows, recipe.first_weight) * each).mean()
        if recipe.focus:
            focus.learn(tasks, torch.zeros(len(tasks)).index_add_(0, rows, each.detach()))
        phi = functional.silu(model.condition(hidden[batch.condition_places[:, 0], batch.condition_places[:, 1]]))
        condition = functional.mse_loss(phi, batch.conditions) if len(phi) else torch.zeros(())
        loss = code + recipe.condition_weight * condition
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimisers.step(rate)
        if average is not None:
            average.update(model)
        step += 1
        totals += (
            float(each.detach().mean()),
            float(condition.detach()),
            float((logits.argmax(-1) == targets).float().mean()),
        )
        if step % LOG_EVERY == 0:
            means, totals = totals / LOG_EVERY, np.zeros(3)
            line = f"{step},{elapsed:.0f},{rate:.2e},{means[0]:.4f},{means[1]:.5f},{means[2]:.5f}"
            print(line, flush=True)
            with (folder / "language_curve.csv").open("a") as curve:
                curve.write(line + "\n")
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(folder, model, optimisers, average, step, elapsed)
            saved = time.monotonic()
    _save(folder, model, optimisers, average, step, used + time.monotonic() - start)
    (folder / RECIPE_FILE).write_text(
        json.dumps({**asdict(recipe), "steps": step, "config": config.as_dict(), "regions": list(regions)}, indent=1)
    )


def fit_conditions(
    folder: Path,
    regions: Sequence[str],
    config: LanguageConfig,
    table: Mapping[str, NDArray[np.float32]],
    steps: int = 60,
) -> float:
    """Solves the projection to φ anew for a table, on what α's last layer holds; returns the largest error.

    α itself stays as it is: only the linear layer before the SiLU is replaced. A table that moved while the vision
    network trained on is taken over in a minute.
    """
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    model = LanguageModel(config, tokenizer.get_vocab_size())
    model.load_state_dict(load_file(folder / "language.safetensors"))
    context = make_context(regions)
    stream = examples(context, seed=77)
    inputs: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    with torch.inference_mode():
        for _ in range(steps):
            sequences = [to_sequence(tokenizer, example, known_names(context)) for example in islice(stream, 32)]
            batch = to_batch(sequences, tokenizer, table, config.condition_size)
            read = model.decoder(input_ids=batch.ids).last_hidden_state
            inputs.append(read[batch.condition_places[:, 0], batch.condition_places[:, 1]])
            outputs.append(batch.conditions)
    learned = torch.cat([model.condition.weight.T, model.condition.bias[None]]).detach().double()
    solution, error = fitted_projection(torch.cat(inputs).double().clone(), torch.cat(outputs).double(), learned)
    with torch.no_grad():
        model.condition.weight.copy_(solution[:-1].T.float())
        model.condition.bias.copy_(solution[-1].float())
    save_file(model.state_dict(), folder / "language.safetensors")
    return error


def fitted_projection(hidden: torch.Tensor, wanted: torch.Tensor, learned: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The linear layer before the SiLU that brings hidden states nearest to φ; and its largest error.

    With more regions than α's width no layer is exact, and least squares before the SiLU would spend themselves where
    it is flat. So the better of the learned layer and of those least squares is improved on φ itself, every region
    counting alike.

    Args:
        hidden: (n, h).
        wanted: (n, d) φ of each, after SiLU.
        learned: (h + 1, d) the layer as it was trained, its bias last.
    """
    design = torch.cat([hidden, torch.ones(len(hidden), 1, dtype=hidden.dtype)], dim=1)
    ridge = 1e-3 * torch.eye(design.shape[1], dtype=hidden.dtype)
    solved = torch.linalg.solve(design.T @ design + ridge, design.T @ _inverse_silu(wanted))
    _, region, counts = torch.unique(wanted, dim=0, return_inverse=True, return_counts=True)
    weights = (1 / counts.double())[region][:, None]

    def loss(layer: torch.Tensor) -> torch.Tensor:
        return (weights * (functional.silu(design @ layer) - wanted).square()).sum()

    layer = (
        min(solved, learned, key=lambda start: float(loss(start)))
        .clone(memory_format=torch.contiguous_format)
        .requires_grad_()
    )
    optimizer = torch.optim.LBFGS([layer], max_iter=FIT_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(layer)
        value.backward()
        return value

    optimizer.step(closure)
    layer = layer.detach()
    return layer, float((functional.silu(design @ layer) - wanted).abs().max())


def _inverse_silu(values: torch.Tensor) -> torch.Tensor:
    """x with silu(x) = value, on the rising branch (x ≥ −1.278), by Newton's method."""
    x = values.clamp(min=-0.27) + 0.3
    for _ in range(60):
        sigmoid = torch.sigmoid(x)
        slope = sigmoid * (1 + x * (1 - sigmoid))
        x = (x - (x * sigmoid - values) / slope.clamp(min=1e-3)).clamp(min=-1.27)
    return x


def _tokenizer(folder: Path, context: Context, recipe: LanguageRecipe) -> Tokenizer:
    path = folder / TOKENIZER_FILE
    if not path.exists():
        learn_tokenizer(context, recipe.vocabulary, recipe.seed).save(str(path))
    return load_tokenizer(path)


def learn_tokenizer(context: Context, vocabulary: int, seed: int, count: int = TOKENIZER_EXAMPLES) -> Tokenizer:
    """A tokenizer of `vocabulary` tokens, and those of the reading and of code, from `count` prompts and programs."""
    drawn = list(islice(examples(context, seed), count))
    known = known_names(context)
    fragments = code_fragments((example.program for example in drawn), sorted(known))
    held = re.compile("|".join(map(re.escape, (*marks(known), *fragments, "<MOD>"))))
    texts = (
        part
        for example in drawn
        for text in (reading_of(example.prompt, known, ()).text, *example.program.splitlines(keepends=True))
        for part in held.split(text)
    )
    return train_tokenizer(texts, vocabulary, marks(known), fragments)


def _batches(
    tokenizer: Tokenizer, context: Context, recipe: LanguageRecipe, seed: int, focus: Focus
) -> Iterator[list[tuple[str, TokenSequence]]]:
    """Batches without end of tasks and sequences, each of similar length, so that little is spent on padding."""
    chance = random.Random(seed)
    stream = (example for example in examples(context, seed) if focus.takes(example.task, chance))
    known = known_names(context)
    while True:
        drawn = [
            (example.task, to_sequence(tokenizer, example, known, chance))
            for example in islice(stream, recipe.batch * BUCKET_BATCHES)
        ]
        drawn.sort(key=lambda pair: len(pair[1].ids))
        order = list(range(BUCKET_BATCHES))
        chance.shuffle(order)
        for index in order:
            yield drawn[index * recipe.batch : (index + 1) * recipe.batch]


def known_names(context: Context) -> frozenset[str]:
    """Names of the structures that the weights know, without sides."""
    return frozenset(structure.name for structure in context.structures)


def _rate(recipe: LanguageRecipe, step: int, share: float) -> float:
    """Linear warm-up, then half a cosine down to 2 % over the time budget."""
    warm = min(1.0, (step + 1) / recipe.warm_up_steps)
    return recipe.learning_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, share))))


def _resume(
    folder: Path, model: LanguageModel, optimisers: Optimisers, average: MovingAverage | None
) -> tuple[int, float]:
    path = folder / STATE_FILE
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimisers.take(state["optimisers"])
    if average is not None:
        average.take(state["average"] or state["model"])
    return int(state["step"]), float(state["seconds"])


def _save(
    folder: Path,
    model: LanguageModel,
    optimisers: Optimisers,
    average: MovingAverage | None,
    step: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimisers": optimisers.state(),
        "average": average.weights if average is not None else {},
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, folder / f"{STATE_FILE}.part")
    (folder / f"{STATE_FILE}.part").replace(folder / STATE_FILE)
    save_file(average.weights if average is not None else model.state_dict(), folder / "language.safetensors")


def _stop_flag() -> list[bool]:
    """A list that stops being empty at SIGTERM."""
    flag: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: flag.append(True))
    return flag
