"""SIGKILL at every system call of `setup` and of `teardown`: the next call heals, and nothing is left.

A call is killed just before and just after each of its system calls that anybody else can notice, from the first
word to OVSDB to the end. Between two of them it only reads, waits and computes, which changes nothing: whenever
it is killed there, what it leaves is what it would leave at the one or the other end, where those that it asked
have not yet answered, and where they have. Numbers of stops are those of all threads together, in the order in
which they come; they differ a little from run to run, so the last ones are tried until none is reached any more.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pytest

from tests.bench.common import table
from tests.e2e.conftest import MakeFabric
from tests.e2e.fabric import plugin_error

from . import report
from .victim import HEALER, SHARDS, Killed, State, Victim, among_many, victims

PLUGIN = "The plugin is killed at every system call"
BEYOND = 3  # stops that are not reached any more, in a row, before a shard believes that it has seen them all
MOST = 400  # stops of one call
VERBS = ("setup", "teardown")
Kill = Callable[[Victim, str, int], Killed]
Place = Callable[[list[Victim]], AbstractContextManager[list[Victim]]]


@dataclass
class Tally:
    """What the kills of one call have shown."""

    points: list[str] = field(default_factory=list)
    states: dict[State, int] = field(default_factory=dict)  # what was left, and a stop that leaves it


def alone(victim: Victim, verb: str, stop: int) -> Killed:
    """The plugin's own process is killed, which nobody expects to say anything then."""
    killed = victim.kill(verb, stop)
    assert killed.point is None or (killed.status, killed.stderr) == (-9, ""), killed
    return killed


def with_helper(victim: Victim, verb: str, stop: int) -> Killed:
    """The helper is killed; its client tells, unless it was answered already, or never taken."""
    killed = victim.kill_helper(verb, stop)
    assert killed.stderr == "", killed
    if killed.status:
        assert "the helper ended in the middle of the request; run the command again" in plugin_error(killed.result)
    elif verb == "setup":
        assert "interfaces" in json.loads(killed.stdout), killed
    return killed


def client(victim: Victim, verb: str, stop: int) -> Killed:
    """The client is killed; the helper goes on, and undoes a setup of which nobody has heard."""
    killed = victim.kill(verb, stop, socket=HEALER)
    assert killed.point is None or killed.status == -9, killed
    return killed


@pytest.mark.parametrize(
    ("kill", "place", "title"),
    [
        pytest.param(alone, nullcontext, PLUGIN, id="the plugin"),
        pytest.param(alone, among_many, f"{PLUGIN}, on a bridge with many ports", id="the plugin, among many"),
        pytest.param(with_helper, nullcontext, "The helper is killed at every system call", id="the helper"),
        pytest.param(client, nullcontext, "The helper's client is killed at every system call", id="the client"),
    ],
)
def test_a_call_is_killed_and_whatever_follows_heals(
    make_fabric: MakeFabric, kill: Kill, place: Place, title: str, known: set[State]
) -> None:
    start = time.monotonic()
    with victims(make_fabric, SHARDS) as alone_there, place(alone_there) as found:
        tallies = {verb: tally(found, kill, verb) for verb in VERBS}
        new = {state: (verb, stop) for verb in VERBS for state, stop in tallies[verb].states.items()}
        jobs = [(kill, *job) for state, job in new.items() if state not in known]
        if kill is not client:  # else the helper has seen to it
            with ThreadPoolExecutor(len(found)) as pool:
                list(pool.map(lambda number: _collect(found[number], jobs[number :: len(found)]), range(len(found))))
            known |= new.keys()
    assert all(tallies[verb].points for verb in VERBS)
    report.write(title, lines(tallies, asked_gc=kill is not client, seconds=time.monotonic() - start))


@pytest.fixture(scope="module")
def known() -> set[State]:
    """What gc has been asked about already: it sees nothing but what is left."""
    return set()


def tally(found: Sequence[Victim], kill: Kill, verb: str) -> Tally:
    """Kill it everywhere, the hosts side by side."""
    with ThreadPoolExecutor(len(found)) as pool:
        shards = list(pool.map(lambda number: _shard(found[number], kill, verb, number), range(len(found))))
    return Tally(
        [point for shard in shards for point in shard.points],
        {state: stop for shard in shards for state, stop in shard.states.items()},
    )


def _shard(victim: Victim, kill: Kill, verb: str, number: int) -> Tally:
    """Every so many-th stop, twice: once the other call follows, once the same. With the helper by turns."""
    seen = Tally()
    for stop in _stops(number, seen):
        for heal in VERBS if kill is not with_helper else [VERBS[stop // 2 % 2]]:
            point, why = _kill(victim, kill, verb, stop)
            if point is not None:
                seen.points.append(point)
            seen.states.setdefault(victim.left(), stop)
            if heal == "setup":
                victim.must("setup", why)
                assert victim.answers(), why
            victim.must("teardown", why)
            victim.assert_clean(why)
    return seen


def _stops(number: int, seen: Tally) -> Iterator[int]:
    """The shard's stops, until they are not reached any more."""
    unreached = 0
    for stop in range(1 + number, MOST, SHARDS):
        before = len(seen.points)
        yield stop
        unreached = 0 if len(seen.points) > before else unreached + 1
        if unreached == BEYOND:
            return
    raise AssertionError(f"a call has more than {MOST} stops")


def _kill(victim: Victim, kill: Kill, verb: str, stop: int) -> tuple[str | None, str]:
    """Where it was killed, and the same in words."""
    if verb == "teardown":
        victim.must("setup", f"before {verb} is killed at stop {stop}")
    killed = kill(victim, verb, stop)
    return killed.point, f"{verb} killed {killed.point} (stop {stop})"


def _collect(victim: Victim, jobs: Sequence[tuple[Kill, str, int]]) -> None:
    """gc in place of the next call, the container's namespace gone."""
    for kill, verb, stop in jobs:
        _, why = _kill(victim, kill, verb, stop)
        victim.lose_namespace()
        done = victim.host.run("netavark-geneve", "gc", "--apply", check=False, timeout=90)
        assert done.returncode == 0, f"{why}: {done}"
        victim.make_namespace()
        victim.assert_clean(f"{why}, gc")
        victim.must("setup", f"{why}, gc")
        victim.must("teardown", f"{why}, gc")


def lines(tallies: dict[str, Tally], *, asked_gc: bool, seconds: float) -> list[str]:
    head = ("killed in", "kills", "different system calls", "left by the next call", "next setup failed")
    rows = []
    for verb, found in tallies.items():
        calls = {point.partition(" ")[2] for point in found.points}
        rows.append((f"`{verb}`", str(len(found.points)), str(len(calls)), "0", "0"))
    states = len({state for found in tallies.values() for state in found.states})
    collected = f"What was left was one of {states} things; `gc --apply` in place of the next call left 0 of each."
    text = f"{collected if asked_gc else 'The helper undid or finished what it had begun.'} {seconds:.0f} s."
    return [WHAT, "", *table(head, *rows), "", text]


WHAT = """SIGKILL just before and just after each system call that anybody else can notice, from the first word to OVSDB
on; followed by `teardown`, or by `setup` and then `teardown`. Compared with before: links, addresses, routes,
OVSDB, nftables, names, files, settings, processes, the container's namespace."""
