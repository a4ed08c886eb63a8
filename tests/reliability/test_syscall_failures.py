"""Each system call of a `setup` fails once: it is undone, the sentence says what could not be done, the next one works.

The calls are those that can fail for want of something or of a right: files, sockets, threads, processes, room, and
what is asked of the kernel by netlink. One that the setup can do without may fail unnoticed; then all has to be well.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import MakeFabric, helper

from . import report
from .outcome import Seen, lines
from .victim import COLD, SHARDS, SOCKET, Victim, victims


@pytest.mark.parametrize("who", ["plugin", "helper"])
def test_each_system_call_fails_once(make_fabric: MakeFabric, who: str) -> None:
    start = time.monotonic()
    with victims(make_fabric, SHARDS) as found, ThreadPoolExecutor(SHARDS) as pool:
        shards = list(pool.map(lambda number: shard(found[number], who, number), range(SHARDS)))
    assert all(each.failures for each in shards)
    title = f"Each system call of a setup fails once: the {who}"
    report.write(title, lines([WHAT], shards, time.monotonic() - start))


def shard(victim: Victim, who: str, number: int) -> Seen:
    """Every so many-th call. Those of a helper are the ones when it has all that it keeps."""
    seen, pid, socket = Seen(), None, COLD
    with ExitStack() as stack:
        if who == "helper":
            pid, socket = stack.enter_context(helper(victim.host, SOCKET)).pid, SOCKET
            victim = victim.as_now()
            assert victim.call("setup", socket).returncode == 0
            victim.must("teardown", "at first")
        calls = Counter(victim.calls("setup", socket, pid))
        victim.must("teardown", "nothing failed")
        order = sorted(calls, key=lambda call: (varies(call), call))  # the same on every host
        every = [(call, occurrence) for call in order for occurrence in range(1, calls[call] + 1)]
        for call, occurrence in every[number::SHARDS]:
            done = victim.fail("setup", socket, pid, call, occurrence)
            why = f"{call} of the {who} fails, number {occurrence} of {calls[call]}"
            if done.point is not None:
                seen.look_at(victim, done, why)
            else:  # it has not come so often this time
                assert done.status == 0, f"{why}: {done}"
                victim.must("teardown", why)
    return seen


def varies(call: str) -> bool:
    """How often something is sent or received differs from run to run, and from host to host."""
    return call.startswith(("send", "recv"))


WHAT = """Files that cannot be opened or written; sockets, threads and processes that cannot be had; messages that
cannot be sent to the kernel or to OVSDB, or read from them; locks, names and rights that are refused."""
