# SPDX-License-Identifier: Apache-2.0
"""What goes when a container leaves, and what goes with the last one."""

from dataclasses import replace
from typing import Any

import pytest

from netavark_geneve import dns, firewall, firewalld, leave, naming, sysctls
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Container, Network

from .makers import CONTAINER_ID, NETWORK_ID, container, created, network, port, refused, with_router

Steps = dict[str, tuple[Any, ...]]


class FakeSwitch:
    """A switch whose bridge goes when the container leaves, unless it has more."""

    def __init__(self, *, others: bool, follows: bool, error: GeneveError | None) -> None:
        self.bridge_is_there, self.others, self.follows, self.error = True, others, follows, error
        self.left: list[Any] = []

    def detach(self, bridge: str, tags: dict[str, str], deadline: Deadline, *, wait: bool) -> bool:
        if self.error:
            raise self.error
        self.left.append((bridge, tags))
        self.waited = wait
        self.bridge_is_there = self.others
        return self.follows

    def has_bridge(self, bridge: str, network_id: str) -> bool:
        assert (bridge, network_id) == ("ovs_net1", NETWORK_ID)
        return self.bridge_is_there


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The steps that were made, in their order, each with what it was told."""
    made: Steps = {}

    def recording(step: str) -> Any:
        def record(*arguments: Any, **named: Any) -> None:
            if "is_needed" in named:
                named["is_needed"] = named["is_needed"]()
            made[step] = (*(each for each in arguments if not isinstance(each, Deadline)), *named.values())

        return record

    for module, name in (
        (dns, "remove_names"),
        (firewall, "remove"),
        (firewalld, "remove_trusted"),
        (sysctls, "remove"),
        (leave, "remove_left_tap"),
    ):
        monkeypatch.setattr(module, name, recording(f"{module.__name__.rpartition('.')[2]}.{name}"))
    return made


def go(
    on: Network | None = None,
    who: Container | None = None,
    *,
    others: bool = False,
    follows: bool = True,
    error: GeneveError | None = None,
    environ: dict[str, str] | None = None,
) -> FakeSwitch:
    ovs: Any = FakeSwitch(others=others, follows=follows, error=error)
    leave.leave(ovs, on or named(), who or container(), environ or {}, Deadline(10))
    return ovs  # type: ignore[no-any-return]


def named(**fields: Any) -> Network:
    return created(replace(network(dns_enabled=True), **fields))


SUBNETS = [each.subnet for each in named().subnets]


def test_port_leaves_the_switch_by_its_tags(steps: Steps) -> None:
    assert go().left == [("ovs_net1", naming.container_tags(NETWORK_ID, CONTAINER_ID, "eth0"))]


@pytest.mark.parametrize(("options", "waited"), [({}, False), ({"host_interface_name": "web0"}, True)])
def test_only_a_name_that_comes_back_is_waited_for(steps: Steps, options: dict[str, str], waited: bool) -> None:
    """ovs-vswitchd would take the next device of the name for this one."""
    assert go(who=container(options=options)).waited is waited


def test_last_container_takes_everything_along(steps: Steps) -> None:
    go(who=container(ports=(port(),)))
    assert steps == {
        "leave.remove_left_tap": ("ovs_net1", {}),
        "dns.remove_names": ("net1", CONTAINER_ID),
        "firewall.remove": ("ovs_net1", CONTAINER_ID, False, True),
        "firewalld.remove_trusted": (SUBNETS,),
        "sysctls.remove": ("ovs_net1",),
    }


def test_container_that_is_not_the_last_takes_its_names_and_ports(steps: Steps) -> None:
    go(others=True)
    assert steps == {
        "dns.remove_names": ("net1", CONTAINER_ID),
        "firewall.remove": ("ovs_net1", CONTAINER_ID, True, False),
    }


def test_network_without_names_has_none_to_forget(steps: Steps) -> None:
    go(created())
    assert "dns.remove_names" not in steps
    assert "firewall.remove" in steps


def test_internal_network_with_names_has_a_gateway_to_forget(steps: Steps) -> None:
    go(named(internal=True))
    assert list(steps) == [
        *("leave.remove_left_tap", "dns.remove_names", "firewall.remove", "firewalld.remove_trusted", "sysctls.remove")
    ]


@pytest.mark.parametrize(
    "on",
    [
        created(network(internal=True)),
        with_router(),
        replace(created(mode="unmanaged"), bridge="ovs_net1"),
        created(replace(network(ipam_driver="none"), subnets=())),
    ],
    ids=["internal", "a router's", "the user's bridge", "layer 2 only"],
)
def test_network_that_this_host_is_no_gateway_of_has_nothing_outside_the_switch(steps: Steps, on: Network) -> None:
    assert len(go(on).left) == 1
    assert steps.keys() <= {"leave.remove_left_tap"}


def test_only_subnets_whose_gateway_is_here_were_trusted(steps: Steps) -> None:
    router = with_router().subnets[0]
    on = created(network(router, "fd00::/64"))
    go(on)
    assert steps["firewalld.remove_trusted"] == ([on.subnets[1].subnet],)


def test_packet_filter_that_is_the_administrators_is_left_alone(steps: Steps) -> None:
    """firewall_driver = "none": neither our table nor firewalld's zone was touched, so neither is now."""
    go(environ={"NETAVARK_FW": "none"})
    assert list(steps) == ["leave.remove_left_tap", "dns.remove_names", "sysctls.remove"]


