"""The command line starts quickly, documents itself, and ends with codes that scripts can use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vp_node.cli import app
from vp_node.cli.errors import EXPECTED, explain
from vp_node.cli.output import printable
from vp_node.config import load_config

HEAVY = ("torch", "transformers", "numpy", "pydicom", "pynetdicom", "sqlalchemy", "dbos", "matplotlib")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "VP_NODE_CONFIG"}
    command = [sys.executable, "-m", "vp_node.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.requirement("help is there at once")
@pytest.mark.parametrize("arguments", [["--help"], ["prompts", "--help"], ["reprocess", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom vp_node.cli import app\n"
        f"try:\n    app({arguments!r}, prog_name='vp-node')\n"
        f"finally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stderr.strip() == "[]"


def test_reading_the_index_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom vp_node.cli import app\n"
        f"app(['--config', {str(tmp_path / 'config.toml')!r}, 'init'], standalone_mode=False)\n"
        f"app(['--config', {str(tmp_path / 'config.toml')!r}, 'runs'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_init_writes_a_configuration_that_is_good_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    first = run("init", "node", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    path = tmp_path / "node" / "config.toml"
    assert "serve" in first.stdout
    assert (load_config(path).node.data_folder / "node.sqlite").is_file()
    path.write_text("[dicom]\nport = 4242\n")
    second = run("init", "node", folder=tmp_path)
    assert second.returncode == 0
    assert "left as it is" in second.stdout
    assert path.read_text() == "[dicom]\nport = 4242\n"
    checked = run("--config", str(path), "config", "check", folder=tmp_path)
    assert (checked.returncode, "port 4242" in checked.stdout) == (0, True)
    assert "Nobody may send" in checked.stderr
    found_here = run("config", "check", folder=tmp_path / "node")
    assert found_here.returncode == 0


def test_a_wrong_key_ends_with_2_and_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[dicom]\n\nprot = 4242\n")
    done = run("config", "check", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "config.toml:3: dicom.prot is no setting. Did you mean 'port'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_configuration_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = run("studies", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "vp-node init" in done.stderr


def test_wrong_use_ends_with_2(tmp_path: Path) -> None:
    assert run("frobnicate", folder=tmp_path).returncode == 2
    assert run("studies", "--limit", "0", folder=tmp_path).returncode == 2


def test_config_show_hides_passwords(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[database]\nurl = "postgresql+psycopg://vp:secret@localhost/vp"\n')
    for more in ([], ["--json"]):
        done = CliRunner().invoke(app, ["--config", str(path), "config", "show", *more])
        assert done.exit_code == 0
        assert "secret" not in done.stdout
        assert "localhost" in done.stdout


def test_a_database_that_cannot_be_reached_is_told_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[database]\nurl = "postgresql+psycopg://vp:secret@127.0.0.1:1/vp"\n')
    done = CliRunner().invoke(app, ["--config", str(path), "studies"])
    assert done.exit_code == 1
    assert "The database cannot be used" in done.stderr
    assert "secret" not in done.stderr


def test_the_errors_that_are_expected_exist() -> None:
    from importlib import import_module

    for name in EXPECTED:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(import_module(module), kind), Exception)


def test_an_error_of_the_program_is_told_by_its_place_and_not_by_its_text() -> None:
    try:
        raise ValueError("Doe^John")
    except ValueError as error:
        message, code = explain(error)
    assert code == 1
    assert "Doe" not in message
    assert "ValueError" in message


def test_what_a_peer_sent_cannot_steer_the_terminal() -> None:
    assert printable("T1\x1b[2J\x07 Größe\n") == "T1�[2J� Größe\n"
