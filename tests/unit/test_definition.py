# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netavark_geneve import naming

from .makers import (
    HOST_1,
    HOST_2,
    HOSTS,
    created,
    facts,
    mesh,
    network,
    on_host,
    refused,
    subnet,
    summary,
)


@pytest.mark.parametrize(
    ("host", "leases", "gateway"),
    [
        (1, "192.168.120.1-192.168.120.126", "192.168.120.1"),
        (2, "192.168.120.129-192.168.120.254", "192.168.120.129"),
    ],
)
def test_two_slots_are_the_halves_of_the_manual_procedure(host: int, leases: str, gateway: str) -> None:
    found = created(on=on_host(host, of=2), slots="2")
    assert [summary(each) for each in found.subnets] == [("192.168.120.0/24", leases, gateway)]


@pytest.mark.parametrize(
    ("host", "leases", "gateway"),
    [(1, "192.168.120.1-192.168.120.30", "192.168.120.1"), (3, "192.168.120.65-192.168.120.94", "192.168.120.65")],
)
def test_default_is_eight_slots_of_32_on_a_24(host: int, leases: str, gateway: str) -> None:
    found = created(on=on_host(host, of=3))
    assert [summary(each) for each in found.subnets] == [("192.168.120.0/24", leases, gateway)]
    assert found.options["slots"] == "8"


def test_default_is_16_slots_on_a_16() -> None:
    assert created(network("10.89.0.0/16")).options["slots"] == "16"


def test_cut_does_not_depend_on_how_many_hosts_there_are() -> None:
    assert created(on=on_host(2, of=2)).subnets == created(on=on_host(2, of=7)).subnets


def test_network_of_this_host_alone_has_the_whole_subnet_and_no_place() -> None:
    found = created(on=facts())
    assert summary(found.subnets[0]) == ("192.168.120.0/24", "192.168.120.1-192.168.120.254", "192.168.120.1")
    assert found.options["hosts"] == "none"
    assert not {"slot", "local_ip"} & found.options.keys()


def test_everything_derived_is_recorded() -> None:
    found = created(on=on_host(2, of=2), slots="2")
    assert found.bridge == "ovs_net1"
    assert found.options == {
        "hosts": HOSTS,
        "local_ip": HOST_2,
        "slots": "2",
        "slot": "2",
        "vni": str(naming.vni("net1")),
        "mtu": "1450",
        "dst_port": "6081",
        "datapath_type": "",
        "isolate": "strict",
    }


def test_options_of_the_user_are_kept() -> None:
    own = {
        "vni": "7",
        "mtu": "1400",
        "dst_port": "6082",
        "datapath_type": "netdev",
        "slots": "4",
        "metric": "50",
        "no_default_route": "true",
        "outbound_addr4": "192.168.0.10",
        "outbound_addr6": "fd01::1",
        "isolate": "false",
        "vlan": "7",
        "vrf": "red",
        "mode": "managed",
        "allow_foreign_ip": "true",
        "conflict_detection": "false",
    }
    assert created(options=own).options.items() >= own.items()


def test_identity_of_the_network_is_left_alone() -> None:
    wanted = network(name="db", id="ff" * 32, bridge="br-db", internal=True)
    found = created(wanted)
    assert (found.name, found.id, found.driver, found.bridge, found.internal) == (
        "db",
        "ff" * 32,
        "geneve-ovs",
        "br-db",
        True,
    )


def test_ip_range_of_the_user_wins_over_the_slice() -> None:
    found = created(network(subnet("192.168.120.0/24", leases="192.168.120.10-192.168.120.20")), on=on_host(2, of=2))
    assert summary(found.subnets[0]) == (
        "192.168.120.0/24",
        "192.168.120.10-192.168.120.20",
        "192.168.120.10",
    )


def test_ip_range_of_the_user_belongs_to_no_slot_so_the_host_may_move() -> None:
    found = created(network(subnet("192.168.120.0/24", leases="192.168.120.10-192.168.120.20")))
    assert not {"slot", "slots"} & found.options.keys()


def test_ip_range_from_the_subnets_own_address_has_the_next_one_as_gateway() -> None:
    found = created(network(subnet("192.168.120.0/24", leases="192.168.120.0-192.168.120.127")))
    assert found.subnets[0].gateway == ip_address("192.168.120.1")


def test_gateway_of_the_user_is_kept() -> None:
    found = created(network(subnet("192.168.120.0/24", gateway="192.168.120.254")))
    assert found.subnets[0].gateway == ip_address("192.168.120.254")


def test_internal_network_has_no_gateway() -> None:
    found = created(network(internal=True))
    assert found.subnets[0].gateway is None
    assert str(found.subnets[0].lease_range) == "192.168.120.1-192.168.120.30"


def test_two_subnets_are_cut_alike_into_what_the_smaller_one_bears() -> None:
    found = created(network("192.168.120.0/26", "fd00:120::/64"), on=on_host(2, of=2))
    assert found.options["slots"] == "2"
    assert [summary(each)[1] for each in found.subnets] == [
        "192.168.120.33-192.168.120.62",
        "fd00:120::8000:0:0:1-fd00:120::ffff:ffff:ffff:fffe",
    ]