@pytest.mark.parametrize(
    ("on", "others", "removed"),
    [
        (named(), False, True),
        (named(), True, False),
        (replace(created(mode="unmanaged"), bridge="ovs_net1"), False, False),
    ],
    ids=["last", "not the last", "the user's bridge"],
)
@pytest.mark.parametrize("follows", [True, False], ids=["alive", "dead"])
def test_interface_that_vswitchd_left_goes_with_its_bridge(
    steps: Steps, caplog: pytest.LogCaptureFixture, on: Network, others: bool, removed: bool, follows: bool
) -> None:
    go(on, others=others, follows=follows)
    assert ("leave.remove_left_tap" in steps) is removed
    assert ["ovs-vswitchd does not follow" in message for message in caplog.messages] == [True] * (not follows)


def test_interface_of_somebody_elses_bridge_stays(steps: Steps) -> None:
    """An attach that found the name taken is undone by the same way."""
    ovs: Any = FakeSwitch(others=False, follows=True, error=None)
    ovs.bridge_is_there = False
    leave.leave(ovs, named(), container(), {}, Deadline(10))
    assert "leave.remove_left_tap" not in steps


def test_switch_that_fails_keeps_nothing_else_from_going(steps: Steps) -> None:
    with refused("ovsdb-server refused"):
        go(error=GeneveError("ovsdb-server refused"))
    assert list(steps) == ["dns.remove_names", "firewall.remove"]


@pytest.fixture(params=["dns.remove_names", "firewall.remove", "firewalld.remove_trusted"])
def broken(request: pytest.FixtureRequest, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> str:
    """A step that fails."""

    def fail(*_: Any, **__: Any) -> None:
        raise GeneveError("no luck")

    monkeypatch.setattr(f"netavark_geneve.{request.param}", fail)
    return str(request.param)


def test_step_that_fails_keeps_no_other_from_being_made(steps: Steps, broken: str) -> None:
    with refused("no luck"):
        go()
    everything = {
        *("leave.remove_left_tap", "dns.remove_names", "firewall.remove", "firewalld.remove_trusted", "sysctls.remove")
    }
    assert steps.keys() == everything - {broken}


def test_network_from_before_create_chose_a_bridge_has_the_one_of_its_name(steps: Steps) -> None:
    go(replace(named(), bridge=None))
    assert steps["sysctls.remove"] == ("ovs_net1",)
