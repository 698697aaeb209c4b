"""From a study with a prompt to what the model is trained on: tokens of each step, calls of m, target masks."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vp_model.geometry import Placed
from vp_model.imaging.intensity import Image
from vp_model.imaging.landmarks import Landmarks
from vp_model.imaging.region import HALF
from vp_model.language.state import encode, feedback_text, initial_text
from vp_model.language.tokens import END, NEXT
from vp_model.ontology import load_ontology
from vp_model.program.environment import MODULATION_SIZE, ProgramEnvironment, region_targets
from vp_model.program.parser import marker_count
from vp_train.joint.calls import Call, vision_calls
from vp_train.synthesis.scene import Image as Rendered
from vp_train.tasks.scene import Example, Lesion, Scene


class Study(Protocol):
    """A rendered study (`vp_train.synthesis.study.SyntheticStudy`): volume `i` is `scene.volumes[i]`, `images[i]`."""

    @property
    def scene(self) -> Scene: ...
    @property
    def images(self) -> tuple[Rendered, ...]: ...
    def target(self, volume: int, region: str) -> torch.Tensor:
        """(w, h, d) share of each voxel that the region (`left hippocampus`) fills."""

    def lesion_target(self, volume: int, lesions: Sequence[Lesion], component: str = "") -> torch.Tensor:
        """(w, h, d) share of each voxel that these lesions of the scene fill, or one component of them."""


Render = Callable[[Sequence[str | Lesion]], Study]
"""Makes the images of a study, in which regions and lesions that a prompt asks about are not lost."""


@dataclass(frozen=True)
class Encoding:
    """A call of `encode`: volumes by index, and the number of the `<MOD>` of each, counted over all steps."""

    volumes: tuple[int, ...]
    markers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pass:
    """All calls of `segment` on one set of n volumes, which share what m sees of them before φ.

    Attributes:
        volumes: by index.
        markers: for each of the k calls the number of the `<MOD>` of each volume, counted over all steps.
        regions: what each call segments.
        targets: for each volume (k, w, h, d), the share of each voxel.
    """

    volumes: tuple[int, ...]
    markers: tuple[tuple[int, ...], ...]
    regions: tuple[str, ...]
    targets: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Step:
    """One step of the conversation as tokens.

    Attributes:
        read: the initial state μ₁, or the text of the feedback z.
        code: what α writes then, `ending` (`<NEXT>` or the end) not among it: α never reads that.
        encodings: calls of `encode` in the code; the next step reads their ε before its text.
    """

    read: tuple[int, ...]
    code: tuple[int, ...]
    ending: int
    encodings: tuple[Encoding, ...]


@dataclass(frozen=True, eq=False)
class JointExample:
    """A study, a prompt, and its target program in one or more steps."""

    prompt: str
    program: str
    images: tuple[Placed, ...]
    steps: tuple[Step, ...]
    passes: tuple[Pass, ...]

    @property
    def length(self) -> int:
        """Tokens and encodings that α reads."""
        encoded = sum(len(call.volumes) for step in self.steps[:-1] for call in step.encodings)
        return encoded + sum(len(step.read) + len(step.code) for step in self.steps)


def build_example(
    tokenizer: Tokenizer,
    example: Example,
    render: Render,
    known: Collection[str],
    chance: random.Random | None = None,
) -> JointExample:
    """Gathers what a target program asks of m, and executes it up to its last step for the feedback.

    Text feedback comes from the target masks (teacher forcing), ε from m itself when the model runs.

    Args:
        render: makes the study's images; not called where the program asks nothing of m.
        known: names of the structures that the weights are told to know, without sides.
        chance: in training, forget a part of the reading of the prompt.

    Raises:
        ValueError: the target program does not run on the study.
    """
    codes = (example.program, *example.later)
    calls = [vision_calls(code) for code in codes]
    asked = [call for found in calls for call in found]
    truth = _Truth(render(_asked_about(example, asked)), example) if asked else None
    environment = _environment(truth, asked) if truth is not None and example.later else None
    read = initial_text(example.prompt, example.scene.volumes, known, chance)
    names = example.scene.names
    steps: list[Step] = []
    segmented: dict[tuple[int, ...], list[_Asked]] = {}
    meant = iter(example.meant)
    markers = 0
    for code, found in zip(codes, calls, strict=True):
        encodings = []
        for call in found:
            volumes = tuple(names.index(name) for name in call.volumes)
            numbers = tuple(markers + marker for marker in call.markers)
            if call.operation == "encode":
                encodings.append(Encoding(volumes, numbers))
            else:
                segmented.setdefault(volumes, []).append(_Asked(call.region, numbers, next(meant, example.targets)))
        markers += marker_count(code)
        ending = NEXT if len(steps) + 1 < len(codes) else END
        # Tokens never cross a line: at inference the grammar is made anew for each.
        written = tuple(token for line in code.splitlines(keepends=True) for token in encode(tokenizer, line))
        steps.append(Step(tuple(encode(tokenizer, read)), written, identifier(tokenizer, ending), tuple(encodings)))
        if environment is not None and ending == NEXT:
            result = environment.step(code, np.zeros((marker_count(code), MODULATION_SIZE), np.float32))
            if result.error:
                raise ValueError(f"The target program of {example.task} does not run: {result.error}")
            read = feedback_text(result.output)
    passes = () if truth is None else tuple(_pass(truth, *item) for item in segmented.items())
    images = () if truth is None else tuple(image.placed for image in truth.study.images)
    return JointExample(example.prompt, "".join(codes), images, tuple(steps), passes)


def _asked_about(example: Example, calls: Sequence[Call]) -> list[str | Lesion]:
    described = {name for lesion in example.targets for name in (lesion.structure, *lesion.components)}
    regions = sorted({call.region for call in calls if call.region and call.region not in described})
    return [*regions, *example.targets]


@dataclass(frozen=True)
class _Asked:
    """A call of `segment`: its markers, counted over all steps, and the lesions of the example that it means."""

    region: str
    markers: tuple[int, ...]
    lesions: tuple[Lesion, ...]


def _pass(truth: _Truth, volumes: tuple[int, ...], calls: Sequence[_Asked]) -> Pass:
    targets = tuple(
        torch.stack([truth.target(volume, call.region, call.lesions) for call in calls]) for volume in volumes
    )
    return Pass(volumes, tuple(call.markers for call in calls), tuple(call.region for call in calls), targets)


def identifier(tokenizer: Tokenizer, token: str) -> int:
    """The number of a special token.

    Raises:
        ValueError: the tokenizer lacks it.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"The tokenizer lacks the special token {token}.")
    return int(found)


