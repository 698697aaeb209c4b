"""What a prompt on a set of volumes ends in: masks, measurements, texts, derived volumes and the transcript.

An outcome is made of plain values and numpy arrays, so that it crosses from the process that computes to the one
that writes DICOM without torch. `Outcome.save` writes a folder (`outcome.json` and one `.npz`), `Outcome.load` reads it
back; nothing in it is pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["left", "right", "both", "midline", ""]
Status = Literal["answered", "refused", "failed"]
Derivation = Literal["crop", "remove", "isolate", "resample", "reorient", "pad", "distance map"]
"""How an image was made. A distance map holds millimetres; all others hold the source's own stored units."""

OUTCOME_FILE = "outcome.json"
ARRAYS_FILE = "arrays.npz"


@dataclass(frozen=True, eq=False)
class Mask:
    """One region on the voxel grid of one input volume."""

    identifier: str
    """Unique in the outcome, and the same whenever the same program runs on the same volumes."""
    structure: str
    """Name in the ontology, without its side: `hippocampus`, `white matter lesion`."""
    side: Side
    visit: str
    """ISO date of the session, or `""` where the session has none."""
    session: int
    """0 for the earliest session of the volume set."""
    volume: str
    """Name of the input volume on whose grid the voxels lie."""
    label: str
    """What a radiologist reads: `left hippocampus`."""
    voxels: NDArray[np.bool_]
    """(w, h, d), in the index order of the input volume as it was given, before any reorientation."""
    world: NDArray[np.float64]
    """4×4, voxel index → RAS mm: the input volume's own."""
    experimental: bool = False
    """The model card measured this structure below the accuracy at which it is offered without a warning."""


@dataclass(frozen=True)
class Measurement:
    """A number with its unit, and what it was measured on."""

    name: str
    """Key in `vp_model/program/measurements.json`: `volume`, `extent`, `mean intensity`, `volume change`…"""
    value: float
    unit: str
    """UCUM: `ml`, `mm`, `%`, `1` (no unit), `[hnsf'U]`."""
    structure: str
    side: Side
    visit: str
    """ISO date of the session; for a change, the later one."""
    label: str
    masks: tuple[str, ...] = ()
    """Identifiers of the masks that it was measured on."""
    visits: tuple[str, ...] = ()
    """For a change: the dates compared, earliest first."""
    points: tuple[tuple[float, float, float], ...] = ()
    """RAS mm: the two ends of a length, the one point of a centre of mass, the corners of a bounding box."""
    volume: str = ""
    """Name of the input volume where one image gave the value (an intensity)."""
    experimental: bool = False


@dataclass(frozen=True)
class Text:
    """An answer in words."""

    text: str
    topic: str = ""
    """`location`, `enhancement`, `diffusion restriction`, `signal intensity` or `""`."""
    structure: str = ""
    side: Side = ""
    visit: str = ""
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DerivedVolume:
    """An image made from an input volume: cropped, or with tissue removed."""

    identifier: str
    operation: Derivation
    source: str
    """Name of the input volume."""
    label: str
    voxels: NDArray[np.float32]
    """(w, h, d) in the stored units of the source after rescale."""
    world: NDArray[np.float64]
    visit: str = ""
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One turn of the loop of section 3.1: the code that α wrote and what running it printed."""

    code: str
    output: str = ""
    error: str = ""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where one input volume was laid for the model, and how well it fits there. Its own geometry stays as it is."""

    volume: str
    """Name of the input volume."""
    reference: str
    """Name of the volume that it was laid on; its own name for the one that all others are laid on."""
    method: Literal["reference", "header", "rigid", "failed"]
    """`header`: as the world matrices have it. `rigid`: by registration. `failed`: registration found no place, and the
    world matrices are used."""
    world_transform: NDArray[np.float64]
    """4×4, RAS mm of the volume's own world → RAS mm of the common one."""
    metric_before: float = 0.0
    """Mutual information with the reference, nats, as the world matrices have it."""
    metric_after: float = 0.0
    overlap: float = 0.0
    """Dice of the two heads afterwards, in [0, 1]."""
    motion_mm: float = 0.0
    """How far the centre of the head moves."""
    rotation_degrees: float = 0.0
    note: str = ""
    """What a reader should know: why it was left, or failed."""


@dataclass(frozen=True)
class InputVolume:
    """What α was told about a volume."""

    name: str
    """The variable's name in the program, and the volume's name everywhere in the outcome unless `given` is another."""
    kind: str
    """Sequence type: `T1`, `T2`, `FLAIR`, `CT`… or `unknown`."""
    visit: str
    session: int
    given: str = ""
    """The name that it came with, where programs know it by another; masks and measurements name that one."""


