"""The loop of joint training: examples → gradients → steps, validation, saving; over one process or many.

Notable:
- `accelerate` is the engine: gradients of all processes are averaged, bfloat16 where the device has it;
- an optimizer step takes the same examples whatever the number of processes, so that none trains otherwise than many;
- a run that is stopped (time, SIGTERM, SIGINT, a file `stop`) loses at most the step that it was in, and resumes to
  the same weights as one that was not.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator

from vp_train.joint.drawing import Source
from vp_train.joint.examples import JointExample
from vp_train.joint.export import export_checkpoint
from vp_train.joint.model import Answer
from vp_train.joint.recording import Recorder
from vp_train.joint.state import JointState, save_state
from vp_train.joint.validation import validate

STOP_FILE = "stop"
CHECKPOINT_FOLDER = "checkpoint"
SAVE_SECONDS = 300
KEPT_VOXELS = 20_000_000
"""Voxels of all images of validation up to which its examples are drawn once and kept."""
AHEAD = 2
"""Examples that are drawn while the networks learn from another."""


@dataclass(eq=False)
class Budget:
    """The time of this start, and who asked to stop.

    Attributes:
        reserve: seconds that saving takes, kept free at the end.
    """

    minutes: float
    folder: Path
    started: float = field(default_factory=time.monotonic)
    reserve: float = 0.0
    asked: bool = False

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def has(self, seconds: float) -> bool:
        """Whether as many seconds are left before the end."""
        return self.elapsed + seconds + self.reserve <= self.minutes * 60

    @property
    def stop_asked(self) -> bool:
        return self.asked or (self.folder / STOP_FILE).exists()


def train(
    state: JointState,
    training: Source,
    validation: Source,
    accelerator: Accelerator,
    folder: Path,
    minutes: float,
    recorder: Recorder,
    version: str = "0",
    most_examples: int | None = None,
) -> None:
    """Trains until the plateau ends it, the minutes are over or somebody asks to stop; then saves.

    Args:
        folder: gets the state, and the best checkpoint by validation (the last one where none was finished).
        most_examples: stops, resumable, when this many have been seen in all.
    """
    budget = Budget(minutes, folder)
    with _signals(budget):
        loop = _Loop(state, training, validation, accelerator, folder, budget, recorder, version)
        loop.save()
        loop.run(most_examples)
        loop.save()
        if state.validated < 0 and accelerator.is_main_process:
            export_checkpoint(state, None, folder / CHECKPOINT_FOLDER, version)
        accelerator.wait_for_everyone()


@dataclass(eq=False)
class _Loop:
    state: JointState
    training: Source
    validation: Source
    accelerator: Accelerator
    folder: Path
    budget: Budget
    recorder: Recorder
    version: str

    def __post_init__(self) -> None:
        self._before = self.state.seconds
        self._saved = time.monotonic()
        self._longest = 0.0
        self._kept: dict[int, JointExample] = {}
        self._model = self.accelerator.prepare_model(self.state.model)

    def run(self, most_examples: int | None) -> None:
        state, recipe = self.state, self.state.recipe
        own = range(self.accelerator.process_index, recipe.accumulation, self.accelerator.num_processes)
        indices = (update * recipe.accumulation + place for update in count(state.updates) for place in own)
        with Upcoming(self.training.draw, indices) as upcoming:
            while not state.plateau.finished and (most_examples is None or state.examples < most_examples):
                if self._due and not self._validate():
                    return
                if state.plateau.finished or not self._update(upcoming, len(own)):
                    return
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    self.save()
            if self._due:
                self._validate()

    def save(self) -> None:
        """Measures how long it takes, for the budget's reserve."""
        started = time.monotonic()
        if self.accelerator.is_main_process:
            save_state(self.state, self.folder)
        self._saved = time.monotonic()
        self.budget.reserve = max(self.budget.reserve, 2 * (self._saved - started))

    @property
    def _due(self) -> bool:
        state = self.state
        return state.examples > state.validated and state.examples % state.recipe.validate_every == 0

    def _update(self, upcoming: Upcoming, own: int) -> bool:
        """One optimizer step; False where training was to stop before it, and nothing changed."""
        state, recipe = self.state, self.state.recipe
        state.optimizer.zero_grad(set_to_none=True)
        for place in range(own):
            if self._stopped(self._longest):
                return False
            started = time.monotonic()
            example = upcoming.next()
            waiting: AbstractContextManager[None] = nullcontext()
            if place + 1 < own:  # gradients are averaged over the processes once a step
                waiting = self.accelerator.no_sync(self._model)
            with waiting:
                losses = self._model(example)
                self.accelerator.backward(losses.total / own)
            self._longest = max(0.95 * self._longest, time.monotonic() - started)
            seen = state.examples + (place + 1) * self.accelerator.num_processes
            rate = state.plateau.current_rate
            self.recorder.example(losses, seen, self._seconds, self.budget.elapsed / 60, rate)
        for group in state.optimizer.param_groups:
            group["lr"] = state.plateau.current_rate
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip or float("inf"))
        if bool(torch.isfinite(norm)):
            state.optimizer.step()
        state.updates += 1
        state.seconds = self._seconds
        return True

    def _validate(self) -> bool:
        """False where there was no time for it: it is due again when the run is resumed."""
        state, recipe = self.state, self.state.recipe
        rounds = -(-recipe.validation_examples // self.accelerator.num_processes)
        if self._stopped(rounds * self._longest / 2):
            return False

        def show(example: JointExample, answer: Answer) -> None:
            self.recorder.picture(example, answer, state.examples)

        found = validate(
            state.model, self._validation_example, recipe.validation_examples, self.accelerator, self._stopped, show
        )
        if found is None:
            return False
        state.validated, state.seconds = state.examples, self._seconds
        best = state.plateau.observe(found.accuracy, state.examples)
        self.recorder.validation(found, state.examples, state.seconds)
        if best and self.accelerator.is_main_process:
            export_checkpoint(state, found, self.folder / CHECKPOINT_FOLDER, self.version)
        self.accelerator.wait_for_everyone()
        return True

    def _validation_example(self, index: int) -> JointExample:
        recipe = self.state.recipe
        if index in self._kept:
            return self._kept[index]
        example = self.validation.draw(index)
        if recipe.validation_examples * recipe.study.budget_voxels <= KEPT_VOXELS:
            self._kept[index] = example
        return example

    @property
    def _seconds(self) -> float:
        return self._before + self.budget.elapsed

    def _stopped(self, needed: float = 0.0) -> bool:
        """Whether any process was asked to stop or lacks the seconds needed: all stop together."""
        stop = self.budget.stop_asked or not self.budget.has(needed)
        if self.accelerator.num_processes == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)


class Upcoming:
    """Draws examples in order, a few ahead, in a thread of its own."""

    def __init__(self, draw: Callable[[int], JointExample], indices: Iterator[int]) -> None:
        self._draw = draw
        self._indices = indices
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[JointExample]] = deque()

    def __enter__(self) -> Upcoming:
        for _ in range(AHEAD):
            self._ask()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next(self) -> JointExample:
        example = self._waiting.popleft().result()
        self._ask()
        return example

    def _ask(self) -> None:
        self._waiting.append(self._pool.submit(self._draw, next(self._indices)))


@contextmanager
def _signals(budget: Budget) -> Iterator[None]:
    """SIGTERM and SIGINT ask to stop; a second SIGINT interrupts."""

    def ask(number: int, _frame: FrameType | None) -> None:
        if budget.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        budget.asked = True

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
