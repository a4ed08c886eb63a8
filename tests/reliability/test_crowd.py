"""Many processes attach and detach at once, with nobody's lock: Podman instances and other engines side by side.

The first and the last of a network meet all the time, and so do calls for one and the same container.
"""

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.e2e.conftest import SOCKET_VARIABLE, MakeFabric, helper
from tests.e2e.fabric import create, plugin_error
from tests.e2e.faults import HOSTS, wait_for
from tests.e2e.guests import Guest, namespaces, shares
from tests.lab import Host, Snapshot

SOCKET, COLD = "/run/crowd.sock", "/nonexistent"
SIZE = 6
ROUNDS = 20
RACES = 4
RACERS = ("setup", "teardown", "setup", "teardown")
MOMENT = 0.05  # seconds in which all calls begin
each_way = pytest.mark.parametrize(
    "sockets", [(COLD,), (SOCKET,), (COLD, SOCKET)], ids=["without the helper", "with the helper", "both"]
)


@pytest.fixture
def crowd(make_fabric: MakeFabric, sockets: Sequence[str]) -> Iterator[list[Guest]]:
    """Containers of one host, which ask whom they ask by turns."""
    fabric = make_fabric(1)
    fabric.configure(hosts=HOSTS)
    (host,) = fabric.hosts
    network = create(host, "net1", "--subnet", "192.168.120.0/24", "--opt", "vni=77")
    names = [f"crowd{number}" for number in range(SIZE)]
    with namespaces(host, names), helper(host, SOCKET):
        yield [
            Guest(host, network, name, share, env={SOCKET_VARIABLE: sockets[number % len(sockets)]})
            for number, (name, share) in enumerate(zip(names, shares(network, SIZE), strict=True))
        ]


@each_way
def test_the_last_ones_leave_while_the_first_ones_come(crowd: list[Guest], seed: int) -> None:
    """One half is on the network and leaves, the other comes at the same moment; the next time it is the other way."""
    host, chance = crowd[0].host, random.Random(seed)
    before = host.snapshot()
    come, leave = crowd[::2], crowd[1::2]

    def call(guest: Guest, verb: str, delay: float) -> None:
        time.sleep(delay)
        guest.must(verb)

    with ThreadPoolExecutor(SIZE) as pool:
        list(pool.map(lambda guest: guest.must("setup"), leave))
        for _ in range(ROUNDS):
            jobs = [(guest, verb) for guests, verb in ((come, "setup"), (leave, "teardown")) for guest in guests]
            chance.shuffle(jobs)
            running = [pool.submit(call, *job, chance.uniform(0, MOMENT)) for job in jobs]
            time.sleep(chance.uniform(0, 2 * MOMENT))
            host.freeze("ovsdb-server")  # so that they meet: all have looked, and none has changed anything yet
            time.sleep(MOMENT)
            host.thaw("ovsdb-server")
            for each in running:
                each.result()
            assert list(pool.map(Guest.is_reached, come)) == [True] * len(come)
            come, leave = leave, come
        list(pool.map(lambda guest: guest.must("teardown"), leave))
    wait_for(host, before)


@each_way
def test_calls_for_one_container_race(crowd: list[Guest], sockets: Sequence[str]) -> None:
    """Each is done or refused in a sentence, and the next one finds its way, whatever state they left."""
    one = crowd[0]
    before = one.host.snapshot()
    for race in range(RACES):
        with ThreadPoolExecutor(len(RACERS)) as pool:
            asking = [replace(one, env={SOCKET_VARIABLE: sockets[n // 2 % len(sockets)]}) for n in range(len(RACERS))]
            for done in pool.map(Guest.call, asking, RACERS):
                assert done.returncode == 0 or "this is a bug" not in plugin_error(done), done
        if race % 2:
            one.must("setup")
            assert one.is_reached()
        one.must("teardown")
        assert_clean(one.host, before)


def assert_clean(host: Host, before: Snapshot) -> None:
    wait_for(host, before)
    links = host.run("ip", "-n", "crowd0", "-brief", "link").stdout.splitlines()
    assert [line.split()[0] for line in links] == ["lo"], links
