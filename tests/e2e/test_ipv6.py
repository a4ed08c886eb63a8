"""IPv6 inside, beside IPv4, and underneath."""

import ipaddress
import json

import pytest

from .conftest import MakeFabric
from .fabric import Container, Fabric, refusal, run, unreachable

IPV6 = ("--subnet", "fd00:1::/64")
IPV4 = ("--subnet", "192.168.120.0/24")


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Two hosts that know each other by their IPv4 addresses."""
    two = make_fabric(2)
    two.configure()
    return two


def test_ipv6_only(fabric: Fabric) -> None:
    networks = fabric.create("net1", *IPV6)

    containers = fabric.run("net1", name="a") + fabric.run("net1", name="b")

    assert unreachable(containers) == []
    assert [network["ipv6_enabled"] for network in networks] == [True, True]
    assert all(not link_addresses(container, "inet") for container in containers)
    for container in containers:
        lease = networks[container.host.index]["subnets"][0]["lease_range"]
        assert between(lease["start_ip"], container.address, lease["end_ip"])
        assert container.ping(networks[container.host.index]["subnets"][0]["gateway"])


def test_the_slices_of_two_hosts_have_the_same_low_bits_but_other_macs(fabric: Fabric) -> None:
    """So the MAC cannot be made of them."""
    fabric.create("net1", *IPV6)

    one, other = fabric.run("net1")

    low = [int(ipaddress.IPv6Address(container.address)) % 2**32 for container in (one, other)]
    assert low[0] == low[1]
    macs = [container.link()["address"] for container in (one, other)]
    assert macs[0] != macs[1]
    assert all(mac.startswith("0a:58:") for mac in macs)


def test_both_families(fabric: Fabric) -> None:
    first, second = fabric.create("net1", *IPV4, *IPV6)
    here, there = fabric.hosts

    one = run(here, "net1", "--ip", "192.168.120.9", "--ip6", "fd00:1::9", name="c1")
    other = run(there, "net1", name="c2")

    assert link_addresses(one, "inet") == ["192.168.120.9"]
    assert link_addresses(one, "inet6") == ["fd00:1::9"]
    assert one.link()["address"] == "0a:58:c0:a8:78:09"
    (far,) = link_addresses(other, "inet6")
    assert between(second["subnets"][1]["lease_range"]["start_ip"], far, second["subnets"][1]["lease_range"]["end_ip"])
    assert [subnet["gateway"] for subnet in first["subnets"]] == ["192.168.120.1", "fd00:1::1"]
    for address in (far, other.address, *(subnet["gateway"] for subnet in first["subnets"] + second["subnets"])):
        assert one.ping(address), address
    assert other.ping("fd00:1::9")


def test_an_address_can_be_used_at_once(make_fabric: MakeFabric) -> None:
    """Podman saw to it that nobody else has it; to look for duplicates would take a second or two."""
    fabric = make_fabric(1)
    fabric.configure()
    fabric.create("net1", *IPV6, *IPV4)
    command = ("ip", "-6", "address", "show", "dev", "eth0")

    shown = fabric.hosts[0].run("podman", "run", "--rm", "--network", "net1", "alpine", *command).stdout

    assert "inet6 fd00:1::2/64 scope global" in shown
    assert "tentative" not in [word for line in shown.splitlines() if "scope global" in line for word in line.split()]


@pytest.mark.parametrize("inside", [IPV4, IPV6, (*IPV4, *IPV6)], ids=["IPv4 inside", "IPv6 inside", "both inside"])
def test_an_ipv6_underlay(make_fabric: MakeFabric, inside: tuple[str, ...]) -> None:
    fabric = make_fabric(2)
    fabric.configure(hosts=[host.address6 for host in fabric.hosts])

    networks = fabric.create("net1", *inside)
    containers = fabric.run("net1")

    assert [network["options"]["mtu"] for network in networks] == ["1430", "1430"]
    assert [network["options"]["local_ip"] for network in networks] == [host.address6 for host in fabric.hosts]
    assert unreachable(containers) == []
    # The largest packet that fits: 8 bytes are ICMP's.
    largest = 1430 - 8 - (40 if ":" in containers[0].address else 20)
    assert unreachable(containers, "-M", "do", "-s", str(largest)) == []
    for one, other in (containers, containers[::-1]):
        assert all(one.ping(address) for address in link_addresses(other, "inet6"))


def test_the_overhead_of_ipv6_is_taken_into_account(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(1)
    fabric.configure(hosts=["fd00:192:168::10", "fd00:192:168::11"])

    sentence = refusal(
        *(fabric.hosts[0], "podman", "network", "create", "-d", "geneve-ovs", *IPV4, "--opt", "mtu=1431", "net1")
    )

    assert "mtu=1431" in sentence
    assert "1430" in sentence


def test_a_network_without_ipv6_is_quiet(fabric: Fabric) -> None:
    fabric.create("net1", *IPV4)

    for container in fabric.run("net1"):
        assert link_addresses(container, "inet6", "link") == []


def link_addresses(container: Container, family: str, scope: str = "global") -> list[str]:
    """Addresses of eth0, usable ones only."""
    shown = container.host.netns_run(container.name, "ip", "-json", "address", "show", "dev", "eth0").stdout
    return [
        address["local"]
        for address in json.loads(shown)[0]["addr_info"]
        if address["family"] == family and address["scope"] == scope and not address.get("tentative")
    ]


def between(first: str, address: str, last: str) -> bool:
    low, middle, high = (ipaddress.ip_address(text) for text in (first, address, last))
    return int(low) <= int(middle) <= int(high)
