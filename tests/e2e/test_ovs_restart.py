"""Open vSwitch restarts under running containers: traffic resumes by itself; who attaches meanwhile waits for it."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import Host

from .fabric import Container, Fabric, inspect, run, unreachable
from .faults import wait_for
from .wire import BROADCAST, listen, wait_until

SUBNETS = ("--subnet", "192.168.120.0/24", "--subnet", "fd00:120::/64")
PATIENCE = 60.0  # seconds for tunnels and neighbours to be known again
Act = Callable[[Host], object]


def restart_vswitchd(host: Host) -> None:
    host.stop_vswitchd(crash=True)
    host.start_vswitchd()


def restart_ovsdb(host: Host) -> None:
    host.stop_ovsdb(crash=True)
    host.start_ovsdb()


def restart(host: Host) -> None:
    """In the order of `ovs-ctl restart`."""
    host.stop_vswitchd()
    host.stop_ovsdb()
    host.start_ovsdb()
    host.start_vswitchd()


RESTARTS: dict[str, Act] = {
    "ovs-vswitchd killed": restart_vswitchd,
    "ovsdb-server killed": restart_ovsdb,
    "database compacted": lambda host: host.run("ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/compact"),
    "both restarted": restart,
}
GAPS: dict[str, tuple[Act, Act]] = {
    "ovs-vswitchd killed": (lambda host: host.stop_vswitchd(crash=True), Host.start_vswitchd),
    "ovsdb-server killed": (lambda host: host.stop_ovsdb(crash=True), Host.start_ovsdb),
    "ovsdb-server stopped": (Host.stop_ovsdb, Host.start_ovsdb),
}
HEALERS: dict[str, Act] = {
    "reload": lambda host: host.run("netavark-geneve", "reload"),
    "the next container": lambda host: run(host, "net1", name="next"),
}


@pytest.fixture
def containers(fabric: Fabric) -> list[Container]:
    """One on each of three hosts, and one more on the first."""
    fabric.create("net1", *SUBNETS)
    return [*fabric.run("net1"), run(fabric.hosts[0], "net1", name="neighbour")]


def wait_for_traffic(containers: list[Container]) -> None:
    """Between all of them, and to the gateways of the first, from inside and from its host."""
    first = containers[0]

    def is_flowing() -> bool:
        return not unreachable(containers) and has_gateways(first)

    wait_until(is_flowing, "traffic to flow", PATIENCE)


def has_gateways(container: Container) -> bool:
    return all(container.ping(subnet["gateway"]) for subnet in inspect(container.host, "net1")["subnets"])


def test_traffic_resumes_and_nothing_has_changed(fabric: Fabric, containers: list[Container]) -> None:
    host = fabric.hosts[0]
    before = host.snapshot()

    for act in RESTARTS.values():
        act(host)

        wait_for_traffic(containers)
        wait_for(host, before)
        with listen(containers) as wire:  # tunnels are still protected, so that no broadcast is passed on
            marker = wire.send(containers[0], BROADCAST)
            wire.settle()
            assert wire.copies(marker) == {each.name: int(each is not containers[0]) for each in containers}


def test_an_attach_that_meets_the_gap_waits_for_its_end(fabric: Fabric, containers: list[Container]) -> None:
    host = fabric.hosts[0]

    for number, (stop, start) in enumerate(GAPS.values()):
        stop(host)
        with ThreadPoolExecutor(1) as pool:
            try:
                late = pool.submit(run, host, "net1", name=f"late{number}")
                wait_until(lambda: is_attaching(host), "the plugin to be called")
            finally:
                start(host)
            containers.append(late.result())

    wait_for_traffic(containers)


def is_attaching(host: Host) -> bool:
    return host.run("pgrep", "-f", "geneve-ovs setup", check=False).returncode == 0


def test_a_link_that_is_set_down_while_its_attach_waits_is_up_in_the_end(
    fabric: Fabric, containers: list[Container]
) -> None:
    """As ovs-vswitchd does that has read the flags of a link too early."""
    host = fabric.hosts[0]
    before = veths_up(host)

    host.freeze("ovs-vswitchd")
    with ThreadPoolExecutor(1) as pool:
        try:
            late = pool.submit(run, host, "net1", name="late")
            wait_until(lambda: len(veths_up(host) - before) == 1, "the container's link to be up")
            host.run("ip", "link", "set", *(veths_up(host) - before), "down")
        finally:
            host.thaw("ovs-vswitchd")
        containers.append(late.result())

    wait_for_traffic(containers)


def veths_up(host: Host) -> set[str]:
    links = json.loads(host.run("ip", "-json", "link", "show", "type", "veth").stdout)
    return {link["ifname"] for link in links if "UP" in link["flags"]}  # for a link it leaves out, "up" prints {}


def test_an_interface_that_was_made_anew_gets_its_gateways_back(fabric: Fabric, containers: list[Container]) -> None:
    """It went while ovs-vswitchd was down."""
    host = fabric.hosts[0]

    for heal in HEALERS.values():
        host.stop_vswitchd()
        host.run("ip", "link", "del", "ovs_net1")
        host.start_vswitchd()
        wait_until(lambda: not unreachable(containers), "traffic between containers to resume", PATIENCE)
        assert not has_gateways(containers[0])

        heal(host)

        wait_for_traffic(containers)
