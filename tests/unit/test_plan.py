# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve import naming, tags
from netavark_geneve.addresses import slice_range
from netavark_geneve.model import Network, Route
from netavark_geneve.options import Options
from netavark_geneve.plan import plan_attach

from .makers import (
    CONTAINER_ID,
    HOST_1,
    HOST_2,
    HOSTS,
    NETWORK_ID,
    container,
    created,
    dual_stack,
    facts,
    mesh,
    network,
    network_names,
    planned,
    port,
    refused,
    subnet,
    with_router,
)


def test_bridge_has_the_gateway_of_this_host_and_its_mac() -> None:
    bridge = planned().bridge
    assert bridge.name == "ovs_net1"
    assert bridge.addresses == (ip_interface("192.168.120.1/24"),)
    assert bridge.hwaddr == "0a:58:c0:a8:78:01"
    assert (bridge.mtu, bridge.vni, bridge.datapath_type) == (1450, naming.vni("net1"), "")


def test_bridge_of_the_second_host_has_a_gateway_and_a_mac_of_its_own() -> None:
    second = mesh(own=HOST_2)
    on = created(on=facts(second), slots="2")
    bridge = planned(on, container("192.168.120.130"), place=second).bridge
    assert bridge.addresses == (ip_interface("192.168.120.129/24"),)
    assert bridge.hwaddr == "0a:58:c0:a8:78:81"


def test_bridge_of_an_internal_network_has_no_address_and_a_mac_by_host() -> None:
    on = created(network(internal=True))
    first, second = (
        planned(on).bridge,
        planned(replace(on, options={**on.options, "slot": "2"}), place=mesh(own=HOST_2)).bridge,
    )
    assert first.addresses == second.addresses == ()
    assert first.hwaddr != second.hwaddr


def test_bridge_leaves_a_gateway_of_others_alone() -> None:
    assert planned(with_router()).bridge.addresses == ()


def test_bridge_is_tagged_as_the_networks() -> None:
    on = created(vni="7")
    assert planned(on).bridge.tags == {
        "owner": "geneve-ovs",
        "network-id": NETWORK_ID,
        "network-name": "net1",
        "vni": "7",
    }


def test_tunnels_lead_to_the_peers_with_key_and_port() -> None:
    (tunnel,) = planned(created(vni="7", dst_port="6082")).tunnels
    assert (tunnel.local, tunnel.remote, tunnel.vni, tunnel.dst_port) == (HOST_1, HOST_2, 7, 6082)
    assert tunnel.tags["network-id"] == NETWORK_ID


def test_tunnel_has_the_port_that_iana_assigned_unless_told() -> None:
    on = created()
    options = {key: value for key, value in on.options.items() if key != "dst_port"}
    assert planned(replace(on, options=options)).tunnels[0].dst_port == 6081


def test_network_of_this_host_alone_has_no_tunnels() -> None:
    assert planned(created(on=facts())).tunnels == ()


def test_veth_has_address_mac_and_mtu_and_says_whose_it_is() -> None:
    veth = planned().veth
    assert veth.name == naming.veth(NETWORK_ID, CONTAINER_ID, "eth0", "1")
    assert veth.name.startswith(veth.stem)
    assert veth.interface == "eth0"
    assert veth.addresses == (ip_interface("192.168.120.2/24"),)
    assert (veth.mac, veth.mtu) == ("0a:58:c0:a8:78:02", 1450)
    assert veth.alias == f"geneve-ovs net1 web {CONTAINER_ID[:12]} eth0"


def test_port_is_found_again_by_its_tags_and_says_all_that_is_needed_to_make_it_again() -> None:
    who = container(aliases=("www",), ports=(port(),))
    found = planned(who=who).port_tags
    assert naming.container_tags(NETWORK_ID, CONTAINER_ID, "eth0").items() <= found.items()
    assert (found["network-name"], found["boot-id"]) == ("net1", "boot")
    assert tags.container(found) == who


