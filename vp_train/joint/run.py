"""A whole joint training run: data, networks new or from a checkpoint, training, a checkpoint that answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from vp_model.language.tokens import load_tokenizer
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import Subject, load_subjects, split
from vp_train.joint.drawing import Source
from vp_train.joint.engine import train
from vp_train.joint.recipe import JointRecipe
from vp_train.joint.recording import Recorder
from vp_train.joint.state import JointState, begin_run, new_state, resume_state, state_from_checkpoint
from vp_train.language.training import learn_tokenizer
from vp_train.tasks.context import make_context


def train_joint(
    recipe: JointRecipe,
    data: Path,
    out: Path,
    minutes: float,
    begin: Path | None = None,
    tokenizer: Path | None = None,
    threads: int | None = None,
    version: str = "0.1.0",
    most_examples: int | None = None,
    cpu: bool = False,
) -> JointState:
    """Trains α and m together, or goes on with the run in `out`. Under `torchrun` or `accelerate launch` in parallel.

    Args:
        data: folder of label maps; held-out subjects of it validate.
        out: gets `state.pt`, `run.json`, `curve.csv`, `validation.csv`, `tensorboard/` and `checkpoint/`.
        minutes: after which training stops, resumable.
        begin: checkpoint folder whose networks and tokenizer a new run begins from.
        tokenizer: a tokenizer file for a new run, as the LLaMA-2 one of the paper; None learns one from the prompts.
        version: of the checkpoint that is written.

    Raises:
        ValueError: no subject is held out, or `out` holds a run of another recipe.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    bf16 = recipe.bf16 and not cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if bf16 else "no",
        # A refusal looks at no image, and a program without later steps reads no ε: their parameters have no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if recipe.accumulation % accelerator.num_processes:
        raise ValueError(
            f"{recipe.accumulation} examples of a step cannot be shared out evenly among "
            f"{accelerator.num_processes} processes."
        )
    out.mkdir(parents=True, exist_ok=True)
    with accelerator.main_process_first():
        subjects, held_out = split(load_subjects(data, out / "cache"))
    if not held_out or not subjects:
        raise ValueError(f"{data} must hold subjects to train on and subjects that are held out.")
    state = resume_state(recipe, out, accelerator.device)
    if state is None:
        regions = load_labels().targets
        if begin is not None:
            state = state_from_checkpoint(recipe, regions, begin, accelerator.device)
        else:
            learned = (
                load_tokenizer(tokenizer)
                if tokenizer is not None
                else learn_tokenizer(make_context(regions), recipe.vocabulary, recipe.seed)
            )
            state = new_state(recipe, regions, learned, accelerator.device)
        if accelerator.is_main_process:
            begin_run(state, out)
    source = Source(
        _on_device(subjects, accelerator.device),
        load_labels().targets,
        state.tokenizer,
        recipe,
        state.model.language.config.positions,
    )
    judged = replace(source, subjects=_on_device(held_out, accelerator.device), validation=True)
    with Recorder(out if accelerator.is_main_process else None, minutes) as recorder:
        recorder.say(
            f"example {state.examples}; {len(subjects)} subjects, {len(held_out)} held out; "
            f"{accelerator.num_processes} processes on {accelerator.device.type}"
        )
        train(state, source, judged, accelerator, out, minutes, recorder, version, most_examples)
    return state


def _on_device(subjects: list[Subject], device: torch.device) -> list[Subject]:
    return [replace(subject, labels=subject.labels.to(device)) for subject in subjects]
