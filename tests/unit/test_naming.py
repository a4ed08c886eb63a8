# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve import naming
from netavark_geneve.addresses import SLOTS_MAX, Address

from .makers import addresses, ids, network_names

vnis = st.integers(1, naming.VNI_MAX)


def is_unicast_and_local(mac: str) -> bool:
    octets = bytes.fromhex(mac.replace(":", ""))
    return len(octets) == 6 and len(mac) == 17 and octets[0] & 0b11 == 0b10


@pytest.mark.parametrize("name", ["eth0", "a", "ovs_net1", "with.dot", "with-dash", "x" * 15, "-", "lo0"])
def test_interface_names_that_kernel_and_switch_take(name: str) -> None:
    assert naming.is_interface_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 16, ".", "..", "a/b", "a b", "a\tb", "eth0\n", "a:1", "a%b", "é", "١", "all", "default", "lo"],
    ids=ascii,
)
def test_interface_names_that_something_on_the_way_refuses(name: str) -> None:
    assert not naming.is_interface_name(name)


def test_vni_range_is_that_of_24_bits_without_0() -> None:
    assert naming.VNI_MAX == 16_777_215


@given(network_names)
def test_vni_is_in_range_for_any_network_name(name: str) -> None:
    assert 1 <= naming.vni(name) <= 2**24 - 1


@pytest.mark.parametrize(("name", "vni"), [("net1", 12816410), ("net2", 12820710)])
def test_vni_of_a_name_never_changes_between_releases(name: str, vni: int) -> None:
    assert naming.vni(name) == vni


def test_vnis_of_many_networks_are_spread() -> None:
    assert len({naming.vni(f"net{number}") for number in range(200)}) == 200


@pytest.mark.parametrize(
    ("name", "bridge"),
    [("net1", "ovs_net1"), ("a", "ovs_a"), ("elevenchars", "ovs_elevenchars"), ("My.net-1_x", "ovs_My.net-1_x")],
)
def test_bridge_of_a_short_name_carries_it_whole(name: str, bridge: str) -> None:
    assert naming.bridge(name) == bridge


def test_bridge_of_a_long_name_is_cut_and_told_apart() -> None:
    one, other = naming.bridge("production-web"), naming.bridge("production-database")
    assert one.startswith("ovs_produ_")
    assert other.startswith("ovs_produ_")
    assert one != other


@given(network_names)
def test_bridge_is_a_valid_interface_name_for_any_network_name(name: str) -> None:
    bridge = naming.bridge(name)
    assert naming.is_interface_name(bridge)
    assert len(bridge.encode()) <= 15
    assert bridge.startswith("ovs_")


@given(ids, ids, st.sampled_from(["eth0", "eth1", "a" * 15]))
def test_veth_is_a_valid_interface_name(network_id: str, container_id: str, interface: str) -> None:
    veth = naming.veth(network_id, container_id, interface, "1")
    assert naming.is_interface_name(veth)
    assert len(veth.encode()) <= 15


@pytest.mark.parametrize(
    "other",
    [
        ("n2", "c", "eth0", "1"),
        ("n", "c2", "eth0", "1"),
        ("n", "c", "eth1", "1"),
        ("n", "c", "eth0", "2"),
        ("nc", "", "eth0", "1"),
    ],
    ids=["network", "container", "interface", "attempt", "shifted"],
)
def test_veth_differs_with_every_part_of_the_attachment(other: tuple[str, str, str, str]) -> None:
    assert naming.veth("n", "c", "eth0", "1") != naming.veth(*other)


def test_veths_of_all_attempts_have_the_stem_of_their_attachment() -> None:
    stem = naming.veth_stem("n", "c", "eth0")
    assert all(naming.veth("n", "c", "eth0", attempt).startswith(stem) for attempt in "12")
    assert stem not in {naming.veth_stem("n", "c", "eth1"), naming.veth_stem("n", "c2", "eth0")}


def test_tunnel_name_says_vni_and_peer() -> None:
    assert naming.tunnel(12345678, 2) == "gv12345678-2"


@given(vnis, st.integers(1, SLOTS_MAX))
def test_tunnel_is_a_valid_interface_name_for_any_vni_and_slot(vni: int, slot: int) -> None:
    assert naming.is_interface_name(naming.tunnel(vni, slot))


def test_mac_of_an_ipv4_address_can_be_read_by_eye() -> None:
    assert naming.mac_of_address(ip_address("192.168.120.2")) == "0a:58:c0:a8:78:02"


@given(addresses)
def test_mac_of_any_address_is_unicast_and_locally_administered(address: Address) -> None:
    assert is_unicast_and_local(naming.mac_of_address(address))


@given(st.lists(st.ip_addresses(v=4), unique=True, min_size=2, max_size=20))
def test_macs_of_different_ipv4_addresses_differ(distinct: list[Address]) -> None:
    assert len({naming.mac_of_address(address) for address in distinct}) == len(distinct)


def test_macs_of_ipv6_addresses_differ_in_slices_whose_low_octets_repeat() -> None:
    slices = [ip_address(f"fd00:0:0:0:{number:x}000::2") for number in range(16)]
    assert len({naming.mac_of_address(address) for address in slices}) == 16


@given(vnis, addresses)
def test_bridge_mac_is_unicast_and_locally_administered(vni: int, endpoint: Address) -> None:
    assert is_unicast_and_local(naming.bridge_mac(vni, str(endpoint)))


def test_bridge_mac_differs_by_network_and_by_host() -> None:
    macs = {naming.bridge_mac(vni, host) for vni in (1, 2) for host in ("192.168.0.10", "192.168.0.11")}
    assert len(macs) == 4


def test_tags_of_tunnel_and_container_carry_those_of_their_network() -> None:
    tags = naming.network_tags("n")
    assert tags == {"owner": "geneve-ovs", "network-id": "n"}
    assert tags.items() <= naming.tunnel_tags("n").items()
    assert tags.items() <= naming.container_tags("n", "c", "eth0").items()


def test_tags_tell_tunnels_from_containers_and_containers_from_each_other() -> None:
    found = [naming.tunnel_tags("n"), *(naming.container_tags("n", c, i) for c in "cd" for i in ("eth0", "eth1"))]
    for tags in found:
        assert [other for other in found if tags.items() <= other.items()] == [tags]


@given(network_names, network_names, ids, st.from_regex(r"[a-zA-Z0-9_.-]{1,15}", fullmatch=True))
def test_alias_of_a_veth_tells_whose_it_is(network: str, container: str, container_id: str, interface: str) -> None:
    alias = naming.alias(network, container, container_id, interface)
    assert naming.alias_parts(alias) == (network, container, container_id[:12], interface)


@pytest.mark.parametrize("alias", ["", "uplink", "geneve-ovs", "geneve-ovs net1 web eth0", "my geneve-ovs a b c d"])
def test_alias_of_somebody_else_tells_nothing(alias: str) -> None:
    assert naming.alias_parts(alias) is None
