# SPDX-License-Identifier: Apache-2.0
"""`netavark-geneve gc`: the order of looking, waiting and removing. What is stale is decided in test_stale.py."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from netavark_geneve import attach, detach, dns, firewall, firewalld, gc, linklist, links, stale, sweep, sysctls
from netavark_geneve.addresses import Network as IPNetwork
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.found import Bridge, Found, Link, Owner, Port
from netavark_geneve.model import Line, Network, Settings

from .makers import CONTAINER_ID, created, network, refused

NET1 = created(network(dns_enabled=True))
SHORT = CONTAINER_ID[:12]
PORT = Port(UUID(int=1), "veth1", "ovs_net1", "net1", CONTAINER_ID, "web", "eth0", "this")
BRIDGE = Bridge(UUID(int=2), "ovs_net1", "net1", is_ours=True)
LINK = Link(7, "veth1", "veth", Owner("net1", "web", SHORT, "eth0"))
TAP = Link(8, "ovs_net1", "tun")
CHAINS = ("network/ovs_net1", f"published/ovs_net1/{SHORT}")
LINE = Line("net1", CONTAINER_ID, "web")
FILE = Settings("/run/sysctl.d/10-geneve-ovs-ovs_net1.conf", "ovs_net1")
UNFINISHED = "/run/sysctl.d/10-geneve-ovs-ovs_net1.7"
DRAFT = "/run/netavark-geneve/aardvark-dns.new"
EMPTY = Found("this")
INSIDE = replace(EMPTY, ports=(PORT,), bridges=(BRIDGE,), links=(LINK, TAP))
OUTSIDE = replace(
    EMPTY,
    chains=CHAINS,
    has_table=True,
    lines=(LINE,),
    has_resolver=True,
    settings=(FILE,),
    unfinished=(UNFINISHED,),
)
LIVE = replace(INSIDE, **{name: getattr(OUTSIDE, name) for name in ("chains", "has_table", "lines", "has_resolver")})


class Host:
    """A host whose every part is looked at and changed by a stand-in; `after` runs after each look at OVSDB."""

    def __init__(self) -> None:
        self.now = EMPTY
        self.log: list[str] = []
        self.trusted: set[IPNetwork] = set()
        self.follows = True
        self.after: Callable[[], None] = lambda: None
        self.broken: dict[str, GeneveError] = {}

    def change(self, step: str, **fields: Any) -> None:
        if step in self.broken:
            raise self.broken[step]
        self.log.append(step)
        self.now = replace(self.now, **fields)

    # Open vSwitch

    @contextmanager
    def connect(self, environ: object, deadline: Deadline) -> Iterator["Host"]:
        if "connect" in self.broken:
            raise self.broken["connect"]
        yield self
        self.after()

    def find_all(self) -> tuple[tuple[Port, ...], tuple[Bridge, ...]]:
        return self.now.ports, self.now.bridges

    def has_completed(self, next_cfg: int, deadline: Deadline) -> bool:
        return self.follows

    def remove(self, bridge: str, ports: Collection[UUID], *, with_bridge: bool, deadline: Deadline) -> int:
        kept = tuple(port for port in self.now.ports if port.row not in ports)
        goes = with_bridge and not any(port.bridge == bridge for port in kept)
        bridges = tuple(each for each in self.now.bridges if not goes or each.name != bridge)
        self.change(f"switch {bridge}", ports=kept, bridges=bridges)
        return 1

    # everything else

    def remove_link(self, wanted: object, name: str = "") -> None:
        kept = tuple(each for each in self.now.links if wanted not in (each.index, each.name))
        self.change(f"link {wanted}", links=kept)

    def find_chains(self) -> tuple[str, ...] | None:
        return self.now.chains if self.now.has_table else None

    def remove_chains(self, find_stale: Callable[[Collection[str]], Collection[str]], deadline: Deadline) -> None:
        gone = set(find_stale(self.now.chains))
        kept = tuple(name for name in self.now.chains if name not in gone)
        self.change("rules", chains=kept, has_table=bool(kept))

    def remove_lines(self, find_stale: Callable[[Collection[Line]], Iterable[Line]]) -> None:
        gone = set(find_stale(self.now.lines))
        kept = tuple(line for line in self.now.lines if line not in gone)
        unfinished = tuple(path for path in self.now.unfinished if path != DRAFT)
        self.change("names", lines=kept, has_resolver=bool(kept), unfinished=unfinished)

    def remove_file(self, file: Settings, is_needed: Callable[[], bool]) -> None:
        needed = is_needed()
        self.change("settings", settings=tuple(each for each in self.now.settings if needed or each != file))

    def remove_unfinished(self, path: str) -> None:
        self.change("unfinished", unfinished=tuple(each for each in self.now.unfinished if each != path))

    def find_unfinished(self, draft: bool) -> tuple[str, ...]:
        return tuple(path for path in self.now.unfinished if (path == DRAFT) is draft)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    stand_ins_of: dict[Any, dict[str, Callable[..., Any]]] = {
        sweep: {"connect": made.connect, "check_namespace": lambda environ: None},
        linklist: {"find_all": lambda names: made.now.links},
        links: {"remove_found": made.remove_link},
        gc: {"remove_left_tap": lambda bridge, environ, deadline: made.remove_link(bridge)},
        firewall: {"find_chains": made.find_chains, "remove_chains": made.remove_chains},
        firewalld: {
            "is_installed": lambda: True,
            "ensure_trusted": lambda subnets, deadline: made.trusted.update(subnets),
            "remove_trusted": lambda subnets, deadline: made.trusted.difference_update(subnets),
        },
        dns: {
            "find_lines": lambda: made.now.lines,
            "has_instance": lambda: made.now.has_resolver,
            "find_unfinished": lambda: made.find_unfinished(draft=True),
            "remove_lines": made.remove_lines,
        },
        sysctls: {
            "boot_id": lambda: "this",
            "find_files": lambda: made.now.settings,
            "find_unfinished": lambda: made.find_unfinished(draft=False),
            "remove_file": made.remove_file,
            "remove_unfinished": made.remove_unfinished,
        },
    }
    for module, stand_ins in stand_ins_of.items():
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(module, name, stand_in)
    return made


def collect(
    *networks: Network, apply: bool = True, meanwhile: Callable[[], None] = lambda: None
) -> tuple[gc.Report, list[float]]:
    """What gc reports, and the waits it made; `meanwhile` happens in each of them."""
    waits = []

    def wait(seconds: float, things: int) -> None:
        waits.append(seconds)
        meanwhile()

    return gc.gc(networks or (NET1,), {}, apply=apply, wait=wait), waits


def kinds(things: Iterable[stale.Thing]) -> list[str]:
    return [thing.kind for thing in things]


def test_grace_is_longer_than_any_request_takes() -> None:
    """Or a container that is just starting would lose its interface."""
    assert attach.DEADLINE + attach.UNDO_DEADLINE < gc.GRACE
    assert detach.DEADLINE < gc.GRACE


def test_nothing_is_done_to_a_host_where_all_is_well(host: Host) -> None:
    host.now = replace(LIVE, settings=(FILE,))
    report, waits = collect()
    assert (report, waits, host.log) == (gc.Report(()), [], [])


def test_what_a_boot_left_is_removed_at_once(host: Host) -> None:
    """Nothing but the rows outlive it; containers that are to start are not kept waiting."""
    host.now = replace(EMPTY, ports=(replace(PORT, boot_id="earlier"),), bridges=(BRIDGE,))
    report, waits = collect()
    assert (kinds(report.things), len(report.removed), report.error) == (["port", "bridge"], 2, None)
    assert waits == []
    assert host.now == EMPTY


def test_everything_that_is_left_is_removed_in_order(host: Host) -> None:
    host.now = replace(INSIDE, ports=(), **outside(unfinished=(UNFINISHED, DRAFT)))
    report, waits = collect()
    assert sum(waits) == gc.GRACE
    assert set(report.things) == report.removed
    assert host.now == EMPTY
    assert host.log == ["switch ovs_net1", "link ovs_net1", "link 7", "rules", "names", "settings", "unfinished"]


def outside(**fields: Any) -> dict[str, Any]:
    """All that is left outside of OVSDB and of the interfaces."""
    names = ("chains", "has_table", "lines", "has_resolver", "settings", "unfinished")
    return {name: getattr(OUTSIDE, name) for name in names} | fields


def test_without_apply_nothing_is_removed(host: Host) -> None:
    host.now = replace(INSIDE, ports=(), **outside())
    report, _ = collect(apply=False)
    assert len(report.things) == 7
    assert (report.removed, host.log) == (frozenset(), [])


@pytest.mark.parametrize(
    "first",
    [replace(EMPTY, links=(LINK,)), replace(LIVE, links=(TAP,))],
    ids=["its link is first", "its port is first"],
)
def test_container_that_was_just_starting_is_left_alone(host: Host, first: Found) -> None:
    host.now = replace(first, settings=(FILE,))

    def start() -> None:
        host.now = replace(LIVE, settings=(FILE,))

    report, waits = collect(meanwhile=start)
    assert (report, waits, host.log) == (gc.Report(()), [gc.GRACE / gc.PARTS], [])


def test_container_that_was_just_ending_is_not_told(host: Host) -> None:
    host.now = replace(EMPTY, links=(LINK,), **outside(unfinished=()))

    def end() -> None:
        host.now = EMPTY

    report, _ = collect(apply=False, meanwhile=end)
    assert report == gc.Report(())


def test_port_that_went_just_before_its_interface_was_looked_for_is_not_told(host: Host) -> None:
    host.now = replace(INSIDE, links=(TAP,))
    host.after = lambda: setattr(host, "now", EMPTY)
    assert collect() == (gc.Report(()), [gc.GRACE / gc.PARTS])


@pytest.mark.parametrize("left", ["links", "chains", "lines", "settings"])
def test_what_a_container_needs_that_starts_at_the_last_moment_stays(host: Host, left: str) -> None:
    """The decision that counts is made when nobody can come in between."""
    started = replace(LIVE, settings=(FILE,))
    fields = {left: getattr(started, left)}
    host.now = replace(EMPTY, has_table=left == "chains", has_resolver=left == "lines", **fields)

    def start() -> None:
        host.after = lambda: setattr(host, "now", started)

    report, _ = collect(meanwhile=start)

    assert host.now == started
    assert report.things == ()


def test_network_that_goes_is_no_source_of_firewalld_any_more(host: Host) -> None:
    subnets = {subnet.subnet for subnet in NET1.subnets}
    host.trusted = {*subnets}
    host.now = replace(EMPTY, chains=CHAINS, has_table=True)
    collect()
    assert host.trusted == set()


def test_network_that_comes_back_meanwhile_is_put_back_into_firewalld(host: Host, monkeypatch: Any) -> None:
    subnets = {subnet.subnet for subnet in NET1.subnets}
    host.trusted = {*subnets}
    host.now = replace(EMPTY, chains=CHAINS, has_table=True)

    def remove(subnets: Iterable[IPNetwork], deadline: Deadline) -> None:
        host.trusted.difference_update(subnets)
        host.now = LIVE

    monkeypatch.setattr(firewalld, "remove_trusted", remove)
    collect()
    assert host.trusted == subnets


@pytest.mark.parametrize(
    "stranger",
    [replace(NET1, driver="bridge"), replace(NET1, options={**NET1.options, "mode": "unmanaged"})],
    ids=["of another driver", "unmanaged"],
)
def test_tap_with_the_name_of_somebody_elses_bridge_is_left_alone(host: Host, stranger: Network) -> None:
    host.now = replace(EMPTY, links=(TAP,))
    assert collect(stranger)[0] == gc.Report(())
    assert kinds(collect(NET1)[0].removed) == ["interface"]


def test_step_that_fails_keeps_no_other_from_being_made(host: Host) -> None:
    host.now = replace(INSIDE, ports=(), **outside())
    host.broken = {"rules": GeneveError("nft is out"), "link 7": GeneveError("no such luck")}
    report, _ = collect()
    assert str(report.error) == "no such luck; nft is out"
    assert kinds(thing for thing in report.things if thing not in report.removed) == ["interface", "chain", "chain"]
    assert host.log == ["switch ovs_net1", "link ovs_net1", "names", "settings", "unfinished"]


def test_switch_that_does_not_follow_is_a_warning(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.now = replace(EMPTY, ports=(PORT,), bridges=(BRIDGE,))
    host.follows = False
    report, _ = collect()
    assert len(report.removed) == 2
    assert "ovs-vswitchd does not follow" in caplog.text


def test_without_a_database_nothing_is_known_and_nothing_done(host: Host) -> None:
    host.now = replace(EMPTY, **outside())
    host.broken = {"connect": GeneveError("no OVSDB socket")}
    with refused("no OVSDB socket"):
        collect()
    assert host.log == []


def test_database_that_goes_away_in_between_is_told_with_what_was_found(host: Host) -> None:
    host.now = replace(EMPTY, ports=(replace(PORT, boot_id="earlier"),))
    looks = iter("ab")

    def go() -> None:
        if next(looks) == "b":
            host.broken = {"connect": GeneveError("no OVSDB socket")}

    host.after = go
    report, _ = collect()
    assert str(report.error) == "no OVSDB socket"
    assert (kinds(report.things), report.removed) == (["port"], frozenset())


def test_other_network_namespace_than_the_switchs_is_refused(host: Host, monkeypatch: Any) -> None:
    def check(environ: object) -> None:
        raise GeneveError("this is not the network namespace that Open vSwitch is in")

    host.now = replace(EMPTY, ports=(PORT,))
    monkeypatch.setattr(sweep, "check_namespace", check)
    with refused("not the network namespace"):
        collect()
