"""From what a program found to an `Outcome`: masks on each input's own grid, measurements with their provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from vp_model.outcome import (
    Derivation,
    DerivedVolume,
    Mask,
    Measurement,
    ModelIdentity,
    Outcome,
    Side,
    Status,
    Step,
    Text,
    Transcript,
)
from vp_model.program.environment import ProgramEnvironment
from vp_model.program.state import Reported
from vp_model.program.values import Part
from vp_model.program.vocabulary import REFUSALS

LABELS = {
    "crop": "cropped to {}",
    "remove": "without {}",
    "isolate": "only {}",
    "resample": "with other voxel sizes",
    "reorient": "with its axes turned",
    "pad": "with a margin of air",
    "distance map": "grid: distance in mm to {}",
}
"""What a derived image is called, after its source's kind."""


def build_outcome(
    environment: ProgramEnvironment,
    prompt: str,
    steps: Sequence[Step],
    model: ModelIdentity,
    *,
    status: Status | None = None,
    reason: str = "",
    warnings: Sequence[str] = (),
) -> Outcome:
    """The outcome of a finished program.

    Args:
        environment: after its last step.
        prompt: what was asked.
        steps: the transcript, in order.
        model: which weights ran.
        status: None: `refused` where the program refused, `failed` where its last step ended in an error, else
            `answered`.
        reason: for the person who asked; None: the text of the refusal, or the error of the last step.
        warnings: added to the program's own.
    """
    findings = environment.findings
    found = status or _status(findings.refusal, steps)
    transcript = Transcript(prompt, tuple(environment.state.volumes.values()), tuple(steps))
    if found == "refused":
        words = reason or REFUSALS.get(findings.refusal, "")
        return Outcome("refused", transcript, model, words, findings.task, warnings=tuple(warnings))
    masks, owners = _masks(environment)
    if found == "failed":
        reason = reason or (steps[-1].error if steps else "")
    return Outcome(
        status=found,
        transcript=transcript,
        model=model,
        reason=reason,
        task=findings.task,
        structures=tuple(findings.segmented),
        masks=masks,
        measurements=tuple(_measurement(item, masks, owners) for item in findings.reported),
        texts=tuple(_with_masks(text, parts, masks, owners) for text, parts in findings.texts),
        derived=_derived(environment, masks, owners),
        warnings=tuple(dict.fromkeys((*findings.warnings, *warnings))),
    )


def _status(refusal: str, steps: Sequence[Step]) -> Status:
    if refusal:
        return "refused"
    return "failed" if steps and steps[-1].error else "answered"


def _masks(environment: ProgramEnvironment) -> tuple[tuple[Mask, ...], tuple[Part, ...]]:
    """A mask for each part shown and each of its volumes, in the order of the volumes; and the part of each mask.

    A part that has no voxel on a volume makes no mask there.
    """
    state = environment.state
    masks: list[Mask] = []
    owners: list[Part] = []
    for shown in state.findings.shown:
        for name in state.volumes:
            if name not in shown.part.volumes:
                continue
            volume, image = state.volumes[name], state.images[name]
            region = shown.part.region.on(image.grid)
            if region.empty:
                continue
            masks.append(
                Mask(
                    identifier=f"mask-{len(masks) + 1}",
                    structure=shown.roi.structure,
                    side=shown.part.side,
                    visit=volume.visit,
                    session=volume.session,
                    volume=name,
                    label=shown.roi.label(shown.part.side),
                    voxels=region.full(),
                    world=image.world,
                    experimental=shown.roi.experimental,
                )
            )
            owners.append(shown.part)
    return tuple(masks), tuple(owners)


def _measurement(item: Reported, masks: Sequence[Mask], owners: Sequence[Part]) -> Measurement:
    quantity, source = item.quantity, item.quantity.source
    dates = tuple(visit.date for visit in source.visits)
    return Measurement(
        name=item.name,
        value=float(quantity.value),
        unit=quantity.unit,
        structure=source.structure,
        side=source.side,
        visit=dates[-1] if dates else "",
        label=source.label,
        masks=_identifiers(source.parts, masks, owners, source.volumes),
        visits=dates if len(dates) > 1 else (),
        points=quantity.points,
        volume=source.volumes[0] if len(source.volumes) == 1 else "",
        experimental=source.experimental,
    )


def _identifiers(
    parts: Sequence[Part], masks: Sequence[Mask], owners: Sequence[Part], volumes: Sequence[str] = ()
) -> tuple[str, ...]:
    """The masks of these parts; only those on the given volumes where some are given and have masks."""
    own = [mask for mask, owner in zip(masks, owners, strict=True) if any(owner is part for part in parts)]
    chosen = [mask for mask in own if mask.volume in volumes] or own
    return tuple(mask.identifier for mask in chosen)


def _with_masks(text: Text, parts: Sequence[Part], masks: Sequence[Mask], owners: Sequence[Part]) -> Text:
    found = _identifiers(parts, masks, owners)
    return Text(text.text, text.topic, text.structure, text.side, text.visit, found)


def _derived(
    environment: ProgramEnvironment, masks: Sequence[Mask], owners: Sequence[Part]
) -> tuple[DerivedVolume, ...]:
    images = []
    for number, saved in enumerate(environment.findings.saved, start=1):
        about = saved.roi.label() if saved.roi is not None else "the cranial cavity"
        parts = saved.roi.parts if saved.roi is not None else ()
        images.append(
            DerivedVolume(
                identifier=f"image-{number}",
                operation=cast(Derivation, saved.operation),
                source=saved.source.name,
                label=f"{saved.source.kind} " + LABELS[saved.operation].format(about),
                voxels=saved.image.voxels,
                world=saved.image.world,
                visit=saved.source.visit,
                masks=_identifiers(parts, masks, owners, (saved.source.name,)),
            )
        )
    return tuple(images)


def structures_of(environment: ProgramEnvironment) -> tuple[tuple[str, Side], ...]:
    """Structures that the program segmented, in order."""
    return tuple(environment.findings.segmented)
