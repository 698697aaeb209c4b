"""Training of m on synthetic images, conditioned by a table of learnable vectors.

Notable:
- every structure is asked for at every step: the read-out makes conditions nearly free;
- a step depends on the recipe's seed and its own number alone, so that a run that was stopped and resumed ends at the
  same weights as one that was not;
- stops at SIGTERM or when a file `stop` appears in the output folder, and can be resumed at any moment.
"""

from __future__ import annotations

import csv
import math
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from safetensors.torch import load_file

from vp_model.vision.config import preset
from vp_model.vision.network import VisionNetwork
from vp_model.vision.weights import FILE as VISION_FILE
from vp_model.vision.weights import save_vision
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject
from vp_train.datasets.parcels import load_parcels
from vp_train.language.optimisation import MUON
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.scene import Image
from vp_train.training.condition import ConditionTable, read_vectors, save_conditions
from vp_train.training.convolution_muon import ConvolutionMuon
from vp_train.training.drawing import Drawing
from vp_train.training.examples import SEED_STRIDE, Example, LesionSource, draw_example
from vp_train.training.graphs import StepGraphs
from vp_train.training.loss import recipe_loss
from vp_train.training.recipe import Recipe

NEW_SPREAD = 0.7
"""Deviation of the conditions of new regions about that of white matter lesions."""
ADAMW_BETAS = 0.9, 0.999
STATE = "state.pt"
STOP = "stop"
TABLE_FILE = "condition_table.safetensors"
Optimizer = torch.optim.Optimizer | ConvolutionMuon


