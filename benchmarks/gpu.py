"""All benchmarks of a GPU in one run, within a given time, after the tests that need one.

    python -m benchmarks.gpu --out FOLDER [--seconds 90] [--parts tests,ways,…] [--scan FILE] [--data FOLDER]
                             [--device cuda] [--small]

Writes `gpu.md` and `gpu.json` after each part. A part that fails leaves its traceback in both, the others run all the
same, and the exit status is 1 in the end. What the time does not suffice for says so. `--small` is a rehearsal on
tiny volumes, which `--device cpu` can do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

TESTS = (
    "tests/vp_model/test_vision_cuda.py",
    "tests/vp_model/test_vision_normalisation.py",
    "tests/vp_train/test_synthesis_study.py",
    "tests/vp_train/test_synthesis_lesions_painting.py",
)
CHOSEN_TESTS = ("-k", "gpu")
"""Those that a machine without one skips have it in their name."""
TESTS_SECONDS = 60.0
NATIVE_SECONDS = 30.0
SYNTHESIS_SECONDS = 15.0
LEAST_SECONDS = 4.0
"""Left over, for a part to be begun."""
PROMPTS = 10
PROCESSORS = max(1, min(8, os.cpu_count() or 1))
MODULE = (sys.executable, "-m")


class PartFailedError(Exception):
    """A part ran as a process of its own, and failed; its output is in the results."""


@dataclass(eq=False)
class Run:
    """One run: what was chosen, when it has to end, and the results so far."""

    out: Path
    device: str
    small: bool
    scan: Path | None
    data: Path | None
    end: float
    begun: float = field(default_factory=time.perf_counter)
    parts: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.end - time.perf_counter()

    def part(self, name: str, work: Callable[[Run], Iterable[str]]) -> None:
        """Runs one part; its lines are written also where it fails in between."""
        if self.left < LEAST_SECONDS:
            self.parts[name] = {"seconds": 0.0, "lines": [], "error": "no time was left"}
            return
        begun = time.perf_counter()
        lines: list[str] = []
        error = ""
        try:
            for line in work(self):
                lines.append(line)
                print(line, flush=True)
        except Exception:  # noqa: BLE001  # one part's mistake must not cost the others their time on a GPU
            error = traceback.format_exc()
            print(error, flush=True)
        if self.device != "cpu":
            torch.cuda.empty_cache()
        self.parts[name] = {"seconds": round(time.perf_counter() - begun, 1), "lines": lines, "error": error}
        self.write()

    def write(self) -> None:
        """What is known so far."""
        place = machine(self.device)
        (self.out / "gpu.json").write_text(json.dumps({"machine": place, "parts": self.parts}, indent=1), "utf-8")
        texts = [f"{place}\n"]
        for name, part in self.parts.items():
            lines = "\n".join(part["lines"])  # type: ignore[arg-type]
            error = f"\n\n```\n{part['error']}\n```" if part["error"] else ""
            texts.append(f"## {name} ({part['seconds']} s)\n\n{lines}{error}\n")
        (self.out / "gpu.md").write_text("\n".join(texts), "utf-8")

    @property
    def failed(self) -> bool:
        return any(part["error"] for part in self.parts.values())


def machine(device: str) -> str:
    """The device, and the versions that a number depends on."""
    name = platform.processor() if device == "cpu" else torch.cuda.get_device_name()
    return (
        f"{name}; torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, "
        f"Python {platform.python_version()}, {os.cpu_count()} processors"
    )


def started(command: Iterable[str], log: Path) -> subprocess.Popen[str]:
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen([*command], stdout=file, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], log: Path, seconds: float) -> Iterable[str]:
    """The output of a process, stopped if it takes longer; a failed one is an error after its output."""
    late = False
    try:
        process.wait(timeout=max(seconds, 1.0))
    except subprocess.TimeoutExpired:
        late = True
        process.kill()
        process.wait()
    yield from log.read_text("utf-8", errors="replace").splitlines()[-60:]
    if late:
        yield f"(stopped after {seconds:.0f} s)"
    elif process.returncode:
        raise PartFailedError(f"Exit status {process.returncode}.")


def language(run: Run) -> Iterable[str]:
    """Tokens a second of α on one processor, as it is used, and unconstrained on the GPU."""
    from benchmarks import language_speed
    from vp_model.checkpoint import open_checkpoint
    from vp_model.language.state import encode, initial_text

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    checkpoint = open_checkpoint()
    prompts = language_speed.PROMPTS[: 1 if run.small else 3]
    measured = language_speed.measure(checkpoint, 1, prompts)
    torch.set_num_threads(threads)
    yield f"α of {checkpoint.identity.name}, one processor, fp32\n"
    yield language_speed.table(measured)
    model, tokenizer = language_speed.load(checkpoint)
    model.to(run.device)
    text = encode(tokenizer, initial_text(prompts[0][0], prompts[0][1], checkpoint.served))
    counts = (8, 8 if run.small else 100)  # the first warms up
    with torch.inference_mode():
        taken = [language_speed.seconds_unconstrained(model, text, n, time.perf_counter, run.device) for n in counts]
    yield f"\nUnconstrained on {run.device}: {counts[1] / taken[1]:.0f} tokens/s"


def prompts(run: Run) -> Iterable[str]:
    """What prompts about one volume cost from the prompt to the answer, m on the GPU and on the CPU."""
    from benchmarks.vision_prompts import ask, asked_about, prompts_of
    from vp_model.agent import Agent

    volume = asked_about(run.scan)
    count = 3 if run.small else PROMPTS
    yield f"{' × '.join(map(str, volume.shape))} voxels, seconds of the clock, {torch.get_num_threads()} threads\n"
    yield "| m on | first, apart | first | second | third | tenth |\n|---|---|---|---|---|---|"
    for device in dict.fromkeys((run.device, "cpu")):
        agent = Agent.load(device=device)
        asked = prompts_of(agent, count)
        ask(agent, volume, asked[:1], False, time.perf_counter)  # warms up
        apart = ask(agent, volume, asked[:1], False, time.perf_counter)
        shared = ask(agent, volume, asked, True, time.perf_counter)
        cells = [apart[0], *shared[:3], shared[-1]]
        yield f"| {device} | {' | '.join(f'{value:.3f}' for value in cells)} |"


def synthesis(run: Run) -> Iterable[str]:
    """Studies a second drawn on the GPU, and how long a step of training waits for them."""
    log = run.out / "synthesis.log"
    options = ["--studies", "1" if run.small else "3", "--finest", "2", "4", "--steps", "2", "--devices", run.device]
    data = ["--data", str(run.data)] if run.data else []
    process = started([*MODULE, "benchmarks.synthesis", *options, *data], log)
    return ended(process, log, min(SYNTHESIS_SECONDS, run.left))


def compiled(run: Run) -> Iterable[str]:
    """See `benchmarks.gpu_compiled`; takes what time is left."""
    log = run.out / "compiled.log"
    small = ["--small"] if run.small else []
    process = started([*MODULE, "benchmarks.gpu_compiled", "--device", run.device, *small], log)
    return ended(process, log, run.left)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--parts", default="", help="names with commas between; default: all")
    parser.add_argument("--scan", type=Path, help="NIfTI file of a T1; default: a phantom")
    parser.add_argument("--data", type=Path, help="folder of label maps for the synthesis; default: a made-up head")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args(arguments)
    end = time.perf_counter() + chosen.seconds
    if chosen.device != "cpu" and not torch.cuda.is_available():
        print("This machine, or this torch, has no CUDA device.", file=sys.stderr)
        return 2
    chosen.out.mkdir(parents=True, exist_ok=True)
    run = Run(chosen.out, chosen.device, chosen.small, chosen.scan, chosen.data, end)
    print(machine(run.device), flush=True)
    wanted = chosen.parts.split(",") if chosen.parts else []
    torch.set_num_threads(PROCESSORS)
    from benchmarks import gpu_vision as vision

    tests = None
    log = run.out / "tests.log"
    if not wanted or "tests" in wanted:
        tests = started([*MODULE, "pytest", "-q", "-p", "no:cacheprovider", *CHOSEN_TESTS, *TESTS], log)

    def all_parts() -> Iterable[tuple[str, Callable[[Run], Iterable[str]]]]:
        yield "language", language  # on a processor, while the tests run
        yield "tests", lambda run: ended(tests, log, min(TESTS_SECONDS, run.left)) if tests else ()
        yield "native", lambda run: vision.native(run.device, run.small, min(NATIVE_SECONDS, run.left / 2))
        yield "ways", lambda run: vision.ways(run.device, run.small)
        yield "conditions", lambda run: vision.conditions(run.device, run.small)
        yield "slabs", lambda run: vision.slabs(run.device, run.small)
        yield "agreement", lambda run: vision.agreement(run.device, run.scan)
        yield "prompts", prompts
        yield "synthesis", synthesis
        yield "compiled", compiled

    for name, work in all_parts():
        if not wanted or name in wanted:
            run.part(name, work)
    run.write()
    print(f"\n{time.perf_counter() - run.begun:.0f} s; failed: {[n for n, p in run.parts.items() if p['error']]}")
    return int(run.failed)


if __name__ == "__main__":
    sys.exit(main())
