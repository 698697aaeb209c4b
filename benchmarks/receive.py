"""Receiving: instances a second of the node (durable, indexed) against DCMTK's storescp (neither), in one run.

.venv/bin/python -m benchmarks.receive
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from tests.vp_node.wire_support.nodes import make_config, make_instance, receiving, write_instance

INSTANCES = 200
SIDE = 256
ROUNDS = 3
NO_DELAY = {**os.environ, "TCP_NODELAY": "1"}
"""Without it DCMTK waits 40 ms for an acknowledgement after each small message, which would flatter the node."""


def main() -> None:
    if shutil.which("storescp") is None or shutil.which("storescu") is None:
        sys.exit("DCMTK is needed: `make components` installs it where it may.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "study"
        study.mkdir()
        write_study(study)
        ours, theirs = [], []
        for number in range(ROUNDS):
            ours.append(to_the_node(study, folder / f"node{number}"))
            theirs.append(to_dcmtk(study, folder / f"dcmtk{number}"))
    print(f"{INSTANCES} instances of {SIDE}×{SIDE}, median of {ROUNDS} rounds, sender: DCMTK storescu")
    node, dcmtk = float(np.median(ours)), float(np.median(theirs))
    print(f"vp-node listener   {INSTANCES / node:7.1f} instances/s   {dcmtk / node:.2f} × storescp")
    print(f"DCMTK storescp     {INSTANCES / dcmtk:7.1f} instances/s")


def write_study(folder: Path) -> None:
    study, series = generate_uid(), generate_uid()
    chance = np.random.default_rng(1)
    for number in range(INSTANCES):
        pixels = chance.integers(0, 4000, SIDE * SIDE, dtype=np.uint16).tobytes()
        instance = make_instance(
            StudyInstanceUID=study, SeriesInstanceUID=series, Rows=SIDE, Columns=SIDE, PixelData=pixels
        )
        write_instance(folder / f"{number:04}.dcm", instance)


def to_the_node(study: Path, folder: Path) -> float:
    with receiving(make_config(folder)) as node:
        return timed(lambda: send(study, "VOXELPROMPT", node.listener.port))


def to_dcmtk(study: Path, folder: Path) -> float:
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = subprocess.Popen(["storescp", "-od", str(folder), str(port)], env=NO_DELAY)
    try:
        time.sleep(1)
        return timed(lambda: send(study, "ANY", port))
    finally:
        server.terminate()
        server.wait()


def send(study: Path, called: str, port: int) -> None:
    subprocess.run(["storescu", "-aec", called, "+sd", "127.0.0.1", str(port), str(study)], check=True, env=NO_DELAY)


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
