"""links.py against the real kernel."""

import ipaddress
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from netavark_geneve import interior, links
from netavark_geneve.errors import GeneveError
from netavark_geneve.model import Route, Veth

from .conftest import NETNS, ip, make_plan

IPV6 = ipaddress.ip_interface("fd00:120::2/64")
MLD_REPEATS = 2.5  # seconds; a report comes within one, and again within one more (RFC 3810 §9.11)


def plug(veth: Veth) -> None:
    with links.namespace(NETNS) as netns:
        links.create_veth(veth, netns)
        with links.inside(netns):
            interior.prepare(veth)
        links.connect_veth(veth)
        with links.inside(netns):
            links.address_container(veth)


def inside(*arguments: str) -> str:
    command = ("ip", "netns", "exec", "sandbox", *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_container_gets_what_was_planned() -> None:
    veth = make_plan().veth
    plug(veth)

    (link,) = ip("-n", "sandbox", "address", "show", "eth1")
    assert (link["address"], link["mtu"], link["operstate"]) == (veth.mac, 1450, "UP")
    (address,) = link["addr_info"]
    assert (address["local"], address["prefixlen"], address["broadcast"]) == ("192.168.120.2", 24, "192.168.120.255")
    links.remove_link(veth.name)


def test_the_host_side_is_quiet_and_says_whose_it_is() -> None:
    veth = make_plan().veth
    plug(veth)

    (link,) = ip("link", "show", veth.name)
    (addresses,) = ip("address", "show", veth.name)
    assert link["inet6_addr_gen_mode"] == "none"
    assert addresses["addr_info"] == []
    assert link["ifalias"] == veth.alias
    links.remove_link(veth.name)


def test_without_ipv6_in_the_network_there_is_none_in_the_container() -> None:
    veth = make_plan().veth
    plug(veth)

    assert inside("cat", "/proc/sys/net/ipv6/conf/eth1/disable_ipv6").strip() == "1"
    links.remove_link(veth.name)


def test_an_ipv6_address_is_usable_at_once() -> None:
    veth = replace(make_plan().veth, addresses=(IPV6,), routes=(), ipv6=True)
    plug(veth)

    (link,) = ip("-n", "sandbox", "-6", "address", "show", "eth1")
    (address,) = (address for address in link["addr_info"] if address["scope"] == "global")
    assert address["local"] == "fd00:120::2"
    assert not any("tentative" in address for address in link["addr_info"])
    assert inside("cat", "/proc/sys/net/ipv6/conf/eth1/accept_ra").strip() == "0"
    links.remove_link(veth.name)


@pytest.mark.parametrize(("offload", "shown"), [(False, "off"), (True, "on")])
def test_checksum_offload_is_off_only_where_the_datapath_needs_it(offload: bool, shown: str) -> None:
    veth = replace(make_plan().veth, checksum_offload=offload)
    plug(veth)

    assert f"tx-checksumming: {shown}" in inside("ethtool", "-k", "eth1")
    links.remove_link(veth.name)


def test_routes_are_set_with_their_metric() -> None:
    gateway = ipaddress.ip_address("192.168.120.1")
    routes = (
        Route(ipaddress.ip_network("10.9.0.0/16"), gateway),
        Route(ipaddress.ip_network("10.8.0.0/16"), gateway, metric=7),
    )
    veth = replace(make_plan().veth, routes=routes)
    plug(veth)

    found = {route["dst"]: route.get("metric") for route in ip("-n", "sandbox", "route", "show", "via", str(gateway))}
    assert found == {"10.9.0.0/16": 100, "10.8.0.0/16": 7}
    links.remove_link(veth.name)


def test_a_pair_that_a_killed_attempt_left_is_replaced() -> None:
    veth, again = make_plan().veth, make_plan().veth
    plug(veth)
    plug(again)

    assert links.find_link(veth.name) is None
    assert links.find_link(again.name) is not None
    links.remove_link(again.name)


@pytest.mark.parametrize("name", [None, "web0"], ids=["our name", "a name of the user's"])
def test_a_pair_that_was_left_before_it_had_its_alias_is_replaced(name: str | None) -> None:
    """Whoever made it was killed between the two messages."""
    again = replace(make_plan().veth, name=name or make_plan().veth.name)
    left = again.stem if name else make_plan().veth.name
    ip("link", "add", left, "type", "veth", "peer", "eth1", "netns", "sandbox")

    plug(again)

    assert links.find_link(left) is None
    assert links.find_link(again.name) is not None
    assert not links.remove_left("another's", again.stem)  # it has its alias now
    links.remove_link(again.name)


def test_a_pair_without_an_alias_is_found_by_the_stem_of_its_name() -> None:
    veth = make_plan().veth
    ip("link", "add", veth.name, "type", "veth", "peer", "eth1", "netns", "sandbox")

    assert links.remove_left(veth.alias, veth.stem)

    assert links.find_link(veth.name) is None


def test_an_interface_name_that_the_host_has_too_is_the_containers_own() -> None:
    """As eth0 is on many a host; kernels before Linux 6.15 may look for it there."""
    veth = make_plan().veth
    subprocess.run(["ip", "link", "add", veth.interface, "type", "bridge"], check=True)
    try:
        plug(veth)
        (link,) = ip("-n", "sandbox", "link", "show", veth.interface)
        (hosts,) = ip("link", "show", veth.interface)
    finally:
        subprocess.run(["ip", "link", "delete", veth.interface], check=True)

    assert link["address"] == veth.mac
    assert hosts["address"] != veth.mac
    links.remove_link(veth.name)


def test_an_interface_name_that_the_container_has_already_is_an_error() -> None:
    veth = make_plan().veth
    plug(veth)
    with pytest.raises(GeneveError, match=r"veth pair other and eth1: .*taken"):
        plug(replace(veth, name="other", alias="another container's"))

    assert links.find_link("other") is None
    links.remove_link(veth.name)


def test_removing_what_is_gone_is_fine() -> None:
    links.remove_link("nosuchlink")
    assert not links.remove_left("geneve-ovs nosuchnetwork c1 container-1 eth1", "vethnosuch")


def test_a_pair_of_which_the_database_knows_nothing_is_found_by_its_alias() -> None:
    veth, other = make_plan(1).veth, make_plan(2).veth
    plug(veth)
    plug(other)  # in the same namespace: a container on two networks, with two default routes

    assert links.remove_left(veth.alias, veth.stem)
    assert links.find_link(veth.name) is None
    assert links.find_link(other.name) is not None
    links.remove_link(other.name)


def test_a_namespace_that_is_gone_is_an_error_and_is_not_made() -> None:
    with (
        pytest.raises(GeneveError, match="/run/netns/gone: No such file or directory"),
        links.namespace("/run/netns/gone"),
    ):
        pass

    assert not Path("/run/netns/gone").exists()


def test_the_thread_is_back_home_after_a_failure_inside() -> None:
    home = Path("/proc/thread-self/ns/net").readlink()
    with links.namespace(NETNS) as netns:
        with pytest.raises(ZeroDivisionError), links.inside(netns):  # noqa: PT012 - both lines belong inside
            assert Path("/proc/thread-self/ns/net").readlink() != home
            raise ZeroDivisionError
        assert Path("/proc/thread-self/ns/net").readlink() == home


def test_a_bridge_that_is_configured_again_keeps_quiet() -> None:
    """With a thousand ports each frame of it costs ovs-vswitchd's main thread tens of milliseconds."""
    ip("link", "add", "quiet", "type", "veth", "peer", "name", "other")
    ip("link", "set", "other", "up")
    try:
        gateways = tuple(map(ipaddress.ip_interface, ("192.168.120.1/24", "fd00:120::1/64")))
        bridge = replace(make_plan().bridge, name="quiet", addresses=gateways)
        links.configure_bridge(bridge)
        time.sleep(MLD_REPEATS)
        before = count_reports("quiet")
        links.configure_bridge(bridge)
        time.sleep(MLD_REPEATS)
        assert before > 0
        assert count_reports("quiet") == before
        shown = {info["local"] for info in ip("address", "show", "dev", "quiet")[0]["addr_info"]}
        assert {"192.168.120.1", "fd00:120::1"} < shown
    finally:
        ip("link", "delete", "quiet")


def count_reports(interface: str) -> int:
    """MLDv2 reports (RFC 3810 §5.2) that the interface has sent."""
    counters = Path("/proc/net/dev_snmp6", interface).read_text(encoding="ascii")
    return int(dict(line.split() for line in counters.splitlines())["Icmp6OutMLDv2Reports"])
