# SPDX-License-Identifier: Apache-2.0
import copy
import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netavark_geneve import __version__, underlay
from netavark_geneve.errors import GeneveError
from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import (
    Reply,
    failure,
    handle,
    parse_container,
    parse_network,
    render_network,
    render_result,
)
from netavark_geneve.model import AttachResult, Container, Network, Route

from .conftest import Calls
from .makers import (
    CONTAINER_ID,
    HOST_1,
    HOST_2,
    HOSTS,
    NETWORK_ID,
    attempt,
    check_style,
    created,
    encoded,
    interfaces,
    json_values,
    network,
    network_json,
    refused,
    request_json,
    subnet,
)

REQUESTS = {"create": network_json(), "setup": request_json(), "teardown": request_json()}
ARGUMENTS = {"create": ["create"], "setup": ["setup", "/run/netns/web"], "teardown": ["teardown", "/run/netns/web"]}
each_verb = pytest.mark.parametrize("verb", sorted(ARGUMENTS))


def call(verb: str, request: bytes, environ: dict[str, str] | None = None) -> Reply:
    return handle(ARGUMENTS[verb], request, environ or {})


def answer(reply: Reply) -> Any:
    """The one JSON document that a reply is."""
    assert reply.status == 0
    assert reply.output.endswith(b"\n")
    return json.loads(reply.output)


def parsed_network(**fields: Any) -> Network:
    return parse_network(Fields(network_json(**fields), "network"))


def parsed_container(**options: Any) -> Container:
    request = request_json()
    return parse_container(Fields({**request, "network_options": {**request["network_options"], **options}}, "request"))


@pytest.mark.parametrize("arguments", [["info"], []], ids=["info", "no argument"])
def test_info_tells_both_versions(arguments: list[str]) -> None:
    assert answer(handle(arguments, b"", {})) == {"version": __version__, "api_version": "1.0.0"}


@pytest.mark.parametrize("verb", ["remove", "", "Setup", "--help", "info "])
def test_unknown_subcommand_is_refused_with_the_known_ones(verb: str) -> None:
    with refused(repr(verb), "create, setup, teardown, info"):
        handle([verb], b"{}", {})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "x"], ("info", "no argument", "not x")),
        (["create", "x"], ("create", "no argument", "not x")),
        (["setup"], ("setup", "network namespace", "not nothing")),
        (["setup", "a", "b"], ("setup", "network namespace", "not a b")),
        (["teardown"], ("teardown", "network namespace", "not nothing")),
    ],
    ids=" ".join,
)
def test_wrong_number_of_arguments_is_refused(verbs: Calls, arguments: list[str], words: tuple[str, ...]) -> None:
    with refused(*words):
        handle(arguments, encoded(request_json()), {})
    assert verbs == []


@each_verb
@pytest.mark.parametrize("request_", [b"", b" \n"], ids=["nothing", "blanks"])
def test_empty_stdin_is_refused(verbs: Calls, verb: str, request_: bytes) -> None:
    with refused("nothing on standard input"):
        call(verb, request_)
    assert verbs == []


@each_verb
@pytest.mark.parametrize(
    "request_",
    [
        b"{",
        b"{'name': 'net1'}",
        b'{"name": "net1"} trailing',
        b"net1",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"[" * 100_000,
    ],
    ids=["cut off", "single quotes", "trailing text", "bare word", "no text", "no UTF-8", "too deep"],
)
def test_malformed_json_is_refused(verbs: Calls, verb: str, request_: bytes) -> None:
    with refused("standard input", "not valid JSON"):
        call(verb, request_)
    assert verbs == []


@each_verb
@pytest.mark.parametrize("request_", [b"[]", b"null", b'"x"', b"1", b"true"])
def test_json_that_is_no_object_is_refused(verbs: Calls, verb: str, request_: bytes) -> None:
    with refused("standard input", "not a JSON object"):
        call(verb, request_)
    assert verbs == []


