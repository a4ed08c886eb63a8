"""A packet of exactly the network's MTU crosses the underlay unfragmented, and a larger one never leaves."""

import json
from collections.abc import Sequence

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Container, Fabric, pairs, refusal

SUBNET = ("--subnet", "192.168.120.0/24")
HEADERS = 28  # bytes in front of ping's payload: IPv4 20, ICMP 8
LEAST_OF_IPV6 = 1280  # bytes, RFC 8200 §5
LAB_MTU = {"ethernet": 1500, "jumbo": 9000}
OVERHEAD = {"IPv4": 50, "IPv6": 70}


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("underlay", ["ethernet", "jumbo"])
def test_the_derived_mtu_is_what_fits(make_fabric: MakeFabric, underlay: str, family: str) -> None:
    fabric = make_fabric(2, mtu=LAB_MTU[underlay])
    fabric.configure(endpoints(fabric, family))
    mtu = LAB_MTU[underlay] - OVERHEAD[family]

    networks = fabric.create("net1", *SUBNET)
    assert [network["options"]["mtu"] for network in networks] == [str(mtu), str(mtu)]

    containers = fabric.run("net1")
    assert remotes(fabric) == [[address] for address in reversed(endpoints(fabric, family))]
    check_mtu(containers, mtu)


@pytest.mark.parametrize("mtu", [1400, LEAST_OF_IPV6 - 1])
def test_a_smaller_mtu_is_honoured(make_fabric: MakeFabric, mtu: int) -> None:
    """Also one at which the kernel has no IPv6 on a device any more: the network is IPv4."""
    fabric = make_fabric(2)
    fabric.configure()
    fabric.create("net1", *SUBNET, "--opt", f"mtu={mtu}")
    check_mtu(fabric.run("net1"), mtu)


def test_a_smaller_mtu_of_the_whole_fabric_is_honoured(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    fabric.configure(mtu=1300)
    fabric.create("net1", *SUBNET)
    check_mtu(fabric.run("net1"), 1300)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_an_mtu_that_does_not_fit_is_refused(make_fabric: MakeFabric, family: str) -> None:
    fabric = make_fabric(2)
    fabric.configure(endpoints(fabric, family))
    highest = 1500 - OVERHEAD[family]

    create = ("podman", "network", "create", "-d", "geneve-ovs", *SUBNET, "--opt")
    said = refusal(fabric.hosts[0], *create, f"mtu={highest + 1}", "net1")
    assert f"mtu={highest + 1}" in said
    assert f"leaves {highest} inside" in said
    fabric.hosts[0].run(*create, f"mtu={highest}", "net1")


def check_mtu(containers: Sequence[Container], mtu: int) -> None:
    """Every device on the way has this MTU, a packet of that size passes with DF, and one byte more does not."""
    for container in containers:
        assert container.link()["mtu"] == mtu
        assert device(container.host, "ovs_net1") == mtu
        assert [device(container.host, name) for name in veths(container.host)] == [mtu]
    for one, other in pairs(containers):
        assert one.ping(other.address, "-M", "do", "-s", str(mtu - HEADERS)), f"{one.name}: {mtu} bytes"
        ping = ("ping", "-n", "-c1", "-W2", "-M", "do", "-s", str(mtu - HEADERS + 1), other.address)
        tried = one.host.netns_run(one.name, *ping, check=False)
        assert tried.returncode != 0
        assert "message too long" in (tried.stdout + tried.stderr).lower()


def endpoints(fabric: Fabric, family: str) -> list[str]:
    return [host.address if family == "IPv4" else host.address6 for host in fabric.hosts]


def remotes(fabric: Fabric) -> list[list[str]]:
    """Where the tunnels of each host lead to."""
    find = ("ovs-vsctl", "--format=json", "--columns=options", "find", "Interface", "type=geneve")
    rows = fabric.each(lambda host: json.loads(host.run(*find).stdout)["data"])
    return [[dict(options[1])["remote_ip"] for (options,) in host_rows] for host_rows in rows]


def veths(host: Host) -> list[str]:
    """The host's ends of its containers' interfaces."""
    shown = json.loads(host.run("ip", "-json", "link", "show", "type", "veth").stdout)
    return [link["ifname"] for link in shown if link["ifname"] != "underlay"]


def device(host: Host, name: str) -> int:
    return int(json.loads(host.run("ip", "-json", "link", "show", "dev", name).stdout)[0]["mtu"])
