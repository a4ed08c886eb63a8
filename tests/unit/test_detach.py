# SPDX-License-Identifier: Apache-2.0
"""The steps of a detach, each of which may find nothing left, or fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve import detach as detach_verb
from netavark_geneve import leave, links, naming, switch
from netavark_geneve.errors import GeneveError
from netavark_geneve.model import Container, Network, Route

from .makers import CONTAINER_ID, NETWORK_ID, container, created, network, refused

ROUTES = (
    Route(ip_network("10.0.0.0/8"), None, kind="blackhole"),
    Route(ip_network("10.1.0.0/16"), ip_address("172.16.0.1")),
)
ALIAS = naming.alias("net1", "web", CONTAINER_ID, "eth0")
STEM = naming.veth_stem(NETWORK_ID, CONTAINER_ID, "eth0")


class Host:
    """A host whose switch knows the container's port, or has none, or does not answer."""

    def __init__(self) -> None:
        self.port: str | None = "veth1"
        self.answers = True
        self.steps: list[tuple[Any, ...]] = []
        self.broken: set[str] = set()

    @contextmanager
    def connect(self, *_: object, **named: object) -> Iterator["Host"]:
        if not self.answers:
            raise GeneveError("no OVSDB socket")
        yield self

    def find_port(self, tags: object) -> str | None:
        return self.port

    def record(self, step: str) -> Any:
        def record(*arguments: Any, **named: Any) -> None:
            self.steps.append((step, *arguments))
            if step in self.broken:
                raise GeneveError(f"no luck with {step}")

        return record

    def names(self) -> list[str]:
        return [step for step, *_ in self.steps]


@contextmanager
def namespace(path: str) -> Iterator[int]:
    yield 7


@contextmanager
def inside(netns: int) -> Iterator[None]:
    yield


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(switch, "connect", made.connect)
    monkeypatch.setattr(links, "namespace", namespace)
    monkeypatch.setattr(links, "inside", inside)
    for name in ("make_vanish", "remove_left", "remove_routes"):
        monkeypatch.setattr(links, name, made.record(name))
    for name in ("leave", "forget"):
        monkeypatch.setattr(leave, name, made.record(name))
    return made


@pytest.fixture
def netns(tmp_path: Path) -> str:
    """It is there."""
    (tmp_path / "netns").touch()
    return str(tmp_path / "netns")


def go(netns: str, on: Network | None = None, who: Container | None = None) -> None:
    detach_verb.detach(on or created(), who or container(), netns, {})


def test_port_leaves_the_switch_before_its_interface_goes(host: Host, netns: str) -> None:
    go(netns)
    assert host.names() == ["leave", "make_vanish"]
    assert host.steps[-1] == ("make_vanish", "veth1")


def test_interface_that_the_switch_does_not_know_is_found_by_its_alias_or_stem(host: Host, netns: str) -> None:
    host.port = None
    go(netns)
    assert host.steps[-1] == ("remove_left", ALIAS, STEM)


def test_switch_that_does_not_answer_keeps_nothing_else_from_going(host: Host, netns: str) -> None:
    host.answers = False
    with refused("detach web from network net1", "no OVSDB socket"):
        go(netns)
    assert host.names() == ["forget", "remove_left"]


@pytest.mark.parametrize(("broken", "last"), [("leave", "remove_left"), ("remove_routes", "make_vanish")])
def test_step_that_fails_keeps_no_other_from_being_made(host: Host, netns: str, broken: str, last: str) -> None:
    host.broken = {broken}
    with refused("detach web from network net1", f"no luck with {broken}"):
        go(netns, created(network(routes=ROUTES)))
    assert host.names() == ["leave", "remove_routes", last]


def test_all_that_failed_is_told(host: Host, netns: str) -> None:
    host.broken = {"leave", "remove_left"}
    with refused("no luck with leave; no luck with remove_left"):
        go(netns)


class TestRoutes:
    """Those of the network that do not go with its interface."""

    @pytest.mark.parametrize("own", [("192.168.120.2", "fd00::2"), ()], ids=["addresses", "Podman lost them"])
    def test_they_are_removed_with_the_subnets_that_tell_which_do(
        self, host: Host, netns: str, own: tuple[str, ...]
    ) -> None:
        on = created(network("192.168.120.0/24", "fd00::/64", routes=ROUTES))
        go(netns, on, container(addresses=tuple(map(ip_address, own))))
        assert host.steps[1] == ("remove_routes", ROUTES, [ip_network("192.168.120.0/24"), ip_network("fd00::/64")])

    def test_container_that_is_gone_has_none_left(self, host: Host, tmp_path: Path) -> None:
        go(str(tmp_path / "gone"), created(network(routes=ROUTES)))
        assert host.names() == ["leave", "make_vanish"]
