# SPDX-License-Identifier: Apache-2.0
"""A network in Podman's JSON: as it is read, and as `create` answers."""

import copy
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import parse_network, render_network
from netavark_geneve.model import Network, Route

from .conftest import Calls
from .frontend import call, parsed_network
from .makers import NETWORK_ID, encoded, network, network_json, refused, subnet


def test_network_is_parsed() -> None:
    parsed = parsed_network(
        network_interface="br0",
        subnets=[
            {
                "subnet": "192.168.120.0/24",
                "gateway": "192.168.120.1",
                "lease_range": {"start_ip": "192.168.120.10", "end_ip": "192.168.120.20"},
            },
            {"subnet": "fd00::/64"},
        ],
        routes=[
            {"destination": "10.0.0.0/8", "gateway": "192.168.120.9", "metric": 50},
            {"destination": "10.1.0.0/16", "route_type": "blackhole"},
        ],
        internal=True,
        ipv6_enabled=True,
        network_dns_servers=["9.9.9.9"],
        options={"vni": "7"},
    )
    assert parsed == Network(
        name="net1",
        id=NETWORK_ID,
        driver="geneve-ovs",
        bridge="br0",
        subnets=(
            subnet("192.168.120.0/24", gateway="192.168.120.1", leases="192.168.120.10-192.168.120.20"),
            subnet("fd00::/64"),
        ),
        routes=(
            Route(ip_network("10.0.0.0/8"), ip_address("192.168.120.9"), 50),
            Route(ip_network("10.1.0.0/16"), None, kind="blackhole"),
        ),
        internal=True,
        ipv6_enabled=True,
        dns_enabled=True,
        ipam_driver="host-local",
        dns_servers=("9.9.9.9",),
        options={"vni": "7"},
    )


NULLABLE = (
    "network_interface",
    "subnets",
    "routes",
    "ipv6_enabled",
    "internal",
    "dns_enabled",
    "labels",
    "options",
    "ipam_options",
    "network_dns_servers",
)


def test_null_and_absent_are_the_same_network() -> None:
    """netavark 1.x sends null where 2.x sends nothing."""
    identity = {"name": "net1", "id": NETWORK_ID, "driver": "geneve-ovs"}
    absent = parse_network(Fields(identity, "network"))
    assert parse_network(Fields({**identity, **dict.fromkeys(NULLABLE)}, "network")) == absent
    assert absent == Network(name="net1", id=NETWORK_ID, driver="geneve-ovs")


def test_null_and_absent_are_the_same_subnet_and_route() -> None:
    subnets = [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/24", "gateway": None, "lease_range": None}]
    routes = [
        {"destination": "10.0.0.0/8", "gateway": "10.0.0.9"},
        {"destination": "10.0.0.0/8", "gateway": "10.0.0.9", "metric": None, "route_type": None},
    ]
    parsed = parsed_network(subnets=subnets, routes=routes)
    assert parsed.subnets[0] == parsed.subnets[1] == subnet("10.0.0.0/24")
    assert parsed.routes[0] == parsed.routes[1] == Route(ip_network("10.0.0.0/8"), ip_address("10.0.0.9"))


@pytest.mark.parametrize(
    ("lease_range", "expected"),
    [
        ({"start_ip": "10.0.0.10"}, "10.0.0.10-10.0.0.254"),
        ({"end_ip": "10.0.0.10"}, "10.0.0.1-10.0.0.10"),
        ({"start_ip": "", "end_ip": None}, "10.0.0.1-10.0.0.254"),
    ],
    ids=["no end", "no start", "neither"],
)
def test_lease_range_may_be_open_at_either_end(lease_range: dict[str, Any], expected: str) -> None:
    (found,) = parsed_network(subnets=[{"subnet": "10.0.0.0/24", "lease_range": lease_range}]).subnets
    assert str(found.lease_range) == expected


@pytest.mark.parametrize("tiny", ["10.0.0.0/32", "fd00::1/128"])
def test_open_lease_range_of_a_single_address_is_refused_not_a_crash(verbs: Calls, tiny: str) -> None:
    first = tiny.partition("/")[0]
    with refused(tiny):
        call("create", encoded(network_json(subnets=[{"subnet": tiny, "lease_range": {"start_ip": first}}])))


@pytest.mark.parametrize("route_type", ["blackhole", "unreachable", "prohibit"])
def test_route_without_a_gateway_says_what_becomes_of_packets(route_type: str) -> None:
    (route,) = parsed_network(routes=[{"destination": "10.0.0.0/8", "route_type": route_type}]).routes
    assert route == Route(ip_network("10.0.0.0/8"), None, kind=route_type)


@pytest.mark.parametrize("route_type", ["unicast", "", None])
def test_route_with_a_gateway_is_unicast(route_type: str | None) -> None:
    (route,) = parsed_network(
        routes=[{"destination": "fd01::/64", "gateway": "fd00::9", "route_type": route_type}]
    ).routes
    assert route == Route(ip_network("fd01::/64"), ip_address("fd00::9"))


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"route_type": "throw"}, ("'throw'", "unicast, blackhole, unreachable, prohibit")),
        ({}, ("10.0.0.0/8", "needs a gateway", "--route")),
        ({"route_type": "unicast"}, ("10.0.0.0/8", "needs a gateway", "--route")),
        ({"route_type": "blackhole", "gateway": "10.0.0.9"}, ("10.0.0.0/8", "blackhole", "no gateway", "--route")),
        ({"gateway": "fd00::9"}, ("10.0.0.0/8", "fd00::9", "IPv4 and IPv6")),
    ],
    ids=["unknown type", "no gateway", "unicast without", "blackhole with", "two families"],
)
def test_route_that_makes_no_sense_is_refused(route: dict[str, str], words: tuple[str, ...]) -> None:
    with refused(*words):
        parsed_network(routes=[{"destination": "10.0.0.0/8", **route}])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", None, ("network.name",)),
        ("name", 1, ("network.name", "1")),
        ("id", "", ("network.id",)),
        ("driver", [], ("network.driver",)),
        ("network_interface", 5, ("network.network_interface", "5")),
        ("subnets", {}, ("network.subnets",)),
        ("subnets", ["10.0.0.0/24"], ("network.subnets[0]", "10.0.0.0/24")),
        ("subnets", [{}], ("network.subnets[0].subnet",)),
        (
            "subnets",
            [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/99"}],
            ("network.subnets[1].subnet", "10.0.0.0/99"),
        ),
        ("subnets", [{"subnet": "10.0.0.0/24", "gateway": "x"}], ("network.subnets[0].gateway", "'x'")),
        ("subnets", [{"subnet": "10.0.0.0/24", "lease_range": []}], ("network.subnets[0].lease_range",)),
        (
            "subnets",
            [{"subnet": "10.0.0.0/24", "lease_range": {"start_ip": "x"}}],
            ("network.subnets[0].lease_range.start_ip", "'x'"),
        ),
        ("routes", [{"gateway": "10.0.0.9"}], ("network.routes[0].destination",)),
        ("routes", [{"destination": "10.0.0.0/8", "gateway": "x"}], ("network.routes[0].gateway", "'x'")),
        (
            "routes",
            [{"destination": "10.0.0.0/8", "gateway": "10.0.0.9", "metric": -1}],
            ("network.routes[0].metric", "-1"),
        ),
        ("internal", "yes", ("network.internal", "yes")),
        ("dns_enabled", "yes", ("network.dns_enabled", "yes")),
        ("labels", {"geneve-ovs.vni": 7}, ("network.labels", "7")),
        ("options", {"vni": 7}, ("network.options", "7")),
        ("ipam_options", "dhcp", ("network.ipam_options", "dhcp")),
        ("network_dns_servers", "9.9.9.9", ("network.network_dns_servers", "9.9.9.9")),
    ],
)
def test_network_of_a_wrong_type_is_refused_by_field_and_value(
    verbs: Calls, field: str, value: Any, words: tuple[str, ...]
) -> None:
    with refused(*words):
        call("create", encoded(network_json(**{field: value})))
    assert verbs == []


