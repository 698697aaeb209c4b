"""A whole joint training run: data, networks new or from a checkpoint, training, a checkpoint that answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from vp_model.checkpoint import TOKENIZER_FILE
from vp_model.language.tokens import load_tokenizer
from vp_train.datasets.maps import Subject, load_subjects, split
from vp_train.joint.drawing import Source, learned_regions
from vp_train.joint.engine import train
from vp_train.joint.prepared import compare_cases, note_cases, read_prepared, with_prepared
from vp_train.joint.recipe import JointRecipe
from vp_train.joint.recording import Recorder
from vp_train.joint.state import JointState, begin_run, new_state, resume_state, state_from_checkpoint
from vp_train.language.training import learn_tokenizer
from vp_train.synthesis.lesions.anatomy import Anatomy, load_anatomies
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
    prepared: Path | None = None,
) -> JointState:
    """Trains α and m together, or goes on with the run in `out`. Under `torchrun` or `accelerate launch` in parallel.

    Args:
        data: folder of label maps; held-out subjects of it validate.
        out: gets `state.pt`, `run.json`, `curve.csv`, `validation.csv`, `tensorboard/` and `checkpoint/`.
        minutes: after which training stops, resumable.
        begin: checkpoint folder whose networks and tokenizer a new run begins from.
        tokenizer: a tokenizer file for a new run, as the LLaMA-2 one of the paper; None learns one from the prompts.
        version: of the checkpoint that is written.
        prepared: folder that `vp-train data prepare` filled; a share of the examples is made of its cases, those of the
            part for validation where it holds any.

    Raises:
        ValueError: no subject is held out, `out` holds a run of another recipe or of other prepared cases, or there are
            no prepared cases to train on.
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
        people = [_people(data, group, out, recipe, accelerator.device) for group in (subjects, held_out)]
    if not held_out or not subjects:
        raise ValueError(f"{data} must hold subjects to train on and subjects that are held out.")
    real = None if prepared is None else read_prepared(prepared, recipe, accelerator.device, out / "cache")
    learned = learned_regions(recipe) if real is None else with_prepared(learned_regions(recipe), real[0])
    state = resume_state(recipe, out, accelerator.device)
    if state is not None:
        compare_cases(real, out)
    accelerator.wait_for_everyone()  # none may find what another has just begun
    if state is None:
        if begin is not None:
            state = state_from_checkpoint(recipe, learned, begin, accelerator.device)
        else:
            if accelerator.is_main_process and tokenizer is None:
                learn_tokenizer(make_context(learned), recipe.vocabulary, recipe.seed).save(str(out / TOKENIZER_FILE))
            accelerator.wait_for_everyone()
            state = new_state(recipe, learned, load_tokenizer(tokenizer or out / TOKENIZER_FILE), accelerator.device)
        if accelerator.is_main_process:
            begin_run(state, out)
            note_cases(real, out)
    source = Source(
        people[0],
        learned,
        state.tokenizer,
        recipe,
        state.model.language.config.positions,
        prepared=None if real is None else real[0],
    )
    judged = replace(source, people=people[1], validation=True, prepared=None if real is None else real[1])
    with Recorder(out if accelerator.is_main_process else None, minutes) as recorder:
        recorder.say(
            f"example {state.examples}; {len(subjects)} subjects, {len(held_out)} held out; "
            f"{accelerator.num_processes} processes on {accelerator.device.type}"
        )
        if real is not None:
            recorder.say(
                f"{len(real[0].pool.places)} prepared cases to train on, {len(real[1].pool.places)} to validate"
            )
        train(state, source, judged, accelerator, out, minutes, recorder, version, most_examples)
    return state


def _people(
    data: Path, subjects: list[Subject], out: Path, recipe: JointRecipe, device: torch.device
) -> list[tuple[Subject, Anatomy | None]]:
    """Subjects on the device, with their anatomy where lesions are to grow in them."""
    anatomies: list[Anatomy] | list[None] = [None] * len(subjects)
    if recipe.study.lesioned > 0:
        anatomies = load_anatomies(data, subjects, out / "cache")
    return [
        (replace(subject, labels=subject.labels.to(device)), None if anatomy is None else anatomy.to(device))
        for subject, anatomy in zip(subjects, anatomies, strict=True)
    ]
