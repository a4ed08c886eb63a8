# SPDX-License-Identifier: Apache-2.0
"""What is stale: everything that serves nobody, and nothing that serves somebody."""

from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.found import Bridge, Found, Link, Owner, Port
from netavark_geneve.model import Line, Settings
from netavark_geneve.stale import Thing, confirmed, find_stale, judge

from .makers import CONTAINER_ID, ids

BOOT, EARLIER = "this", "earlier"
NETWORKS = {"net1": "ovs_net1", "net2": "ovs_net2"}
SHORT = CONTAINER_ID[:12]
PORT = Port(UUID(int=1), "veth1", "ovs_net1", "net1", CONTAINER_ID, "web", "eth0", BOOT)
BRIDGE = Bridge(UUID(int=2), "ovs_net1", "net1", is_ours=True)
LINK = Link(7, "veth1", "veth", Owner("net1", "web", SHORT, "eth0"))
TAP = Link(8, "ovs_net1", "tun")
LIVE = Found(
    BOOT,
    ports=(PORT,),
    bridges=(BRIDGE,),
    links=(LINK, TAP),
    chains=("network/ovs_net1", "resolver/ovs_net1", f"published/ovs_net1/{SHORT}"),
    has_table=True,
    lines=(Line("net1", CONTAINER_ID, "web,www"),),
    has_resolver=True,
    settings=(Settings("/run/sysctl.d/10-geneve-ovs-ovs_net1.conf", "ovs_net1"),),
    networks=tuple((bridge, network) for network, bridge in NETWORKS.items()),
)
OTHER_BOOT = (replace(PORT, boot_id=EARLIER),)


def told(found: Found) -> list[str]:
    """What a person reads."""
    return [str(thing) for thing in find_stale(found)]


def test_nothing_of_a_running_container_is_stale() -> None:
    assert find_stale(LIVE) == []


def test_host_without_anything_has_nothing_stale() -> None:
    assert find_stale(Found(BOOT)) == []


def test_everything_of_a_container_whose_interface_is_gone_is_stale() -> None:
    whose = f"of container web ({SHORT}) on network net1"
    assert told(replace(LIVE, links=(TAP,))) == [
        f"port veth1 {whose}: its interface is gone",
        "bridge ovs_net1 of network net1: no container is on it",
        "chain network/ovs_net1 of network net1: its network has no container here",
        "chain resolver/ovs_net1 of network net1: its network has no container here",
        f"chain published/ovs_net1/{SHORT} of container {SHORT} on network net1: its container is not on that network",
        f"names web,www of container {SHORT} on network net1: its container is not on that network",
        "file /run/sysctl.d/10-geneve-ovs-ovs_net1.conf of network net1: its network has no container here",
    ]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (
            replace(LIVE, ports=OTHER_BOOT, links=()),
            f"port veth1 of container web ({SHORT}) on network net1: it is of an earlier boot",
        ),
        (
            replace(LIVE, links=(replace(LINK, name="veth2"),)),
            f"port veth1 of container web ({SHORT}) on network net1: its interface is gone",
        ),
        (
            replace(LIVE, links=(replace(LINK, owner=Owner("net1", "db", "f" * 12, "eth0")),)),
            f"port veth1 of container web ({SHORT}) on network net1: its interface is gone",
        ),
        (
            replace(LIVE, links=(LINK, replace(LINK, name="veth2", index=9))),
            f"interface veth2 of container web ({SHORT}) on network net1: no bridge has it",
        ),
        (
            replace(LIVE, ports=OTHER_BOOT),
            f"interface veth1 of container web ({SHORT}) on network net1: its port is stale",
        ),
        (Found(BOOT, links=(TAP,), networks=LIVE.networks), "interface ovs_net1 of network net1: its bridge is gone"),
        (Found(BOOT, chains=("network/ovs_net9",)), "chain network/ovs_net9: its network has no container here"),
        (Found(BOOT, has_table=True), "table inet netavark_geneve: it serves no network"),
        (Found(BOOT, has_resolver=True), "resolver aardvark-dns: it has no names to answer for"),
        (Found(BOOT, lines=(Line("net9"),)), "names (none) of network net9: its container is not on that network"),
        (Found(BOOT, unfinished=("/run/x.7",)), "file /run/x.7: whoever wrote it never finished"),
    ],
)
def test_leftover_is_told_with_the_reason(found: Found, wanted: str) -> None:
    assert wanted in told(found)


