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
ROUNDS = 5  # of each one's coming and going
RACES = 4
RACERS = ("setup", "teardown", "setup", "teardown")
PAUSE = 0.3  # seconds at most that one stays away, so that now and then all are
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
def test_the_last_one_leaves_while_the_first_one_comes(crowd: list[Guest], seed: int) -> None:
    host = crowd[0].host
    before = host.snapshot()

    def come_and_go(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(ROUNDS):
            crowd[number].must("setup")
            assert crowd[number].is_reached(), crowd[number].name
            crowd[number].must("teardown")
            time.sleep(chance.uniform(0, PAUSE))

    with ThreadPoolExecutor(SIZE) as pool:
        list(pool.map(come_and_go, range(SIZE)))
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
