"""Each request of a `setup` to ovsdb-server goes wrong once, in every way in which one can; see relay.py."""

import itertools
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import SOCKET_VARIABLE, MakeFabric, helper
from tests.e2e.fabric import PLUGIN
from tests.e2e.faults import BOUND, NETNS
from tests.lab import Host

from . import report
from .outcome import Seen, lines
from .relay import READY, WAYS
from .victim import COLD, SHARDS, SOCKET, Killed, Victim, victims

RELAY, DIRECTORY = "/run/relay.py", "/run/relay"
HARMLESS = ("error", "drop", "deaf")  # ways of a request that changes nothing, whether the server gets it or not
ENVIRONMENT = {"OVS_RUNDIR": DIRECTORY}


@dataclass(frozen=True)
class Relay:
    """A running relay.py."""

    process: subprocess.Popen[str]

    def next(self, way: str = "none", number: int = 0) -> list[str]:
        """What is to go wrong from now on; the methods of the requests until now."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{way} {number}\n")
        self.process.stdin.flush()
        return list(itertools.takewhile(lambda line: line != READY, map(str.strip, self.process.stdout)))


@contextmanager
def relaying(host: Host) -> Iterator[Relay]:
    host.write(RELAY, Path(__file__).with_name("relay.py").read_text(encoding="utf-8"))
    host.run("mkdir", DIRECTORY)
    pipe = subprocess.PIPE
    with host.popen("python3", RELAY, DIRECTORY, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == f"{READY}\n"
            yield Relay(process)
        finally:
            process.terminate()
    host.run("rm", "-r", DIRECTORY, RELAY)


@pytest.mark.parametrize("who", ["plugin", "helper"])
def test_each_request_goes_wrong_in_every_way(make_fabric: MakeFabric, who: str) -> None:
    start = time.monotonic()
    with victims(make_fabric, SHARDS) as found, ThreadPoolExecutor(SHARDS) as pool:
        shards = list(pool.map(lambda number: shard(found[number], number, who), range(SHARDS)))
    title = f"Each request of a setup to ovsdb-server goes wrong once: the {who}"
    report.write(title, lines([WHAT], shards, time.monotonic() - start))


def shard(victim: Victim, number: int, who: str) -> Seen:
    """Every so many-th of the cases."""
    seen = Seen()
    with ExitStack() as stack:
        relay = stack.enter_context(relaying(victim.host))
        socket = COLD
        if who == "helper":
            stack.enter_context(helper(victim.host, SOCKET, prefix=("env", f"OVS_RUNDIR={DIRECTORY}")))
            socket = SOCKET
        victim = victim.as_now()
        for why in ("a helper has a connection from now on", "these are its requests"):
            relay.next()
            assert setup(victim, socket).status == 0, why
            methods = relay.next()
            victim.must("teardown", why)
        assert "transact" in methods, methods
        for request, method, way in cases(methods)[number::SHARDS]:
            relay.next(way, request)
            done = setup(victim, socket)
            relay.next()
            seen.look_at(victim, done, f"request {request}, {method}: {WAYS[way]}")
    return seen


def cases(methods: list[str]) -> list[tuple[int, str, str]]:
    """Number and method of a request, and how it goes wrong."""
    ways = {"transact": tuple(WAYS)}
    return [(number, each, way) for number, each in enumerate(methods, 1) for way in ways.get(each, HARMLESS)]


def setup(victim: Victim, socket: str) -> Killed:
    env = {SOCKET_VARIABLE: socket, **ENVIRONMENT}
    done = victim.host.run(PLUGIN, "setup", NETNS, input=victim.request, env=env, check=False, timeout=BOUND)
    return Killed(None, done.returncode, done.stdout, done.stderr)


WHAT = f"""A transaction in {len(WAYS)} ways: {"; ".join(WAYS.values())}.
A request that changes nothing in {len(HARMLESS)}, since there it is all the same whether the server gets it."""
