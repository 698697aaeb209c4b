"""Prompt and volumes → code → run → feedback → … → outcome (paper, section 3.1, Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from llguidance import LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vp_model.arrangement import Arranged, arranged
from vp_model.checkpoint import CONDITIONS_FILE, TOKENIZER_FILE, Checkpoint, CheckpointError, open_checkpoint
from vp_model.imaging.intensity import Image
from vp_model.language.decoding import DecodingError, Writer, WrittenStep, make_constraint
from vp_model.language.grounding import ungrounded
from vp_model.language.held import Held
from vp_model.language.model import LanguageModel
from vp_model.language.shown import Shows, names_in, unseen
from vp_model.language.state import feedback_text, initial_text
from vp_model.language.tokens import load_tokenizer
from vp_model.language.wanted import wanted_regions
from vp_model.language.weights import load_language
from vp_model.ontology import load_ontology
from vp_model.outcome import InputVolume, ModelIdentity, Outcome, Side, Status, Step, Transcript
from vp_model.program.environment import ProgramEnvironment, Target, initial_known, region_targets
from vp_model.program.errors import ProgramError
from vp_model.program.inspection import Inspection, inspect_program
from vp_model.program.possible import can_find
from vp_model.program.refusals import MISSING_IMAGE, NOT_UNDERSTOOD, refusal
from vp_model.program.results import build_outcome
from vp_model.vision.config import config_from_dict
from vp_model.vision.device import find_device
from vp_model.vision.finding import LesionFinder
from vp_model.vision.inference import FeatureCache, Precision
from vp_model.vision.lesions import LesionNetwork, lesion_config, load_lesions
from vp_model.vision.mirrored import MirroredViews, load_conditions
from vp_model.vision.network import VisionNetwork
from vp_model.vision.refinement import Refiner
from vp_model.vision.sight import Sight
from vp_model.vision.tissues import tissues_of, tissues_within
from vp_model.vision.weights import load_vision
from vp_model.volume import Volume

MAXIMUM_STEPS = 8
NOTHING_TO_SEE = "There is nothing to see: all voxels of an image have one value."
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What α would run, without images."""

    status: Status
    reason: str
    task: str
    """Category of Table 1."""
    structures: tuple[tuple[str, Side], ...]
    program: str


