# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve import naming
from netavark_geneve.fabric.mesh import Mesh
from netavark_geneve.model import AttachPlan, Container, Egress, Network, Route
from netavark_geneve.options import Options, parse
from netavark_geneve.plan import attach_result, plan_attach

from .makers import (
    CONTAINER_ID,
    HOST_1,
    HOST_2,
    HOSTS,
    NETWORK_ID,
    container,
    created,
    facts,
    mesh,
    network,
    network_names,
    refused,
    subnet,
)


def plan(on: Network | None = None, who: Container | None = None, *, place: Mesh | None = None) -> AttachPlan:
    """Attach on the first of two hosts unless told."""
    on, place = on or created(), place or mesh()
    return plan_attach(on, parse(on.options), place, who or container(), boot_id="boot", attempt="1")


def plan_alone(on: Network, who: Container | None = None) -> AttachPlan:
    return plan_attach(on, parse(on.options), None, who or container(), boot_id="boot", attempt="1")


def routed() -> Network:
    """A network whose gateway is a router outside every host's range."""
    return created(network(subnet("192.168.120.0/24", gateway="192.168.120.254")))


def test_bridge_has_the_gateway_of_this_host_and_its_mac() -> None:
    bridge = plan().bridge
    assert bridge.name == "ovs_net1"
    assert bridge.addresses == (ip_interface("192.168.120.1/24"),)
    assert bridge.hwaddr == "0a:58:c0:a8:78:01"
    assert (bridge.mtu, bridge.vni, bridge.datapath_type) == (1450, naming.vni("net1"), "")


def test_bridge_of_the_second_host_has_a_gateway_and_a_mac_of_its_own() -> None:
    second = mesh(own=HOST_2)
    on = created(on=facts(second), slots="2")
    bridge = plan(on, container("192.168.120.130"), place=second).bridge
    assert bridge.addresses == (ip_interface("192.168.120.129/24"),)
    assert bridge.hwaddr == "0a:58:c0:a8:78:81"


def test_bridge_of_an_internal_network_has_no_address_and_a_mac_by_host() -> None:
    on = created(network(internal=True))
    first, second = (
        plan(on).bridge,
        plan(replace(on, options={**on.options, "slot": "2"}), place=mesh(own=HOST_2)).bridge,
    )
    assert first.addresses == second.addresses == ()
    assert first.hwaddr != second.hwaddr


def test_bridge_leaves_a_gateway_of_others_alone() -> None:
    assert plan(routed()).bridge.addresses == ()


def test_bridge_is_tagged_as_the_networks() -> None:
    on = created(vni="7")
    assert plan(on).bridge.tags == {
        "owner": "geneve-ovs",
        "network-id": NETWORK_ID,
        "network-name": "net1",
        "vni": "7",
    }


def test_tunnels_lead_to_the_peers_with_key_and_port() -> None:
    (tunnel,) = plan(created(vni="7", dst_port="6082")).tunnels
    assert (tunnel.local, tunnel.remote, tunnel.vni, tunnel.dst_port) == (HOST_1, HOST_2, 7, 6082)
    assert tunnel.tags["network-id"] == NETWORK_ID


def test_tunnel_has_the_port_that_iana_assigned_unless_told() -> None:
    on = created()
    options = {key: value for key, value in on.options.items() if key != "dst_port"}
    assert plan(replace(on, options=options)).tunnels[0].dst_port == 6081


def test_network_of_this_host_alone_has_no_tunnels() -> None:
    assert plan_alone(created(on=facts())).tunnels == ()


def test_veth_has_address_mac_and_mtu_and_says_whose_it_is() -> None:
    veth = plan().veth
    assert veth.name == naming.veth(NETWORK_ID, CONTAINER_ID, "eth0", "1")
    assert veth.interface == "eth0"
    assert veth.addresses == (ip_interface("192.168.120.2/24"),)
    assert (veth.mac, veth.mtu) == ("0a:58:c0:a8:78:02", 1450)
    assert veth.alias == f"geneve-ovs net1 web {CONTAINER_ID[:12]} eth0"


def test_port_is_found_again_by_its_tags() -> None:
    tags = plan().port_tags
    assert naming.container_tags(NETWORK_ID, CONTAINER_ID, "eth0").items() <= tags.items()
    assert (
        tags.items()
        >= {
            "network-name": "net1",
            "container-name": "web",
            "addresses": "192.168.120.2",
            "boot-id": "boot",
        }.items()
    )


def test_addresses_that_repeat_are_given_once() -> None:
    assert plan(who=container("192.168.120.2", "192.168.120.2")).veth.addresses == (ip_interface("192.168.120.2/24"),)


def dual_stack() -> Network:
    return created(network("192.168.120.0/24", "fd00:120::/64"))


