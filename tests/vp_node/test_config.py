"""The configuration: every setting documented, every mistake told with its line."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from vp_node.config import Config, ConfigError, load_config


def config_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_example_shows_every_setting_with_its_default(repository: Path) -> None:
    example = tomllib.loads((repository / "config.example.toml").read_text())
    assert Config.model_validate(example) == Config()
    for name, section in Config().model_dump().items():
        if isinstance(section, dict):
            optional = {"checkpoint", "ca_file", "certificate_file", "key_file", "rules"}
            assert set(section) - optional == set(example[name]), f"[{name}] in config.example.toml"


def test_the_packaged_example_is_the_one_at_the_top_of_the_repository(repository: Path) -> None:
    packaged = (resources.files("vp_node.cli") / "config.example.toml").read_text()
    assert packaged == (repository / "config.example.toml").read_text()


def test_the_commented_peer_of_the_example_is_a_good_one(repository: Path) -> None:
    lines = (repository / "config.example.toml").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("# [[peers]]"))
    peer = "\n".join(line.removeprefix("# ") for line in lines[start : lines.index("", start)])
    (found,) = Config.model_validate(tomllib.loads(peer)).peers
    assert found.name == "main-pacs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[dicom]\nport = 11112\nprot = 3\n", r"config.toml:3: dicom\.prot is no setting\. Did you mean 'port'\?"),
        ("\n[dicom]\nport = 'x'\n", r"config.toml:3: dicom\.port: .*\(it is 'x'\)"),
        ("[dicom]\nport = 70000\n", r"config.toml:2: dicom\.port"),
        (
            '[[peers]]\nname = "a"\nae_title = "A"\nhost = "h"\n[[peers]]\nname = "b"\n',
            r":5: peers\.1\.ae_title is missing",
        ),
        ('[[peers]]\nname = "a"\nae_title = "A title of more than 16"\nhost = "h"\n', r":3: peers\.0\.ae_title"),
        ("[delivery]\ndefault_destinations = ['nobody']\n", "names 'nobody', which is no peer"),
        ("[completeness]\nforce_seconds = 1\n", "force_seconds is shorter"),
        ("[dicom\n", "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(config_file(tmp_path, text))


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = config_file(tmp_path, "[node]\ndata_folder = 'data'\n[compute]\ncheckpoint = 'weights'\n")
    config = load_config(path)
    assert config.node.data_folder == tmp_path / "data"
    assert config.compute.checkpoint == tmp_path / "weights"
    assert config.database_url == f"sqlite:///{tmp_path / 'data' / 'node.sqlite'}"
