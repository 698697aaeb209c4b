"""m computes where it is told to, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vp_model.agent import Agent
from vp_model.checkpoint import CheckpointError
from vp_model.cli import app
from vp_model.vision.device import find_device
from vp_model.volume import write_nifti


def test_the_cpu_is_always_there() -> None:
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:first", "", "meta"])
def test_what_is_no_device_is_refused_with_those_that_may_be_given(name: str) -> None:
    with pytest.raises(CheckpointError, match="give cpu, cuda, cuda:0 or auto"):
        find_device(name)


def test_a_gpu_that_is_not_there_is_refused_before_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CheckpointError, match="'cuda:1' is not there"):
        Agent.load(device="cuda:1")


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(CheckpointError, match="the last is cuda:1"):
        find_device("cuda:2")


@pytest.mark.parametrize(("present", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, present: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert find_device("auto").type == expected


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [("--device", "gpu", 1, "is no device"), ("--precision", "half", 2, "is not one of float32, bfloat16")],
)
def test_the_command_line_says_what_is_wrong_with_where_or_how_it_shall_compute(
    tmp_path: Path, option: str, value: str, code: int, message: str
) -> None:
    write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.float32), np.eye(4))
    command = ["run", "segment the brainstem", str(tmp_path / "a.nii.gz"), "--out", str(tmp_path), option, value]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code
    assert message in result.output