def test_each_address_has_the_prefix_of_its_own_subnet() -> None:
    veth = plan(dual_stack(), container("fd00:120::2", "192.168.120.2")).veth
    assert veth.addresses == (ip_interface("fd00:120::2/64"), ip_interface("192.168.120.2/24"))


@pytest.mark.parametrize("order", [("fd00:120::2", "192.168.120.2"), ("192.168.120.2", "fd00:120::2")])
def test_mac_comes_from_the_ipv4_address_whatever_the_order(order: tuple[str, str]) -> None:
    assert plan(dual_stack(), container(*order)).veth.mac == "0a:58:c0:a8:78:02"


@pytest.mark.parametrize(
    ("on", "own", "ipv6"),
    [(created(), "192.168.120.2", False), (dual_stack(), "192.168.120.2", True), (dual_stack(), "fd00:120::2", True)],
    ids=["IPv4 network", "dual-stack network, IPv4 address", "dual-stack network, IPv6 address"],
)
def test_container_has_ipv6_when_the_network_has(on: Network, own: str, ipv6: bool) -> None:
    assert plan(on, container(own)).veth.ipv6 is ipv6


@pytest.mark.parametrize(("datapath_type", "offload"), [("", True), ("system", True), ("netdev", False)])
def test_userspace_datapath_does_without_checksum_offload(datapath_type: str, offload: bool) -> None:
    made = plan(created(datapath_type=datapath_type))
    assert made.veth.checksum_offload is offload
    assert made.bridge.datapath_type == ("netdev" if datapath_type == "netdev" else "")


def test_gateway_of_this_host_is_the_default_route_and_the_way_out() -> None:
    made = plan()
    assert made.veth.routes == (Route(ip_network("0.0.0.0/0"), ip_address("192.168.120.1")),)
    assert made.egress == Egress("ovs_net1", ((ip_network("192.168.120.0/24"), None),))


def test_internal_network_has_no_way_out() -> None:
    made = plan(created(network(internal=True)))
    assert (made.veth.routes, made.egress.subnets) == ((), ())


def test_default_route_has_the_metric_that_the_user_chose() -> None:
    (route,) = plan(created(metric="7")).veth.routes
    assert route.metric == 7


@pytest.mark.parametrize("flag", ["true", "1"])
def test_default_route_may_be_left_out(flag: str) -> None:
    made = plan(created(no_default_route=flag))
    assert made.veth.routes == ()
    assert made.egress.subnets != ()


def test_packets_leave_under_the_address_that_the_user_chose() -> None:
    on = created(network("192.168.120.0/24", "fd00::/64"), outbound_addr4="192.168.0.10", outbound_addr6="fd01::1")
    assert [source for _, source in plan(on).egress.subnets] == [ip_address("192.168.0.10"), ip_address("fd01::1")]


def test_gateway_that_is_a_router_is_the_default_route_and_this_host_is_no_way_out() -> None:
    assert plan(routed()).egress.subnets == ()
    (route,) = plan(routed()).veth.routes
    assert route == Route(ip_network("0.0.0.0/0"), ip_address("192.168.120.254"))


def test_ipv6_gateway_that_is_a_router_is_the_ipv6_default_route() -> None:
    (route,) = plan(created(network(subnet("fd00::/64", gateway="fd00::ffff:0:0:1"))), container("fd00::2")).veth.routes
    assert route == Route(ip_network("::/0"), ip_address("fd00::ffff:0:0:1"))


def test_routes_of_the_user_are_kept() -> None:
    route = Route(ip_network("10.0.0.0/8"), ip_address("192.168.120.9"), 50)
    assert plan(created(network(routes=(route,)))).veth.routes[1:] == (route,)


@pytest.mark.parametrize(
    ("given", "mac"), [("02:00:00:12:34:56", "02:00:00:12:34:56"), ("0A:58:C0:A8:78:FF", "0a:58:c0:a8:78:ff")]
)
def test_mac_of_the_user_wins(given: str, mac: str) -> None:
    assert plan(who=container(mac=given)).veth.mac == mac