@pytest.mark.parametrize(
    ("hosts", "underlay_mtu", "mtu"),
    [
        (HOSTS, 1500, "1450"),
        ("fd00::a,fd00::b", 1500, "1430"),
        (HOSTS, 9000, "8950"),
        (HOSTS, 1400, "1350"),
    ],
    ids=["IPv4 underlay", "IPv6 underlay", "jumbo frames", "a VPN"],
)
def test_mtu_is_the_underlays_less_the_encapsulation(hosts: str, underlay_mtu: int, mtu: str) -> None:
    place = mesh(hosts, own=hosts.split(",")[0])
    assert created(on=facts(place, underlay_mtu=underlay_mtu), hosts=hosts).options["mtu"] == mtu


def test_mtu_of_a_network_without_tunnels_is_ethernets() -> None:
    assert created(on=facts()).options["mtu"] == "1500"


@pytest.mark.parametrize("mtu", ["1450", "1280", "576"])
def test_mtu_of_the_user_may_be_smaller_than_the_underlay_allows(mtu: str) -> None:
    assert created(mtu=mtu).options["mtu"] == mtu


@pytest.mark.parametrize(("mtu", "fits"), [("1451", "1450"), ("9000", "1450")])
def test_mtu_that_does_not_fit_into_the_underlay_is_refused_with_what_does(mtu: str, fits: str) -> None:
    with refused(f"mtu={mtu}", "1500", fits):
        created(mtu=mtu)


@pytest.mark.parametrize(
    ("subnet", "mtu", "least"), [("192.168.120.0/24", "575", "576"), ("fd00::/64", "1279", "1280")]
)
def test_mtu_below_what_the_protocol_needs_is_refused(subnet: str, mtu: str, least: str) -> None:
    with refused(mtu, least):
        created(network(subnet), mtu=mtu)


def test_underlay_too_small_for_ipv6_inside_is_refused() -> None:
    with refused("1250", "1280"):
        created(network("fd00::/64"), on=facts(mesh(), underlay_mtu=1300))


@pytest.mark.parametrize("slots", [None, "2"], ids=["default", "option"])
def test_more_hosts_than_slots_are_refused_with_what_to_do(slots: str | None) -> None:
    with refused("3 hosts", "192.168.120.0/26", "2 slots", "--subnet", "slots="):
        created(network("192.168.120.0/26"), on=on_host(1, of=3), options={"slots": slots} if slots else {})


def test_as_many_hosts_as_slots_are_welcome() -> None:
    assert created(on=on_host(8, of=8)).subnets[0].gateway == ip_address("192.168.120.225")


def test_host_that_is_gone_still_needs_its_slot() -> None:
    with refused("3 hosts", "2 slots"):
        created(on=facts(mesh(f"{HOST_1},-,{HOST_2}")), slots="2")


def test_more_slots_than_the_subnet_bears_are_refused() -> None:
    with refused("192.168.120.0/24", "128 slots"):
        created(slots="128")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ipam_driver": "dhcp"}, ("'dhcp'", "host-local", "none")),
        ({"dns_servers": ("9.9.9.9",)}, ("--dns",)),
        ({"bridge": "x" * 16}, ("x" * 16, "--interface-name")),
        ({"bridge": "a/b"}, ("'a/b'", "--interface-name")),
    ],
    ids=["ipam dhcp", "dns", "long bridge", "bridge with a slash"],
)
def test_what_is_not_supported_is_refused(changes: dict[str, object], words: tuple[str, ...]) -> None:
    with refused(*words):
        created(replace(network(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("ipam_driver", ["", "host-local"])
def test_podmans_own_ipam_is_welcome(ipam_driver: str) -> None:
    assert created(network(ipam_driver=ipam_driver)).ipam_driver == ipam_driver


def test_gateway_of_an_internal_network_without_names_is_refused() -> None:
    with refused("--internal", "--gateway", "--disable-dns"):
        created(network(subnet("192.168.120.0/24", gateway="192.168.120.1"), internal=True))


def test_gateway_outside_the_subnet_is_refused() -> None:
    with refused("--gateway 192.168.121.1", "192.168.120.0/24"):
        created(network(subnet("192.168.120.0/24", gateway="192.168.121.1")))


@pytest.mark.parametrize(
    "leases",
    ["192.168.119.1-192.168.120.9", "192.168.120.9-192.168.121.1", "fd00::1-fd00::2"],
    ids=["starts before", "ends behind", "other family"],
)
def test_ip_range_outside_the_subnet_is_refused(leases: str) -> None:
    with refused(f"--ip-range {leases}", "192.168.120.0/24"):
        created(network(subnet("192.168.120.0/24", leases=leases)))


def test_ip_range_that_ends_before_it_starts_is_refused() -> None:
    with refused("192.168.120.20", "192.168.120.10"):
        created(network(subnet("192.168.120.0/24", leases="192.168.120.20-192.168.120.10")))
