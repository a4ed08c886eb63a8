"""Containers on three and on five hosts share one Ethernet: everybody is reached, and nothing arrives twice."""

import ipaddress
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Container, Fabric, inspect, run
from .wire import BROADCAST, all_unreached, answers, listen, mac, read, recording, wait_until

SUBNET = ("--subnet", "192.168.120.0/24")
NOBODY = "192.168.120.253"  # an address that belongs to no container
KINDS = {
    "broadcast": BROADCAST,
    "unknown unicast": "02:6e:6f:62:6f:64",
    "IPv4 multicast": "01:00:5e:01:02:03",
    "IPv6 multicast": "33:33:00:01:02:03",
}
SIZES = pytest.mark.parametrize("size", [3, 5], ids=["three hosts", "five hosts"])


@SIZES
def test_everybody_reaches_everybody(make_fabric: MakeFabric, size: int) -> None:
    fabric = mesh(make_fabric, size)
    containers = [*fabric.run("net1", name="one"), *fabric.run("net1", name="two")]
    addresses = [container.address for container in containers]
    gateways = [gateway(host) for host in fabric.hosts]
    assert len({*addresses, *gateways}) == 3 * size

    assert all_unreached(containers, addresses) == []
    assert all_unreached(containers, gateways) == []
    assert [address for host in fabric.hosts for address in addresses if not ping(host, address)] == []


@SIZES
def test_a_flooded_frame_arrives_once_at_every_other_container(make_fabric: MakeFabric, size: int) -> None:
    fabric = mesh(make_fabric, size)
    containers = [*fabric.run("net1", name="one"), *fabric.run("net1", name="two")]

    with listen(containers) as wire:
        sent = [
            (kind, sender, wire.send(sender, destination))
            for kind, destination in KINDS.items()
            for sender in (containers[0], containers[-1])
        ]
        for _, sender, marker in sent:
            wire.wait_for(marker, sender)
        wire.settle()
        for kind, sender, marker in sent:
            assert wire.copies(marker) == once(containers, sender), f"{kind} from {sender.name}"


@SIZES
def test_an_arp_request_arrives_once_and_the_answer_comes_from_one(make_fabric: MakeFabric, size: int) -> None:
    containers = mesh(make_fabric, size).run("net1")
    sender, target = containers[0], containers[-1]

    with listen(containers, f"arp[6:2] = 1 and arp dst host {NOBODY}") as wire:
        ask = ("arping", "-b", "-c1", "-w1", "-I", "eth0", NOBODY)
        assert "Received 0 response" in sender.host.netns_run(sender.name, *ask, check=False).stdout
        # The request's sender and target, as arping writes them (RFC 826).
        request = mac(sender.link()["address"]) + octets(sender.address) + mac(BROADCAST) + octets(NOBODY)
        wire.wait_for(request, sender)
        wire.settle()
        assert wire.copies(request) == once(containers, sender)

    assert answers(sender, target.address, replies=2) == {target.link()["address"]}


def test_there_is_never_a_linux_bridge(make_fabric: MakeFabric) -> None:
    fabric = mesh(make_fabric, 3)

    with ExitStack() as stack:
        watches = {host.name: stack.enter_context(link_events(host)) for host in fabric.hosts}
        first, second = fabric.run("net1", name="first"), fabric.run("net1", name="second")
        assert all_unreached(first, [other.address for other in second]) == []
        assert fabric.each(linux_bridges) == [[], [], []]
        remove(first)
        assert fabric.each(linux_bridges) == [[], [], []]
        remove(second)
        assert fabric.each(linux_bridges) == [[], [], []]
        events = {name: until_now() for name, until_now in watches.items()}

    for host, seen in events.items():
        assert "ovs_net1" in seen, host
        # `ip -details` prints the kind of a link at the start of a line, with its attributes behind it.
        assert re.search(r"^\s+veth ", seen, re.MULTILINE), host
        assert not re.search(r"^\s+bridge ", seen, re.MULTILINE), host