@dataclass(frozen=True, eq=False)
class _Truth:
    """The study as the vision network of a target program: every mask is the target."""

    study: Study
    example: Example

    @property
    def names(self) -> tuple[str, ...]:
        return self.study.scene.names

    def target(self, index: int, region: str, lesions: tuple[Lesion, ...]) -> torch.Tensor:
        """(w, h, d): where the program means lesions of the example, those alone or their component."""
        if any(lesion.structure == region for lesion in lesions):
            return self.study.lesion_target(index, lesions)
        if any(region in lesion.components for lesion in lesions):
            return self.study.lesion_target(index, lesions, region)
        return self.study.target(index, region)

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        lesions = self.example.targets
        return {
            volume: self.target(self.names.index(volume), name, lesions).float().cpu().numpy() for volume in volumes
        }

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(volumes), 1), np.float32)

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        index = self.names.index(volume)
        image = self.study.images[index].placed
        labels, found = np.zeros(image.shape, np.uint8), list[str]()
        for region in regions:
            try:
                share = self.study.target(index, region)
            except ValueError:  # the label map has no such region
                continue
            found.append(region)
            labels[share.cpu().numpy() >= HALF] = len(found)
        return Landmarks(tuple(found), labels, image.world)


def _environment(truth: _Truth, calls: Sequence[Call]) -> ProgramEnvironment:
    images = {
        name: Image(image.placed.features[0, 0].cpu().numpy(), image.placed.world)
        for name, image in zip(truth.names, truth.study.images, strict=True)
    }
    regions = {call.region for call in calls if call.region}
    return ProgramEnvironment(truth.study.scene.volumes, images, truth, region_targets(load_ontology(), regions))