def test_addresses_that_repeat_are_given_once() -> None:
    assert planned(who=container("192.168.120.2", "192.168.120.2")).veth.addresses == (
        ip_interface("192.168.120.2/24"),
    )


def test_each_address_has_the_prefix_of_its_own_subnet() -> None:
    veth = planned(dual_stack(), container("fd00:120::2", "192.168.120.2")).veth
    assert veth.addresses == (ip_interface("fd00:120::2/64"), ip_interface("192.168.120.2/24"))


@pytest.mark.parametrize("order", [("fd00:120::2", "192.168.120.2"), ("192.168.120.2", "fd00:120::2")])
def test_mac_comes_from_the_ipv4_address_whatever_the_order(order: tuple[str, str]) -> None:
    assert planned(dual_stack(), container(*order)).veth.mac == "0a:58:c0:a8:78:02"


@pytest.mark.parametrize(
    ("on", "own", "ipv6"),
    [(created(), "192.168.120.2", False), (dual_stack(), "192.168.120.2", True), (dual_stack(), "fd00:120::2", True)],
    ids=["IPv4 network", "dual-stack network, IPv4 address", "dual-stack network, IPv6 address"],
)
def test_container_has_ipv6_when_the_network_has(on: Network, own: str, ipv6: bool) -> None:
    assert planned(on, container(own)).veth.ipv6 is ipv6


@pytest.mark.parametrize(("datapath_type", "offload"), [("", True), ("system", True), ("netdev", False)])
def test_userspace_datapath_does_without_checksum_offload(datapath_type: str, offload: bool) -> None:
    made = planned(created(datapath_type=datapath_type))
    assert made.veth.checksum_offload is offload
    assert made.bridge.datapath_type == ("netdev" if datapath_type == "netdev" else "")


def test_gateway_of_this_host_is_the_default_route() -> None:
    assert planned().veth.routes == (Route(ip_network("0.0.0.0/0"), ip_address("192.168.120.1")),)


@pytest.mark.parametrize("dns_enabled", [False, True])
def test_internal_network_has_no_default_route(dns_enabled: bool) -> None:
    assert planned(created(network(internal=True, dns_enabled=dns_enabled))).veth.routes == ()


def test_default_route_has_the_metric_that_the_user_chose() -> None:
    (route,) = planned(created(metric="7")).veth.routes
    assert route.metric == 7


@pytest.mark.parametrize("flag", ["true", "1"])
def test_default_route_may_be_left_out(flag: str) -> None:
    assert planned(created(no_default_route=flag)).veth.routes == ()


def test_gateway_that_is_a_router_is_the_default_route() -> None:
    (route,) = planned(with_router()).veth.routes
    assert route == Route(ip_network("0.0.0.0/0"), ip_address("192.168.120.254"))


def test_ipv6_gateway_that_is_a_router_is_the_ipv6_default_route() -> None:
    (route,) = planned(
        created(network(subnet("fd00::/64", gateway="fd00::ffff:0:0:1"))), container("fd00::2")
    ).veth.routes
    assert route == Route(ip_network("::/0"), ip_address("fd00::ffff:0:0:1"))


USERS = Route(ip_network("10.0.0.0/8"), ip_address("192.168.120.9"), 50)
NOWHERE = Route(ip_network("10.1.0.0/16"), None, kind="blackhole")


def test_routes_of_the_user_are_kept() -> None:
    assert planned(created(network(routes=(USERS, NOWHERE)))).veth.routes[1:] == (USERS, NOWHERE)


@pytest.mark.parametrize("internal", [False, True])
def test_routes_of_the_user_need_no_default_route(internal: bool) -> None:
    on = created(network(routes=(USERS, NOWHERE), internal=internal), no_default_route="true")
    assert planned(on).veth.routes == (USERS, NOWHERE)


