# SPDX-License-Identifier: Apache-2.0
"""`setup` and `teardown`: what netavark says of the container, and what it is told."""

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import Reply, parse_container, render_result
from netavark_geneve.model import AttachResult, Container

from .conftest import Calls
from .frontend import answer, call, parsed_container, parsed_request
from .makers import CONTAINER_ID, NETWORK_ID, encoded, network_json, port, port_json, refused, request_json


def test_setup_attaches_the_container_in_its_namespace(verbs: Calls) -> None:
    reply = call("setup", encoded(request_json()))
    ((verb, on, who, netns),) = verbs
    assert (verb, netns) == ("attach", "/run/netns/web")
    assert (on.name, on.id, on.bridge, on.options) == ("net1", NETWORK_ID, "ovs_net1", {"vni": "7", "mtu": "1450"})
    assert who == Container(
        id=CONTAINER_ID, name="web", interface="eth0", addresses=(ip_address("192.168.120.2"),), aliases=("web",)
    )
    assert set(answer(reply)) == {"dns_search_domains", "dns_server_ips", "interfaces"}


def test_teardown_detaches_and_says_nothing(verbs: Calls) -> None:
    assert call("teardown", encoded(request_json())) == Reply(0, b"")
    ((verb, on, container_id, interface, netns),) = verbs
    assert (verb, on.id, container_id, interface) == ("detach", NETWORK_ID, CONTAINER_ID, "eth0")
    assert netns == "/run/netns/web"


@pytest.mark.parametrize("static_ips", [None, []], ids=["null", "empty"])
def test_teardown_does_without_addresses(verbs: Calls, static_ips: list[str] | None) -> None:
    request = request_json(network_options={"interface_name": "eth0", "static_ips": static_ips})
    assert call("teardown", encoded(request)).status == 0
    assert len(verbs) == 1


@pytest.mark.parametrize("key", ["container_id", "container_name", "network", "network_options"])
@pytest.mark.parametrize("verb", ["setup", "teardown"])
def test_request_without_what_identifies_the_attachment_is_refused(verbs: Calls, verb: str, key: str) -> None:
    request = request_json()
    del request[key]
    with refused(key):
        call(verb, encoded(request))
    assert verbs == []


@pytest.mark.parametrize("dns_enabled", [True, False])
@pytest.mark.parametrize("verb", ["setup", "teardown"])
def test_network_has_names_when_create_said_so(verbs: Calls, verb: str, dns_enabled: bool) -> None:
    call(verb, encoded(request_json(network=network_json(dns_enabled=dns_enabled))))
    assert verbs[0][1].dns_enabled is dns_enabled


def test_null_and_absent_are_the_same_container() -> None:
    identity = {"container_id": CONTAINER_ID, "container_name": "web"}
    bare = parse_container(Fields({**identity, "network_options": {"interface_name": "eth0"}}, "request"))
    nulls = {"interface_name": "eth0", "static_ips": None, "static_mac": None, "aliases": None, "options": None}
    full = parse_container(Fields({**identity, "port_mappings": None, "network_options": nulls}, "request"))
    assert bare == full == Container(id=CONTAINER_ID, name="web", interface="eth0")


def test_addresses_of_the_container_that_repeat_are_taken_once() -> None:
    """`podman network reload` sends the address that the container has behind the one the user chose."""
    own = parsed_container(static_ips=["10.0.0.2", "fd00::2", "10.0.0.2"]).addresses
    assert own == (ip_address("10.0.0.2"), ip_address("fd00::2"))


def test_mac_options_and_aliases_of_the_container_are_parsed() -> None:
    who = parsed_container(static_mac="02:00:00:00:00:01", options={"vlan": "7"}, aliases=["www", "db"])
    assert (who.mac, who.options, who.aliases) == ("02:00:00:00:00:01", {"vlan": "7"}, ("www", "db"))


