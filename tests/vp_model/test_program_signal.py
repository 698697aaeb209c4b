"""Lesions by their signal, on a head of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vp_model.program_cases import BOXES, TARGETS, VOLUMES, Box, BoxVision, make_images
from vp_model.imaging.intensity import Image
from vp_model.program.environment import ProgramEnvironment

AROUND: Box = ((-12, -12, -10), (12, 12, 12))
BRIGHT: Box = ((-8, -8, 2), (-5, -5, 6))
DARK: Box = ((5, 5, 2), (8, 8, 6))
LESION = "white matter lesion"


class TwoLesions(BoxVision):
    """Two lesions, which no single box holds."""

    def segment(self, name, volumes, modulations):  # type: ignore[no-untyped-def]
        if name != LESION:
            return super().segment(name, volumes, modulations)
        parts = [BoxVision(self.images, {name: box}).segment(name, volumes, modulations) for box in (BRIGHT, DARK)]
        return {volume: np.maximum(parts[0][volume], parts[1][volume]) for volume in volumes}


def painted() -> dict[str, Image]:
    """Both lesions stand out, and in the later session the other way round."""
    images = dict(make_images())
    noise = np.random.default_rng(5)
    for name, sign in (("v1", 1), ("v2", 1), ("v3", -1)):
        image = images[name]
        voxels = 100 + noise.normal(0, 5, image.voxels.shape)
        for box, amount in ((BRIGHT, 40 * sign), (DARK, -40 * sign)):
            found = BoxVision({name: image}, {LESION: box}).segment(LESION, [name], np.zeros((1, 32), np.float32))
            voxels += amount * found[name]
        images[name] = Image(voxels.astype(np.float32), image.world)
    return images


def ran(code: str, names: str = "v1<MOD>") -> ProgramEnvironment:
    images = painted()
    environment = ProgramEnvironment(VOLUMES, images, TwoLesions(images, {**BOXES, "brainstem": AROUND}), TARGETS)
    start = f'task("segmentation")\nroi = segment("{LESION}", {names})\nwhite = segment("brainstem", {names})\n'
    program = start + "around = difference(white, roi)\n" + code
    result = environment.step(program, np.zeros((program.count("<MOD>"), 32), np.float32))
    assert environment.findings.segmented
    environment.findings.warnings.append(result.error)
    return environment


def volumes_of(code: str, names: str = "v1<MOD>") -> list[float]:
    environment = ran(code, names)
    assert environment.findings.warnings[-1] == ""
    return [round(reported.quantity.value, 3) for reported in environment.findings.reported]


@pytest.mark.requirement("Lesions can be selected by side, lobe, size and signal")
def test_each_lesion_is_chosen_by_its_own_signal() -> None:
    code = "".join(
        f'report("volume", volume(with_signal(roi, around, "{signal}", v1)))\n'
        for signal in ("hyperintense", "hypointense", "isointense")
    )
    bright, dark, alike = volumes_of(code)
    assert bright > 0 and dark > 0 and alike == 0
    (whole,) = volumes_of('report("volume", volume(roi))\n')
    assert bright + dark == pytest.approx(whole, abs=0.002)


def test_the_signal_of_every_session_is_that_of_its_own_image() -> None:
    code = (
        'part = with_signal(roi, around, "hyperintense", v1, v3)\n'
        'for when in visits(part):\n    report("center of mass", center_of_mass(at(part, when)))\n'
    )
    environment = ran(code, "v1<MOD>, v3<MOD>")
    assert environment.findings.warnings[-1] == ""
    centres = [reported.quantity.value for reported in environment.findings.reported]
    assert centres[0] < 0 < centres[3]


def test_a_session_without_an_image_for_the_signal_is_an_error_that_says_so() -> None:
    for given in ("v1", "v1, v2, v3"):
        code = f'part = with_signal(roi, around, "hyperintense", {given})\n'
        assert "one volume of each of its sessions" in ran(code, "v1<MOD>, v3<MOD>").findings.warnings[-1]


def test_nothing_has_a_signal_against_tissue_that_was_not_found() -> None:
    code = 'report("volume", volume(with_signal(roi, difference(white, white), "hyperintense", v1)))\n'
    assert volumes_of(code) == [0.0]


def test_nothing_has_a_signal_against_tissue_of_one_value() -> None:
    images = {name: Image(np.zeros_like(image.voxels), image.world) for name, image in painted().items()}
    environment = ProgramEnvironment(VOLUMES, images, TwoLesions(images, {**BOXES, "brainstem": AROUND}), TARGETS)
    for signal in ("hyperintense", "hypointense", "isointense"):
        code = (
            f'roi = segment("{LESION}", v1<MOD>)\nwhite = segment("brainstem", v1<MOD>)\n'
            f'report("volume", volume(with_signal(roi, white, "{signal}", v1)))\n'
        )
        assert environment.step(code, np.zeros((2, 32), np.float32)).error == ""
    assert [reported.quantity.value for reported in environment.findings.reported] == [0.0] * 3
