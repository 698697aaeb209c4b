"""Every preset builds with the number of parameters that docs/DECISIONS.md states."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import torch
from torch import nn

from vp_model.language.config import PRESETS
from vp_model.language.model import LanguageModel
from vp_model.vision.config import preset
from vp_model.vision.network import VisionNetwork

VISION = {"paper": 3_477_665, "compact": 1_329_241, "slim": 3_806_033, "broad": 6_832_082}
LANGUAGE = {"paper": (32_000, 75_007_008), "compact": (2_701, 1_565_216), "deep": (2_721, 1_996_832)}
"""Size of the vocabulary, parameters."""


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.requirement("every preset builds with the number of parameters that the documentation states")
@pytest.mark.parametrize(("name", "count"), VISION.items())
def test_vision_presets_have_the_stated_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters_of(VisionNetwork(preset(name))) == count


@pytest.mark.requirement("every preset builds with the number of parameters that the documentation states")
@pytest.mark.parametrize(("name", "vocabulary", "count"), [(name, *numbers) for name, numbers in LANGUAGE.items()])
def test_language_presets_have_the_stated_number_of_parameters(name: str, vocabulary: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters_of(LanguageModel(PRESETS[name], vocabulary)) == count


def test_no_preset_is_left_out() -> None:
    presets = json.loads(files("vp_model.vision").joinpath("presets.json").read_text(encoding="utf-8"))
    assert set(presets) == set(VISION)
    assert set(PRESETS) == set(LANGUAGE)
