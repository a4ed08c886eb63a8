# SPDX-License-Identifier: Apache-2.0
"""`netavark-geneve reload`: from what OVSDB and Podman know to what was there before somebody flushed it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from netavark_geneve import dns, firewall, firewalld, links, podman, reload, switch, sysctls, tags
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Container, Foreign, Network

from .makers import container, created, network, planned, port, refused

WITH_NAMES = created(network(dns_enabled=True))
INTERNAL = created(network(name="inside", id="11" * 32, internal=True), vni="11")
UNMANAGED = created(network(name="ext", id="22" * 32, bridge="br-ex"), mode="unmanaged")
WEB = container(aliases=("www",), ports=(port(),))
DB = container("192.168.120.3", id="ef" * 32, name="db")
FOREIGN = Foreign(("br-a",), ())
NOTHING = {"firewalld": [([],)], "firewall": [([], [], FOREIGN)], "dns": [([], "/aardvark-dns", {})]}


class Host:
    """What is on the host, and what was made of it, step by step."""

    def __init__(self) -> None:
        self.ports: list[tuple[str, dict[str, str]]] = []
        self.links: set[str] = set()
        self.made: dict[str, Any] = {}
        self.has_resolver = True

    def run(self, on: Network, who: Container, name: str, *, has_link: bool = True) -> None:
        self.ports.append((name, tags.of_container(on.id, on.name, who, "boot")))
        if has_link:
            self.links.add(name)

    def all_containers(self) -> list[tuple[str, dict[str, str]]]:
        return self.ports

    @contextmanager
    def connect_all(self, environ: object, deadline: Deadline) -> Iterator["Host"]:
        yield self

    def record(self, step: str) -> Any:
        def record(*arguments: Any, **named: Any) -> None:
            told = [each for each in arguments if not isinstance(each, Deadline)]
            self.made.setdefault(step, []).append((*told, *named.values()))

        return record


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(switch, "connect_all", made.connect_all)
    monkeypatch.setattr(links, "find_link", lambda name: 7 if name in made.links else None)
    monkeypatch.setattr(podman, "find_foreign", lambda environ: FOREIGN)
    monkeypatch.setattr(links, "configure_bridge", made.record("bridge"))
    monkeypatch.setattr(sysctls, "apply", made.record("sysctls"))
    monkeypatch.setattr(firewalld, "ensure_trusted", made.record("firewalld"))
    monkeypatch.setattr(firewall, "restore", made.record("firewall"))
    monkeypatch.setattr(dns, "find_program", lambda environ: "/aardvark-dns" if made.has_resolver else None)
    monkeypatch.setattr(dns, "replace_all", made.record("dns"))
    return made


def again(*networks: Network, environ: dict[str, str] | None = None) -> reload.Attached:
    return reload.reload(networks or (WITH_NAMES, INTERNAL, UNMANAGED), environ or {})


def test_containers_are_as_they_were_when_they_were_attached(host: Host) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    plan = planned(WITH_NAMES, WEB)
    assert again() == [(WITH_NAMES, WEB)]
    assert host.made == {
        "bridge": [(plan.bridge,)],
        "sysctls": [(plan.gateway, True)],
        "firewalld": [([each.subnet for each in WITH_NAMES.subnets],)],
        "firewall": [([plan.gateway], [plan.publication], FOREIGN)],
        "dns": [([plan.names], "/aardvark-dns", {})],
    }


def test_network_of_several_containers_is_restored_once(host: Host) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    host.run(WITH_NAMES, DB, "veth2")
    again()
    ((gateways, publications, _),) = host.made["firewall"]
    ((names, _, _),) = host.made["dns"]
    assert (len(gateways), len(publications), len(host.made["sysctls"])) == (1, 1, 1)
    assert [each.container_id for each in names] == [WEB.id, DB.id]


def test_connections_to_localhost_are_translated_only_where_ports_are_published(host: Host) -> None:
    host.run(WITH_NAMES, DB, "veth1")
    again()
    ((_, localhost),) = host.made["sysctls"]
    assert localhost is False


@pytest.mark.parametrize("on", [INTERNAL, UNMANAGED], ids=["internal", "the user's bridge"])
def test_network_that_this_host_is_no_gateway_of_has_nothing_to_restore(host: Host, on: Network) -> None:
    host.run(on, WEB, "veth1")
    assert again() == [(on, WEB)]
    assert host.made == NOTHING


def test_host_without_containers_is_cleared(host: Host) -> None:
    assert again() == []
    assert host.made == NOTHING


def test_port_without_an_interface_is_what_a_crash_left(host: Host) -> None:
    host.run(WITH_NAMES, WEB, "veth1", has_link=False)
    host.run(WITH_NAMES, DB, "veth2")
    assert again() == [(WITH_NAMES, DB)]


def test_container_of_a_network_that_podman_does_not_know_is_passed_over_with_a_warning(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    host.run(INTERNAL, DB, "veth2")
    assert again(INTERNAL) == [(INTERNAL, DB)]
    (warning,) = caplog.messages
    assert "veth1" in warning
    assert "net1" in warning


def test_container_whose_tags_somebody_changed_keeps_no_other_from_being_restored(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    host.ports[0][1]["published"] = "http"
    host.run(WITH_NAMES, DB, "veth2")
    assert again() == [(WITH_NAMES, DB)]
    assert "veth1" in caplog.messages[0]


def test_network_whose_options_somebody_changed_keeps_no_other_from_being_restored(host: Host) -> None:
    broken = replace(INTERNAL, options={**INTERNAL.options, "vni": "x"})
    host.run(broken, DB, "veth1")
    host.run(WITH_NAMES, WEB, "veth2")
    with refused("vni=x"):
        again(broken, WITH_NAMES)
    assert [gateway.bridge for gateway in host.made["firewall"][0][0]] == ["ovs_net1"]


def test_packet_filter_that_is_the_administrators_is_left_alone(host: Host) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    again(environ={"NETAVARK_FW": "none"})
    assert host.made.keys() == {"bridge", "sysctls", "dns"}


def test_host_without_a_resolver_has_no_names(host: Host) -> None:
    host.has_resolver = False
    host.run(WITH_NAMES, WEB, "veth1")
    again()
    assert host.made.keys() == {"bridge", "sysctls", "firewalld", "firewall"}


def test_resolver_on_another_port_has_its_way_again(host: Host) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    environ = {"NETAVARK_DNS_PORT": "5353"}
    again(environ=environ)
    assert host.made["firewall"][0][0] == [planned(WITH_NAMES, dns_port=5353).gateway]


def test_port_that_is_none_takes_no_rules_away_and_is_told_once(host: Host) -> None:
    host.run(WITH_NAMES, WEB, "veth1")
    host.run(INTERNAL, DB, "veth2")
    with pytest.raises(GeneveError, match="NETAVARK_DNS_PORT is 'domain'") as caught:
        again(environ={"NETAVARK_DNS_PORT": "domain"})
    assert str(caught.value).count("'domain'") == 1
    assert "firewall" not in host.made


@pytest.mark.parametrize(("broken", "made"), [("firewall.restore", "dns"), ("dns.replace_all", "firewall")])
def test_step_that_fails_keeps_no_other_from_being_made(
    host: Host, monkeypatch: pytest.MonkeyPatch, broken: str, made: str
) -> None:
    def fail(*_: Any) -> None:
        raise GeneveError(f"no luck with {broken}")

    monkeypatch.setattr(f"netavark_geneve.{broken}", fail)
    host.run(WITH_NAMES, WEB, "veth1")
    with refused(f"no luck with {broken}"):
        again()
    assert made in host.made
