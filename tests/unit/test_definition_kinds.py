# SPDX-License-Identifier: Apache-2.0
"""Networks of other kinds: with names, on a bridge of the user's, of layer 2 only, in a VLAN."""

from dataclasses import replace

import pytest

from netavark_geneve.model import Network

from .makers import created, facts, mesh, network, on_host, refused, subnet, summary

FIRST = ("192.168.120.0/24", "192.168.120.1-192.168.120.30", "192.168.120.1")


class TestNames:
    """`dns_enabled`, which Podman sets unless told --disable-dns, and a resolver on the network's gateways."""

    @pytest.mark.parametrize("wanted", [True, False])
    def test_names_are_served_when_wanted(self, wanted: bool) -> None:
        assert created(network(dns_enabled=wanted)).dns_enabled is wanted

    def test_names_are_not_served_where_the_gateway_is_a_router(self) -> None:
        on = created(network(subnet("192.168.120.0/24", gateway="192.168.120.254"), dns_enabled=True))
        assert on.dns_enabled is False

    def test_names_are_served_when_one_gateway_is_here(self) -> None:
        router = subnet("192.168.120.0/24", gateway="192.168.120.254")
        assert created(network(router, "fd00::/64", dns_enabled=True)).dns_enabled is True

    def test_internal_network_with_names_has_a_gateway_for_the_resolver(self) -> None:
        found = created(network(internal=True, dns_enabled=True))
        assert (found.dns_enabled, [summary(each) for each in found.subnets]) == (True, [FIRST])

    def test_internal_network_with_names_has_the_gateway_of_the_user(self) -> None:
        wanted = network(subnet("192.168.120.0/24", gateway="192.168.120.9"), internal=True, dns_enabled=True)
        found = created(wanted)
        assert (found.dns_enabled, summary(found.subnets[0])[2]) == (True, "192.168.120.9")

    def test_each_host_of_an_internal_network_with_names_has_a_resolver_of_its_own(self) -> None:
        gateways = [
            created(network(internal=True, dns_enabled=True), on=on_host(number, of=2)).subnets[0].gateway
            for number in (1, 2)
        ]
        assert list(map(str, gateways)) == ["192.168.120.1", "192.168.120.33"]

    @pytest.mark.parametrize("internal", [False, True])
    def test_servers_of_the_user_are_kept(self, internal: bool) -> None:
        wanted = network(dns_enabled=True, dns_servers=("9.9.9.9", "fd00::53"), internal=internal)
        assert created(wanted).dns_servers == ("9.9.9.9", "fd00::53")

    @pytest.mark.parametrize(
        ("wanted", "options"),
        [
            (network(dns_enabled=False), {}),
            (network(subnet("192.168.120.0/24", gateway="192.168.120.254"), dns_enabled=True), {}),
            (network(bridge="br-ex", dns_enabled=True), {"mode": "unmanaged"}),
            (replace(network(ipam_driver="none", dns_enabled=True), subnets=()), {}),
        ],
        ids=["names disabled", "a router's network", "the user's bridge", "layer 2 only"],
    )
    def test_servers_that_nobody_would_ask_are_refused(self, wanted: Network, options: dict[str, str]) -> None:
        with refused("--dns", "gateway"):
            created(replace(wanted, dns_servers=("9.9.9.9",)), options=options)