@pytest.mark.parametrize(
    "found",
    [
        replace(LIVE, bridges=(replace(BRIDGE, is_ours=False),)),  # mode=unmanaged has rules, files of nobody's
        replace(LIVE, bridges=(replace(BRIDGE, has_others=True),), ports=()),
    ],
    ids=["somebody else's", "with ports of somebody else's"],
)
def test_bridge_of_others_is_not_stale(found: Found) -> None:
    assert "bridge" not in {thing.kind for thing in find_stale(found)}


def test_rules_of_a_bridge_that_stays_for_others_stay() -> None:
    kept = replace(LIVE, bridges=(replace(BRIDGE, has_others=True),), ports=(), links=(TAP,), lines=())
    assert told(kept) == [
        f"chain published/ovs_net1/{SHORT} of container {SHORT} on network net1: its container is not on that network",
        "resolver aardvark-dns: it has no names to answer for",
    ]


@pytest.mark.parametrize(
    "broken", [replace(PORT, container_id=""), replace(PORT, interface="")], ids=["container-id", "container-interface"]
)
def test_port_whose_tags_somebody_changed_keeps_its_interface_and_bridge(broken: Port) -> None:
    kinds = {thing.kind for thing in find_stale(replace(LIVE, ports=(broken,)))}
    assert kinds <= {"chain", "names"}


def test_port_of_before_there_were_boot_ids_is_known_by_its_interface() -> None:
    assert find_stale(replace(LIVE, ports=(replace(PORT, boot_id=""),))) == []


def test_container_on_a_bridge_of_the_users_is_live() -> None:
    found = Found(
        BOOT,
        ports=(replace(PORT, bridge="br-ex"),),
        bridges=(Bridge(UUID(int=3), "br-ex"),),
        links=(LINK,),
    )
    assert find_stale(found) == []


def test_interface_that_is_called_like_no_bridge_of_ours_is_not_judged() -> None:
    assert list(judge(Found(BOOT, links=(replace(TAP, name="tun0"),), networks=LIVE.networks))) == []


def test_chain_that_somebody_else_made_in_our_table_is_not_judged() -> None:
    assert [
        thing.kind for thing in judge(Found(BOOT, chains=("mine", "network/a/b", "published/x"), has_table=True))
    ] == ["table"]


class TestConfirmed:
    """What is stale stays so."""

    GONE = replace(LIVE, ports=(), bridges=(), links=(LINK,))

    def test_what_is_seen_twice_is_stale(self) -> None:
        things = find_stale(self.GONE)
        assert confirmed(things, find_stale(self.GONE)) == things

    def test_what_has_explained_itself_meanwhile_is_not(self) -> None:
        assert confirmed(find_stale(self.GONE), find_stale(LIVE)) == []

    def test_what_came_since_is_not_yet(self) -> None:
        assert confirmed([], find_stale(self.GONE)) == []

    def test_interface_that_was_made_anew_is_another_one(self) -> None:
        again = replace(self.GONE, links=(replace(LINK, index=70),))
        seen = confirmed(find_stale(self.GONE), find_stale(again))
        assert "interface" not in {thing.kind for thing in seen}

    def test_container_that_came_back_has_more_than_the_port_that_it_left(self) -> None:
        left = replace(PORT, row=UUID(int=9), name="veth9")
        assert [thing.name for thing in find_stale(replace(LIVE, ports=(PORT, left)))] == ["veth9"]
        assert [thing.name for thing in find_stale(replace(LIVE, ports=(left, PORT)))] == ["veth9"]


# The boot that is in the tags of a container's port, if it has one, and whether it has its interface.
STATES = {
    "live": (BOOT, True),
    "interface gone": (BOOT, False),
    "rebooted": (EARLIER, False),
    "rebooted, with an interface": (EARLIER, True),
    "no port": (None, True),
    "no trace": (None, False),
}


@dataclass(frozen=True)
class Attachment:
    """A container on a network; one that is not live may have left a chain and a line."""

    network: str
    container_id: str
    state: str
    has_rules: bool
    has_names: bool

    @property
    def is_live(self) -> bool:
        return self.state == "live"


