"""A checkpoint opens without its weights being read, fails clearly on whatever does not fit, and holds no pickle."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vp_model.agent import Agent
from vp_model.checkpoint import (
    BUNDLED,
    CONDITIONS_FILE,
    CONFIG_FILE,
    HASHED_FILES,
    LANGUAGE_FILE,
    TOKENIZER_FILE,
    VISION_FILE,
    CheckpointError,
    content_hash,
    open_checkpoint,
)
from vp_model.cli import app
from vp_model.ontology import load_ontology
from vp_model.program.environment import region_targets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundled checkpoint, each file of which a test may put another in place of."""
    copy = tmp_path / "weights"
    copy.mkdir()
    for path in BUNDLED.iterdir():
        (copy / path.name).symlink_to(path)
    return copy


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def configure(folder: Path, change: Callable[[dict], object]) -> None:
    config = json.loads((BUNDLED / CONFIG_FILE).read_text(encoding="utf-8"))
    change(config)
    put(folder / CONFIG_FILE, json.dumps(config).encode())


@pytest.mark.parametrize("name", [*HASHED_FILES, CONDITIONS_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", [VISION_FILE, LANGUAGE_FILE, CONDITIONS_FILE])
@pytest.mark.parametrize("length", [0, 7, 4000, -1])
def test_weights_that_were_cut_off_are_named_before_they_are_read(folder: Path, name: str, length: int) -> None:
    put(folder / name, (BUNDLED / name).read_bytes()[:length])
    with pytest.raises(CheckpointError, match=rf"{name} is no whole safetensors file"):
        open_checkpoint(folder)


def test_a_pickle_in_place_of_weights_is_refused(folder: Path) -> None:
    torch.save({"x": torch.zeros(1)}, folder.parent / "pickled")
    put(folder / LANGUAGE_FILE, (folder.parent / "pickled").read_bytes())
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        open_checkpoint(folder)


@pytest.mark.parametrize("key", ["name", "version", "vision", "language", "structures"])
def test_a_missing_key_of_the_configuration_is_named(folder: Path, key: str) -> None:
    configure(folder, lambda config: config.pop(key))
    with pytest.raises(CheckpointError, match=f"'{key}' is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"structures": 3}', b'{"structures": [{"name": 1}]}']
)
def test_a_configuration_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    put(folder / CONFIG_FILE, content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(folder)


def test_a_structure_outside_the_ontology_is_named(folder: Path) -> None:
    configure(folder, lambda config: config["structures"][0].update(name="flux capacitor"))
    with pytest.raises(CheckpointError, match="flux capacitor"):
        open_checkpoint(folder)


def test_the_bundled_checkpoint_records_its_ontology_and_another_version_is_refused(folder: Path) -> None:
    assert open_checkpoint().ontology_version == load_ontology().version
    configure(folder, lambda config: config.update(ontology_version=1))
    with pytest.raises(CheckpointError, match=r"version 1 of the ontology, and this is version \d"):
        open_checkpoint(folder)


MISFITS: dict[str, tuple[Callable[[dict], object], str]] = {
    "wider language": (lambda c: c["language"].update(hidden_size=256), r"language\.safetensors holds .* of shape"),
    "deeper language": (lambda c: c["language"].update(layers=7), r"language\.safetensors lacks decoder\.layers\.6"),
    "shallower language": (
        lambda c: c["language"].update(layers=3),
        r"language\.safetensors holds decoder\.layers\.[345]",
    ),
    "unknown language key": (lambda c: c["language"].update(depth=3), "depth"),
    "missing language key": (lambda c: c["language"].pop("heads"), "heads"),
    "wider vision": (lambda c: c["vision"].update(readout_hidden=32), r"vision\.safetensors does not fit"),
    "unknown vision key": (lambda c: c["vision"].update(breadth=3), "breadth"),
}


@pytest.mark.requirement("loading a checkpoint fails clearly on a mismatch")
@pytest.mark.parametrize("kind", MISFITS)
def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(folder: Path, kind: str) -> None:
    change, said = MISFITS[kind]
    configure(folder, change)
    with pytest.raises(CheckpointError, match=said):
        Agent.load(folder)


def test_a_tokenizer_of_another_size_is_refused_by_its_size(folder: Path) -> None:
    tokenizer = json.loads((BUNDLED / TOKENIZER_FILE).read_text(encoding="utf-8"))
    number = 1 + max(token["id"] for token in tokenizer["added_tokens"])
    added = {**tokenizer["added_tokens"][-1], "id": number, "content": "one too many", "special": False}
    tokenizer["added_tokens"].append(added)
    put(folder / TOKENIZER_FILE, json.dumps(tokenizer).encode())
    with pytest.raises(CheckpointError, match=r"trained with \d+ tokens, but the tokenizer has \d+"):
        Agent.load(folder)


def test_a_tokenizer_that_is_none_is_refused_and_the_command_line_says_so_in_a_line(folder: Path) -> None:
    put(folder / TOKENIZER_FILE, b"{}")
    with pytest.raises(CheckpointError, match="no tokenizer"):
        Agent.load(folder)
    done = CliRunner().invoke(app, ["plan", "segment the brainstem", "--checkpoint", str(folder)])
    assert done.exit_code == 1
    assert "no tokenizer" in done.output and "Traceback" not in done.output


def test_weights_with_a_part_that_nothing_asks_for_are_refused(folder: Path) -> None:
    weights = load_file(BUNDLED / LANGUAGE_FILE)
    (folder / LANGUAGE_FILE).unlink()
    save_file({**weights, "left_over": torch.zeros(2)}, folder / LANGUAGE_FILE)
    with pytest.raises(CheckpointError, match="holds left_over"):
        Agent.load(folder)


def test_opening_reads_no_weights_and_needs_no_torch() -> None:
    code = (
        "import sys; from vp_model.checkpoint import open_checkpoint; opened = open_checkpoint();"
        "sys.exit('torch' in sys.modules or not opened.structures or not opened.card)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_file_that_an_answer_depends_on_is_in_the_hash(folder: Path) -> None:
    before = content_hash(folder)
    for name in (*HASHED_FILES, CONDITIONS_FILE):
        content = (BUNDLED / name).read_bytes()
        put(folder / name, content[:-1] + bytes([content[-1] ^ 1]))
        assert content_hash(folder) != before, name
        put(folder / name, content)
    assert content_hash(folder) == before == content_hash(BUNDLED)


def test_nothing_in_the_library_reads_a_pickle(repository: Path) -> None:
    """No `torch.load`, no `pickle`, no numpy array of objects: a checkpoint or an outcome cannot run anything."""
    for path in sorted((repository / "vp_model").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & set(modules), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                assert owner != "torch", path
                if owner in ("np", "numpy"):
                    allowed = {item.arg: getattr(item.value, "value", True) for item in node.keywords}
                    assert allowed.get("allow_pickle", False) is False, path


@pytest.mark.requirement("every result of a structure that was not measured well enough says so")
def test_a_structure_without_sides_is_experimental_in_results_as_in_the_checkpoint() -> None:
    opened = open_checkpoint()
    without = [item for item in opened.structures if item.side not in ("left", "right") and item.experimental]
    assert without and all(item.side == "" for item in without)
    targets = region_targets(load_ontology(), opened.regions)
    for item in without:
        assert targets[item.name].sides == (item.side,)
