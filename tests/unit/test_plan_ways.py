# SPDX-License-Identifier: Apache-2.0
"""The ways out of a network, into it, and to its names: gateway, publication, names, and what Podman is told."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.addresses import Address
from netavark_geneve.model import Gateway, Names, Network, Publication
from netavark_geneve.options import parse
from netavark_geneve.plan import attach_result, plan_gateway, plan_names, plan_publication

from .makers import (
    CONTAINER_ID,
    addresses,
    container,
    created,
    dual_stack,
    network,
    planned,
    port,
    published_ports,
    subnet,
    with_router,
)

GATEWAY = ip_address("192.168.120.1")
WAY_OUT = ((ip_network("192.168.120.0/24"), None),)


def with_names(**fields: object) -> Network:
    return created(replace(network(dns_enabled=True), **fields))  # type: ignore[arg-type]


def unmanaged() -> Network:
    return created(network(bridge="br-ex", dns_enabled=True), mode="unmanaged")


def layer_2_only() -> Network:
    return created(replace(network(ipam_driver="none", dns_enabled=True), subnets=()))


class TestGateway:
    def test_network_goes_out_through_this_host(self) -> None:
        assert planned().gateway == Gateway("ovs_net1", WAY_OUT)

    @pytest.mark.parametrize("on", [with_router(), unmanaged(), created(network(internal=True))])
    def test_host_is_no_way_out_for_a_network_that_it_has_no_address_in(self, on: Network) -> None:
        assert planned(on).gateway.subnets == ()

    def test_layer_2_only_network_has_no_way_out(self) -> None:
        assert planned(layer_2_only(), container(addresses=())).gateway.subnets == ()

    def test_only_subnets_whose_gateway_is_here_go_out_here(self) -> None:
        on = created(network("192.168.120.0/24", subnet("fd00::/64", gateway="fd00::ffff:0:0:1")))
        assert planned(on).gateway.subnets == WAY_OUT

    def test_packets_leave_under_the_address_that_the_user_chose(self) -> None:
        on = created(network("192.168.120.0/24", "fd00::/64"), outbound_addr4="192.168.0.10", outbound_addr6="fd01::1")
        sources = [source for _, source in planned(on).gateway.subnets]
        assert sources == [ip_address("192.168.0.10"), ip_address("fd01::1")]

    def test_no_default_route_in_the_container_still_leaves_a_way_for_other_routes(self) -> None:
        assert planned(created(no_default_route="true")).gateway.subnets == WAY_OUT

    @pytest.mark.parametrize(
        ("options", "isolate"),
        [
            ({}, "strict"),
            ({"isolate": "strict"}, "strict"),
            ({"isolate": "true"}, "true"),
            ({"isolate": "1"}, "true"),
            ({"isolate": "false"}, "false"),
            ({"isolate": "0"}, "false"),
        ],
    )
    def test_isolation_is_strict_unless_told(self, options: dict[str, str], isolate: str) -> None:
        assert planned(created(options=options)).gateway.isolate == isolate

    def test_network_from_before_there_was_isolation_is_isolated(self) -> None:
        on = created()
        options = {key: value for key, value in on.options.items() if key != "isolate"}
        assert planned(replace(on, options=options)).gateway.isolate == "strict"

    def test_internal_network_with_names_has_a_gateway_that_only_answers_for_itself(self) -> None:
        assert planned(with_names(internal=True)).gateway == Gateway(
            "ovs_net1", WAY_OUT, forwards=False, listen=(GATEWAY,)
        )

    def test_resolver_listens_where_the_gateways_are(self) -> None:
        on = created(network("192.168.120.0/24", "fd00:120::/64", dns_enabled=True))
        assert planned(on).gateway.listen == (GATEWAY, ip_address("fd00:120::1"))

    def test_resolver_listens_on_the_port_of_containers_conf(self) -> None:
        assert planned(with_names(), dns_port=5353).gateway.dns_port == 5353

    def test_network_without_names_has_no_resolver(self) -> None:
        assert planned(created()).gateway.listen == ()

    def test_reload_plans_the_same_gateway(self) -> None:
        on = with_names(internal=True)
        assert plan_gateway(on, parse(on.options), 53) == planned(on).gateway


class TestPublication:
    def test_ports_lead_to_the_container(self) -> None:
        ports = (port(), port(9000, on="127.0.0.1", protocol="udp"))
        assert planned(who=container(ports=ports)).publication == Publication(
            "ovs_net1", CONTAINER_ID, "net1 web", ports, (ip_address("192.168.120.2"),)
        )

    def test_ports_lead_to_the_first_address_of_each_family(self) -> None:
        own = ("fd00:120::3", "192.168.120.3", "fd00:120::2", "192.168.120.2")
        made = planned(dual_stack(), container(*own, ports=(port(),))).publication
        assert made.addresses == (ip_address("192.168.120.3"), ip_address("fd00:120::3"))

    @pytest.mark.parametrize(
        "on",
        [with_router(), unmanaged(), created(network(internal=True)), with_names(internal=True)],
        ids=["a router's network", "the user's bridge", "internal", "internal with names"],
    )
    def test_nothing_is_published_where_the_answers_would_not_come_back_through_this_host(self, on: Network) -> None:
        made = planned(on, container(ports=(port(),))).publication
        assert (made.ports, made.addresses) == ((), ())

    def test_nothing_is_published_of_a_container_without_an_address(self) -> None:
        made = planned(layer_2_only(), container(addresses=(), ports=(port(),))).publication
        assert (made.ports, made.addresses) == ((), ())

    def test_ports_lead_only_to_addresses_whose_gateway_is_here(self) -> None:
        on = created(network("192.168.120.0/24", subnet("fd00::/64", gateway="fd00::ffff:0:0:1")))
        made = planned(on, container("192.168.120.2", "fd00::2", ports=(port(),))).publication
        assert made.addresses == (ip_address("192.168.120.2"),)

    @given(st.lists(published_ports, max_size=4), st.lists(addresses, max_size=5))
    def test_any_publication_leads_to_addresses_of_the_container_one_of_each_family(
        self, ports: list[object], own: list[Address]
    ) -> None:
        on, who = dual_stack(), container(addresses=tuple(own), ports=tuple(ports))
        made = plan_publication(on, parse(on.options), who)
        assert set(made.addresses) <= set(own)
        assert len({address.version for address in made.addresses}) == len(made.addresses)
        assert made.ports == (tuple(ports) if made.addresses else ())


class TestNames:
    def test_resolver_learns_name_aliases_and_addresses(self) -> None:
        on = created(network("192.168.120.0/24", "fd00:120::/64", dns_enabled=True, dns_servers=("9.9.9.9",)))
        who = container("192.168.120.2", "fd00:120::2", aliases=("www", "db"))
        assert planned(on, who).names == Names(
            network="net1",
            internal=False,
            listen=(GATEWAY, ip_address("fd00:120::1")),
            upstreams=("9.9.9.9",),
            container_id=CONTAINER_ID,
            addresses=who.addresses,
            names=("web", "www", "db"),
        )

    def test_name_that_is_an_alias_too_is_told_once(self) -> None:
        names = plan_names(with_names(), container(aliases=("www", "web", "www")))
        assert names is not None
        assert names.names == ("web", "www")

    def test_resolver_of_an_internal_network_is_told_so(self) -> None:
        names = planned(with_names(internal=True)).names
        assert names is not None
        assert (names.internal, names.listen) == (True, (GATEWAY,))

    @pytest.mark.parametrize("on", [created(), unmanaged(), created(network(internal=True))])
    def test_network_without_names_tells_none(self, on: Network) -> None:
        assert planned(on).names is None


class TestAnswer:
    def test_answer_tells_interface_mac_address_and_gateway(self) -> None:
        on = created()
        result = attach_result(on, planned(on), None)
        assert (result.interface, result.mac) == ("eth0", "0a:58:c0:a8:78:02")
        assert result.addresses == ((ip_interface("192.168.120.2/24"), GATEWAY),)

    def test_answer_has_the_gateway_of_each_addresss_own_subnet(self) -> None:
        on = dual_stack()
        result = attach_result(on, planned(on, container("fd00:120::2", "192.168.120.2")), None)
        assert [str(gateway) for _, gateway in result.addresses] == ["fd00:120::1", "192.168.120.1"]

    def test_answer_of_an_internal_network_has_no_gateway(self) -> None:
        on = created(network(internal=True))
        assert attach_result(on, planned(on), None).addresses == ((ip_interface("192.168.120.2/24"), None),)

    def test_answer_of_a_layer_2_only_network_has_no_address(self) -> None:
        on = layer_2_only()
        assert attach_result(on, planned(on, container(addresses=())), ("dns.podman",)).addresses == ()

    @pytest.mark.parametrize(
        ("on", "search", "servers", "domains"),
        [
            (with_names(), ("dns.podman",), (GATEWAY,), ("dns.podman",)),
            (with_names(internal=True), ("dns.podman",), (GATEWAY,), ("dns.podman",)),
            (with_names(), None, (), ()),
            (created(), None, (), ()),
        ],
        ids=["names", "internal with names", "resolver not installed", "no names"],
    )
    def test_answer_names_the_resolver_when_there_is_one(
        self, on: Network, search: tuple[str, ...] | None, servers: tuple[Address, ...], domains: tuple[str, ...]
    ) -> None:
        result = attach_result(on, planned(on), search)
        assert (result.dns_servers, result.dns_search_domains) == (servers, domains)
