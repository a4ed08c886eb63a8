# SPDX-License-Identifier: Apache-2.0
"""Who asks whether the addresses are free, who waits for our own switch, and what the others are told."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from netavark_geneve import arrival
from netavark_geneve.arrival import CONFLICT_WAIT, CONFLICT_WAIT_COLD, arriving
from netavark_geneve.errors import GeneveError
from netavark_geneve.model import AttachPlan, Veth

from .makers import planned

BRIDGE, CONTAINER = "bridge", "container"


@dataclass
class Network:
    """What is done in it, in order; the `bridge` has an interface or not, which goes meanwhile or not."""

    has_interface: bool = True
    goes: bool = False
    done: list[Any] = field(default_factory=list)


class Neighbours:
    """As seen from one interface."""

    def __init__(self, network: Network, whose: str) -> None:
        self.network = network
        self.whose = whose
        self.has_probed = False

    def is_cut_off(self) -> bool:
        return self.network.goes and self.has_probed

    def probe(self, prober: bytes | None = None) -> None:
        self.has_probed = True
        self.network.done.append((self.whose, "asks", *([prober] if prober else [])))

    def check_free(self, wait: float) -> None:
        self.network.done.append((self.whose, "hears", wait))

    def announce(self, *, was_here: bool) -> None:
        self.network.done.append("announced as one that was here" if was_here else "announced")

    def nudge(self) -> None:
        raise AssertionError(self)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()

    @contextmanager
    def open_socket(veth: Veth, interface: str | None = None) -> Iterator[Neighbours]:
        if interface is not None and not network.has_interface:
            raise GeneveError(interface)
        yield Neighbours(network, BRIDGE if interface else CONTAINER)

    class Rounds:
        def __init__(self, environ: Mapping[str, str]) -> None: ...

        def ask(self) -> None:
            network.done.append("round asked for")
            self.is_asked = True

        def wait(self, nudge: object) -> None:
            if getattr(self, "is_asked", False):
                network.done.append("round awaited")
            self.is_asked = False

        def close(self) -> None: ...

    monkeypatch.setattr(arrival, "open_socket", open_socket)
    monkeypatch.setattr(arrival, "Rounds", Rounds)
    return network


def arrive(
    plan: AttachPlan,
    *,
    was_here: bool = False,
    has_bridge: bool = True,
    is_userspace: bool = False,
    prober: bytes | None = None,
) -> None:
    with arriving(plan, {}, was_here=was_here, has_bridge=has_bridge, is_userspace=is_userspace) as addresses:
        addresses.look_from_bridge(prober)
        addresses.listen()
        addresses.ask()
        addresses.check_free()
        addresses.announce()


def test_an_address_that_is_new_is_asked_for_from_the_bridge_and_announced(network: Network) -> None:
    arrive(planned())
    assert network.done == [(BRIDGE, "asks"), (BRIDGE, "hears", CONFLICT_WAIT), "announced"]


def test_the_bridge_asks_by_the_mac_that_it_is_given_and_the_container_never(network: Network) -> None:
    network.goes = True
    arrive(planned(), prober=b"\x02known")
    assert network.done[:2] == [(BRIDGE, "asks", b"\x02known"), (CONTAINER, "asks")]


def test_one_that_was_here_waits_until_the_switch_has_forgotten_where(network: Network) -> None:
    arrive(planned(), was_here=True)
    assert network.done == [
        (BRIDGE, "asks"),
        "round asked for",
        (BRIDGE, "hears", CONFLICT_WAIT),
        "round awaited",
        "round asked for",
        "announced as one that was here",
        "round awaited",
    ]


def test_a_new_bridge_has_nothing_to_forget_but_other_hosts_have(network: Network) -> None:
    network.has_interface = False
    arrive(planned(), was_here=True, has_bridge=False)
    assert network.done == [
        (CONTAINER, "asks"),
        (CONTAINER, "hears", CONFLICT_WAIT),
        "announced as one that was here",
    ]


@pytest.mark.parametrize(("is_userspace", "wait"), [(False, CONFLICT_WAIT), (True, CONFLICT_WAIT_COLD)])
def test_new_tunnels_of_the_userspace_datapath_get_time_to_find_their_peers(
    network: Network, is_userspace: bool, wait: float
) -> None:
    network.has_interface = False
    arrive(planned(), has_bridge=False, is_userspace=is_userspace)
    assert network.done == [(CONTAINER, "asks"), (CONTAINER, "hears", wait), "announced"]


def test_a_bridge_that_went_meanwhile_heard_nothing(network: Network) -> None:
    network.goes = True
    arrive(planned())
    assert network.done == [
        (BRIDGE, "asks"),
        (CONTAINER, "asks"),
        (CONTAINER, "hears", CONFLICT_WAIT),
        "announced",
    ]


def test_who_does_not_look_for_conflicts_asks_nobody(network: Network) -> None:
    arrive(replace(planned(), detect_conflicts=False))
    assert network.done == ["announced"]


def test_from_another_vlan_or_a_bridge_of_the_users_nobody_is_seen(network: Network) -> None:
    plan = planned()
    for bridge in (replace(plan.bridge, vlan=7), replace(plan.bridge, managed=False)):
        arrive(replace(plan, bridge=bridge))
        assert network.done.pop(0) == (CONTAINER, "asks")
        network.done.clear()
