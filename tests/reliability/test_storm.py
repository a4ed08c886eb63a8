"""Ten minutes of random attaches, detaches and kills on three hosts: nothing is left, and no packet goes astray."""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from textwrap import fill
from typing import TypeVar

import pytest

from tests.bench.common import table
from tests.e2e.conftest import SOCKET_VARIABLE, MakeFabric
from tests.e2e.fabric import Fabric
from tests.e2e.faults import wait_for
from tests.e2e.guests import Guest, namespaces, shares
from tests.lab import Host, Snapshot

from . import report
from .storm import COLD, FRAMES, SOCKET, Daemons, Frames, Life, rage, wait_in_step

pytestmark = pytest.mark.alone(reason="it keeps every core busy")
HOSTS = 3
SECONDS, LONG = 75.0, 600.0
# The same addresses on both, and so the same MACs: whatever came from one into the other would be taken for its own.
NETWORKS = {
    "net1": ("--subnet", "192.168.120.0/24", "--subnet", "fd00:120::/64"),
    "net2": ("--subnet", "192.168.120.0/24", "--internal", "--disable-dns"),
}
WAYS = (SOCKET, COLD, SOCKET, COLD)  # of the containers of one network on one host: with the helper and without
SPARE = 1  # addresses more than containers, so that they move from one to another
AT_ONCE = 6
WIDTH = 115
Result = TypeVar("Result")
TITLE = "Ten minutes of storm on three hosts"


def test_a_storm_leaves_nothing_and_no_packet_goes_astray(make_fabric: MakeFabric, seed: int, is_long: bool) -> None:
    chance = random.Random(seed)
    fabric = make_fabric(HOSTS)
    fabric.configure()
    with storm(fabric, chance) as (lives, daemons, frames, before):
        rage(lives, daemons, LONG if is_long else SECONDS, chance)
        survived = sum(life.state == "attached" for life in lives)
        calm_down(fabric, lives)
        assert unreached(lives) == []
        each(lives, lambda life: life.guest.must("teardown"))
        daemons.stop()
        collected = fabric.each(collect)
        for host, clean in zip(fabric.hosts, before, strict=True):
            wait_for(host, clean)
        judged = [program.end() for program in frames]
    assert [line for found in judged for line in found["wrong"]] == []
    counts = sum((life.counts for life in lives), Counter[str]())
    packets = sum((Counter(found["counts"]) for found in judged), Counter[str]())
    print(counts, packets, daemons.kills, survived, collected)
    assert min(packets["received"], survived, daemons.kills.total()) > 0
    if is_long:
        report.write(TITLE, lines(counts, daemons.kills, packets, survived, sum(collected)))


@contextmanager
def storm(fabric: Fabric, chance: random.Random) -> Iterator[tuple[list[Life], Daemons, list[Frames], list[Snapshot]]]:
    """Everything in its place; the hosts as they are before the first container comes."""
    networks = {name: fabric.create(name, *options) for name, options in NETWORKS.items()}
    shared = {name: [shares(found, len(WAYS) + SPARE) for found in each] for name, each in networks.items()}
    addresses = {name: [share[0] for host in shared[name] for share in host] for name in NETWORKS}
    daemons = Daemons(fabric.hosts)
    lives: list[Life] = []
    frames: list[Frames] = []
    with ExitStack() as stack:
        for number, host in enumerate(fabric.hosts):
            guests = [
                Guest(host, networks[name][number], f"{name}-{way}", (), env={SOCKET_VARIABLE: socket})
                for name in NETWORKS
                for way, socket in enumerate(WAYS)
            ]
            stack.callback(host.run, "rm", "-f", FRAMES, SOCKET)
            stack.enter_context(namespaces(host, [guest.name for guest in guests]))
            frames.append(Frames(host, addresses))
            stack.callback(frames[-1].stop)
            free = {name: deque(shared[name][number]) for name in NETWORKS}
            for guest in guests:
                name = str(guest.network["name"])
                frames[-1].tell("add", guest.name, name)
                lives.append(Life(guest, free[name], frames[-1], random.Random(chance.random())))
        before = fabric.each(Host.snapshot)
        stack.callback(daemons.stop)
        daemons.start()
        yield lives, daemons, frames, before


def calm_down(fabric: Fabric, lives: Sequence[Life]) -> None:
    """All are there once more, whatever was left half-way; a new one on each network brings its gateway back."""
    fabric.each(wait_in_step)
    each(lives, Life.settle)
    again = lives[:: len(WAYS)]
    each(again, lambda life: life.guest.must("teardown"))
    each(again, lambda life: life.guest.must("setup"))


def unreached(lives: Sequence[Life]) -> list[str]:
    """Who does not reach whom of its network, or the gateway of its host."""

    def ask(life: Life) -> list[str]:
        guest = life.guest
        others = [
            other.guest for other in lives if other is not life and other.guest.network["name"] == guest.network["name"]
        ]
        gateways = [subnet["gateway"] for subnet in guest.network["subnets"] if "gateway" in subnet]
        return guest.unreached([*gateways, *(address for other in others for address in other.addresses)])

    return [line for lines in each(lives, ask) for line in lines]


def each(lives: Sequence[Life], action: Callable[[Life], Result]) -> list[Result]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(action, lives))


def collect(host: Host) -> int:
    """How many things gc had to remove, and has."""
    done = host.run("netavark-geneve", "gc", "--apply", timeout=90)
    return sum(line.startswith("removed ") for line in done.stdout.splitlines())


def lines(counts: Counter[str], kills: Counter[str], packets: Counter[str], survived: int, collected: int) -> list[str]:
    ends = ("done", "refused", "killed")
    rows = [(f"`{verb}`", *(f"{counts[f'{verb} {end}']:,}" for end in ends)) for verb in ("setup", "teardown")]
    killed = ", ".join(f"{kind} {count}" for kind, count in sorted(kills.items()))
    text = (
        f"Killed and started again meanwhile: {killed}. Given up half-way, with their namespaces: {counts['given up']}"
        f" containers. Packets checked: {packets['received'] + packets['flooded']:,}; of another network or for another"
        f" container: 0; twice at one: 0. At the end {survived} containers were attached; the others were attached"
        " again, and all reached all of their network, on all hosts. They were detached, `gc --apply` removed"
        f" {collected} things of those given up, and the hosts were as before the first container came: 0 leaks."
    )
    early = (
        f"{packets['early']} packets of the other network came to an interface before its `setup` had answered: Open"
        " vSwitch gives the number of a port that has gone to the next one, and has flows to it for a moment yet."
    )
    return [TEXT, "", *table(("call", *ends), *rows), "", fill(text, WIDTH), "", fill(early, WIDTH)]


TEXT = """24 containers, on two networks that have the same addresses, come and go at random, all at once, half of them
with the helper; 15 % of the calls are killed, and every three seconds a daemon of one of the hosts. What is refused is
what met a helper that was killed or an Open vSwitch that was away. Every container sends five packets a second, to
everybody or to one address, and all that arrive anywhere are checked."""
