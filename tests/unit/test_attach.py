# SPDX-License-Identifier: Apache-2.0
"""What an attach that fails at its first step leaves of the host's interfaces. All the rest is seen on real hosts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from netavark_geneve import interior, leave, links, naming, switch, sysctls
from netavark_geneve.attach import attach
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import AttachPlan, Container, Veth

from .makers import CONTAINER_ID, container, created, facts, refused

OWN = {"host_interface_name": "web0"}


class Interfaces:
    """The host's interfaces and their aliases, as links.py changes them."""

    def __init__(self) -> None:
        self.aliases = {"eth0": "", "web1": "geneve-ovs net1 db cdcdcdcdcdcd eth0"}
        self.asked_for: set[str] = set()  # of the switch
        self.has_many_ports = False

    def ensure_name_free(self, veth: Veth) -> None:
        if self.aliases.get(veth.name, veth.alias) != veth.alias:
            raise GeneveError(f"this host already has an interface {veth.name}")
        self.remove_link(veth.name)

    def create_veth(self, veth: Veth, netns: int) -> None:
        assert veth.name not in self.aliases
        self.aliases[veth.name] = veth.alias

    def prepare(self, veth: Veth) -> None:
        assert (veth.name in self.asked_for) is self.has_many_ports  # before it was made
        raise GeneveError(f"cannot set up {veth.interface}")

    def remove_veth(self, veth: Veth) -> None:
        self.remove_link(veth.name)

    def remove_link(self, name: str) -> None:
        self.aliases.pop(name, None)


class FakeSwitch:
    """It knows of no bridge, and of the ports that it is asked for."""

    def __init__(self, host: Interfaces) -> None:
        self.host = host

    def find_port(self, tags: dict[str, str]) -> str | None:
        return None

    def drop_port(self, name: str, deadline: Deadline) -> None:
        """There is none."""

    def find_datapath_type(self, bridge: str) -> str | None:
        return None

    def has_bridge(self, name: str, network_id: str) -> bool:
        return False

    def count_ports(self, bridge: str) -> int:
        return switch.MANY_PORTS if self.host.has_many_ports else switch.MANY_PORTS - 1

    @contextmanager
    def attaching(self, plan: AttachPlan, deadline: Deadline) -> Iterator[None]:
        assert plan.veth.name not in self.host.aliases
        assert self.host.has_many_ports
        self.host.asked_for.add(plan.veth.name)
        yield

    def detach(self, *_: object, **named: object) -> bool:
        self.host.asked_for.clear()
        return True


@contextmanager
def inside(netns: int) -> Iterator[None]:
    yield


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Interfaces:
    made = Interfaces()
    for name in ("ensure_name_free", "create_veth", "remove_link", "remove_veth"):
        monkeypatch.setattr(links, name, getattr(made, name))
    monkeypatch.setattr(links, "inside", inside)
    monkeypatch.setattr(interior, "prepare", made.prepare)
    monkeypatch.setattr(switch, "connect", lambda *_, **named: nullcontext(FakeSwitch(made)))
    monkeypatch.setattr(sysctls, "write", lambda gateway: None)
    monkeypatch.setattr(leave, "forget", lambda *_, **named: None)
    return made


def go(who: Container) -> None:
    attach(created(on=facts()), who, "/proc/self/ns/net", {})


@pytest.mark.parametrize("many", [False, True], ids=["few ports", "many"])
@pytest.mark.parametrize("options", [{}, OWN], ids=["derived name", "name of the user"])
def test_interface_that_cannot_be_set_up_is_taken_back(host: Interfaces, options: dict[str, str], many: bool) -> None:
    host.has_many_ports = many
    before = dict(host.aliases)
    with refused("attach web to network net1", "cannot set up eth0"):
        go(container(options=options))
    assert (host.aliases, host.asked_for) == (before, set())


@pytest.mark.parametrize("taken", ["eth0", "web1"], ids=["the host's", "another container's"])
def test_interface_of_others_stays_when_its_name_is_asked_for(host: Interfaces, taken: str) -> None:
    before = dict(host.aliases)
    with refused("attach web to network net1", taken):
        go(container(options={"host_interface_name": taken}))
    assert host.aliases == before


def test_interface_that_an_attempt_left_under_the_users_name_is_replaced(host: Interfaces) -> None:
    before = dict(host.aliases)
    host.aliases["web0"] = naming.alias("net1", "web", CONTAINER_ID, "eth0")
    with refused("cannot set up eth0"):
        go(container(options=OWN))
    assert host.aliases == before
