"""`vp-model`: prompts on NIfTI files, for people without a PACS.

Exit codes: 0 answered, 1 failed, 2 wrong use, 3 refused.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vp_model.outcome import InputVolume, Outcome
    from vp_model.volume import Volume

FAILED, WRONG_USE, REFUSED = 1, 2, 3
KINDS = ("T1", "T1+C", "T2", "FLAIR", "PD", "GRE", "SWI", "DWI", "ADC", "CT", "STIR", "PERFUSION", "TOF", "unknown")
"""As α knows them; T1+C is a T1 after contrast agent."""

app = typer.Typer(
    help="Language-prompted measurement of brain images (research use only).",
    no_args_is_help=True,
    add_completion=False,
)

PromptArgument = Annotated[str, typer.Argument(help="What to do, in plain language.")]
DatesOption = Annotated[str, typer.Option(help="Acquisition date of each volume, YYYY-MM-DD, separated by commas.")]
KindsOption = Annotated[str, typer.Option(help=f"Sequence type of each volume: {', '.join(KINDS)}.")]
CheckpointOption = Annotated[Path | None, typer.Option(help="A checkpoint folder; the bundled one by default.")]
DeviceOption = Annotated[str, typer.Option(help="Where the vision network computes: cpu, cuda, cuda:0 or auto.")]
RegisterOption = Annotated[bool, typer.Option(help="Lay the images on each other first, by rigid registration.")]
PrecisionOption = Annotated[
    str,
    typer.Option(help="Of the vision network: float32, or bfloat16, which takes half the time where it is built in."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    prompt: PromptArgument,
    images: Annotated[list[Path], typer.Argument(help="NIfTI files: one or more volumes, of one or more dates.")],
    out: Annotated[Path, typer.Option(help="Folder for masks, outcome.json and overlay pictures.")],
    dates: DatesOption = "",
    kinds: KindsOption = "",
    register: RegisterOption = True,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Answers a prompt on NIfTI volumes: masks on each input's grid, measurements, words, an overlay picture."""
    inputs = _inputs(dates, kinds, [len(images)])
    for path in images:
        if not path.is_file():
            _stop(f"{path} is no file.", WRONG_USE)
    if precision not in ("float32", "bfloat16"):
        _stop(f"--precision: {precision!r} is not one of float32, bfloat16.", WRONG_USE)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _stop(f"--out: {out} cannot be made: {error.strerror}.", WRONG_USE)
    from vp_model.agent import Agent
    from vp_model.asking import ask
    from vp_model.checkpoint import CheckpointError
    from vp_model.ontology import color_of
    from vp_model.program.narration import readable
    from vp_model.program.possible import in_full
    from vp_model.rendering import CT_WINDOW, render_overlay
    from vp_model.volume import read_nifti, write_nifti

    volumes: list[Volume] = []
    files: dict[str, Path] = {}
    order = sorted(range(len(images)), key=lambda index: (inputs[index][0] or date.min, index))
    sessions = sorted({inputs[index][0] or date.min for index in order})
    for number, index in enumerate(order, 1):
        visit, kind = inputs[index]
        try:
            volume = read_nifti(images[index], kind, visit, sessions.index(visit or date.min))
        except (ValueError, OSError, EOFError) as error:
            _stop(f"{images[index]} cannot be read as a 3-D NIfTI image: {error}", WRONG_USE)
        volumes.append(volume.named(f"v{number}"))
        files[f"v{number}"] = images[index]
    try:
        agent = Agent.load(checkpoint, device, precision="bfloat16" if precision == "bfloat16" else "float32")
    except CheckpointError as error:
        _stop(str(error), FAILED)
    outcome = ask(agent, prompt, volumes, register)
    summary = _written(outcome, files, out, write_nifti)
    summary["reason"] = in_full(outcome.reason, agent.checkpoint.served)
    (out / "outcome.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    for volume in volumes:
        drawn = [
            (mask.label, color_of(mask.structure), mask.voxels) for mask in outcome.masks if mask.volume == volume.name
        ]
        if drawn:
            name = "overlay.png" if len(volumes) == 1 else f"overlay-{volume.name}.png"
            window = CT_WINDOW if volume.kind == "CT" else None
            render_overlay(volume.voxels, volume.world, drawn, out / name, window=window)
    if not as_json:
        summary["reason"] = outcome.reason
    _say(summary, as_json, readable(outcome.transcript).splitlines() if outcome.transcript.steps else [])
    raise typer.Exit({"answered": 0, "refused": REFUSED, "failed": FAILED}[outcome.status])


@app.command()
def plan(
    prompt: PromptArgument,
    dates: DatesOption = "",
    kinds: KindsOption = "",
    checkpoint: CheckpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prints the program that a prompt would run, or why it is refused, without images."""
    inputs = _inputs(dates, kinds, [])
    from vp_model.agent import Agent
    from vp_model.checkpoint import CheckpointError
    from vp_model.program.narration import narrate
    from vp_model.program.possible import in_full

    volumes = _described(inputs)
    try:
        agent = Agent.load(checkpoint)
    except CheckpointError as error:
        _stop(str(error), FAILED)
    planned = agent.plan(prompt, volumes)
    if as_json:
        planned = replace(planned, reason=in_full(planned.reason, agent.checkpoint.served))
    structures = [{"name": name, "side": side} for name, side in planned.structures]
    words = narrate(planned.program, volumes) if planned.program else []
    _say({**asdict(planned), "structures": structures}, as_json, words)
    raise typer.Exit(0 if planned.status == "answered" else REFUSED)


@app.command()
def show(checkpoint: CheckpointOption = None, as_json: JsonOption = False) -> None:
    """Says which model it is, and what it can find how well."""
    from vp_model.checkpoint import CheckpointError, open_checkpoint

    try:
        opened = open_checkpoint(checkpoint)
    except CheckpointError as error:
        _stop(str(error), FAILED)
    if as_json:
        structures = [vars(structure) for structure in opened.structures]
        print(json.dumps({**vars(opened.identity), "structures": structures}, indent=1))
        return
    print(f"{opened.identity.name} {opened.identity.version} ({opened.identity.content_hash[:12]})\n")
    for structure in opened.structures:
        dice = "not measured" if structure.dice is None else f"Dice {structure.dice:.2f}"
        print(f"  {structure.region:36} {dice}{'   experimental' if structure.experimental else ''}")
    together = sorted(opened.served - {structure.name for structure in opened.structures})
    if together:
        print(f"\nPut together from these: {', '.join(together)}.")
    print(f"\n{opened.card}")


def main() -> None:
    app()


def _inputs(dates: str, kinds: str, count: list[int]) -> list[tuple[date | None, str]]:
    """Date and kind of each volume; `count` holds the number of volumes where it is known."""
    visits: list[date | None] = []
    for text in [part.strip() for part in dates.split(",") if part.strip()]:
        try:
            visits.append(date.fromisoformat(text))
        except ValueError:
            _stop(f"--dates: {text!r} is no date of the form YYYY-MM-DD.", WRONG_USE)
    known = {kind.upper(): kind for kind in KINDS}
    spoken = []
    for text in [part.strip() for part in kinds.split(",") if part.strip()]:
        if text.upper() not in known:
            _stop(f"--kinds: {text!r} is not one of {', '.join(KINDS)}.", WRONG_USE)
        spoken.append(known[text.upper()])
    number = count[0] if count else max(len(visits), len(spoken), 1)
    for name, given in (("--dates", visits), ("--kinds", spoken)):
        if given and len(given) != number:
            _stop(f"{name} holds {len(given)} values for {number} volumes: give one for each, or none.", WRONG_USE)
    return list(zip(visits or [None] * number, spoken or ["unknown"] * number, strict=True))


def _described(inputs: list[tuple[date | None, str]]) -> list[InputVolume]:
    from vp_model.outcome import InputVolume

    ordered = sorted(inputs, key=lambda item: item[0] or date.min)
    sessions = sorted({visit or date.min for visit, _ in ordered})
    return [
        InputVolume(f"v{number}", kind, visit.isoformat() if visit else "", sessions.index(visit or date.min))
        for number, (visit, kind) in enumerate(ordered, 1)
    ]


def _written(outcome: Outcome, files: dict[str, Path], out: Path, write_nifti: Any) -> dict[str, Any]:
    """Writes masks and derived volumes beside `outcome.json`, and says where they are."""
    import numpy as np

    masks = []
    for mask in outcome.masks:
        name = f"{mask.identifier}-{mask.label.replace(' ', '-')}-{mask.volume}.nii.gz"
        write_nifti(out / name, mask.voxels.astype(np.uint8), mask.world)
        masks.append(
            {
                "structure": mask.structure,
                "side": mask.side,
                "visit": mask.visit,
                "input": str(files[mask.volume]),
                "file": name,
                "experimental": mask.experimental,
            }
        )
    derived = []
    for image in outcome.derived:
        name = f"{image.identifier}-{image.operation}-{image.source}.nii.gz"
        write_nifti(out / name, image.voxels, image.world)
        derived.append({"operation": image.operation, "input": str(files[image.source]), "file": name})
    summary = outcome.summary()
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "task": outcome.task,
        "program": summary["program"],
        "masks": masks,
        "measurements": summary["measurements"],
        "texts": summary["texts"],
        "derived": derived,
        "warnings": summary["warnings"],
        "alignments": summary["alignments"],
        "model": summary["model"],
        "note": "Made by software, for research use, unverified.",
    }


def _say(summary: dict[str, Any], as_json: bool, words: list[str]) -> None:
    """The result, as JSON or to be read: the program, what it does in words, and what it gave out."""
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    print(f"{summary['status']}: {summary['reason']}" if summary["reason"] else summary["status"])
    if summary.get("program"):
        print("\n" + summary["program"].rstrip() + "\n")
    if words:
        print("In words:\n" + "".join(f"  {line}\n" for line in words))
    for item in summary.get("measurements", ()):
        mark = "   experimental" if item["experimental"] else ""
        print(f"  {item['label']:32} {item['name']:24} {item['value']:.4g} {item['unit']} {item['visit']}{mark}")
    for text in summary.get("texts", ()):
        print(f"  {text['text']}")
    for warning in summary.get("warnings", ()):
        print(f"  Note: {warning}")


def _stop(message: str, code: int) -> Any:
    print(message, file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
