"""`vp-train prompts`: examples of what α is trained on, to look at."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

PATIENCE = 1_000
"""Examples drawn for each that is shown, before a task counts as unknown."""


def prompts(
    count: Annotated[int, typer.Option(help="How many.")] = 20,
    seed: int = 1,
    held_out: Annotated[bool, typer.Option(help="Phrasings that are kept from training.")] = False,
    task: Annotated[str, typer.Option(help="Only this task, such as 'volume change'.")] = "",
    programs: Annotated[bool, typer.Option(help="The target programs too.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Whose structures to ask for; the bundled one's.")] = None,
) -> None:
    """Draws prompts as they are sampled for training, with the study and the target program of each."""
    from vp_model.checkpoint import open_checkpoint
    from vp_train.tasks.context import make_context
    from vp_train.tasks.registry import examples

    context = make_context(open_checkpoint(checkpoint).regions, held_out)
    drawn = (item for item in islice(examples(context, seed), count * PATIENCE) if not task or item.task == task)
    found = list(islice(drawn, count))
    if not found:
        names = sorted({item.task for item in islice(examples(context, seed), 5_000)})
        raise typer.BadParameter(f"No example of {task!r} was drawn; there are: {', '.join(names)}.")
    for example in found:
        volumes = ", ".join(f"{item.name} {item.kind} {item.visit or 'undated'}" for item in example.scene.volumes)
        print(f"[{example.task}] {example.prompt}")
        if programs:
            print(f"  {volumes}")
            print("".join(f"  {line}\n" for line in example.program.splitlines()))
