"""A lock belongs to a process, and is free when the process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import create_engine

from tests.vp_node.runs_support.postgres import postgres_server
from vp_node.runs.locks import AdvisoryLocks, FileLocks, holding, lock_key

HOLD = """
import sys, time
from pathlib import Path
from vp_node.runs.locks import FileLocks
locks = FileLocks(Path(sys.argv[1]))
print(locks.take("worker one"), flush=True)
time.sleep(60)
"""

HOLD_ADVISORY = """
import sys, time
from sqlalchemy import create_engine
from vp_node.runs.locks import AdvisoryLocks
locks = AdvisoryLocks(create_engine(sys.argv[1]))
print(locks.take("worker one"), flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_by_one_process_and_free_when_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        locks = FileLocks(tmp_path)
        assert locks.is_held("worker one")
        assert not locks.take("worker one")
        assert locks.holder("worker one") == str(holder.pid)
        assert locks.take("worker two")
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert not locks.is_held("worker one")
    assert locks.take("worker one")
    assert locks.is_held("worker one")


def test_two_threads_of_one_process_do_not_both_hold_a_lock(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    with holding(locks, "deliveries") as first, holding(locks, "deliveries") as second:
        assert (first, second) == (True, False)
        assert locks.is_held("deliveries")
    assert not locks.is_held("deliveries")


def test_names_that_look_alike_as_files_are_different_locks(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    assert locks.take("deliveries to a/b")
    assert locks.take("deliveries to a-b")
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*.lock"))


def test_keys_of_advisory_locks_fit_postgresql() -> None:
    assert lock_key("a") == lock_key("a") != lock_key("b")
    assert all(-(2**63) <= lock_key(str(number)) < 2**63 for number in range(100))


def test_advisory_locks_reach_other_processes_and_are_free_when_their_holder_is_killed() -> None:
    with postgres_server() as url:
        holder = subprocess.Popen([sys.executable, "-c", HOLD_ADVISORY, url], stdout=subprocess.PIPE, text=True)
        engine = create_engine(url)
        locks = AdvisoryLocks(engine)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "True\n"
            assert locks.is_held("worker one")
            assert not locks.take("worker one")
            assert locks.take("worker two")
            assert not locks.take("worker two")
        finally:
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
        deadline = time.monotonic() + 10
        while locks.is_held("worker one"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert locks.take("worker one")
        locks.release("worker one")
        assert not locks.is_held("worker one")
        engine.dispose()
