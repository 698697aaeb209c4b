"""The whole job on loopback: study in, program, measurements, SEG and SR out, with a picture to look at."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from vp_model.outcome import Outcome
from vp_node.config import CONFIG_VARIABLE, Config, Peer, load_config
from vp_node.database.engine import create_database_engine, session_factory
from vp_node.database.models import FINAL_RUN_STATES, Delivery, DeliveryState, Run, Study
from vp_node.demo.pacs import received, receiving_pacs
from vp_node.demo.study import write_study
from vp_node.dicom.sender import send

MARKER = "made-by-vp-node-demo"
PACS_AE_TITLE = "DEMOPACS"
PROMPT = "How large are the left and right lateral ventricles?"
LONGEST_WAIT_SECONDS = 900

CONFIGURATION = """\
# Made by `make demo`.
[node]
data_folder = "node"

[dicom]
host = "127.0.0.1"
port = {port}
minimum_free_disk_gb = 0.5

[[peers]]
name = "demo-pacs"
ae_title = "{pacs_ae_title}"
host = "127.0.0.1"
port = {pacs_port}

[completeness]
series_quiet_seconds = 1
study_quiet_seconds = 2
check_interval_seconds = 0.5
"""

PROMPT_FILE = """\
name = "demonstration"
owner = "Demonstration"
text = "{text}"
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--study", type=Path, help="a folder of DICOM files; default: the MNI152 template as a T1 series"
    )
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    arguments = parser.parse_args()
    console = Console()
    if arguments.study is not None and not arguments.study.is_dir():
        console.print(f"[red]{arguments.study} is no folder.[/] Give a folder of DICOM files: make demo STUDY=folder")
        return 2
    output = _fresh_folder(arguments.output.resolve())
    study = arguments.study
    if study is None:
        study = output / "study"
        console.print("Wrapping the MNI152 average T1 as a DICOM series …")
        write_study(study, date(2026, 3, 2))
    with receiving_pacs(output / "pacs", PACS_AE_TITLE) as pacs_port:
        return _demonstrate(console, output, study, arguments.prompt, pacs_port)


def _demonstrate(console: Console, output: Path, study: Path, prompt: str, pacs_port: int) -> int:
    port = _free_port()
    config_path = output / "config.toml"
    config_path.write_text(CONFIGURATION.format(port=port, pacs_port=pacs_port, pacs_ae_title=PACS_AE_TITLE))
    prompt_path = output / "prompt.toml"
    prompt_path.write_text(PROMPT_FILE.format(text=prompt.replace("\\", "\\\\").replace('"', '\\"')))
    environment = {**os.environ, CONFIG_VARIABLE: str(config_path)}
    command = [sys.executable, "-m", "vp_node.cli"]
    subprocess.run(
        [*command, "prompts", "add", str(prompt_path)], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    with (output / "node.log").open("wb") as log:
        node = subprocess.Popen([*command, "serve"], env=environment, stdout=log, stderr=log)
    try:
        with console.status("Starting the node …"):
            _wait_until_it_listens(node, port, output / "node.log")
        config = load_config(config_path)
        console.print(f"The node listens on port {port}; the PACS on port {pacs_port}.")
        _send(console, config, study, port)
        sessions = session_factory(create_database_engine(config.database_url))
        finished = _follow(console, sessions, node)
        shown = [_show(console, config, sessions, run_id, output, command, environment) for run_id in finished]
        ok = all(shown)
    finally:
        node.terminate()
        node.wait(timeout=60)
    for modality, paths in received(output / "pacs").items():
        for path in paths:
            console.print(f"{modality:>4} in the PACS: {path}")
    return 0 if finished and ok else 1


def _fresh_folder(folder: Path) -> Path:
    if folder.exists():
        if not (folder / MARKER).exists():
            raise SystemExit(f"{folder} exists and was not made by the demonstration. Move it away, or use --output.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(node: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if node.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit(f"The node did not start. Its log ends with:\n{log.read_text(errors='replace')[-3000:]}")


def _send(console: Console, config: Config, study: Path, port: int) -> None:
    paths = sorted(path for path in study.rglob("*") if path.is_file())
    node = Peer(name="node", ae_title=config.dicom.ae_titles[0], host="127.0.0.1", port=port)
    with console.status(f"Sending {len(paths)} files by C-STORE …"):
        reports = send(node, paths, PACS_AE_TITLE)
    sent = sum(report.outcome == "sent" for report in reports)
    console.print(f"{sent} of {len(paths)} files were acknowledged by the node.")
    for report in reports:
        if report.outcome != "sent":
            console.print(f"  [yellow]{report.path.name}: {report.message}[/]")


def _follow(console: Console, sessions: sessionmaker[Session], node: subprocess.Popen[bytes]) -> list[str]:
    """Waits, showing the states, until every run has ended; returns the runs' ids."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    shown = ""
    with console.status("Waiting for the study to fall quiet …") as status:
        while time.monotonic() < deadline and node.poll() is None:
            with sessions() as session:
                studies = session.scalars(select(Study)).all()
                runs = session.scalars(select(Run).order_by(Run.created_at)).all()
                unsent = session.scalars(select(Delivery).where(Delivery.state == DeliveryState.PENDING)).all()
                described = [f"study {s.state}" for s in studies] + [f"run {r.state}" for r in runs]
                over = runs and all(r.state in FINAL_RUN_STATES for r in runs) and not unsent
                settled = studies and all(s.state != "receiving" for s in studies)
                ids = [run.id for run in runs]
            text = ", ".join(sorted(set(described))) or "waiting"
            if text != shown:
                console.print(f"  {text}")
                shown = text
            status.update(f"{text} …")
            if over and settled:
                return ids
            time.sleep(0.3)
    console.print("[red]No run ended in time.[/] See node.log in the output folder.")
    return []


def _show(
    console: Console,
    config: Config,
    sessions: sessionmaker[Session],
    run_id: str,
    output: Path,
    command: list[str],
    environment: dict[str, str],
) -> bool:
    with sessions() as session:
        run = session.get_one(Run, run_id)
        console.print(Panel(run.prompt_version.text, title="Prompt"))
        console.print(Panel(run.program or "(none)", title="Program that the model wrote"))
        if run.reason:
            console.print(f"[yellow]{run.state}: {run.reason}[/]")
        folder = config.node.data_folder / run.outcome_folder
    outcome = Outcome.load(folder)
    table = Table("Measurement", "Value", "Unit", "Region", "Visit", title="Measurements")
    for item in outcome.measurements:
        table.add_row(item.name, f"{item.value:.4g}", item.unit, item.label, item.visit)
    console.print(table)
    for text in outcome.texts:
        console.print(text.text)
    pictures = output / "pictures"
    subprocess.run(
        [*command, "results", "show", run_id, "--output", str(pictures)],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for path in sorted(pictures.glob("*.png")):
        console.print(f"Picture: {path}")
    return outcome.status == "answered"


if __name__ == "__main__":
    sys.exit(main())