@pytest.mark.parametrize(
    ("given", "mac"), [("02:00:00:12:34:56", "02:00:00:12:34:56"), ("0A:58:C0:A8:78:FF", "0a:58:c0:a8:78:ff")]
)
def test_mac_of_the_user_wins(given: str, mac: str) -> None:
    assert planned(who=container(mac=given)).veth.mac == mac


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
        planned(who=container(mac=mac))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interface": "x" * 16}, ("interface name", "x" * 16)),
        ({"interface": "a/b"}, ("interface name", "'a/b'")),
        ({"interface": "lo"}, ("interface name", "'lo'")),
        ({"options": {"mode": "x"}}, ("'mode'", "--network net1:", "host_interface_name, vlan")),
        ({"options": {"vlan": "4095"}}, ("vlan=4095",)),
        ({"options": {"host_interface_name": "a/b"}}, ("host_interface_name=a/b",)),
        ({"addresses": ()}, ("no address", "net1")),
        ({"addresses": (ip_address("10.0.0.1"),)}, ("10.0.0.1", "net1", "192.168.120.0/24")),
        ({"addresses": (ip_address("fd00::1"),)}, ("fd00::1", "net1", "192.168.120.0/24")),
    ],
    ids=[
        "long interface",
        "interface with a slash",
        "loopback",
        "unknown option",
        "vlan out of range",
        "host's interface with a slash",
        "no address",
        "address outside",
        "other family",
    ],
)
def test_what_the_container_may_not_ask_for_is_refused(changes: dict[str, object], words: tuple[str, ...]) -> None:
    with refused(*words):
        planned(who=replace(container(), **changes))  # type: ignore[arg-type]


VETH = naming.veth(NETWORK_ID, CONTAINER_ID, "eth0", "1")


@pytest.mark.parametrize(
    ("of_network", "of_container", "name", "vlan"),
    [
        ({}, {}, VETH, 0),
        ({"vlan": "0"}, {}, VETH, 0),
        ({"vlan": "7"}, {}, VETH, 7),
        ({"vlan": "7"}, {"vlan": "8"}, VETH, 8),
        ({"vlan": "7"}, {"vlan": "0"}, VETH, 0),
        ({}, {"host_interface_name": "web0", "vlan": "4094"}, "web0", 4094),
    ],
    ids=["none", "network's: untagged", "network's", "own wins", "own: untagged", "name and own"],
)
def test_port_has_the_vlan_of_the_network_and_the_container_may_have_its_own(
    of_network: dict[str, str], of_container: dict[str, str], name: str, vlan: int
) -> None:
    veth = planned(created(options=of_network), container(options=of_container)).veth
    assert (veth.name, veth.vlan) == (name, vlan)


@pytest.mark.parametrize(
    ("of_network", "of_container", "mtu"),
    [({}, {}, 1450), ({"vlan": "7"}, {"vlan": "8"}, 1446), ({}, {"vlan": "8"}, 1446), ({}, {"vlan": "0"}, 1450)],
)
def test_tag_has_its_place_in_the_tunnel(of_network: dict[str, str], of_container: dict[str, str], mtu: int) -> None:
    assert planned(created(options=of_network), container(options=of_container)).veth.mtu == mtu


def test_gateway_of_another_host_is_refused_also_while_it_has_no_container() -> None:
    on = created(options={"allow_foreign_ip": "true"})
    with refused("192.168.120.33 is the gateway of another host's slice"):
        planned(on, container("192.168.120.33"))
    assert planned(on, container("192.168.120.34")).veth.addresses


@pytest.mark.parametrize("gateway", ["192.168.120.5", "192.168.120.200"], ids=["here", "a router"])
def test_gateway_that_the_user_chose_leaves_the_first_addresses_to_containers(gateway: str) -> None:
    on = created(network(subnet("192.168.120.0/24", gateway=gateway)), options={"allow_foreign_ip": "true"})
    assert planned(on, container("192.168.120.1")).veth.addresses
    assert planned(on, container("192.168.120.33")).veth.addresses


