"""`vp-train studies`: synthetic studies to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHOWN = ("left hippocampus", "right thalamus", "lateral ventricle", "brain")


def studies(
    data: Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(help="How many.")] = 1,
    seed: int = 1,
    finest: Annotated[float, typer.Option(help="No voxel is finer than this many mm.")] = 1.0,
    region: Annotated[list[str] | None, typer.Option(help="Outlined, and spared by sparsification.")] = None,
    focus: Annotated[str, typer.Option(help="Region through whose middle the planes go; a lesion by default.")] = "",
    kind: Annotated[list[str] | None, typer.Option(help="Kinds of lesions (kinds.json); any by default.")] = None,
    protocol: Annotated[str, typer.Option(help="Of sequences.json; any by default.")] = "",
    sessions: Annotated[int, typer.Option(help="1, or 2 for two or three; 0 for any.")] = 0,
) -> None:
    """Draws synthetic studies and writes a contact sheet of each: all images, all sessions, outlines of targets."""
    from vp_train.datasets.labels import load_labels
    from vp_train.datasets.maps import load_subjects
    from vp_train.synthesis.chance import Chance
    from vp_train.synthesis.lesions.anatomy import load_anatomies
    from vp_train.synthesis.pictures import contact_sheet
    from vp_train.synthesis.planning import StudySettings, plan_study
    from vp_train.synthesis.sequences import load_sequences
    from vp_train.synthesis.study import render_study

    labels, subjects = load_labels(), load_subjects(data, out / "cache")
    if protocol and protocol not in {entry.name for entry in load_sequences().protocols}:
        names = ", ".join(entry.name for entry in load_sequences().protocols)
        raise typer.BadParameter(f"There is no protocol {protocol!r}; there are: {names}.")
    regions = region or list(SHOWN)
    several = {0: StudySettings().several, 1: 0.0}.get(sessions, 1.0)
    settings = StudySettings(
        finest_mm=finest,
        several=several,
        protocols=(protocol,) if protocol else (),
        kinds=tuple(kind or ()),
        lesioned=1.0 if kind else StudySettings().lesioned,
    )
    for number in range(seed, seed + count):
        chance = Chance.seeded(number)
        subject = subjects[chance.integer(len(subjects))]
        (anatomy,) = load_anatomies(data, [subject], out / "cache")
        plan = plan_study(subject, labels, chance, settings, anatomy)
        study = render_study(plan, (*regions, *plan.scene.lesions, *([focus] if focus else ())))
        path = out / f"study_{number}.png"
        contact_sheet(study, regions, path, focus)
        for lesion in plan.scene.lesions:
            print(f"  {lesion}")
        told = ", ".join(f"{item.name} {item.kind} {item.visit}" for item in study.scene.volumes)
        print(f"{path}: {plan.sessions[0].scene.subject.name}: {told}")