@dataclass(frozen=True)
class Transcript:
    prompt: str
    volumes: tuple[InputVolume, ...]
    steps: tuple[Step, ...] = ()

    @property
    def program(self) -> str:
        """The code of all steps, as one text."""
        return "\n".join(step.code.rstrip() for step in self.steps)


@dataclass(frozen=True)
class ModelIdentity:
    name: str
    version: str
    content_hash: str
    """SHA-256 over weights, configuration, tokenizer and ontology."""


@dataclass(frozen=True)
class Outcome:
    status: Status
    transcript: Transcript
    model: ModelIdentity
    reason: str = ""
    """Why it was refused or failed, for the person who asked: what was wrong and what is possible."""
    task: str = ""
    """Category of Table 1: `segmentation`, `volume analysis`, …"""
    structures: tuple[tuple[str, Side], ...] = ()
    masks: tuple[Mask, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    texts: tuple[Text, ...] = ()
    derived: tuple[DerivedVolume, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    alignments: tuple[Alignment, ...] = ()
    """How the input volumes were laid on each other before the model ran; empty where nothing was."""

    def mask(self, identifier: str) -> Mask:
        for mask in self.masks:
            if mask.identifier == identifier:
                return mask
        raise KeyError(f"The outcome has no mask {identifier!r}.")

    def save(self, folder: Path) -> None:
        """Writes `outcome.json` and `arrays.npz` into `folder`, which must exist."""
        arrays: dict[str, NDArray[Any]] = {}
        for mask in self.masks:
            arrays[f"{mask.identifier}.voxels"] = np.packbits(mask.voxels)
        for derived in self.derived:
            arrays[f"{derived.identifier}.voxels"] = derived.voxels
        np.savez_compressed(folder / ARRAYS_FILE, **arrays)  # type: ignore[arg-type]
        (folder / OUTCOME_FILE).write_text(json.dumps(self.summary(), indent=1), encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        """Everything but the voxels, ready for JSON."""
        return {
            "status": self.status,
            "reason": self.reason,
            "task": self.task,
            "structures": [{"name": name, "side": side} for name, side in self.structures],
            "model": vars(self.model),
            "program": self.transcript.program,
            "prompt": self.transcript.prompt,
            "volumes": [vars(volume) for volume in self.transcript.volumes],
            "steps": [vars(step) for step in self.transcript.steps],
            "masks": [_without_voxels(mask) for mask in self.masks],
            "measurements": [vars(measurement) for measurement in self.measurements],
            "texts": [vars(text) for text in self.texts],
            "derived": [_without_voxels(derived) for derived in self.derived],
            "warnings": list(self.warnings),
            "alignments": [
                {**vars(item), "world_transform": item.world_transform.tolist()} for item in self.alignments
            ],
        }

    @classmethod
    def load(cls, folder: Path) -> Outcome:
        """Reads what `save` wrote."""
        data = json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
            masks = tuple(
                Mask(**_with_world(item), voxels=_unpack(arrays[f"{item['identifier']}.voxels"], item["shape"]))
                for item in data["masks"]
            )
            derived = tuple(
                DerivedVolume(**_tuples(_with_world(item)), voxels=arrays[f"{item['identifier']}.voxels"])
                for item in data["derived"]
            )
        return cls(
            status=data["status"],
            reason=data["reason"],
            task=data["task"],
            structures=tuple((item["name"], item["side"]) for item in data["structures"]),
            model=ModelIdentity(**data["model"]),
            transcript=Transcript(
                prompt=data["prompt"],
                volumes=tuple(InputVolume(**item) for item in data["volumes"]),
                steps=tuple(Step(**item) for item in data["steps"]),
            ),
            masks=masks,
            measurements=tuple(Measurement(**_tuples(item)) for item in data["measurements"]),
            texts=tuple(Text(**_tuples(item)) for item in data["texts"]),
            derived=derived,
            warnings=tuple(data["warnings"]),
            alignments=tuple(
                Alignment(**{**item, "world_transform": np.asarray(item["world_transform"], dtype=np.float64)})
                for item in data.get("alignments", [])
            ),
        )


def _without_voxels(item: Mask | DerivedVolume) -> dict[str, Any]:
    fields = {key: value for key, value in vars(item).items() if key != "voxels"}
    return {**fields, "world": item.world.tolist(), "shape": list(item.voxels.shape)}


def _with_world(item: dict[str, Any]) -> dict[str, Any]:
    fields = {key: value for key, value in item.items() if key != "shape"}
    return {**fields, "world": np.asarray(item["world"], dtype=np.float64)}


def _tuples(item: dict[str, Any]) -> dict[str, Any]:
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
    if "points" in fields:
        fields["points"] = tuple(tuple(point) for point in fields["points"])
    return fields


def _unpack(packed: NDArray[np.uint8], shape: list[int]) -> NDArray[np.bool_]:
    count = int(np.prod(shape))
    return np.unpackbits(packed, count=count).astype(np.bool_).reshape(shape)