def rendered(raw: dict[str, Any], made: Network) -> dict[str, Any]:
    before = copy.deepcopy(raw)
    after = render_network(raw, made)
    assert raw == before
    return after


def test_answer_of_create_echoes_every_field_that_we_do_not_know() -> None:
    raw = network_json(novel={"deep": [1, None]}, subnets=[{"subnet": "10.0.0.0/24", "novel": True}])
    after = rendered(raw, network("10.0.0.0/24", bridge="ovs_net1"))
    derived = {"network_interface", "subnets", "ipv6_enabled", "dns_enabled", "options"}
    assert {key: after[key] for key in raw.keys() - derived} == {key: raw[key] for key in raw.keys() - derived}
    assert after["subnets"][0]["novel"] is True
    assert after.keys() == raw.keys()


def test_answer_of_create_has_what_was_derived() -> None:
    made = network(
        subnet("10.0.0.0/24", gateway="10.0.0.1", leases="10.0.0.1-10.0.0.126"), bridge="ovs_net1", options={"vni": "7"}
    )
    after = rendered(network_json(subnets=[{"subnet": "10.0.0.0/24"}]), made)
    assert after["network_interface"] == "ovs_net1"
    assert after["options"] == {"vni": "7"}
    assert after["subnets"] == [
        {
            "subnet": "10.0.0.0/24",
            "gateway": "10.0.0.1",
            "lease_range": {"start_ip": "10.0.0.1", "end_ip": "10.0.0.126"},
        }
    ]


@pytest.mark.parametrize("before", [True, False, None])
@pytest.mark.parametrize("after", [True, False])
def test_names_are_in_the_answer_when_they_are_served(before: bool | None, after: bool) -> None:
    made = network(bridge="b", dns_enabled=after)
    assert rendered(network_json(dns_enabled=before), made)["dns_enabled"] is after


@pytest.mark.parametrize("before", ["", None, "10.0.0.1"])
def test_gateway_that_is_none_is_left_out_of_the_answer(before: str | None) -> None:
    after = rendered(network_json(subnets=[{"subnet": "10.0.0.0/24", "gateway": before}]), network("10.0.0.0/24"))
    assert "gateway" not in after["subnets"][0]


@pytest.mark.parametrize("nothing", [None, []], ids=["null", "empty"])
def test_subnet_from_the_pool_appears_in_the_answer(nothing: list[Any] | None) -> None:
    assert rendered(network_json(subnets=nothing), network("10.9.9.0/24"))["subnets"] == [{"subnet": "10.9.9.0/24"}]


@pytest.mark.parametrize(("subnets", "ipv6"), [(["10.0.0.0/24"], False), (["10.0.0.0/24", "fd00::/64"], True)])
def test_ipv6_is_enabled_in_the_answer_when_a_subnet_has_it(subnets: list[str], ipv6: bool) -> None:
    raw = network_json(subnets=[{"subnet": each} for each in subnets], ipv6_enabled=None)
    assert rendered(raw, network(*subnets))["ipv6_enabled"] is ipv6