@pytest.mark.parametrize("aliases", [["www", 5], "www", {"www": True}], ids=str)
def test_aliases_of_a_wrong_type_are_refused(aliases: Any) -> None:
    with refused("aliases"):
        parsed_container(aliases=aliases)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, port()),
        ({"protocol": "udp"}, port(protocol="udp")),
        ({"protocol": "sctp"}, port(protocol="sctp")),
        ({"host_ip": None}, port()),
        ({"host_ip": "127.0.0.1"}, port(on="127.0.0.1")),
        ({"host_ip": "0.0.0.0"}, port(on="0.0.0.0")),
        ({"host_ip": "FD00::0001"}, port(on="fd00::1")),
        ({"range": 0}, port()),
        ({"range": None}, port()),
        ({"range": 3}, port(count=3)),
        ({"host_port": 65535, "container_port": 65535}, port(65535, 65535)),
        ({"host_port": 65533, "container_port": 1, "range": 3}, port(65533, 1, count=3)),
    ],
    ids=str,
)
def test_published_port_is_parsed(said: dict[str, Any], wanted: object) -> None:
    assert parsed_request(port_mappings=[port_json(**said)]).ports == (wanted,)


def test_published_ports_keep_their_order() -> None:
    mappings = [port_json(host_port=8081), port_json(host_port=8080), port_json(host_port=8081, protocol="udp")]
    assert parsed_request(port_mappings=mappings).ports == (port(8081), port(), port(8081, protocol="udp"))


@pytest.mark.parametrize("verb", ["setup", "teardown"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"protocol": "icmp"}, ("'icmp'", "tcp, udp, sctp")),
        ({"protocol": "TCP"}, ("'TCP'", "tcp, udp, sctp")),
        ({"protocol": ""}, ("protocol", "a string")),
        ({"protocol": "tcp,udp"}, ("'tcp,udp'", "tcp, udp, sctp")),
        ({"host_port": 0}, ("0 as 80", "1 to 65535")),
        ({"host_port": None}, ("as 80", "1 to 65535")),
        ({"container_port": 0}, ("8080 as 0", "1 to 65535")),
        ({"host_port": 65536}, ("65536", "1 to 65535")),
        ({"container_port": 65534, "range": 3}, ("3 port(s) 8080 as 65534", "1 to 65535")),
        ({"host_port": 65534, "range": 3}, ("3 port(s) 65534 as 80", "1 to 65535")),
        ({"range": 4294967295}, ("4294967295 port(s)",)),
        ({"range": -1}, ("range", "-1")),
        ({"host_port": "8080"}, ("host_port", "8080")),
        ({"host_ip": "localhost"}, ("host_ip", "'localhost'")),
    ],
    ids=str,
)
def test_port_that_cannot_be_published_is_refused(
    verbs: Calls, verb: str, said: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused(*words):
        call(verb, encoded(request_json(port_mappings=[port_json(), port_json(**said)])))
    assert verbs == []


def test_answer_of_setup_is_netavarks_status_block() -> None:
    result = AttachResult(
        interface="eth1",
        mac="0a:58:c0:a8:78:02",
        addresses=(
            (ip_interface("192.168.120.2/24"), ip_address("192.168.120.1")),
            (ip_interface("fd00::2/64"), None),
        ),
    )
    assert render_result(result) == {
        "dns_search_domains": [],
        "dns_server_ips": [],
        "interfaces": {
            "eth1": {
                "mac_address": "0a:58:c0:a8:78:02",
                "subnets": [
                    {"ipnet": "192.168.120.2/24", "gateway": "192.168.120.1"},
                    {"ipnet": "fd00::2/64"},
                ],
            }
        },
    }


def test_answer_of_setup_names_the_resolver() -> None:
    result = AttachResult(
        interface="eth0",
        mac="0a:58:c0:a8:78:02",
        addresses=(),
        dns_servers=(ip_address("192.168.120.1"), ip_address("fd00::1")),
        dns_search_domains=("dns.podman",),
    )
    after = render_result(result)
    assert (after["dns_server_ips"], after["dns_search_domains"]) == (["192.168.120.1", "fd00::1"], ["dns.podman"])
