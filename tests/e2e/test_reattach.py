"""A container that leaves and comes back at once finds its name, its interface and its address free, every time.

A detach answers while the kernel still tidies up after the interface; nobody may be able to see that.
"""

from collections.abc import Iterator

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import PLUGIN, inspect, run
from .faults import Caller, host_with_network, ports

# The gateway answers at once or, where a switch or a cache were wrong, after a second.
SCRIPT = """
for round in $(seq "$1"); do
    "$2" teardown /run/netns/c1 <<<"$REQUEST"
    "$2" setup /run/netns/c1 <<<"$REQUEST" >/dev/null
    ip netns exec c1 ping -n -q -c1 -W1 192.168.120.1 >/dev/null || echo "round $round: no answer"
    [ "$(ip -n c1 -br link show eth0 | wc -l)" = 1 ] || echo "round $round: no interface"
done
"""


@pytest.fixture
def caller(make_fabric: MakeFabric) -> Iterator[Caller]:
    host: Host = host_with_network(make_fabric)
    host.run("ip", "netns", "add", "c1")
    caller = Caller(host, inspect(host, "net1"))
    yield caller
    caller.teardown()
    host.run("ip", "netns", "del", "c1")


@pytest.mark.parametrize(("others", "rounds"), [(0, 20), (1, 200)], ids=["alone", "beside another"])
def test_it_works_every_time(caller: Caller, others: int, rounds: int) -> None:
    """Beside another container the bridge stays, and a detach waits for nothing."""
    for number in range(others):
        run(caller.host, "net1", name=f"other{number}")
    assert caller.setup().returncode == 0

    said = caller.host.sh(SCRIPT, str(rounds), PLUGIN, env={"REQUEST": caller.request()}, timeout=300).stdout

    assert said == ""
    assert len(ports(caller.host)) == others + 1
