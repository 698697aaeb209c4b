"""Volumes, a vision network of boxes, and a tokenizer, for the tests of the program language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from vp_model.imaging.intensity import Image
from vp_model.imaging.landmarks import Landmarks
from vp_model.outcome import InputVolume, ModelIdentity
from vp_model.program.environment import Limits, ProgramEnvironment, Target

Corner = tuple[float, float, float]
Box = tuple[Corner, Corner]
MODEL = ModelIdentity("test", "0", "0" * 64)
TARGETS = {
    "hippocampus": Target("hippocampus", ("left", "right")),
    "left hippocampus": Target("hippocampus", ("left",)),
    "right hippocampus": Target("hippocampus", ("right",)),
    "brainstem": Target("brainstem", ("",)),
    "white matter lesion": Target("white matter lesion", ("",)),
}
VOLUMES = (
    InputVolume("v1", "T1", "2024-03-01", 0),
    InputVolume("v2", "FLAIR", "2024-03-01", 0),
    InputVolume("v3", "T1", "2025-03-01", 1),
)
CHANGE = """\
task("volume change")
roi = segment("left hippocampus", v1<MOD>, v2<MOD>, v3<MOD>)
show(roi)
before = volume(at(roi, earliest(roi)))
after = volume(at(roi, latest(roi)))
report("volume", before)
report("volume", after)
report("volume change", after - before)
report("relative volume change", percent_change(before, after))
report("annual volume change", per_year(after - before))
"""
PROGRAMS = (
    CHANGE,
    'task("segmentation")\nroi = segment("hippocampus", v1<MOD>)\nshow(roi)\n',
    """\
task("volume comparison")
left = segment("left hippocampus", v1<MOD>)
right = segment("right hippocampus", v1<MOD>)
show(union(left, right))
report("volume asymmetry", asymmetry(volume(left), volume(right)))
""",
    """\
task("relative volume analysis")
roi = segment("white matter lesion", v2<MOD>)
reference = mean_intensity(surrounding(roi, 5), v2)
bright = brighter_than(roi, v2, reference)
show(bright)
report("percent of region", percent_of(volume(bright), volume(roi)))
""",
    """\
task("extent analysis")
roi = segment("brainstem", v1<MOD>, v3<MOD>)
for when in visits(roi):
    one = at(roi, when)
    report("left-right extent", extent(one, "left-right"))
    report("bounding box", bounding_box(one))
    report("longest diameter", longest_diameter(one))
    report("center of mass", center_of_mass(one))
""",
    """\
task("signal intensity")
roi = segment("white matter lesion", v2<MOD>)
show(roi)
inside = mean_intensity(roi, v2)
around = mean_intensity(surrounding(roi, 5), v2)
if inside > around * 1.1:
    answer("hyperintense", roi)
else:
    answer(f"not hyperintense: {inside:.1f} against {around:.1f}")
""",
    """\
task("image cropping")
save(crop(v1, segment("brainstem", v1<MOD>), 20))
""",
    """\
features = encode(v1<MOD>, v2<MOD>)
print(features)
""",
    'refuse("unknown structure")\n',
    """\
task("volume analysis")
lesions = components(segment("white matter lesion", v2<MOD>))
report("count", count(lesions))
if count(lesions) > 0:
    report("volume", volume(lesions[0]))
    show(lesions[0])
""",
)


BOXES: Mapping[str, Box] = {
    "left hippocampus": ((-10, 0, 0), (-4, 6, 5)),
    "right hippocampus": ((4, 0, 0), (9, 6, 5)),
    "brainstem": ((-3, -9, -8), (3, -3, 0)),
    "white matter lesion": ((-8, -8, 2), (-5, -5, 6)),
}


class BoxVision:
    """Finds the boxes that it is given: name → (start, shape) in RAS mm, by volume where they differ."""

    def __init__(self, images: Mapping[str, Image], boxes: Mapping[str, Box] | None = None) -> None:
        self.images = images
        self.boxes = BOXES if boxes is None else boxes
        self.calls: list[tuple[str, tuple[str, ...], NDArray[np.float32]]] = []

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        self.calls.append((name, tuple(volumes), modulations))
        return {volume: self._probability(name, volume) for volume in volumes}

    def _probability(self, name: str, volume: str) -> NDArray[np.float32]:
        image = self.images[volume]
        box = self.boxes.get(f"{name}@{volume}", self.boxes.get(name))
        if box is None:
            return np.zeros(image.voxels.shape, np.float32)
        low, high = box
        indices = np.stack(np.meshgrid(*map(np.arange, image.voxels.shape), indexing="ij"), axis=-1)
        points = indices @ image.world[:3, :3].T + image.world[:3, 3]
        inside = np.all((points >= np.asarray(low)) & (points < np.asarray(high)), axis=-1)
        return np.where(inside, np.float32(0.9), np.float32(0.1))

    def encode(self, volumes: Sequence[str], modulations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones((len(volumes), 8), np.float32)

    def landmarks(self, volume: str, regions: Sequence[str]) -> Landmarks:
        image = self.images[volume]
        found = tuple(region for region in regions if region in self.boxes)
        labels = np.zeros(image.voxels.shape, np.uint8)
        for number, region in enumerate(found, start=1):
            labels[self._probability(region, volume) > 0.5] = number
        return Landmarks(found, labels, image.world)


def make_images(spacing: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> dict[str, Image]:
    """A head of 24 mm around the origin on three grids; the intensity is a ramp along z."""
    world = np.diag([*spacing, 1.0])
    shape = tuple(int(24 / size) for size in spacing)
    world[:3, 3] = [-12 + size / 2 for size in spacing]
    ramp = np.broadcast_to(np.arange(shape[2], dtype=np.float32), shape).copy()
    return {volume.name: Image(ramp, world) for volume in VOLUMES}


def make_environment(
    boxes: Mapping[str, Box] | None = None,
    limits: Limits | None = None,
    volumes: Sequence[InputVolume] = VOLUMES,
) -> ProgramEnvironment:
    images = make_images()
    return ProgramEnvironment(volumes, images, BoxVision(images, boxes), TARGETS, limits=limits)


class _Tokens:
    """Single bytes, the words of the language, and the special tokens."""

    eos_token_id = 1
    bos_token_id = None

    def __init__(self, words: Sequence[str]) -> None:
        texts = [bytes([byte]) for byte in range(256)]
        longer = sorted({word.encode() for word in words if len(word) > 1})
        self.tokens = [b"<MOD>", b"</s>", *texts, *longer]
        self.special_token_ids = [0, 1]
        self._by_length = sorted(range(2, len(self.tokens)), key=lambda token: -len(self.tokens[token]))

    def __call__(self, text: bytes) -> list[int]:
        found = []
        while text:
            token = next(token for token in self._by_length if text.startswith(self.tokens[token]))
            found.append(token)
            text = text[len(self.tokens[token]) :]
        return found


def make_tokenizer() -> LLTokenizer:
    from vp_model.program.operations import OPERATIONS

    words = [*OPERATIONS, *(f"{name}(" for name in OPERATIONS), *TARGETS, " = ", ", ", '"', '")', "    ", "):\n"]
    return LLTokenizer(TokenizerWrapper(_Tokens(words)))


def make_matcher(tokenizer: LLTokenizer, text: str) -> LLMatcher:
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(text))
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def tokenize(tokenizer: LLTokenizer, line: str) -> list[int]:
    """Token ids of a line, each `<MOD>` as its special token."""
    tokens: list[int] = []
    for number, piece in enumerate(line.split("<MOD>")):
        tokens += [0] * bool(number) + tokenizer.tokenize_str(piece)
    return tokens