@pytest.mark.parametrize(("options", "vlan", "vrf"), [({}, 0, None), ({"vlan": "7", "vrf": "red"}, 7, "red")])
def test_bridge_has_the_vlan_and_the_vrf_of_the_network(options: dict[str, str], vlan: int, vrf: str | None) -> None:
    bridge = planned(created(options=options), container(options={"vlan": "9"})).bridge
    assert (bridge.managed, bridge.vlan, bridge.vrf) == (True, vlan, vrf)


def unmanaged(**fields: object) -> Network:
    return created(replace(network(bridge="br-ex"), **fields), mode="unmanaged")  # type: ignore[arg-type]


def test_bridge_that_is_the_users_gets_neither_gateway_nor_tunnels() -> None:
    made = planned(unmanaged())
    assert (made.bridge.name, made.bridge.managed, made.bridge.addresses) == ("br-ex", False, ())
    assert made.tunnels == ()
    assert made.veth.addresses == (ip_interface("192.168.120.2/24"),)
    assert [str(route.gateway) for route in made.veth.routes] == ["192.168.120.1"]


def test_bridge_that_is_the_users_needs_no_vni() -> None:
    on = unmanaged()
    assert "vni" not in on.options
    assert planned(on).bridge.vni == 0


def test_layer_2_only_container_has_neither_address_nor_route_but_a_mac_of_its_own() -> None:
    on = created(replace(network(ipam_driver="none"), subnets=()))
    one, other = (planned(on, container(addresses=(), id=digit * 64)).veth for digit in "12")
    assert one.addresses == one.routes == ()
    assert one.mac != other.mac
    assert {int(veth.mac[:2], 16) & 0b11 for veth in (one, other)} == {0b10}


def test_layer_2_only_container_takes_no_address() -> None:
    with refused("192.168.120.2", "net1", "(none)"):
        planned(created(replace(network(ipam_driver="none"), subnets=())))


@pytest.mark.parametrize("own", ["192.168.120.31", "192.168.120.34", "192.168.120.254"])
def test_address_outside_this_hosts_share_is_refused_since_it_may_be_anothers(own: str) -> None:
    with refused(own, "192.168.120.1-192.168.120.30", "net1", "--ip", "allow_foreign_ip=true"):
        planned(who=container(own))


def test_address_outside_the_range_that_the_user_chose_is_refused_too() -> None:
    with refused("192.168.120.21", "192.168.120.1-192.168.120.20"):
        planned(
            created(network(subnet("192.168.120.0/24", leases="192.168.120.1-192.168.120.20"))),
            container("192.168.120.21"),
        )


@pytest.mark.parametrize(
    "on",
    [
        created(allow_foreign_ip="true"),
        created(network(subnet("192.168.120.0/24", leases="192.168.120.1-192.168.120.20")), on=facts()),
        created(on=facts(), slots="8"),
    ],
    ids=["allow_foreign_ip", "this host alone", "this host alone, with slots"],
)
def test_address_outside_the_share_is_welcome_where_it_cannot_be_anothers_or_the_user_says_so(on: Network) -> None:
    assert planned(on, container("192.168.120.34")).veth.addresses == (ip_interface("192.168.120.34/24"),)


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_gateway_is_no_containers_whatever_is_allowed(allowed: str) -> None:
    with refused("192.168.120.1 is the gateway"):
        planned(created(allow_foreign_ip=allowed), container("192.168.120.1"))


@pytest.mark.parametrize(
    ("on", "detects"),
    [
        (created(), True),
        (created(conflict_detection="true"), True),
        (created(conflict_detection="false"), False),
        (created(on=facts()), False),
    ],
    ids=["mesh", "asked for", "switched off", "this host alone"],
)
def test_conflicts_are_looked_for_where_other_hosts_are_unless_told(on: Network, detects: bool) -> None:
    assert planned(on).detect_conflicts is detects


@pytest.mark.parametrize("lacking", ["bridge", "vni", "mtu"])
def test_network_that_create_did_not_complete_is_refused(lacking: str) -> None:
    on = created()
    options = {key: value for key, value in on.options.items() if key != lacking}
    with refused("net1", "podman network create"):
        planned(replace(on, bridge=None) if lacking == "bridge" else replace(on, options=options))


