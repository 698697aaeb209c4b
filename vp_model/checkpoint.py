"""A checkpoint: weights, configuration, tokenizer and model card in one folder, and the hash that identifies it.

    config.json            name, version, `vision`, `language`, `structures`, `working_spacing_mm`, `ontology_version`
    vision.safetensors     m
    language.safetensors   α
    tokenizer.json
    condition_table.safetensors   φ of each region as m was trained with them; optional
    lesions.safetensors    finds lesions that m itself was not taught; optional
    MODEL_CARD.md

Opening reads the configuration, the headers of the weights and the hash, without torch; weights are read by whoever
computes. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vp_model.ontology import load_ontology
from vp_model.outcome import ModelIdentity, Side
from vp_model.vision.config import Refining

BUNDLED = Path(__file__).parent / "weights"
CONFIG_FILE = "config.json"
VISION_FILE = "vision.safetensors"
LANGUAGE_FILE = "language.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "MODEL_CARD.md"
CONDITIONS_FILE = "condition_table.safetensors"
LESIONS_FILE = "lesions.safetensors"
WEIGHT_FILES = (VISION_FILE, LANGUAGE_FILE, CONDITIONS_FILE, LESIONS_FILE)
OPTIONAL_FILES = (CONDITIONS_FILE, LESIONS_FILE)
HASHED_FILES = (CONFIG_FILE, VISION_FILE, LANGUAGE_FILE, TOKENIZER_FILE)


class CheckpointError(ValueError):
    """The folder is no usable checkpoint; the message says what is wrong with it."""


@dataclass(frozen=True)
class KnownStructure:
    """A structure that the weights can find, and how well they did on validation."""

    name: str
    side: Side
    dice: float | None
    experimental: bool
    """Measured below the accuracy at which it is offered without a warning, or not measured."""
    threshold: float = 0.5
    """Probability from which a voxel belongs to it."""

    @property
    def region(self) -> str:
        """The name that `segment` takes."""
        return f"{self.side} {self.name}" if self.side in ("left", "right") else self.name


@dataclass(frozen=True)
class KnownLesions:
    """Lesions that are found by a network of their own (`vp_model.vision.lesions`).

    Attributes:
        network: its configuration.
        shows: name → sequence types that show it, best first: it is looked for in no others.
    """

    network: Mapping[str, Any]
    shows: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    identity: ModelIdentity
    vision: Mapping[str, Any]
    language: Mapping[str, Any]
    structures: tuple[KnownStructure, ...]
    ontology_version: int | None = None
    """Of the ontology that the weights were trained with; None where the checkpoint does not say."""
    mirrored: bool = False
    """m looks at each set of volumes and at its mirror image, and the mean counts (`vp_model.vision.mirrored`)."""
    refining: Refining | None = None
    """How borders are refined by the images' own intensities; None: they are m's own."""
    lesions: KnownLesions | None = None

    @property
    def regions(self) -> tuple[str, ...]:
        """Names that `segment` takes: `left hippocampus`, `brainstem`."""
        return tuple(structure.region for structure in self.structures)

    @property
    def served(self) -> frozenset[str]:
        """Names of what a prompt may ask for, without sides: what m finds, and what is put together from that."""
        found = frozenset(structure.name for structure in self.structures)
        return found | load_ontology().assembled(found)

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        path = self.folder / CARD_FILE
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def open_checkpoint(folder: Path | None = None) -> Checkpoint:
    """Reads a checkpoint's configuration; None opens the bundled one. Weights are loaded later.

    Raises:
        CheckpointError: a file is missing or cut off, the configuration is incomplete, or it was made for another
            version of the ontology or names a structure that the ontology does not know.
    """
    folder = BUNDLED if folder is None else Path(folder)
    for name in HASHED_FILES:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: {name} is missing.")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        structures = tuple(
            KnownStructure(
                item["name"],
                item["side"] or "",
                item.get("dice"),
                bool(item["experimental"]),
                float(item.get("threshold", 0.5)),
            )
            for item in config["structures"]
        )
        name, version = str(config["name"]), str(config["version"])
        vision, language = dict(config["vision"]), dict(config["language"])
        averaged = bool(config.get("mirrored", False))
        refining = Refining(**config["refining"]) if config.get("refining") else None
        lesions = _lesions(config["lesions"]) if config.get("lesions") else None
        made_for = config.get("ontology_version")
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is incomplete: {error} is missing.") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be read: {error}.") from error
    ontology = load_ontology()
    if made_for is not None and made_for != ontology.version:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} was made for version {made_for} of the ontology, and this is version "
            f"{ontology.version}: train or export the checkpoint anew."
        )
    for structure in structures:
        if structure.name not in ontology.structures:
            raise CheckpointError(f"{folder / CONFIG_FILE} names {structure.name!r}, which the ontology does not know.")
    if (averaged or refining) and not (folder / CONDITIONS_FILE).is_file():
        use = "mirrored averaging" if averaged else "refined borders"
        raise CheckpointError(f"{folder} asks for {use}, but {CONDITIONS_FILE} is missing.")
    if lesions is not None:
        _check_lesions(folder, lesions, {structure.name for structure in structures}, refining)
    for file in WEIGHT_FILES:
        _check_header(folder / file)
    identity = ModelIdentity(name, version, content_hash(folder))
    return Checkpoint(folder, identity, vision, language, structures, made_for, averaged, refining, lesions)


def _lesions(values: Mapping[str, Any]) -> KnownLesions:
    return KnownLesions(dict(values["network"]), {name: tuple(kinds) for name, kinds in values["shows"].items()})


def _check_lesions(folder: Path, lesions: KnownLesions, names: set[str], refining: Refining | None) -> None:
    """
    Raises:
        CheckpointError: the weights are missing, or what they are applied to.
    """
    for file in OPTIONAL_FILES:
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder} finds lesions by a network of their own, but {file} is missing.")
    if refining is None:
        raise CheckpointError(f"{folder / CONFIG_FILE} finds lesions in what tissues do not explain: set refining.")
    unknown = sorted(set(lesions.shows) - names)
    if unknown:
        raise CheckpointError(f"{folder / CONFIG_FILE} does not list the lesions that it finds: {', '.join(unknown)}.")


def _check_header(path: Path) -> None:
    """A safetensors header says how long its file is: one that was cut off is found without reading the weights."""
    if not path.is_file():
        return  # only the optional file can be absent here
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no whole safetensors file: {error}.") from error


def content_hash(folder: Path) -> str:
    """SHA-256 over weights, configuration, tokenizer and ontology: what an answer depends on."""
    digest = hashlib.sha256()
    ontology = Path(__file__).parent / "ontology" / "structures.json"
    optional = [folder / name for name in OPTIONAL_FILES if (folder / name).is_file()]
    for path in (*(folder / name for name in HASHED_FILES), *optional, ontology):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
