"""What the tissues of an image do not explain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vp_model.test_vision_refinement import SHAPE, distances
from vp_model.geometry import Placed
from vp_model.vision.config import Refining
from vp_model.vision.departure import BRAIN, CHANNELS, FURTHEST, PRIORS, around_brain, brain_of, departures

WORLD = np.diag([2.0, 2.0, 2.0, 1.0])
TISSUES = {"left thalamus": "cerebral cortex", "right thalamus": "fluid"}
CENTRE = distances((20.0, 20.0, 20.0))


def head(lesion: float | None = None, noise: float = 0.03) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(priors (2, …), image, truth): a ball of .4 in a ball of .8, as m would see it, and a lesion in the outer one."""
    outer = torch.sigmoid((17 - CENTRE) * 3)
    inner = torch.sigmoid((9 - CENTRE) * 3)
    truth = distances((20.0, 20.0, 33.0)) < 3
    image = torch.where(CENTRE < 9, 0.4, torch.where(CENTRE < 17, 0.8, 0.0))
    if lesion is not None:
        image = torch.where(truth, lesion, image)
    image = image + noise * torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    return torch.stack([inner, outer - inner]), image.clamp(min=0.0), truth


def seen(priors: torch.Tensor, image: torch.Tensor, kind: str = "FLAIR") -> torch.Tensor:
    found = departures(priors, list(TISSUES), Placed(image[None, None], WORLD), kind, TISSUES, Refining(field_mm=0))
    assert found is not None and found.shape == (CHANNELS, *SHAPE)
    return found


@pytest.mark.parametrize(("lesion", "sign"), [(1.05, 1.0), (0.6, -1.0)])
def test_a_lesion_departs_from_its_tissue_by_its_sign_and_tissue_does_not(lesion: float, sign: float) -> None:
    priors, image, truth = head(lesion)
    deviation = 3 * seen(priors, image)[1]
    healthy = (((CENTRE - 9).abs() > 2) & (CENTRE < 15)) & (distances((20.0, 20.0, 33.0)) > 5)
    assert float((sign * deviation[truth]).median()) > 2.0
    assert float(deviation[healthy].abs().median()) < 1.0
    assert float(deviation[healthy].mean()) == pytest.approx(0.0, abs=0.3)


def test_a_lesion_that_m_takes_for_no_tissue_departs_as_well() -> None:
    priors, image, truth = head(1.05)
    found = seen(priors * ~truth, image)
    assert bool(found[BRAIN][truth].all())
    assert float((3 * found[1])[truth].median()) > 1.5


@settings(max_examples=15, deadline=None)
@given(st.floats(0.02, 50.0))
def test_the_scale_of_the_intensities_plays_no_part(factor: float) -> None:
    priors, image, _ = head(1.05)
    torch.testing.assert_close(seen(priors, image * factor)[1], seen(priors, image)[1], atol=0.05, rtol=0.05)


def test_what_departs_is_bounded_and_nothing_departs_outside_the_brain() -> None:
    priors, image, _ = head(200.0)
    found = seen(priors, image)
    assert float(found[1].abs().max()) <= FURTHEST / 3 + 1e-5
    assert not bool(found[1][CENTRE > 19].any())
    assert bool(torch.isfinite(found).all())


def test_the_tissues_that_are_shown_are_ms_own() -> None:
    priors, image, _ = head()
    found = seen(priors, image)
    torch.testing.assert_close(found[PRIORS], priors[1])  # fluid
    torch.testing.assert_close(found[PRIORS + 1], priors[0])  # cerebral cortex
    assert not bool(found[PRIORS + 2].any())  # no white matter in this head


def test_an_image_without_a_head_has_no_departures() -> None:
    nothing = torch.zeros(2, *SHAPE)
    placed = Placed(torch.rand(1, 1, *SHAPE), WORLD)
    assert departures(nothing, list(TISSUES), placed, "T1", TISSUES, Refining()) is None


def test_gaps_in_what_m_finds_belong_to_the_brain_and_air_does_not() -> None:
    shell = ((CENTRE < 16) & (CENTRE > 6)).float()
    inside = torch.from_numpy(brain_of(shell, (3.0, 3.0, 3.0)))
    assert bool(inside[CENTRE < 15].all()) and not bool(inside[CENTRE > 18].any())
    dent = shell * (distances((20.0, 20.0, 36.0)) > 2)
    assert bool(torch.from_numpy(brain_of(dent, (1.0, 1.0, 1.0)))[CENTRE < 14].all())


def test_a_box_around_the_brain_leaves_room_and_stays_in_the_image() -> None:
    features = torch.zeros(CHANNELS, 20, 20, 20)
    assert around_brain(features) is None
    features[BRAIN, 1:5, 10:12, 19] = 1.0
    assert around_brain(features) == (slice(0, 8), slice(7, 15), slice(16, 23))
    assert features[(slice(None), slice(0, 8), slice(7, 15), slice(16, 23))].shape == (CHANNELS, 8, 8, 4)