def test_host_that_moved_within_hosts_is_refused_since_its_addresses_are_anothers() -> None:
    on = created(on=facts(mesh(HOSTS, own=HOST_1)))
    assert on.options["slot"] == "1"
    with refused(HOST_1, "number 2", "number 1", "net1", "'-'"):
        planned(on, place=mesh(f"{HOST_2},{HOST_1}", own=HOST_1))


def test_host_that_is_appended_becomes_a_peer_at_the_next_attach() -> None:
    made = planned(created(), place=mesh(f"{HOSTS},192.168.0.12"))
    assert [tunnel.remote for tunnel in made.tunnels] == [HOST_2, "192.168.0.12"]


def test_host_that_is_gone_leaves_the_others_where_they_were() -> None:
    on = created(on=facts(mesh(HOSTS, own=HOST_2)), hosts=HOSTS)
    assert planned(on, container("192.168.120.34"), place=mesh(f"-,{HOST_2}", own=HOST_2)).tunnels == ()


def test_more_hosts_than_slots_are_refused_at_attach_too() -> None:
    with refused("3 hosts", "net1", "2 slots"):
        planned(created(slots="2"), place=mesh(f"{HOSTS},192.168.0.12"))


def test_host_may_move_when_the_user_chose_the_range() -> None:
    on = created(network(subnet("192.168.120.0/24", leases="192.168.120.1-192.168.120.20")))
    assert planned(on, place=mesh(f"{HOST_2},{HOST_1}", own=HOST_1)).tunnels[0].remote == HOST_2


@pytest.mark.parametrize(
    ("address", "whose"),
    [("192.168.120.1", "gateway"), ("192.168.120.0", "network address"), ("192.168.120.255", "broadcast")],
)
def test_address_that_is_no_containers_is_refused(address: str, whose: str) -> None:
    with refused(address, whose, "--ip"):
        planned(who=container(addresses=(ip_address(address),)))


@given(network_names, st.integers(2, 126), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_any_plan_has_names_that_the_kernel_takes_and_macs_that_differ(name: str, last: int, container_id: str) -> None:
    on = created(network(name=name), slots="2")
    made = planned(on, container(f"192.168.120.{last}", id=container_id))
    names = [made.bridge.name, made.veth.name, *(tunnel.name for tunnel in made.tunnels)]
    assert all(naming.is_interface_name(each) for each in names)
    assert len(set(names)) == len(names)
    assert made.bridge.hwaddr != made.veth.mac
    assert {int(mac[:2], 16) & 0b11 for mac in (made.bridge.hwaddr, made.veth.mac)} == {0b10}


@given(st.integers(1, 254), st.sampled_from([1, 2, 4, 8, 16]), st.data())
def test_host_gives_out_exactly_the_addresses_of_its_own_slice(last: int, slots: int, data: st.DataObject) -> None:
    """What one host gives out no other one does: the slices are apart, see test_addresses.py."""
    number = data.draw(st.integers(1, slots))
    hosts = [f"192.168.0.{9 + each}" for each in range(1, slots + 1)]
    place = mesh(",".join(hosts), own=hosts[number - 1])
    on = created(on=facts(place), slots=str(slots))
    own = ip_address(f"192.168.120.{last}")
    share = slice_range(ip_network("192.168.120.0/24"), slots, number)
    if own in share and own != on.subnets[0].gateway:
        assert planned(on, container(str(own)), place=place).veth.addresses[0].ip == own
    else:
        with refused(str(own)):
            planned(on, container(str(own)), place=place)


def test_plan_needs_no_options_but_vni_and_mtu() -> None:
    on = replace(created(), options={})
    made = plan_attach(on, Options(vni=7, mtu=1400), None, container(), boot_id="boot", attempt="1", dns_port=53)
    assert (made.bridge.vni, made.veth.mtu, made.veth.checksum_offload) == (7, 1400, True)
