# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.addresses import Address
from netavark_geneve.fabric.mesh import Mesh, join, split_hosts, wanted_tunnels

from .makers import HOST_1, HOST_2, HOSTS, mesh, no_dns, refused

NAMES = {"host-a": ip_address(HOST_1), "host-b.example": ip_address(HOST_2)}


def look_up(name: str) -> Address:
    return NAMES[name]


def join_as(own: str, hosts: str, local_ip: str | None = None) -> Mesh:
    """Join with the addresses that are listed in `own`."""
    return join(
        split_hosts(hosts),
        resolve=look_up,
        local_ip=None if local_ip is None else ip_address(local_ip),
        own=tuple(map(ip_address, own.split(","))) if own else (),
    )


@pytest.mark.parametrize(
    ("text", "hosts"),
    [("a", ("a",)), ("a,b", ("a", "b")), (" a , b ", ("a", "b")), ("a,-,c", ("a", "-", "c")), ("a,,c", ("a", "", "c"))],
)
def test_hosts_of_the_command_line_are_split(text: str, hosts: tuple[str, ...]) -> None:
    assert split_hosts(text) == hosts


@pytest.mark.parametrize(
    ("own", "slot", "peers"),
    [
        ("192.168.0.10", 1, ((2, "192.168.0.11"), (3, "192.168.0.12"))),
        ("192.168.0.11", 2, ((1, "192.168.0.10"), (3, "192.168.0.12"))),
        ("192.168.0.12", 3, ((1, "192.168.0.10"), (2, "192.168.0.11"))),
    ],
    ids=["first", "middle", "last"],
)
def test_host_finds_its_own_place(own: str, slot: int, peers: tuple[tuple[int, str], ...]) -> None:
    place = join_as(f"10.9.9.9,{own}", f"{HOSTS},192.168.0.12")
    assert place == Mesh(ip_address(own), slot, 3, tuple((number, ip_address(peer)) for number, peer in peers))


def test_host_that_is_gone_keeps_its_slot() -> None:
    place = mesh(f"-,{HOST_1},-,{HOST_2},-", own=HOST_2)
    assert (place.slot, place.size) == (4, 5)
    assert place.peers == ((2, ip_address(HOST_1)),)


def test_host_that_is_alone_in_the_list_has_no_peers() -> None:
    assert mesh(HOST_1) == Mesh(ip_address(HOST_1), 1, 1, ())


def test_names_are_resolved() -> None:
    assert join_as(HOST_2, "host-a,host-b.example") == mesh(HOSTS, own=HOST_2)


def test_addresses_are_never_looked_up() -> None:
    assert join((HOST_1, "-"), resolve=no_dns, local_ip=None, own=(ip_address(HOST_1),)).slot == 1


def test_local_ip_decides_between_several_addresses_of_this_host() -> None:
    assert join_as("10.0.0.1,192.168.0.10", "10.0.0.2,192.168.0.10", local_ip=HOST_1).local == ip_address(HOST_1)


def test_recorded_endpoint_is_not_looked_for_on_this_host_again() -> None:
    place = join((HOST_1, HOST_2), resolve=no_dns, local_ip=ip_address(HOST_2), own=None)
    assert (place.local, place.slot) == (ip_address(HOST_2), 2)


def test_ipv6_hosts_are_one_host_however_they_are_written() -> None:
    assert join_as("fd00::a", "FD00:0::A,fd00::b").slot == 1


@pytest.mark.parametrize(
    "host",
    ["", "192.168.0.300", "1.2.3", "10", "192.168.0.10/24", "fd00::g", "host a", "-a", "a-", "ä", "a;b", "none!"],
)
def test_entry_that_is_neither_address_nor_name_is_refused_without_a_look_up(host: str) -> None:
    with refused(repr(host), "neither an IP address nor a DNS name"):
        join((HOST_1, host), resolve=no_dns, local_ip=None, own=(ip_address(HOST_1),))


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "169.254.1.1", "fe80::1"])
def test_address_that_no_other_host_can_reach_is_refused(host: str) -> None:
    with refused(host, "cannot be reached"):
        join_as(HOST_1, f"{HOST_1},{host}")


