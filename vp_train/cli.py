"""`vp-train`: the offline training and judging of VoxelPrompt.

The bundled checkpoint was made with `vision`, `evaluate vision`, `language`, `fit` and `evaluate language`, in this
order; `docs/TRAINING.md` has the exact commands.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vp_train.datasets.public.commands import app as data_commands
from vp_train.experiments.commands import experiment as experiment_command
from vp_train.synthesis.commands import studies as studies_command
from vp_train.synthesis.lesions.commands import lesions as lesions_command
from vp_train.tasks.commands import prompts as prompts_command

app = typer.Typer(help="Train and judge VoxelPrompt (offline).", no_args_is_help=True, add_completion=False)
evaluate = typer.Typer(help="Measure a checkpoint.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
app.add_typer(data_commands, name="data")
app.command("experiment")(experiment_command)
app.command("lesions")(lesions_command)
app.command("prompts")(prompts_command)
app.command("studies")(studies_command)

OutOption = Annotated[Path, typer.Option(help="Folder of the run: state, curves, weights. An existing run is resumed.")]
TableOption = Annotated[Path, typer.Option(help="condition_table.safetensors of the vision network's training.")]
MinutesOption = Annotated[float, typer.Option(help="Time budget.")]


@app.command()
def vision(
    data: Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")],
    out: OutOption,
    validation: Annotated[
        Path | None, typer.Option(help="Real scans with references, to watch; never trained on.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A bundled recipe's name, or a JSON file.")] = "slim",
    minutes: MinutesOption = 60.0,
    threads: int | None = None,
    begin: Annotated[
        Path | None, typer.Option("--from", help="Folder of weights to begin from, also of another width.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that draw lesions; 0: the training's own.")] = 0,
    watch_minutes: Annotated[float, typer.Option(help="Between looks at the real scans, and exports.")] = 6.0,
) -> None:
    """Trains the vision network on synthetic images, with a table of conditions."""
    from vp_train.training.run import find_recipe, train_vision

    say = partial(print, flush=True)
    found = find_recipe(recipe)
    train_vision(found, data, out, validation, minutes, watch_minutes, threads, say, begin, device, workers)


@app.command()
def readout(
    data: Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")],
    trained: Annotated[Path, typer.Option(help="Output folder of `vision`.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights with the read-out that was learned.")],
    working_spacing: Annotated[float, typer.Option(help="mm, at which m will work.")],
    recipe: Annotated[str, typer.Option(help="With which m was trained.")] = "broad",
    images: Annotated[int, typer.Option(help="Synthetic images whose voxels are kept.")] = 130,
    steps: int = 4000,
    lesions: Annotated[bool, typer.Option(help="Keep the conditions of the recipe's pathologies.")] = True,
    threads: int | None = None,
) -> None:
    """Learns the read-out of a trained m alone, in minutes on a CPU."""
    from vp_train.training.readout import ReadoutRecipe
    from vp_train.training.readout_run import train_readout
    from vp_train.training.run import find_recipe

    say = partial(print, flush=True)
    chosen = ReadoutRecipe(images=images, steps=steps)
    train_readout(find_recipe(recipe), data, trained, out, working_spacing, chosen, lesions, threads, say)


@app.command()
def finder(
    data: Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder whose m finds the anatomy; gets the lesions.")],
    table: TableOption,
    kept: Annotated[Path, typer.Option(help="Folder for what is read of the label maps.")],
    recipe: Annotated[str, typer.Option(help="How lesions are drawn.")] = "finder",
    images: Annotated[int, typer.Option(help="Synthetic images that are learned from.")] = 600,
    studies: Annotated[int, typer.Option(help="Studies of several images that are learned from, too.")] = 0,
    steps: int = 9000,
    minutes: Annotated[
        float | None, typer.Option(help="Of learning; the rate falls with them instead of with the steps.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Blocks of a step.")] = 1,
    edge: Annotated[int, typer.Option(help="Of a block, in voxels.")] = 40,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-3,
    judged: Annotated[int, typer.Option(help="Images of held-out heads that choose, and that judge.")] = 60,
    further: Annotated[
        str | None, typer.Option(help="Recipe of as many images again that choose and judge, of kinds that are rare.")
    ] = None,
    begin: Annotated[
        Path | None, typer.Option("--from", help="Checkpoint folder whose network of lesions a new run begins with.")
    ] = None,
    nowhere: Annotated[
        list[str] | None, typer.Option(help="Sequence type in which nothing is offered; may be given several times.")
    ] = None,
    device: Annotated[str, typer.Option(help="That learns: cpu, cuda or auto.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that draw images; 0: this one.")] = 0,
    threads: int | None = None,
) -> None:
    """Learns to find lesions in what the tissues that m finds do not explain: an hour on a CPU, minutes on a GPU."""
    import sys

    import torch

    from vp_model.vision.device import find_device
    from vp_train.training.finder_recipe import FinderRecipe
    from vp_train.training.finder_run import train_finder
    from vp_train.training.run import find_recipe

    if threads is not None:
        torch.set_num_threads(threads)
    say = partial(print, flush=True)
    steps = steps if minutes is None else sys.maxsize
    chosen = FinderRecipe(
        images=images, studies=studies, edge=edge, batch=batch, steps=steps, rate=rate, minutes=minutes
    )
    rare = None if further is None else find_recipe(further)
    at = find_device(device)
    given = find_recipe(recipe)
    train_finder(given, data, checkpoint, table, kept, chosen, judged, say, rare, at, workers, begin, nowhere or ())


@app.command()
def language(
    out: OutOption,
    table: TableOption,
    minutes: MinutesOption = 25.0,
    threads: int = 1,
    preset: str = "compact",
    begin: Annotated[Path | None, typer.Option("--from", help="Checkpoint folder that a new run begins from.")] = None,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    focus: Annotated[float, typer.Option(help="How much more often hard tasks are drawn, 0 to 1.")] = 0.0,
    optimiser: Annotated[str, typer.Option(help="adamw or muon.")] = "adamw",
    average: Annotated[float, typer.Option(help="Decay of a moving average of the weights; 0: none.")] = 0.0,
    first_weight: Annotated[float, typer.Option(help="Of a program's first token, which chooses the task.")] = 1.0,
    seed: int = 1,
) -> None:
    """Trains the language model on prompts and target programs, and on the conditions of a vision network."""
    from vp_train.language.conditions import read_conditions
    from vp_train.language.training import LanguageRecipe, train_language

    conditions = read_conditions(table)
    recipe = LanguageRecipe(
        preset=preset,
        minutes=minutes,
        threads=threads,
        learning_rate=rate,
        seed=seed,
        focus=focus,
        optimiser=optimiser,
        average=average,
        first_weight=first_weight,
    )
    train_language(out, list(conditions), recipe, conditions, begin)


@app.command()
def joint(
    data: Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")],
    out: OutOption,
    recipe: Annotated[str, typer.Option(help="A bundled joint recipe's name, or a JSON file.")] = "tiny",
    minutes: MinutesOption = 60.0,
    begin: Annotated[Path | None, typer.Option("--from", help="Checkpoint folder that a new run begins from.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Of a new run (LLaMA-2); else one is learned.")] = None,
    threads: int | None = None,
    version: Annotated[str, typer.Option(help="Of the checkpoint that is written.")] = "0.1.0",
    examples: Annotated[int | None, typer.Option(help="Stop, resumable, after as many.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave GPUs alone.")] = False,
    prepared: Annotated[Path | None, typer.Option(help="Folder that `vp-train data prepare` filled.")] = None,
    prepared_share: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Of the examples, those made of it; else the recipe's.")
    ] = None,
) -> None:
    """Trains α and m together on executed target programs; under torchrun or accelerate launch, in parallel."""
    from dataclasses import replace

    from vp_train.joint.recipe import find_joint_recipe
    from vp_train.joint.run import train_joint

    found = find_joint_recipe(recipe)
    if prepared_share is not None:
        found = replace(found, prepared_share=prepared_share)
    train_joint(found, data, out, minutes, begin, tokenizer, threads, version, examples, cpu, prepared)


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder of the language run.")],
    table: TableOption,
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder to write the language part to.")],
    name: str = "voxelprompt-compact",
    version: str = "0.1.0",
    former: Annotated[Path | None, typer.Option(help="Weights that the run began from, to average with.")] = None,
    former_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the former weights in the mean.")] = 0.3,
) -> None:
    """Solves the projection to φ anew for a table, and writes language weights, tokenizer and configuration."""
    from vp_train.language.blending import blend
    from vp_train.language.conditions import read_conditions
    from vp_train.language.export import export_language

    if former is not None:
        out = blend(out, former, former_share)
    error = export_language(out, read_conditions(table), checkpoint, name, version)
    print(f"largest error of φ: {error:.4f}")


@app.command()
def card(
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint folder; the bundled one by default.")] = None,
) -> None:
    """Writes the model card from what was measured."""
    from vp_model.checkpoint import open_checkpoint
    from vp_train.card import write_card

    print(write_card(open_checkpoint(checkpoint)))


@evaluate.command("vision")
def evaluate_vision_command(
    trained: Annotated[Path, typer.Option(help="Output folder of the training.")],
    validation: Annotated[Path, typer.Option(help="Real scans with references.")],
    data: Annotated[Path, typer.Option(help="Label maps, of which held-out subjects are used.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder to write to.")],
    working_spacing: float | None = None,
    preset: str = "slim",
    run: Annotated[str, typer.Option(help="JSON about the run, kept in the card.")] = "{}",
    samples: int = 16,
    mirrored: Annotated[bool, typer.Option(help="Average over the mirror image, for twice the time.")] = False,
    refined: Annotated[bool, typer.Option(help="Refine borders by the images' own intensities.")] = False,
    recipe: Annotated[str | None, typer.Option(help="With which m learned lesions of many kinds.")] = None,
) -> None:
    """Judges the vision network on real scans and held-out heads, and writes its part of a checkpoint."""
    from vp_train.evaluation.run import evaluate_vision

    about = json.loads(run)
    evaluate_vision(
        trained, validation, data, checkpoint, about, working_spacing, preset, samples, mirrored, refined, recipe
    )


@evaluate.command("language")
def evaluate_language_command(
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint folder; the bundled one by default.")] = None,
    prompts: Annotated[int, typer.Option(help="How many of each kind.")] = 500,
    write: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    by_hand: Annotated[Path | None, typer.Option(help="JSON file of prompts with what is expected of them.")] = None,
    show_wrong: Annotated[int, typer.Option(help="How many wrong programs to show.")] = 0,
) -> None:
    """Measures the share of right results, on trained and held-out phrasings and on prompts written by hand."""
    from vp_model.agent import Agent
    from vp_train.language.evaluation import judge_language, judge_prompts, markdown, read_prompts

    agent = Agent.load(checkpoint)
    results = {}
    for kind, held_out in (("trained phrasings", False), ("held-out phrasings", True)):
        results[kind], judged = judge_language(agent, prompts, held_out)
        for item in [item for item in judged if not item.right][:show_wrong]:
            print(
                f"{item.example.prompt!r}\n  wanted: {item.example.program!r}\n  wrote:  {item.program!r}",
                file=sys.stderr,
            )
    if by_hand is not None:
        results["written by hand"], unexpected = judge_prompts(agent, read_prompts(by_hand))
        for wanted, plan in unexpected[:show_wrong]:
            print(f"{wanted.prompt!r}\n  wanted: {wanted}\n  planned: {plan}", file=sys.stderr)
    text = json.dumps(results, indent=1)
    print(text)
    print(markdown(results), file=sys.stderr)
    if write is not None:
        write.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
