"""The command line on a node of its own, as a person or a script uses it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file
from typer.testing import CliRunner

from tests.vp_node.runs_support.agents import IDENTITY
from tests.vp_node.runs_support.index import make_context
from vp_node.cli import app
from vp_node.runs.context import RunContext

AGENT = "tests.vp_node.runs_support.agents:load"

CONFIGURATION = """
[node]
data_folder = "data"

[dicom]
minimum_free_disk_gb = 0

[compute]
checkpoint = "checkpoint"
threads = 1

[[peers]]
name = "pacs"
ae_title = "TESTPACS"
host = "127.0.0.1"
port = {port}

[[peers]]
name = "silent"
ae_title = "SILENT"
host = "127.0.0.1"
port = 1
receives_results = false
"""

PROMPT = """
name = "{name}"
owner = "Dr. Example"
text = "{text}"

[conditions]
field = "modality"
operator = "equals"
value = "{modality}"
"""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CliNode:
    """A node's folder, and its command line in this process."""

    folder: Path
    port: int = 1
    context: RunContext = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.toml").write_text(CONFIGURATION.format(port=self.port))
        write_checkpoint(self.folder / "checkpoint")
        self.context = make_context(self.folder / "data")

    def __call__(self, *arguments: str, answer: str | None = None) -> Said:
        result = CliRunner().invoke(app, ["--config", str(self.folder / "config.toml"), *arguments], input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    def ok(self, *arguments: str, answer: str | None = None) -> Said:
        said = self(*arguments, answer=answer)
        assert said.code == 0, f"{said.code}: {said.out}{said.err}"
        return said

    def prompt_file(self, name: str = "volumes", text: str = "measure", modality: str = "MR", more: str = "") -> str:
        path = self.folder / f"{name}.toml"
        head = PROMPT.format(name=name, text=text, modality=modality)
        path.write_text(f"{more}\n{head}")
        return str(path)


def write_checkpoint(folder: Path, name: str = "small") -> None:
    """A checkpoint as far as it can be read without its weights."""
    folder.mkdir(exist_ok=True)
    config = {
        "name": name,
        "version": IDENTITY.version,
        "vision": {},
        "language": {},
        "structures": [{"name": "hippocampus", "side": "left", "dice": 0.8, "experimental": False}],
    }
    (folder / "config.json").write_text(json.dumps(config))
    for file in ("vision.safetensors", "language.safetensors"):
        save_file({}, folder / file)
    (folder / "tokenizer.json").write_bytes(b"")