@pytest.mark.parametrize(
    "mac",
    [
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02:00:00:12:34",
        "02:00:00:12:34:56:78",
        "02-00-00-12-34-56",
        "02:00:00:12:34:5g",
        "web",
    ],
)
def test_mac_that_no_interface_may_have_is_refused(mac: str) -> None:
    with refused("--mac-address", repr(mac)):
        plan(who=container(mac=mac))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interface": "x" * 16}, ("interface name", "x" * 16)),
        ({"interface": "a/b"}, ("interface name", "'a/b'")),
        ({"interface": "lo"}, ("interface name", "'lo'")),
        ({"options": {"vlan": "5", "host_interface_name": "x"}}, ("host_interface_name, vlan", "net1")),
        ({"published_ports": 1}, ("-p/--publish", "net1")),
        ({"addresses": ()}, ("no address", "net1")),
        ({"addresses": (ip_address("10.0.0.1"),)}, ("10.0.0.1", "net1", "192.168.120.0/24")),
        ({"addresses": (ip_address("fd00::1"),)}, ("fd00::1", "net1", "192.168.120.0/24")),
    ],
    ids=[
        "long interface",
        "interface with a slash",
        "loopback",
        "options",
        "ports",
        "no address",
        "address outside",
        "other family",
    ],
)
def test_what_the_container_may_not_ask_for_is_refused(changes: dict[str, object], words: tuple[str, ...]) -> None:
    with refused(*words):
        plan(who=replace(container(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("lacking", ["bridge", "vni", "mtu"])
def test_network_that_create_did_not_complete_is_refused(lacking: str) -> None:
    on = created()
    options = {key: value for key, value in on.options.items() if key != lacking}
    with refused("net1", "podman network create"):
        plan(replace(on, bridge=None) if lacking == "bridge" else replace(on, options=options))


def test_host_that_moved_within_hosts_is_refused_since_its_addresses_are_anothers() -> None:
    on = created(on=facts(mesh(HOSTS, own=HOST_1)))
    assert on.options["slot"] == "1"
    with refused(HOST_1, "number 2", "number 1", "net1", "'-'"):
        plan(on, place=mesh(f"{HOST_2},{HOST_1}", own=HOST_1))


def test_host_that_is_appended_becomes_a_peer_at_the_next_attach() -> None:
    made = plan(created(), place=mesh(f"{HOSTS},192.168.0.12"))
    assert [tunnel.remote for tunnel in made.tunnels] == [HOST_2, "192.168.0.12"]


def test_host_that_is_gone_leaves_the_others_where_they_were() -> None:
    on = created(on=facts(mesh(HOSTS, own=HOST_2)), hosts=HOSTS)
    assert plan(on, container("192.168.120.34"), place=mesh(f"-,{HOST_2}", own=HOST_2)).tunnels == ()


def test_more_hosts_than_slots_are_refused_at_attach_too() -> None:
    with refused("3 hosts", "net1", "2 slots"):
        plan(created(slots="2"), place=mesh(f"{HOSTS},192.168.0.12"))


def test_host_may_move_when_the_user_chose_the_range() -> None:
    on = created(network(subnet("192.168.120.0/24", leases="192.168.120.1-192.168.120.20")))
    assert plan(on, place=mesh(f"{HOST_2},{HOST_1}", own=HOST_1)).tunnels[0].remote == HOST_2


@pytest.mark.parametrize(
    ("address", "whose"),
    [("192.168.120.1", "gateway"), ("192.168.120.0", "network address"), ("192.168.120.255", "broadcast")],
)
def test_address_that_is_no_containers_is_refused(address: str, whose: str) -> None:
    with refused(address, whose, "--ip"):
        plan(who=container(addresses=(ip_address(address),)))


def test_answer_tells_interface_mac_address_and_gateway() -> None:
    on = created()
    result = attach_result(on, plan(on))
    assert (result.interface, result.mac) == ("eth0", "0a:58:c0:a8:78:02")
    assert result.addresses == ((ip_interface("192.168.120.2/24"), ip_address("192.168.120.1")),)


def test_answer_has_the_gateway_of_each_addresss_own_subnet() -> None:
    on = dual_stack()
    result = attach_result(on, plan(on, container("fd00:120::2", "192.168.120.2")))
    assert [str(gateway) for _, gateway in result.addresses] == ["fd00:120::1", "192.168.120.1"]


def test_answer_of_an_internal_network_has_no_gateway() -> None:
    on = created(network(internal=True))
    assert attach_result(on, plan(on)).addresses == ((ip_interface("192.168.120.2/24"), None),)


@given(network_names, st.integers(2, 254), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_any_plan_has_names_that_the_kernel_takes_and_macs_that_differ(name: str, last: int, container_id: str) -> None:
    on = created(network(name=name), slots="2")
    made = plan(on, container(f"192.168.120.{last}", id=container_id))
    names = [made.bridge.name, made.veth.name, *(tunnel.name for tunnel in made.tunnels)]
    assert all(naming.is_interface_name(each) for each in names)
    assert len(set(names)) == len(names)
    assert made.bridge.hwaddr != made.veth.mac
    assert {int(mac[:2], 16) & 0b11 for mac in (made.bridge.hwaddr, made.veth.mac)} == {0b10}


def test_plan_needs_no_options_but_vni_and_mtu() -> None:
    on = replace(created(), options={})
    made = plan_attach(on, Options(vni=7, mtu=1400), None, container(), boot_id="boot", attempt="1")
    assert (made.bridge.vni, made.veth.mtu, made.veth.checksum_offload) == (7, 1400, True)
