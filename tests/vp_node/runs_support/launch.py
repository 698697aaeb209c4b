"""A node in a process of its own that kills itself at a chosen point, once: `python -m … CONFIG POINT MARKER`.

POINT is `none`; `before STEP` or `after STEP` for a step of a run (after: its work is done, but the engine does not
know yet); `amid delivery`, with the first of a run's objects sent and the others not; or `after delivery`, with all
sent and none written down. MARKER is a file that says that it has happened.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vp_node.config import Config, Peer, load_config
from vp_node.runs import delivery, steps
from vp_node.runs.context import RunContext
from vp_node.service import serve

AGENT = "tests.vp_node.runs_support.agents:load"


def main() -> None:
    config, point, marker = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    if point != "none" and not marker.exists():
        when, where = point.split()
        arm(when, where, marker)
    serve(load_config(config), agent=AGENT)


def arm(when: str, where: str, marker: Path) -> None:
    def die() -> None:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if where == "delivery":
        delivery.deliver_to = _dying_sender(delivery.deliver_to, when, die)
    else:
        steps.STEPS[where] = _dying_step(steps.STEPS[where], when, die)


def _dying_step(step: Callable[[RunContext, str, int], None], when: str, die: Callable[[], None]) -> Any:
    def perform(context: RunContext, run_id: str, attempt: int) -> None:
        if when == "before":
            die()
        step(context, run_id, attempt)
        die()

    return perform


def _dying_sender(send: Callable[..., Any], when: str, die: Callable[[], None]) -> Any:
    def deliver(peer: Peer, paths: Sequence[Path], title: str, config: Config) -> None:
        send(peer, paths[:1] if when == "amid" else paths, title, config)
        die()

    return deliver


if __name__ == "__main__":
    main()