@each_verb
def test_other_users_than_root_are_refused(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    def check_root() -> None:
        raise GeneveError("needs root")

    monkeypatch.setattr("netavark_geneve.frontends.netavark.check_root", check_root)
    with refused("needs root"):
        call(verb, encoded(REQUESTS[verb]))


def test_failure_has_the_one_key_that_podman_takes() -> None:
    reply = failure(GeneveError('no "such"\nhost'))
    assert reply.status == 1
    assert json.loads(reply.output) == {"error": 'no "such" host'}
    assert reply.output.count(b"\n") == 1


def test_setup_attaches_the_container_in_its_namespace(verbs: Calls) -> None:
    reply = call("setup", encoded(request_json()))
    ((verb, on, who, netns),) = verbs
    assert (verb, netns) == ("attach", "/run/netns/web")
    assert (on.name, on.id, on.bridge, on.options) == ("net1", NETWORK_ID, "ovs_net1", {"vni": "7", "mtu": "1450"})
    assert who == Container(id=CONTAINER_ID, name="web", interface="eth0", addresses=(ip_address("192.168.120.2"),))
    assert set(answer(reply)) == {"dns_search_domains", "dns_server_ips", "interfaces"}


def test_teardown_detaches_and_says_nothing(verbs: Calls) -> None:
    assert call("teardown", encoded(request_json())) == Reply(0, b"")
    ((verb, on, container_id, interface),) = verbs
    assert (verb, on.id, container_id, interface) == ("detach", NETWORK_ID, CONTAINER_ID, "eth0")


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
        routes=[{"destination": "10.0.0.0/8", "gateway": "192.168.120.9", "metric": 50}],
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
        routes=(Route(ip_network("10.0.0.0/8"), ip_address("192.168.120.9"), 50),),
        internal=True,
        ipv6_enabled=True,
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


def test_null_and_absent_are_the_same_container() -> None:
    identity = {"container_id": CONTAINER_ID, "container_name": "web"}
    bare = parse_container(Fields({**identity, "network_options": {"interface_name": "eth0"}}, "request"))
    nulls = {"interface_name": "eth0", "static_ips": None, "static_mac": None, "aliases": None, "options": None}
    full = parse_container(Fields({**identity, "port_mappings": None, "network_options": nulls}, "request"))
    assert bare == full == Container(id=CONTAINER_ID, name="web", interface="eth0")


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
def test_route_type_that_we_do_not_know_is_refused(route_type: str) -> None:
    with refused(repr(route_type)):
        parsed_network(routes=[{"destination": "10.0.0.0/8", "gateway": "10.0.0.9", "route_type": route_type}])


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
        ("routes", [{"destination": "10.0.0.0/8"}], ("network.routes[0].gateway",)),
        (
            "routes",
            [{"destination": "10.0.0.0/8", "gateway": "10.0.0.9", "metric": -1}],
            ("network.routes[0].metric", "-1"),
        ),
        ("internal", "yes", ("network.internal", "yes")),
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


def test_addresses_of_the_container_that_repeat_are_taken_once() -> None:
    """`podman network reload` sends the address that the container has behind the one the user chose."""
    own = parsed_container(static_ips=["10.0.0.2", "fd00::2", "10.0.0.2"]).addresses
    assert own == (ip_address("10.0.0.2"), ip_address("fd00::2"))


def test_mac_options_and_ports_of_the_container_are_parsed() -> None:
    who = parsed_container(static_mac="02:00:00:00:00:01", options={"mode": "x"})
    assert (who.mac, who.options) == ("02:00:00:00:00:01", {"mode": "x"})
    ports = [{"container_port": 80, "host_port": 8080, "protocol": "tcp", "range": 1, "host_ip": ""}] * 2
    assert parse_container(Fields(request_json(port_mappings=ports), "request")).published_ports == 2


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
def test_dns_is_always_off_in_the_answer(before: bool | None) -> None:
    assert rendered(network_json(dns_enabled=before), network(bridge="b"))["dns_enabled"] is False


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


@pytest.mark.usefixtures("host")
class TestCreate:
    """`create` from the request to the answer, on a host with the one address 192.168.0.10."""

    def test_same_command_gives_each_host_its_own_half(
        self, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
    ) -> None:
        request = encoded(network_json(options={"hosts": HOSTS, "slots": "2"}))
        first = answer(call("create", request, environ))
        monkeypatch.setattr(underlay, "find_interfaces", lambda: interfaces(("eth0", f"{HOST_2}/24")))
        second = answer(call("create", request, environ))
        assert first["subnets"] == [
            {
                "subnet": "192.168.120.0/24",
                "gateway": "192.168.120.1",
                "lease_range": {"start_ip": "192.168.120.1", "end_ip": "192.168.120.126"},
            }
        ]
        assert second["subnets"] == [
            {
                "subnet": "192.168.120.0/24",
                "gateway": "192.168.120.129",
                "lease_range": {"start_ip": "192.168.120.129", "end_ip": "192.168.120.254"},
            }
        ]
        assert {key for key in first["options"] if first["options"][key] != second["options"][key]} == {
            "local_ip",
            "slot",
        }

    def test_identity_comes_back_unchanged(self, environ: dict[str, str]) -> None:
        request = network_json(options={"hosts": HOSTS})
        after = answer(call("create", encoded(request), environ))
        assert {key: after[key] for key in ("name", "id", "driver", "created", "labels")} == {
            key: request[key] for key in ("name", "id", "driver", "created", "labels")
        }

    def test_answer_reads_back_as_the_network_that_setup_gets(self, environ: dict[str, str]) -> None:
        after = answer(call("create", encoded(network_json(options={"hosts": HOSTS})), environ))
        assert parse_network(Fields(after, "network")) == created(network(ipam_driver="host-local"))

    def test_dns_is_off_in_the_answer(self, environ: dict[str, str]) -> None:
        assert answer(call("create", encoded(network_json(dns_enabled=True)), environ))["dns_enabled"] is False

    def test_internal_network_has_no_gateway_in_the_answer(self, environ: dict[str, str]) -> None:
        request = network_json(
            internal=True, options={"hosts": HOSTS}, subnets=[{"subnet": "10.0.0.0/24", "gateway": ""}]
        )
        after = answer(call("create", encoded(request), environ))
        assert "gateway" not in after["subnets"][0]
        assert after["internal"] is True

    def test_hosts_of_fabric_toml_are_recorded_as_its_path(self, environ: dict[str, str]) -> None:
        file = environ["NETAVARK_GENEVE_CONFIG"]
        Path(file).write_text(f'hosts = ["{HOST_1}", "{HOST_2}"]')
        assert answer(call("create", encoded(network_json()), environ))["options"]["hosts"] == f"@{file}"

    def test_relative_path_of_fabric_toml_is_recorded_absolute_since_setup_runs_elsewhere(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = Path(environ["NETAVARK_GENEVE_CONFIG"])
        file.write_text(f'hosts = ["{HOST_1}", "{HOST_2}"]')
        monkeypatch.chdir(file.parent)
        after = answer(call("create", encoded(network_json()), {**environ, "NETAVARK_GENEVE_CONFIG": file.name}))
        assert after["options"]["hosts"] == f"@{file}"

    def test_network_without_hosts_is_local_with_a_warning(
        self, environ: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        after = answer(call("create", encoded(network_json()), environ))
        assert after["options"]["hosts"] == "none"
        (warning,) = caplog.messages
        assert "net1 is local to this host" in warning
        assert environ["NETAVARK_GENEVE_CONFIG"] in warning

    def test_network_that_is_local_on_purpose_is_no_cause_for_a_warning(
        self, environ: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert (
            answer(call("create", encoded(network_json(options={"hosts": "none"})), environ))["options"]["mtu"]
            == "1500"
        )
        assert caplog.messages == []

    def test_mtu_is_that_of_the_narrowest_way_to_a_peer(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mtus = {HOST_2: 9000, "192.168.0.12": 1400}
        monkeypatch.setattr(underlay, "find_path_mtu", lambda peer: mtus[str(peer)])
        request = network_json(options={"hosts": f"{HOSTS},192.168.0.12"})
        assert answer(call("create", encoded(request), environ))["options"]["mtu"] == "1350"

    def test_mtu_of_a_first_host_is_that_of_its_own_interface(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(underlay, "find_interface_mtu", lambda address: {HOST_1: 9000}[str(address)])
        request = network_json(options={"hosts": HOST_1})
        assert answer(call("create", encoded(request), environ))["options"]["mtu"] == "8950"

    def test_conflict_with_a_network_of_podman_is_refused(self, environ: dict[str, str], tmp_path: Path) -> None:
        other = network_json(name="old", id="99" * 32, driver="bridge", subnets=[{"subnet": "192.168.0.0/16"}])
        (tmp_path / "networks" / "old.json").write_bytes(encoded(other))
        with refused("create network net1", "192.168.120.0/24", "192.168.0.0/16", "old"):
            call("create", encoded(network_json()), environ)

    def test_network_of_podman_that_we_cannot_read_is_passed_over(
        self, environ: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "networks" / "odd.json").write_bytes(encoded({"name": "odd", "subnets": 5}))
        assert answer(call("create", encoded(network_json()), environ))["name"] == "net1"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"slot": "1"}, ("option slot",)),
            ({"vnl": "1"}, ("'vnl'", "vni")),
            ({"vni": "0"}, ("vni=0",)),
            ({"hosts": "192.168.0.11,192.168.0.12"}, ("192.168.0.11,192.168.0.12", HOST_1)),
            ({"hosts": HOSTS, "mtu": "1500"}, ("mtu=1500", "1450")),
            ({"hosts": HOSTS, "slots": "1"}, ("2 hosts", "1 slot")),
        ],
        ids=["slot", "unknown", "vni", "not this host", "mtu", "slots"],
    )
    def test_option_that_cannot_work_is_refused(
        self, environ: dict[str, str], options: dict[str, str], words: tuple[str, ...]
    ) -> None:
        with refused(*words):
            call("create", encoded(network_json(options=options)), environ)


ODD_TEXTS = ("", "0.0.0.0/0", "10.0.0.0/31", "10.0.0.0/32", "::/127", "fd00::1%eth0", "10.0.0.1", "\ud800", "\0", "lo")
odd_values = json_values | st.sampled_from(ODD_TEXTS)


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON document."""
    if so_far:
        yield so_far
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*so_far, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(document)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


FULL_NETWORK = network_json(
    subnets=[
        {
            "subnet": "192.168.120.0/24",
            "gateway": "192.168.120.1",
            "lease_range": {"start_ip": "192.168.120.1", "end_ip": "192.168.120.126"},
        }
    ],
    routes=[{"destination": "10.0.0.0/8", "gateway": "192.168.120.9", "metric": 50, "route_type": "unicast"}],
    network_dns_servers=["9.9.9.9"],
    options={"vni": "7"},
)
FULL_REQUESTS = {
    "create": FULL_NETWORK,
    "setup": request_json(network=FULL_NETWORK, port_mappings=[{"host_port": 80}]),
    "teardown": request_json(network=FULL_NETWORK, port_mappings=[{"host_port": 80}]),
}


@each_verb
@given(json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_on_stdin_is_refused_in_a_sentence(verbs: Calls, verb: str, value: Any) -> None:
    with pytest.raises(GeneveError) as caught:
        call(verb, encoded(value))
    check_style(str(caught.value))
    assert verbs == []


@each_verb
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_request_with_any_one_value_replaced_is_served_or_refused(verbs: Calls, verb: str, data: st.DataObject) -> None:
    whole = FULL_REQUESTS[verb]
    path = data.draw(st.sampled_from(list(paths(whole))))
    request = encoded(replaced(whole, path, data.draw(odd_values)))
    verbs.clear()
    result = attempt(lambda: call(verb, request))
    if isinstance(result, GeneveError):
        assert str(result).isprintable()
        assert verbs == []
    else:
        assert result.status == 0
        assert len(verbs) == 1