def test_a_container_is_one_quiet_port_of_the_switch(make_fabric: MakeFabric) -> None:
    for container in mesh(make_fabric, 3).run("net1"):
        host, inner = container.host, container.link()
        (outer,) = [link for link in links(host) if link["ifindex"] == inner["link_index"]]

        assert outer["linkinfo"]["info_kind"] == "veth"
        assert vsctl(host, "port-to-br", outer["ifname"]) == "ovs_net1"
        assert outer.get("master") in (None, "ovs-system")
        assert outer["addr_info"] == []
        assert [address["local"] for address in inner["addr_info"]] == [container.address]


@SIZES
def test_every_tunnel_is_protected(make_fabric: MakeFabric, size: int) -> None:
    """The invariant behind every count in this file, so that its loss has a name."""
    fabric = mesh(make_fabric, size)
    fabric.run("net1")
    for host in fabric.hosts:
        tunnels = vsctl(host, "--bare", "--columns=name", "find", "Interface", "type=geneve").split()
        assert len(tunnels) == size - 1
        assert [vsctl(host, "get", "Port", tunnel, "protected") for tunnel in tunnels] == ["true"] * (size - 1)
        remotes = [vsctl(host, "get", "Interface", tunnel, "options:remote_ip").strip('"') for tunnel in tunnels]
        assert sorted(remotes) == sorted(other.address for other in fabric.hosts if other is not host)


def test_a_gateway_answers_once_from_the_bridge(make_fabric: MakeFabric) -> None:
    """Every host's, its own too: a kernel that answered at the host's end of the veth would lead past the switch."""
    fabric = mesh(make_fabric, 2)
    for container in fabric.run("net1"):
        for host in fabric.hosts:
            assert answers(container, gateway(host), replies=2) == {bridge_mac(host)}


def test_the_bridge_keeps_its_mac(make_fabric: MakeFabric) -> None:
    """Left alone, it is the lowest of its ports' MACs: one of the new ports lowers it, or else the old one held it."""
    host = mesh(make_fabric, 2).hosts[0]
    first = run(host, "net1", name="first")
    before = bridge_mac(host)

    others = [run(host, "net1", name=f"c{number}") for number in range(3)]
    assert bridge_mac(host) == before
    remove([first])
    assert bridge_mac(host) == before
    remove(others)
    run(host, "net1", name="later")
    assert bridge_mac(host) == before


def mesh(make_fabric: MakeFabric, size: int) -> Fabric:
    """Hosts that know each other, with one network."""
    fabric = make_fabric(size)
    fabric.configure()
    fabric.create("net1", *SUBNET)
    return fabric


def once(containers: Sequence[Container], sender: Container) -> dict[str, int]:
    """One copy at each container, and none that comes back."""
    return {container.name: int(container is not sender) for container in containers}


def gateway(host: Host) -> str:
    return str(inspect(host, "net1")["subnets"][0]["gateway"])


def ping(host: Host, address: str) -> bool:
    return host.run("ping", "-n", "-q", "-c1", "-W5", address, check=False).returncode == 0


def remove(containers: Sequence[Container]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda container: container.host.run("podman", "rm", "-f", "-t0", container.name), containers))


def links(host: Host, *selection: str) -> list[dict[str, Any]]:
    """The host's interfaces with their addresses."""
    return list(json.loads(host.run("ip", "-json", "-details", "address", "show", *selection).stdout))


def linux_bridges(host: Host) -> list[str]:
    shown = json.loads(host.run("ip", "-json", "-details", "link", "show", "type", "bridge").stdout)
    return [link["ifname"] for link in shown if link]


def bridge_mac(host: Host) -> str:
    (bridge,) = links(host, "dev", "ovs_net1")
    return str(bridge["address"])


def vsctl(host: Host, *command: str) -> str:
    return host.run("ovs-vsctl", *command).stdout.strip()


def octets(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@contextmanager
def link_events(host: Host) -> Iterator[Callable[[], str]]:
    """Watch the links of a host; call it for everything that has happened to them until then."""
    with recording(host, "ip", "-details", "monitor", "link") as output:

        def until_now() -> str:
            # An event of our own: when it is reported, all earlier ones have been.
            marker = secrets.token_hex(8)

            def reported() -> bool:
                host.sh('ip link set lo alias "$1"; ip link set lo alias ""', marker)
                return marker in read(output)

            wait_until(reported, f"ip monitor on {host.name}")
            return read(output)

        until_now()
        yield until_now