class Agent:
    """α and m with their environment. Holds weights only: runs do not influence each other.

    α stays on the CPU, where a token takes less time than a launch on an accelerator would; m is where `load` put it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        language: LanguageModel,
        tokenizer: Tokenizer,
        vision: VisionNetwork,
        conditions: Mapping[str, torch.Tensor] | None = None,
        memory_bytes: int | None = None,
        precision: Precision = "float32",
        lesions: LesionNetwork | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self._language = language
        self._tokenizer = tokenizer
        self._vision = vision
        self._conditions = conditions
        self._lesions = lesions
        self._memory_bytes = memory_bytes
        self._precision = precision
        self._thresholds = {structure.region: structure.threshold for structure in checkpoint.structures}
        self._names = checkpoint.served
        self._constraint: LLTokenizer = make_constraint(tokenizer)
        # A paired structure is always segmented by its sides: φ says which, and there is none for both at once.
        self._targets: dict[str, Target] = {
            name: target
            for name, target in region_targets(load_ontology(), checkpoint.regions).items()
            if len(target.sides) == 1
        }

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        device: str = "cpu",
        memory_bytes: int | None = None,
        precision: Precision = "float32",
    ) -> Agent:
        """The agent of a checkpoint folder; None: the bundled one.

        Args:
            device: where m computes: `cpu`, `cuda`, `cuda:1`, …, or `auto`, which is `cuda` where there is one.
            memory_bytes: for features of m; larger images go through in slabs. None: see `default_memory`.
            precision: of m's multiplications; `bfloat16` takes half the time on processors that have it.

        Raises:
            CheckpointError: the folder is no checkpoint, its parts do not fit each other, or the device is not there.
        """
        place = find_device(device)
        checkpoint = open_checkpoint(folder)
        try:
            tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
            language = load_language(checkpoint.language, checkpoint.folder, tokenizer.get_vocab_size())
            vision = load_vision(config_from_dict(checkpoint.vision), checkpoint.folder).to(place)
            conditions = _conditions(checkpoint)
            lesions = _lesions(checkpoint)
        except (TypeError, RuntimeError, ValueError, FileNotFoundError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"The checkpoint {checkpoint.folder.name} does not fit together: {first}") from error
        return cls(checkpoint, language, tokenizer, vision, conditions, memory_bytes, precision, lesions)

    @property
    def identity(self) -> ModelIdentity:
        return self.checkpoint.identity

    def plan(self, prompt: str, volumes: Sequence[InputVolume]) -> Plan:
        """What α would run on volumes of these names, kinds and dates, or the refusal. Needs no images.

        A program of several steps is planned up to the first feedback.
        """
        known = initial_known(volumes, self._targets)
        try:
            code = self.write(prompt, volumes, Held(prompt, volumes, self._names_in(prompt, volumes))).code
            inspection = inspect_program(code, known, self._targets)
        except (DecodingError, ProgramError) as error:
            return Plan("refused", refusal(NOT_UNDERSTOOD, volumes, self._names, str(error), prompt), "", (), "")
        reason = self._refusal(prompt, volumes, inspection)
        status: Status = "refused" if reason else "answered"
        return Plan(status, reason, inspection.task, inspection.structures, code)

    def write(self, prompt: str, volumes: Sequence[InputVolume], held: Held | None = None) -> WrittenStep:
        """The first step that α writes on volumes of these names, kinds and dates.

        Args:
            held: what each line must agree with; None: nothing but the grammar and what the prompt names.

        Raises:
            DecodingError: α came to no end.
        """
        names = self._names_in(prompt, volumes)
        writer = self._writer()
        writer.read(initial_text(prompt, volumes, names))
        return writer.write(initial_known(volumes, self._targets), wanted_regions(prompt, names), held)

    def sight(self, volumes: Sequence[Volume]) -> Sight:
        """m on a set of volumes, for several prompts about them: what does not depend on φ is computed once.

        Raises:
            ValueError: the volumes are no set that a prompt can be about (see `arrangement.arranged`).
        """
        return self._sight(arranged(volumes).volumes)

    def _sight(self, volumes: Sequence[Volume]) -> Sight:
        cache = FeatureCache(memory_bytes=self._memory_bytes, precision=self._precision)
        conditions, refining = self._conditions, self.checkpoint.refining
        views = MirroredViews(conditions) if self.checkpoint.mirrored and conditions is not None else None
        refiner, finder = None, None
        if refining is not None and conditions is not None:
            structures = load_ontology().structures
            within = [name for name, structure in structures.items() if structure.kind == "pathology"]
            tissues = tissues_of(self.checkpoint.regions, left_out=within)
            parts = tissues_within(self.checkpoint.regions)
            refiner = Refiner(self._vision, tissues, conditions, refining, cache, views, parts)
            if self._lesions is not None and self.checkpoint.lesions is not None:
                shows = self.checkpoint.lesions.shows
                finder = LesionFinder(self._lesions, self._vision, shows, tissues, conditions, refining, cache)
        named = {volume.name: volume for volume in volumes}
        return Sight(self._vision, named, self._thresholds, cache, views, refiner, conditions or {}, finder)

    def run(
        self,
        prompt: str,
        volumes: Sequence[Volume],
        progress: Progress | None = None,
        sight: Sight | None = None,
    ) -> Outcome:
        """Answers a prompt on volumes that lie in one frame of reference (`asking.ask` lays others there first).

        Their order and their names are free; the outcome speaks of them by their own names (see `arrangement`).

        Args:
            sight: of these volumes, where an earlier prompt about them left one.

        Returns:
            The outcome: answered, refused with a reason, or failed with the program's mistake. Failures of the machine
            (memory) are raised.

        Raises:
            ValueError: the volumes are no set that a prompt can be about (see `arrangement.arranged`).
        """
        found = arranged(volumes)
        return found.returned(self.answer(prompt, found, progress, sight))

    def answer(
        self, prompt: str, found: Arranged, progress: Progress | None = None, sight: Sight | None = None
    ) -> Outcome:
        """As `run`, on volumes that are arranged, of which the outcome speaks by the names that programs use."""
        say: Progress = progress or (lambda _: None)
        inputs, notes = found.inputs, (*found.notes, *found.apart)
        if found.blank:
            return Outcome("refused", Transcript(prompt, inputs), self.identity, NOTHING_TO_SEE, warnings=notes)
        environment = ProgramEnvironment(
            inputs,
            {volume.name: Image(volume.voxels, volume.world) for volume in found.volumes},
            sight or self._sight(found.volumes),
            self._targets,
            experimental=[(item.name, item.side) for item in self.checkpoint.structures if item.experimental],
        )
        names = self._names_in(prompt, inputs)
        writer = self._writer()
        state = initial_text(prompt, inputs, names)
        wanted, held = wanted_regions(prompt, names), Held(prompt, inputs, names)
        encodings: tuple[NDArray[np.float32], ...] = ()
        steps: list[Step] = []

        def ended(status: Status | None = None, reason: str = "") -> Outcome:
            return build_outcome(
                environment, prompt, steps, self.identity, status=status, reason=reason, warnings=notes
            )

        for number in range(1, MAXIMUM_STEPS + 1):
            say(f"writing step {number}")
            try:
                writer.read(state, encodings)
                written = writer.write(environment.known, wanted, held)
                inspection = inspect_program(written.code, environment.known, self._targets)
            except (DecodingError, ProgramError) as error:
                return ended("refused", refusal(NOT_UNDERSTOOD, inputs, self._names, str(error), prompt))
            reason = self._refusal(prompt, inputs, inspection, environment.findings.task)
            if reason:
                transcript = Transcript(prompt, inputs, (*steps, Step(written.code)))
                found_out = inspection.task, inspection.structures
                return Outcome("refused", transcript, self.identity, reason, *found_out, warnings=notes)
            say(f"running step {number}")
            result = environment.step(written.code, written.modulations)
            steps.append(Step(written.code, result.output, result.error))
            if result.error or result.refused or written.final:
                return ended()
            state, encodings = feedback_text(result.output), result.encodings
        return ended("failed", f"The program did not end within {MAXIMUM_STEPS} steps.")

    def _writer(self) -> Writer:
        return Writer(self._language, self._tokenizer, self._constraint)

    def _refusal(self, prompt: str, volumes: Sequence[InputVolume], inspection: Inspection, task: str = "") -> str:
        """Why the prompt is refused, or an empty text.

        Args:
            task: what earlier steps named: a later step need not say it again.
        """
        if inspection.refusal:
            return refusal(inspection.refusal, volumes, self._names, prompt=prompt)
        if not inspection.task and not task:
            return refusal(NOT_UNDERSTOOD, volumes, self._names, prompt=prompt)
        hidden = unseen(inspection, volumes, self._shows)
        if hidden:
            return refusal(MISSING_IMAGE, volumes, self._names, hidden, prompt)
        names = self._names_in(prompt, volumes)
        problem = ungrounded(prompt, inspection.structures, load_ontology(), names, inspection.shown, inspection.lobes)
        return f"{problem} {can_find(self._names, prompt)}" if problem else ""

    def _names_in(self, prompt: str, volumes: Sequence[InputVolume]) -> frozenset[str]:
        return names_in(prompt, volumes, self._names, self._shows)

    @property
    def _shows(self) -> Shows:
        return {} if self.checkpoint.lesions is None else self.checkpoint.lesions.shows


def _lesions(checkpoint: Checkpoint) -> LesionNetwork | None:
    """The network that finds lesions which m was not taught, where the checkpoint has one."""
    known = checkpoint.lesions
    return None if known is None else load_lesions(lesion_config(known.network), checkpoint.folder)


def _conditions(checkpoint: Checkpoint) -> Mapping[str, torch.Tensor] | None:
    """φ of each region as m was trained with them, where the checkpoint makes use of them."""
    if not checkpoint.mirrored and checkpoint.refining is None:
        return None
    return load_conditions(checkpoint.folder / CONDITIONS_FILE)
