"""What the compute process gives up before it reads anything: network, priority, memory and file sizes without bound.

All of it is done by the process itself, before torch starts threads. What a system does not offer is left out and told
to the parent, which logs it; the limits that the parent keeps (memory that is in use, time, output) hold everywhere.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

NICENESS = 10
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_NO_NEW_PRIVS = 38


def confine(memory_bytes: int, output_bytes: int, on_accelerator: bool) -> tuple[str, ...]:
    """Confines the calling process, which must have one thread.

    Args:
        memory_bytes: bound of private writable memory (RLIMIT_DATA). Not set for an accelerator, whose drivers reserve
            far more than they use.
        output_bytes: bound of a single file (RLIMIT_FSIZE).

    Returns:
        what could not be done here, one sentence each.
    """
    missing = []
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, output_bytes)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with EFBIG, which is reported
    if sys.platform == "linux":
        if not on_accelerator:
            _limit(resource.RLIMIT_DATA, memory_bytes)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not _leave_network(libc):
            missing.append("This system allows no network namespace: the compute process keeps its network.")
    else:
        missing.append("Memory and network of the compute process are bounded on Linux only.")
    with suppress(OSError):
        os.nice(NICENESS)
    return tuple(missing)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Moves the process into a network namespace without interfaces; as root or through a user namespace."""
    if libc.unshare(CLONE_NEWNET) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    # Without the maps the process could create no file: its user would have no name in the new namespace.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True