class TestUnmanaged:
    """`mode=unmanaged`: the bridge, its addresses and its way out are the user's, who may have a router there."""

    def test_gateway_is_the_subnets_first_address_on_every_host(self) -> None:
        found = [created(network(bridge="br-ex"), on=on_host(number, of=2), mode="unmanaged") for number in (1, 2)]
        assert [summary(each.subnets[0]) for each in found] == [
            FIRST,
            ("192.168.120.0/24", "192.168.120.33-192.168.120.62", "192.168.120.1"),
        ]

    def test_gateway_of_the_user_is_kept(self) -> None:
        wanted = network(subnet("192.168.120.0/24", gateway="192.168.120.254"), bridge="br-ex")
        assert summary(created(wanted, mode="unmanaged").subnets[0])[2] == "192.168.120.254"

    @pytest.mark.parametrize("dns_enabled", [False, True])
    def test_internal_network_has_no_gateway(self, dns_enabled: bool) -> None:
        wanted = network(bridge="br-ex", internal=True, dns_enabled=dns_enabled)
        assert created(wanted, mode="unmanaged").subnets[0].gateway is None

    def test_names_are_not_served(self) -> None:
        assert created(network(bridge="br-ex", dns_enabled=True), mode="unmanaged").dns_enabled is False

    def test_neither_vni_nor_isolation_is_recorded(self) -> None:
        options = created(network(bridge="br-ex"), mode="unmanaged").options
        assert options["mode"] == "unmanaged"
        assert not {"vni", "isolate", "vrf"} & options.keys()

    def test_bridge_has_the_name_that_a_managed_one_would_have_unless_told(self) -> None:
        assert created(mode="unmanaged").bridge == "ovs_net1"

    def test_bridge_is_there_already(self) -> None:
        host = facts(mesh(), links=frozenset({"br-ex"}))
        assert created(network(bridge="br-ex"), on=host, mode="unmanaged").bridge == "br-ex"

    def test_subnets_that_overlap_are_refused_all_the_same(self) -> None:
        with refused("192.168.120.0/24", "192.168.120.64/26", "overlap"):
            created(network("192.168.120.0/24", "192.168.120.64/26"), mode="unmanaged")

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("vni", "7"),
            ("isolate", "false"),
            ("vrf", "red"),
            ("outbound_addr4", "192.168.0.10"),
            ("outbound_addr6", "fd00::1"),
        ],
    )
    def test_option_of_what_is_the_users_is_refused(self, option: str, value: str) -> None:
        with refused(option, "mode=unmanaged"):
            created(mode="unmanaged", options={option: value})

    def test_all_options_without_effect_are_told_at_once(self) -> None:
        with refused("vni, vrf", "mode=unmanaged"):
            created(mode="unmanaged", vrf="red", vni="7")

    def test_options_of_the_containers_are_kept(self) -> None:
        own = {"vlan": "7", "metric": "50", "allow_foreign_ip": "true", "conflict_detection": "false"}
        assert created(mode="unmanaged", options=own).options.items() >= own.items()


class TestLayer2Only:
    """`--ipam-driver none`: the containers see to their addresses themselves."""

    def wanted(self, **fields: object) -> Network:
        return replace(network(ipam_driver="none"), subnets=(), **fields)  # type: ignore[arg-type]

    def test_network_has_no_subnet_not_even_from_the_pool(self) -> None:
        assert created(self.wanted(), subnet_pool="10.128.0.0/9").subnets == ()

    def test_host_has_no_slice_so_it_may_move(self) -> None:
        assert not {"slot", "slots"} & created(self.wanted()).options.keys()

    def test_names_are_not_served(self) -> None:
        assert created(self.wanted(dns_enabled=True)).dns_enabled is False

    def test_mtu_is_at_least_what_ipv4_needs(self) -> None:
        assert created(self.wanted(), mtu="576").options["mtu"] == "576"
        with refused("575", "576"):
            created(self.wanted(), mtu="575")

    def test_bridge_and_vni_are_derived_as_ever(self) -> None:
        found, usual = created(self.wanted()), created()
        assert found.bridge == usual.bridge
        assert {key: found.options[key] for key in ("vni", "mtu", "isolate")} == {
            key: usual.options[key] for key in ("vni", "mtu", "isolate")
        }


class TestVlan:
    """The tag of IEEE 802.1Q goes through the tunnel with the frame, 4 bytes."""

    @pytest.mark.parametrize(
        ("vlan", "mtu"), [({}, "1450"), ({"vlan": "0"}, "1450"), ({"vlan": "1"}, "1446"), ({"vlan": "4094"}, "1446")]
    )
    def test_mtu_leaves_room_for_the_tag(self, vlan: dict[str, str], mtu: str) -> None:
        assert created(options=vlan).options["mtu"] == mtu

    def test_mtu_that_leaves_no_room_for_the_tag_is_refused(self) -> None:
        with refused("mtu=1450", "1500", "1446"):
            created(vlan="7", mtu="1450")

    def test_network_of_this_host_alone_crosses_no_tunnel(self) -> None:
        assert created(on=facts(), vlan="7").options["mtu"] == "1500"