def test_ipv6_address_with_a_zone_is_refused_since_a_zone_means_something_on_one_host_only() -> None:
    with refused("fd00::b%eth0"):
        join_as("fd00::a", "fd00::a,fd00::b%eth0")


def test_name_of_a_loopback_address_is_refused_by_name_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NAMES, "localhost", ip_address("127.0.1.1"))
    with refused("localhost", "127.0.1.1", "cannot be reached"):
        join_as(HOST_1, f"{HOST_1},localhost")


@pytest.mark.parametrize("other", [HOST_2, "host-b.example"], ids=["twice", "by address and by name"])
def test_host_that_is_listed_twice_is_refused(other: str) -> None:
    with refused(HOST_2, other, "twice"):
        join_as(HOST_1, f"{HOSTS},{other}")


@pytest.mark.parametrize(
    ("own", "has"), [("10.0.0.1,10.0.0.2", "10.0.0.1, 10.0.0.2"), ("", "none")], ids=["others", "no address"]
)
def test_host_that_is_not_listed_is_told_the_list_and_its_own_addresses(own: str, has: str) -> None:
    with refused(f"none of hosts ({HOSTS})", f"has {has};"):
        join_as(own, HOSTS)


def test_host_with_two_of_the_listed_addresses_is_refused() -> None:
    with refused("2 times", HOST_1, HOST_2):
        join_as(HOSTS, HOSTS)


def test_local_ip_outside_the_list_is_refused() -> None:
    with refused("local_ip 10.0.0.1", HOSTS):
        join_as("10.0.0.1", HOSTS, local_ip="10.0.0.1")


def test_local_ip_that_this_host_does_not_have_is_refused() -> None:
    with refused(f"local_ip {HOST_2}", "not an address of this host", HOST_1):
        join_as(HOST_1, HOSTS, local_ip=HOST_2)


def test_mix_of_address_families_is_refused() -> None:
    with refused("IPv4 and IPv6", HOST_1, "fd00::b"):
        join_as(HOST_1, f"{HOST_1},fd00::b")


def test_tunnels_lead_to_each_peer_with_the_networks_key() -> None:
    place = mesh(f"{HOST_1},-,{HOST_2},192.168.0.12", own=HOST_2)
    tunnels = wanted_tunnels(place, network_id="n", network_name="net1", vni=7, dst_port=6082)
    assert [(tunnel.name, tunnel.local, tunnel.remote) for tunnel in tunnels] == [
        ("gv7-1", HOST_2, HOST_1),
        ("gv7-4", HOST_2, "192.168.0.12"),
    ]
    assert {(tunnel.vni, tunnel.dst_port) for tunnel in tunnels} == {(7, 6082)}


def test_tunnel_is_identified_by_its_tags() -> None:
    (tunnel,) = wanted_tunnels(mesh(), network_id="n", network_name="net1", vni=7, dst_port=6081)
    assert tunnel.tags == {
        "owner": "geneve-ovs",
        "network-id": "n",
        "network-name": "net1",
        "role": "tunnel",
        "remote": HOST_2,
    }


@given(st.lists(st.integers(1, 250) | st.none(), min_size=1, max_size=12))
def test_all_hosts_see_the_same_mesh(numbers: list[int | None]) -> None:
    """Each knows every other one by one number, and tunnels come in pairs."""
    unique = [None if number in numbers[:index] else number for index, number in enumerate(numbers)]
    hosts = ",".join("-" if number is None else f"10.0.0.{number}" for number in unique)
    live = [f"10.0.0.{number}" for number in unique if number is not None]
    places = [mesh(hosts, own=host) for host in live]
    numbered = {place.local: place.slot for place in places}
    pairs = {(place.local, peer) for place in places for _, peer in place.peers}
    assert len(set(numbered.values())) == len(live)
    assert len(pairs) == len(live) * (len(live) - 1)
    assert all((remote, local) in pairs for local, remote in pairs)
    assert all(numbered[peer] == number for place in places for number, peer in place.peers)
    assert {place.size for place in places} <= {len(unique)}