@dataclass(frozen=True)
class Host:
    """Containers, and by network what is left of it; beside them what is somebody else's."""

    attachments: list[Attachment]
    left: dict[str, frozenset[str]]
    has_table: bool
    has_resolver: bool

    def is_used(self, network: str) -> bool:
        live = any(one.is_live and one.network == network for one in self.attachments)
        return live or {"bridge", "ports of others"} <= self.left[network]

    def found(self) -> Found:
        ports, links, chains, lines = [], [Link(2000, "tun0", "tun")], [], []
        bridges, settings = [Bridge(UUID(int=2000), "br-ex")], []
        for number, one in enumerate(self.attachments, 1):
            bridge, name, short = NETWORKS[one.network], f"veth{number}", one.container_id[:12]
            boot, has_link = STATES[one.state]
            if boot:
                ports.append(Port(UUID(int=number), name, bridge, one.network, one.container_id, "c", "eth0", boot))
            if has_link:
                links.append(Link(number, name, "veth", Owner(one.network, "c", short, "eth0")))
            if one.is_live or one.has_rules:
                chains.append(f"published/{bridge}/{short}")
            if one.is_live or one.has_names:
                lines.append(Line(one.network, one.container_id, "c"))
        for number, (network, bridge) in enumerate(NETWORKS.items(), 1000):
            left, used = self.left[network], self.is_used(network)
            if used or "bridge" in left or any(port.bridge == bridge for port in ports):
                others = {"bridge", "ports of others"} <= left
                bridges.append(Bridge(UUID(int=number), bridge, network, is_ours=True, has_others=others))
            if "tap" in left:
                links.append(Link(number, bridge, "tun"))
            if used or "rules" in left:
                chains.append(f"network/{bridge}")
            if used or "settings" in left:
                settings.append(Settings(f"/{bridge}.conf", bridge))
        return Found(
            BOOT,
            *(tuple(ports), tuple(bridges), tuple(links), tuple(chains), bool(chains) or self.has_table, tuple(lines)),
            has_resolver=bool(lines) or self.has_resolver,
            settings=tuple(settings),
            networks=LIVE.networks,
        )

    def live_names(self) -> set[str]:
        """What must stay."""
        names = {"br-ex", "tun0"}
        for number, one in enumerate(self.attachments, 1):
            if one.is_live:
                names |= {f"veth{number}", f"published/{NETWORKS[one.network]}/{one.container_id[:12]}"}
        for network, bridge in NETWORKS.items():
            if self.is_used(network):
                names |= {bridge, f"network/{bridge}", f"/{bridge}.conf"}
        return names

    def live_lines(self) -> set[Line]:
        return {Line(one.network, one.container_id, "c") for one in self.attachments if one.is_live}


attachments = st.builds(
    Attachment, st.sampled_from(sorted(NETWORKS)), ids, st.sampled_from(sorted(STATES)), st.booleans(), st.booleans()
)
leftovers = st.frozensets(st.sampled_from(["bridge", "tap", "rules", "settings", "ports of others"]))
hosts = st.builds(
    Host,
    st.lists(attachments, max_size=6, unique_by=lambda one: one.container_id[:12]),
    st.fixed_dictionaries(dict.fromkeys(NETWORKS, leftovers)),
    st.booleans(),
    st.booleans(),
)


def without(found: Found, things: list[Thing]) -> Found:
    """The host after they were removed; a bridge takes its interface along, what is empty goes."""
    gone = {thing.what for thing in things}
    bridges = {thing.name for thing in things if thing.kind == "bridge"}
    kept = replace(
        found,
        ports=tuple(each for each in found.ports if each not in gone),
        bridges=tuple(each for each in found.bridges if each not in gone),
        links=tuple(each for each in found.links if each not in gone and each.name not in bridges),
        chains=tuple(each for each in found.chains if each not in gone),
        lines=tuple(each for each in found.lines if each not in gone),
        settings=tuple(each for each in found.settings if each not in gone),
        unfinished=(),
    )
    return replace(kept, has_table=bool(kept.chains), has_resolver=bool(kept.lines))


@given(hosts)
def test_what_is_live_is_never_stale(host: Host) -> None:
    things = find_stale(host.found())
    assert {thing.name for thing in things} & host.live_names() == set()
    assert {thing.what for thing in things} & host.live_lines() == set()


@given(hosts)
def test_what_is_left_when_everything_stale_is_removed_is_what_is_live(host: Host) -> None:
    found = host.found()
    cleared = without(found, find_stale(found))
    assert find_stale(cleared) == []
    rows = {port.name for port in cleared.ports} | {bridge.name for bridge in cleared.bridges}
    files = {file.path for file in cleared.settings}
    assert rows | {link.name for link in cleared.links} | {*cleared.chains} | files == host.live_names()
    assert set(cleared.lines) == host.live_lines()


@given(hosts)
def test_each_thing_is_known_from_the_others_and_told_in_one_line(host: Host) -> None:
    things = list(judge(host.found()))
    assert len({thing.key for thing in things}) == len(things)
    assert all(str(thing).isprintable() for thing in things)