@dataclass(eq=False)
class Learner:
    """What training changes: the network, the condition table, the optimizer, the averaged weights, the step."""

    network: VisionNetwork
    table: ConditionTable
    optimizer: Optimizer
    average: dict[str, torch.Tensor]
    step: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    """Share of this run's time."""
    recent: list[tuple[float, float]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return self.table.vectors.device

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {
            **{f"network.{name}": value for name, value in self.network.named_parameters()},
            **{f"table.{name}": value for name, value in self.table.named_parameters()},
        }


def new_learner(recipe: Recipe, device: torch.device | str = "cpu") -> Learner:
    torch.manual_seed(recipe.seed)
    config = preset(recipe.preset)
    # Channels last saves oneDNN the reordering around each convolution: a third of a step's time on a CPU.
    network = VisionNetwork(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network = network.to(device)
    table = ConditionTable(recipe.targets, config.condition_size).to(device)
    learner = Learner(network, table, _optimizer(network, table, recipe), {})
    learner.average = {name: value.detach().clone() for name, value in learner.parameters().items()}
    return learner


def _optimizer(
    network: VisionNetwork, table: ConditionTable, recipe: Recipe
) -> torch.optim.Optimizer | ConvolutionMuon:
    if recipe.optimizer == MUON:
        return ConvolutionMuon(network, recipe.weight_decay, others=table.parameters(), betas=ADAMW_BETAS)
    return torch.optim.AdamW(
        [*network.parameters(), *table.parameters()],
        lr=recipe.rate,
        betas=ADAMW_BETAS,
        weight_decay=recipe.weight_decay,
        fused=table.vectors.device.type == "cuda",
    )


def begin_from(learner: Learner, folder: Path) -> None:
    """Give a new learner what the weights of an export or checkpoint folder hold, also where its layers are of another
    width: channels that both have are copied, channels that only the new one has start as they were drawn but are not
    yet read by the copied ones, and channels that it has no more are left out. Pathologies that the folder does not
    know begin near white matter lesions: m then says something of them from the first step on. Regions of the
    parcellation begin as they were drawn, far from each other.

    Raises:
        FileNotFoundError: the folder lacks `vision.safetensors` or `condition_table.safetensors`.
    """
    weights = {name: value.to(torch.float32) for name, value in load_file(folder / VISION_FILE).items()}
    vectors = read_vectors(folder / TABLE_FILE)
    with torch.no_grad():
        for name, parameter in learner.network.named_parameters():
            if name in weights and weights[name].ndim == parameter.ndim:
                if name.startswith("read_out.key."):  # its last row weighs no feature: it is the bias
                    parameter.zero_()
                    copy_overlap(weights[name][:-1], parameter[:-1])
                    copy_overlap(weights[name][-1:], parameter[-1:])
                else:
                    copy_overlap(weights[name], parameter)
        like = vectors.get(load_labels().names[load_labels().lesion])
        for index, name in enumerate(learner.table.names):
            if name in vectors:
                learner.table.vectors[index] = vectors[name]
            elif like is not None and name not in load_parcels().names:
                learner.table.vectors[index] = like + NEW_SPREAD * learner.table.vectors[index]
    learner.average = {name: value.detach().clone() for name, value in learner.parameters().items()}


def copy_overlap(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy the block that both tensors have; inputs (dimension 1) that only `target` has get no weight in its rows."""
    block = tuple(slice(0, min(a, b)) for a, b in zip(source.shape, target.shape, strict=True))
    if target.ndim > 1:
        target[block[0], source.shape[1] :] = 0.0
    target[block] = source[block]


def train_step(
    learner: Learner,
    subjects: Sequence[Subject],
    recipe: Recipe,
    example: Example | None = None,
    lesions: LesionSource | None = None,
    graphs: StepGraphs | None = None,
) -> float:
    """One step: segment every target, update weights and their average. Returns the mean soft Dice.

    Args:
        subjects: on the learner's device.
        example: what `draw_example` gives for this step, where it was drawn beforehand.
        lesions: where the recipe draws lesions.
        graphs: of the learner's network, where a GPU has recorded any.
    """
    example = example or draw_example(subjects, recipe, learner.step, lesions)
    images, device = example.images, learner.device
    learner.table.requires_grad_(recipe.table_learns or (bool(recipe.pathologies) and not recipe.fixed))
    rows = [learner.table.names.index(name) for name in example.names]
    phi = learner.table(len(images))[rows]
    if recipe.condition_noise:
        chance = Chance.seeded(recipe.seed * SEED_STRIDE - 1 - learner.step)
        phi = phi + (chance.normal(*phi.shape) * recipe.condition_noise).to(device)
    weights = torch.tensor([recipe.weight_of(name) for name in example.names]).to(device)
    for parameter in learner.parameters().values():
        parameter.grad = None
    mean = _passed(learner.network, images, phi, weights, recipe, graphs)
    parameters = learner.parameters()
    norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), recipe.clip)
    length, dice = torch.stack([norm, mean]).tolist()  # a GPU is waited for once
    if math.isfinite(length):
        _change(learner, recipe)
    learner.step += 1
    decay = min(recipe.averaging, learner.step / (learner.step + 20))
    with torch.no_grad():
        new = [value.detach() for value in parameters.values()]
        torch._foreach_lerp_([learner.average[name] for name in parameters], new, 1 - decay)
    learner.recent.append((example.scale.spacing, dice))
    return float(dice)


def _passed(
    network: VisionNetwork,
    images: Sequence[Image],
    phi: torch.Tensor,
    weights: torch.Tensor,
    recipe: Recipe,
    graphs: StepGraphs | None,
) -> torch.Tensor:
    """Forward and backward, the gradients left with the parameters. Returns the mean soft Dice."""
    recorded = None if graphs is None else graphs.run(images, phi, weights)
    if recorded is not None:
        return recorded[1]
    device = phi.device
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16 and device.type == "cuda"):
        logits = network([image.placed for image in images], phi)
    results = [
        recipe_loss(recipe, found.float(), image.targets, weights) for found, image in zip(logits, images, strict=True)
    ]
    loss = torch.stack([loss for loss, _ in results]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.stack([dice for _, dice in results]).mean()


def _change(learner: Learner, recipe: Recipe) -> None:
    """Apply the gradients, to everything but the conditions that the recipe keeps."""
    known = 0
    if not recipe.table_learns:
        known = len(learner.table.names) - (0 if recipe.fixed else len(recipe.pathologies))
    kept = learner.table.vectors[:known].detach().clone()
    rate = recipe.rate_at(learner.step, learner.spent)
    if isinstance(learner.optimizer, ConvolutionMuon):
        learner.optimizer.step(rate)
    else:
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        learner.optimizer.step()
    with torch.no_grad():
        learner.table.vectors[:known] = kept


def save_learner(learner: Learner, folder: Path) -> None:
    """State for resuming, replaced in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "network": learner.network.state_dict(),
        "table": learner.table.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "average": learner.average,
        "step": learner.step,
        "seconds": learner.seconds,
    }
    torch.save(state, folder / f"{STATE}.new")
    (folder / f"{STATE}.new").replace(folder / STATE)


def load_learner(recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> Learner:
    """The learner whose state is in the folder, or a new one where there is none."""
    learner = new_learner(recipe, device)
    if not (folder / STATE).exists():
        return learner
    state = torch.load(folder / STATE, weights_only=True, map_location=device)
    learner.network.load_state_dict(state["network"])
    learner.table.load_state_dict(state["table"])
    if state["optimizer"] is not None:
        learner.optimizer.load_state_dict(state["optimizer"])
    learner.average = state["average"]
    learner.step, learner.seconds = state["step"], state["seconds"]
    return learner


def averaged(learner: Learner) -> tuple[VisionNetwork, ConditionTable]:
    """Copies of network and table with the averaged weights, in evaluation mode."""
    network = VisionNetwork(learner.network.config)
    table = ConditionTable(learner.table.names, learner.network.config.condition_size)
    parts: tuple[tuple[str, torch.nn.Module], ...] = (("network.", network), ("table.", table))
    for prefix, module in parts:
        module.load_state_dict(
            {name.removeprefix(prefix): value for name, value in learner.average.items() if name.startswith(prefix)}
        )
        module.eval()
    return network, table


def export(learner: Learner, folder: Path) -> None:
    """`vision.safetensors` (half precision) and `condition_table.safetensors` (φ after SiLU and the raw vectors)."""
    folder.mkdir(parents=True, exist_ok=True)
    network, table = averaged(learner)
    save_vision(network, folder)
    save_conditions(table, folder / TABLE_FILE)


def train(
    learner: Learner,
    subjects: Sequence[Subject],
    recipe: Recipe,
    folder: Path,
    minutes: float,
    watch: Callable[[Learner], None] | None = None,
    watch_minutes: float = 6.0,
    lesions: LesionSource | None = None,
) -> None:
    """Train until the recipe's steps are done, the minutes are over or somebody asks to stop; then save.

    Args:
        subjects: on the learner's device.
        lesions: where the recipe draws lesions.
        watch: called every `watch_minutes` (validation); its time counts.
    """
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    previous = signal.signal(signal.SIGTERM, ask)
    started, before = time.monotonic(), learner.seconds
    saved = watched = started
    graphs = _recorded(learner, recipe)
    drawing = Drawing(subjects, recipe, learner.step, lesions)
    while learner.step < recipe.steps and not asked and not (folder / STOP).exists():
        now = time.monotonic()
        learner.seconds = before + now - started
        learner.spent = (now - started) / (minutes * 60)
        if learner.spent > 1:
            break
        train_step(learner, subjects, recipe, drawing.take(), graphs=graphs)
        if learner.step % 50 == 0:
            _note(learner, recipe, folder)
        if now - saved > 90:
            save_learner(learner, folder)
            saved = now
        if watch is not None and now - watched > watch_minutes * 60:
            watch(learner)
            watched = time.monotonic()
    drawing.close()
    save_learner(learner, folder)
    signal.signal(signal.SIGTERM, previous)


def _recorded(learner: Learner, recipe: Recipe) -> StepGraphs | None:
    """Graphs of the recipe's grids where the learner is on a GPU that can record them."""
    if learner.device.type != "cuda" or not recipe.can_be_recorded:
        return None
    try:
        return StepGraphs(learner.network, recipe, learner.device)
    except RuntimeError as error:  # what cannot be recorded depends on torch, driver and GPU
        warnings.warn(f"Training goes on without CUDA graphs: {error}", stacklevel=2)
        return None


def _note(learner: Learner, recipe: Recipe, folder: Path) -> None:
    """A line of the training curve for each scale: step, seconds, learning rate, spacing, mean soft Dice."""
    path = folder / "curve.csv"
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "seconds", "rate", "spacing_mm", "soft_dice"])
        for spacing in sorted({spacing for spacing, _ in learner.recent}):
            values = [dice for at, dice in learner.recent if at == spacing]
            mean = sum(values) / len(values)
            rate = f"{recipe.rate_at(learner.step, learner.spent):.2e}"
            writer.writerow([learner.step, round(learner.seconds), rate, spacing, round(mean, 4)])
    learner.recent.clear()
