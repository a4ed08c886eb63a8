"""Two thousand containers come and go through the helper, and neither it nor Open vSwitch has grown."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.bench.common import table
from tests.e2e.conftest import SOCKET_VARIABLE, Helper, MakeFabric, helper
from tests.e2e.faults import BOUND, wait_for
from tests.e2e.guests import Guest, namespaces, shares
from tests.e2e.wire import wait_until
from tests.lab import Host

from . import report

pytestmark = pytest.mark.alone(reason="what is done behind an answer must be over when files and threads are counted")
SOCKET = "/run/flat.sock"
CYCLES, LONG = 500, 2000  # on both hosts together, as the warm-up
WARM_UP = 200
WORKERS = 32  # threads of the helper's that serve
GROWTH = 2048  # KiB that a process may have more at the end than after the warm-up; Python takes 1024 at a time
MOMENT = 0.5  # seconds in which what is done behind an answer is over
TITLE = "Two thousand attaches and detaches"
PROBE = """
for pid in "$1" $(cat /run/openvswitch/ovsdb-server.pid /run/openvswitch/ovs-vswitchd.pid); do
    set -- $(awk '/^(VmRSS|Threads):/ { print $2 }' "/proc/$pid/status")
    echo "$(cat "/proc/$pid/comm") $(ls "/proc/$pid/fd" | wc -l) $2 $1"
done
"""


@dataclass(frozen=True)
class Size:
    """Of a process: its descriptors, its threads, its memory in KiB."""

    name: str
    files: int
    threads: int
    memory: int


@dataclass(frozen=True)
class Site:
    """A host, on which one container comes and goes, and another may stay."""

    comes: Guest
    stays: Guest
    helper: Helper

    def warm_up(self) -> list[Size]:
        self.employ_all()
        self.comes.come_and_go(WARM_UP // 2)
        return self.settled()

    def employ_all(self) -> None:
        """Have all of the helper's threads serve at once: each keeps what it opened for its first request."""
        host, pipe = self.comes.host, subprocess.PIPE
        with ExitStack() as asking:
            host.freeze("ovsdb-server")
            try:
                for life in range(1, WORKERS + 1):
                    guest = replace(self.comes, life=life)
                    process = host.popen(*guest.command("teardown"), env=guest.env, stdin=pipe)
                    asking.enter_context(process)
                    assert process.stdin
                    process.stdin.write(guest.request())
                    process.stdin.close()
                wait_until(lambda: self.sizes()[0].threads > WORKERS, "all threads to serve", BOUND)
            finally:
                host.thaw("ovsdb-server")

    def settled(self) -> list[Size]:
        """The sizes once what was done behind the last answer is over."""
        seen = [self.sizes()]

        def is_quiet() -> bool:
            time.sleep(MOMENT)
            seen.append(self.sizes())
            return files(seen[-1]) == files(seen[-2])

        wait_until(is_quiet, "the helper to be done", BOUND)
        return seen[-1]

    def assert_no_more(self, first: list[Size]) -> None:
        """Threads of Open vSwitch end and start again by themselves now and then."""
        wait_until(
            lambda: all(now.threads <= before.threads for before, now in zip(first, self.sizes(), strict=True)),
            "as many threads as before",
            BOUND,
        )

    def sizes(self) -> list[Size]:
        """Of the helper, ovsdb-server and ovs-vswitchd."""
        lines = self.comes.host.sh(PROBE, str(self.helper.pid)).stdout.splitlines()
        return [Size(name, *map(int, numbers)) for name, *numbers in map(str.split, lines)]

    def processes(self) -> list[str]:
        return [line for line in self.comes.host.snapshot().lines if line.startswith("processes: ")]


def test_nothing_grows_and_nothing_is_left(make_fabric: MakeFabric, is_long: bool) -> None:
    """Beside a container that stays on one host; on the other each is the network's first and last."""
    fabric = make_fabric(2)
    fabric.configure()
    networks = fabric.create("net1", "--subnet", "192.168.120.0/24")
    cycles = LONG if is_long else CYCLES
    with ExitStack() as stack:
        sites = [stack.enter_context(site(*each)) for each in zip(fabric.hosts, networks, strict=True)]
        sites[0].stays.must("setup")
        with ThreadPoolExecutor(len(sites)) as pool:
            first = list(pool.map(Site.warm_up, sites))
            processes = list(pool.map(Site.processes, sites))
            list(pool.map(lambda each: each.comes.come_and_go((cycles - WARM_UP) // len(sites)), sites))
            last = list(pool.map(Site.settled, sites))
            assert list(map(files, last)) == list(map(files, first))
            list(pool.map(Site.assert_no_more, sites, first))
            assert list(pool.map(Site.processes, sites)) == processes
        print(first, last, sep="\n")
        grown = {f"{way}: {now.name}": now.memory - before.memory for way, before, now in compared(first, last)}
        assert max(grown.values()) <= GROWTH, grown
        sites[0].stays.must("teardown")
    if is_long:
        report.write(TITLE, lines(first, last))


@contextmanager
def site(host: Host, network: dict[str, Any]) -> Iterator[Site]:
    """With a helper of its own; in the end the host is as it was."""
    with namespaces(host, ["comes", "stays"]):
        before = host.snapshot()
        comes, stays = (
            Guest(host, network, name, share, env={SOCKET_VARIABLE: SOCKET})
            for name, share in zip(("comes", "stays"), shares(network, 2), strict=True)
        )
        with helper(host, SOCKET) as running:
            yield Site(comes, stays, running)
            assert running.said() == ""
        wait_for(host, before)


def files(sizes: Sequence[Size]) -> dict[str, int]:
    return {size.name: size.files for size in sizes}


def compared(first: list[list[Size]], last: list[list[Size]]) -> Iterator[tuple[str, Size, Size]]:
    """How the containers came, and each process then and now."""
    for way, *sizes in zip(("beside another", "first and last"), first, last, strict=True):
        for before, now in zip(*sizes, strict=True):
            yield way, before, now


def lines(first: list[list[Size]], last: list[list[Size]]) -> list[str]:
    head = ("container", "process", "descriptors", "threads", f"MB after {WARM_UP}", f"MB after {LONG:,}")
    rows = [
        (way, f"`{now.name}`", str(now.files), str(before.threads), shown(before.memory), shown(now.memory))
        for way, before, now in compared(first, last)
    ]
    return [TEXT, "", *table(head, *rows)]


def shown(memory: int) -> str:
    return f"{memory / 1024:.1f}"


TEXT = """Through the helper: half of them beside a container that stays, half on a host where each is the network's
first and last, so that bridge, tunnels, names and rules are made and removed every time. Descriptors and threads are
the same after 200 and at the end, and so are the hosts' processes; memory may be 2 MB more. Nothing was left."""
