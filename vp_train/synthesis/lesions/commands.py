"""`vp-train lesions`: synthetic lesions to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHOWN = ("T1", "T1+C", "T2", "FLAIR", "SWI", "DWI", "ADC", "CT")


def lesions(
    data: Annotated[Path, typer.Option(help="Folder of label maps (synthseg_*_seg.nii.gz).")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    kind: Annotated[list[str] | None, typer.Option(help="Of kinds.json; all by default.")] = None,
    sequence: Annotated[list[str] | None, typer.Option(help="Sequence types, the columns.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of real lesion masks whose shapes half of them take.")
    ] = None,
    pattern: Annotated[str, typer.Option(help="Which files of that folder are masks.")] = "*.nii.gz",
    seed: int = 1,
    dpi: int = 70,
) -> None:
    """Draws a lesion of each kind and writes a contact sheet: kinds by sequence types, with outlines."""
    import torch

    from vp_train.datasets.labels import load_labels
    from vp_train.datasets.maps import load_subjects
    from vp_train.synthesis.chance import Chance
    from vp_train.synthesis.lesions.anatomy import load_anatomies
    from vp_train.synthesis.lesions.draw import draw_lesions
    from vp_train.synthesis.lesions.kinds import load_kinds
    from vp_train.synthesis.lesions.pictures import contact_sheet, draw_row
    from vp_train.synthesis.lesions.shapes import read_shapes
    from vp_train.synthesis.scene import Scene
    from vp_train.synthesis.space import draw_deformation

    known = load_kinds()
    wanted = kind or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise typer.BadParameter(f"There is no kind {unknown[0]!r}; there are: {', '.join(known)}.")
    sequences = sequence or list(SHOWN)
    shapes = read_shapes(masks, pattern) if masks is not None else ()
    cache = out.parent / "cache"
    subjects = load_subjects(data, cache)
    nothing = torch.zeros(len(load_labels().names), dtype=torch.bool)
    rows = []
    for name in wanted:
        number = list(known).index(name)
        chance = Chance.seeded(seed * 1000 + number)
        subject = subjects[chance.integer(len(subjects))]
        anatomy = load_anatomies(data, [subject], cache)[0]
        found = draw_lesions(subject, anatomy, chance, 1, [name], shapes=shapes)
        if not found:
            print(f"{name}: no room in {subject.name}")
            continue
        scene = Scene(subject, draw_deformation(subject, chance), None, nothing, found)
        facts = found[0].facts_in(scene.deformation)
        title = f"{name}\n{facts.side} {facts.lobe}, {facts.volume_mm3 / 1000:.1f} ml"
        rows.append(draw_row(scene, 0, sequences, seed * 1000 + number, title))
        print(f"{name}: {subject.name}, {facts}")
    contact_sheet(rows, sequences, out, dpi)
