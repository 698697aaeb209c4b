"""`python -m vp_node.compute.child`: decodes pixels, loads the model and runs it; one job at a time, kept warm.

The parent writes one JSON object a line to standard input (`{"id", "type", "job"}`, where `job` is the path of a JSON
file) and reads one a line from standard output (`{"id", "event": "progress" | "done" | "failed", …}`). Nothing else is
written to standard output: what libraries print goes to standard error, which the parent does not keep. When standard
input ends, the parent is gone and the process ends, whatever it is doing.

Nothing that loads numpy or torch is imported before the process is confined: their thread pools start with them, and a
process with several threads cannot enter a network namespace of its own without privileges.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import importlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vp_node.compute.confinement import confine
from vp_node.compute.failure import FailureKind, place_of

if TYPE_CHECKING:
    from vp_node.compute.codec import RunJob
    from vp_node.compute.kept import Kept, Prepared

DEFAULT_AGENT = "vp_model.agent:Agent.load"

Send = Callable[[dict[str, Any]], None]


def main() -> None:
    arguments = _arguments()
    missing = confine(arguments.memory_bytes, arguments.output_bytes, arguments.device != "cpu")
    faulthandler.enable()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            _write_line(channel, message)

    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    send({"event": "ready", "missing": list(missing)})
    _serve(requests, send, lambda: _load_agent(arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", default=DEFAULT_AGENT, help="module:callable that takes a checkpoint folder or None")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--output-bytes", type=int, required=True)
    return parser.parse_args()


def _read_requests(requests: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)


def _write_line(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _load_agent(arguments: argparse.Namespace) -> Any:
    import torch

    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    module, _, path = arguments.agent.partition(":")
    factory: Any = importlib.import_module(module)
    for name in path.split("."):
        factory = getattr(factory, name)
    if arguments.device == "cpu":
        return factory(arguments.checkpoint)
    return factory(arguments.checkpoint, device=arguments.device)


def _serve(requests: queue.Queue[dict[str, Any]], send: Send, load: Callable[[], Any]) -> None:
    from vp_node.compute.kept import KEPT_SECONDS, Kept

    agent: Any = None
    kept = Kept()
    while True:
        try:
            request = requests.get(timeout=KEPT_SECONDS)
        except queue.Empty:
            kept.forget()
            continue
        identifier = request["id"]
        try:
            if agent is None:
                send({"id": identifier, "event": "progress", "message": "loading the model"})
                agent = load()
            job = json.loads(Path(request["job"]).read_text(encoding="utf-8")) if request.get("job") else {}
            answer = _JOBS[request["type"]](agent, job, partial(_progress, send, identifier), kept)
        except BaseException as error:  # noqa: BLE001 (the process's boundary: every failure is told to the parent)
            kind, message = describe(error)
            if agent is None and kind == "internal":
                kind = "start"
            send({"id": identifier, "event": "failed", "kind": kind, "message": message})
            if kind in ("memory", "internal"):
                os._exit(1)  # the parent starts a new process for the next job
        else:
            send({"id": identifier, "event": "done", **answer})


def _progress(send: Send, identifier: int, text: str) -> None:
    send({"id": identifier, "event": "progress", "message": text})


def _run(agent: Any, data: dict[str, Any], progress: Callable[[str], None], kept: Kept) -> dict[str, Any]:
    from vp_node.compute.alignment import bring_back
    from vp_node.compute.codec import RunJob
    from vp_node.compute.longitudinal import complete

    job = RunJob.from_json(data)
    prepared = kept.prepared(job, partial(_prepare, agent, progress))
    progress("running the model")
    aligned = prepared.aligned
    outcome = agent.run(job.prompt, list(aligned.volumes), progress=progress, sight=prepared.sight)
    outcome = complete(bring_back(outcome, list(prepared.volumes), aligned))
    replace(outcome, warnings=(*job.notes, *outcome.warnings)).save(job.output)
    return {"status": outcome.status}


def _prepare(agent: Any, progress: Callable[[str], None], job: RunJob) -> Prepared:
    """Decodes the volumes of a job and lays them on each other."""
    import torch

    from vp_model.volume import Volume
    from vp_node.compute.alignment import align
    from vp_node.compute.codec import kind_for_model
    from vp_node.compute.kept import Prepared
    from vp_node.studies.pixels import load_voxels

    volumes = []
    for number, chosen in enumerate(job.volumes, 1):
        progress(f"decoding volume {number} of {len(job.volumes)}")
        voxels = load_voxels(chosen.volume)
        volumes.append(
            Volume(
                features=torch.from_numpy(voxels)[None],
                world=chosen.volume.world,
                name=chosen.name,
                kind=kind_for_model(chosen.volume),
                visit=chosen.volume.visit,
                session=chosen.session,
            )
        )
    aligned = align(volumes, job.volumes, job.alignment, torch.get_num_threads(), progress)
    return Prepared(volumes, aligned, agent.sight(list(aligned.volumes)))


def _plan(agent: Any, data: dict[str, Any], progress: Callable[[str], None], kept: Kept) -> dict[str, Any]:
    from vp_node.compute.codec import PlanJob

    job = PlanJob.from_json(data)
    return {"plan": asdict(agent.plan(job.prompt, list(job.volumes)))}


def _identity(agent: Any, data: dict[str, Any], progress: Callable[[str], None], kept: Kept) -> dict[str, Any]:
    return {"identity": asdict(agent.identity)}


_JOBS: dict[str, Callable[[Any, dict[str, Any], Callable[[str], None], Kept], dict[str, Any]]] = {
    "run": _run,
    "plan": _plan,
    "identity": _identity,
}


def describe(error: BaseException) -> tuple[FailureKind, str]:
    """What went wrong, without the text of errors that may quote a data set."""
    from vp_model.checkpoint import CheckpointError
    from vp_model.program.errors import ProgramError
    from vp_node.studies.pixels import PixelError

    if isinstance(error, PixelError):
        return "input", str(error)
    if isinstance(error, CheckpointError):
        return "start", str(error)
    if isinstance(error, ProgramError):
        return "program", str(error)
    if isinstance(error, MemoryError) or _is_allocation_failure(error):
        return "memory", "The compute process ran out of the memory that compute.memory_limit_gb allows."
    if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
        return "output", "The outcome is larger than compute.output_limit_gb or the free disk space."
    return "internal", f"{type(error).__name__} in {place_of(error)}"


def _is_allocation_failure(error: BaseException) -> bool:
    """torch has no type of its own for a failed allocation on the CPU."""
    text = str(error)
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text or "bad_alloc" in text
    )


if __name__ == "__main__":
    main()
