# SPDX-License-Identifier: Apache-2.0
"""The way in: what a Publication makes of the table, and who gets a port that two want."""

from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netavark_geneve import firewall
from netavark_geneve.errors import Deadline
from netavark_geneve.model import Foreign, Gateway, Publication, PublishedPort
from netavark_geneve.nftables import equals, field

from .makers import attempt, port, published_ports, refused
from .ruleset import Ruleset

NET1 = Gateway("ovs_net1", ((ip_network("192.168.120.0/24"), None), (ip_network("fd00:120::/64"), None)))
NET2 = Gateway("ovs_net2", ((ip_network("192.168.121.0/24"), None),))
WEB, DB = "c" * 64, "d" * 64
CHAIN = f"published/ovs_net1/{WEB[:12]}"
MAPS = ("ports4", "ports6", "hostports4", "hostports6")


def publication(*ports: PublishedPort, **fields: Any) -> Publication:
    """Of a container with an address of each family unless told."""
    made = Publication("ovs_net1", WEB, "net1 web", ports, (ip_address("192.168.120.2"), ip_address("fd00:120::2")))
    return replace(made, **fields)


def on_net2(*ports: PublishedPort, **fields: Any) -> Publication:
    return publication(*ports, **{"bridge": "ovs_net2", "addresses": (ip_address("192.168.121.2"),), **fields})


def ensure(wanted: Publication) -> None:
    gateway = {"ovs_net1": NET1, "ovs_net2": NET2}[wanted.bridge]
    firewall.ensure(gateway, wanted, Foreign, Deadline(10), first=True)


def remove(gone: Publication, *, needed: bool = False) -> None:
    firewall.remove(
        *(gone.bridge, gone.container_id, Deadline(10)), is_needed=lambda: needed, has_ports=bool(gone.ports)
    )


def restore(gateways: list[Gateway], publications: list[Publication]) -> None:
    firewall.restore(gateways, publications, Foreign(), Deadline(10))


def keys(ruleset: Ruleset) -> dict[str, list[Any]]:
    """What leads anywhere, by map; maps without any left out."""
    return {name: list(found) for name in MAPS if (found := ruleset.elements(name))}


def translations(ruleset: Ruleset, chain: str = CHAIN) -> list[Any]:
    """Each rule's conditions and its target, an address and a port (None: as it was)."""
    found = []
    for *conditions, verdict in ruleset.rules(chain):
        target = verdict["dnat"]
        assert target["family"] == ("ip6" if ":" in target["addr"] else "ip")
        found.append((conditions, target["addr"], target.get("port")))
    return found


def dport(number: Any, protocol: str = "tcp") -> Any:
    return equals(field(protocol, "dport"), number)


class TestKeys:
    @pytest.mark.parametrize(
        ("published", "wanted"),
        [
            (port(), {"ports4": [("tcp", 8080)], "ports6": [("tcp", 8080)]}),
            (port(on="0.0.0.0"), {"ports4": [("tcp", 8080)]}),
            (port(on="::"), {"ports6": [("tcp", 8080)]}),
            (port(on="192.168.0.10"), {"hostports4": [("192.168.0.10", "tcp", 8080)]}),
            (port(on="127.0.0.1"), {"hostports4": [("127.0.0.1", "tcp", 8080)]}),
            (port(on="fd00::10"), {"hostports6": [("fd00::10", "tcp", 8080)]}),
            (port(protocol="udp", on="0.0.0.0"), {"ports4": [("udp", 8080)]}),
            (port(protocol="sctp", on="0.0.0.0"), {"ports4": [("sctp", 8080)]}),
            (port(count=3, on="0.0.0.0"), {"ports4": [("tcp", 8080), ("tcp", 8081), ("tcp", 8082)]}),
            (
                port(count=2, on="192.168.0.10"),
                {"hostports4": [("192.168.0.10", "tcp", 8080), ("192.168.0.10", "tcp", 8081)]},
            ),
        ],
        ids=["any", "IPv4", "IPv6", "one IPv4", "loopback", "one IPv6", "udp", "sctp", "range", "range on one"],
    )
    def test_port_is_looked_up_by_the_address_that_it_is_published_on(
        self, ruleset: Ruleset, published: PublishedPort, wanted: dict[str, list[Any]]
    ) -> None:
        ensure(publication(published))
        assert keys(ruleset) == wanted
        assert {chain for name in MAPS for chain in ruleset.elements(name).values()} == {CHAIN}

    def test_container_of_one_family_is_reached_by_that_family(self, ruleset: Ruleset) -> None:
        ensure(
            publication(port(), port(81, on="::"), port(82, on="fd00::10"), addresses=(ip_address("192.168.120.2"),))
        )
        assert keys(ruleset) == {"ports4": [("tcp", 8080)]}
        assert [address for _, address, _ in translations(ruleset)] == ["192.168.120.2"]

    def test_container_without_ports_has_no_chain(self, ruleset: Ruleset) -> None:
        ensure(publication())
        assert keys(ruleset) == {}
        assert ruleset.table is not None
        assert CHAIN not in ruleset.table.chains

    def test_packets_are_looked_up_first_by_address_then_by_port_alone(self, ruleset: Ruleset) -> None:
        """From outside and from the host itself, and only what is for the host."""
        ensure(publication(port()))
        to_this_host = equals({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
        for chain, others in (("prerouting", 1), ("output", 0)):
            rules = ruleset.rules(chain)[others:]
            assert [rule[0] for rule in rules] == [to_this_host] * 4
            assert [rule[-1]["vmap"]["data"] for rule in rules] == [
                "@hostports4",
                "@ports4",
                "@hostports6",
                "@ports6",
            ]


class TestTranslations:
    @pytest.mark.parametrize(
        ("published", "wanted"),
        [
            (port(on="0.0.0.0"), [([dport(8080)], "192.168.120.2", 80)]),
            (port(on="::"), [([dport(8080)], "fd00:120::2", 80)]),
            (port(), [([dport(8080)], "192.168.120.2", 80), ([dport(8080)], "fd00:120::2", 80)]),
            (
                port(on="192.168.0.10"),
                [([equals(field("ip", "daddr"), "192.168.0.10"), dport(8080)], "192.168.120.2", 80)],
            ),
            (port(on="fd00::10"), [([equals(field("ip6", "daddr"), "fd00::10"), dport(8080)], "fd00:120::2", 80)]),
            (port(80, 80, on="0.0.0.0"), [([dport(80)], "192.168.120.2", None)]),
            (port(protocol="udp", on="0.0.0.0"), [([dport(8080, "udp")], "192.168.120.2", 80)]),
            (port(protocol="sctp", on="0.0.0.0"), [([dport(8080, "sctp")], "192.168.120.2", 80)]),
        ],
        ids=["IPv4", "IPv6", "any", "one IPv4", "one IPv6", "same port", "udp", "sctp"],
    )
    def test_port_of_the_host_is_translated_to_that_of_the_container(
        self, ruleset: Ruleset, published: PublishedPort, wanted: list[Any]
    ) -> None:
        ensure(publication(published))
        assert translations(ruleset) == wanted

    def test_range_of_the_same_ports_is_one_rule(self, ruleset: Ruleset) -> None:
        ensure(publication(port(8000, 8000, on="0.0.0.0", count=1000)))
        assert translations(ruleset) == [([dport({"range": [8000, 8999]})], "192.168.120.2", None)]

    def test_range_of_other_ports_is_a_rule_for_each(self, ruleset: Ruleset) -> None:
        ensure(publication(port(8000, 80, on="0.0.0.0", count=3)))
        assert translations(ruleset) == [([dport(8000 + offset)], "192.168.120.2", 80 + offset) for offset in range(3)]

    def test_one_port_may_be_published_on_several(self, ruleset: Ruleset) -> None:
        ensure(publication(port(on="0.0.0.0"), port(8081, on="0.0.0.0"), port(protocol="udp", on="0.0.0.0")))
        assert keys(ruleset) == {"ports4": [("tcp", 8080), ("tcp", 8081), ("udp", 8080)]}
        assert len(translations(ruleset)) == 3

    def test_rules_say_whose_they_are(self, ruleset: Ruleset) -> None:
        ensure(publication(port(count=2)))
        assert ruleset.comments(CHAIN) == {"net1 web"}

    def test_ensuring_twice_is_ensuring_once(self, ruleset: Ruleset) -> None:
        wanted = publication(port(count=3), port(9000, on="192.168.0.10"))
        ensure(wanted)
        once = ruleset.snapshot()
        ensure(wanted)
        assert ruleset.snapshot() == once
        assert ruleset.batches == 2


class TestTaken:
    """A port that somebody else has already."""

    @pytest.mark.parametrize(
        ("one", "other", "told"),
        [
            (port(), port(container_port=81), "port 8080/tcp"),
            (port(protocol="udp"), port(protocol="udp"), "port 8080/udp"),
            (port(count=5), port(8084), "port 8084/tcp"),
            (port(8084), port(count=5), "port 8084/tcp"),
            (port(on="192.168.0.10"), port(on="192.168.0.10"), "port 8080/tcp/192.168.0.10"),
            (port(on="fd00::10"), port(on="fd00::10"), "port 8080/tcp/fd00::10"),
        ],
        ids=["same", "udp", "end of a range", "in a range", "same IPv4", "same IPv6"],
    )
    @pytest.mark.parametrize("bridge", ["ovs_net1", "ovs_net2"])
    def test_port_of_another_container_is_refused_and_nothing_is_changed(
        self, ruleset: Ruleset, one: PublishedPort, other: PublishedPort, told: str, bridge: str
    ) -> None:
        ensure(publication(one))
        before = ruleset.snapshot()
        with refused(told, f"container {WEB[:12]}", "another -p", "netavark-geneve reload"):
            ensure(publication(other, container_id=DB, bridge=bridge))
        assert ruleset.snapshot() == before

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (port(), port(8081)),
            (port(), port(protocol="udp")),
            (port(on="192.168.0.10"), port(on="192.168.0.11")),
            (port(on="0.0.0.0"), port(on="::")),
            (port(on="127.0.0.1"), port(on="::1")),
        ],
        ids=["port", "protocol", "address", "family", "loopback of each family"],
    )
    def test_ports_that_differ_in_anything_are_none_of_the_others(
        self, ruleset: Ruleset, one: PublishedPort, other: PublishedPort
    ) -> None:
        ensure(publication(one))
        mine = keys(ruleset)
        ensure(publication(other, container_id=DB))
        assert sum(map(len, keys(ruleset).values())) > sum(map(len, mine.values()))

    def test_port_of_the_same_containers_other_network_is_left_where_it_is(self, ruleset: Ruleset) -> None:
        """Podman sends the ports with each network; the first one publishes them."""
        ensure(publication(port(), port(on="192.168.0.10")))
        before = {name: ruleset.elements(name) for name in MAPS}
        ensure(on_net2(port(), port(on="192.168.0.10")))
        assert {name: ruleset.elements(name) for name in MAPS} == before
        assert translations(ruleset, f"published/ovs_net2/{WEB[:12]}")[0][1] == "192.168.121.2"

    def test_second_network_publishes_what_the_first_cannot(self, ruleset: Ruleset) -> None:
        ensure(on_net2(port()))
        ensure(publication(port()))
        assert ruleset.elements("ports4") == {("tcp", 8080): f"published/ovs_net2/{WEB[:12]}"}
        assert ruleset.elements("ports6") == {("tcp", 8080): CHAIN}

    def test_port_of_another_container_is_refused_even_if_others_are_ones_own(self, ruleset: Ruleset) -> None:
        ensure(publication(port()))
        ensure(publication(port(9000), container_id=DB))
        before = ruleset.snapshot()
        with refused("port 9000/tcp", DB[:12]):
            ensure(on_net2(port(), port(9000)))
        assert ruleset.snapshot() == before


class TestRemoval:
    def test_container_that_leaves_takes_its_ports_along(self, ruleset: Ruleset) -> None:
        ensure(publication(port(), container_id=DB))
        before = ruleset.snapshot()
        ours = publication(port(9000, count=3), port(9000, on="192.168.0.10"))
        ensure(ours)
        remove(ours, needed=True)
        assert ruleset.snapshot() == before
        remove(ours, needed=True)
        assert ruleset.snapshot() == before

    def test_port_is_free_again(self, ruleset: Ruleset) -> None:
        ensure(publication(port()))
        remove(publication(port()), needed=True)
        ensure(publication(port(), container_id=DB))
        assert ruleset.elements("ports4") == {("tcp", 8080): f"published/ovs_net1/{DB[:12]}"}

    def test_last_container_takes_the_network_along_with_ports_that_were_left_behind(self, ruleset: Ruleset) -> None:
        ensure(on_net2(port(8081), container_id=DB))
        before = ruleset.snapshot()
        ensure(publication(port(), container_id="e" * 64))  # its detach was never called
        ensure(publication(port(9000)))
        remove(publication(port(9000)))
        assert ruleset.snapshot() == before

    def test_container_keeps_its_ports_on_the_network_that_it_stays_in(self, ruleset: Ruleset) -> None:
        ensure(on_net2(port(), port(on="192.168.0.10")))
        ensure(publication(port(), port(on="192.168.0.10")))
        remove(on_net2(port(), port(on="192.168.0.10")))
        assert ruleset.elements("ports4") == {("tcp", 8080): CHAIN}
        assert ruleset.elements("hostports4") == {("192.168.0.10", "tcp", 8080): CHAIN}

    def test_container_keeps_its_ports_whether_others_need_the_network_or_not(self, ruleset: Ruleset) -> None:
        ensure(publication(port()))
        ensure(on_net2(port()))
        remove(publication(port()), needed=True)
        assert ruleset.elements("ports4") == {("tcp", 8080): f"published/ovs_net2/{WEB[:12]}"}

    def test_ports_are_inherited_by_nobody_else(self, ruleset: Ruleset) -> None:
        ensure(on_net2(port(9000), container_id=DB))
        ensure(publication(port()))
        remove(publication(port()), needed=True)
        assert keys(ruleset) == {"ports4": [("tcp", 9000)]}

    def test_container_without_ports_costs_no_look_at_the_table(
        self, ruleset: Ruleset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def list_table(deadline: Deadline) -> None:
            raise AssertionError("nft was asked")

        ensure(publication(port()))
        before = ruleset.snapshot()
        monkeypatch.setattr(firewall, "list_table", list_table)
        remove(publication(container_id=DB), needed=True)
        assert ruleset.snapshot() == before


class TestRestore:
    WANTED = (publication(port(), port(9000, on="192.168.0.10", count=2)), on_net2(port(8081), container_id=DB))

    def test_table_that_was_flushed_is_as_before(self, ruleset: Ruleset) -> None:
        for each in self.WANTED:
            ensure(each)
        before = ruleset.snapshot()
        ruleset.table = None
        restore([NET1, NET2], list(self.WANTED))
        assert ruleset.snapshot() == before

    def test_what_is_not_wanted_is_gone(self, ruleset: Ruleset) -> None:
        ensure(self.WANTED[0])
        before = ruleset.snapshot()
        ensure(self.WANTED[1])
        ensure(publication(port(7000), container_id=DB))
        restore([NET1], [self.WANTED[0]])
        assert ruleset.snapshot() == before

    def test_nothing_to_restore_is_no_table(self, ruleset: Ruleset) -> None:
        ensure(self.WANTED[0])
        restore([], [])
        assert ruleset.table is None

    def test_nothing_is_interrupted_meanwhile(self, ruleset: Ruleset) -> None:
        """Established connections and new ones find either the old table or the new one."""
        restore([NET1, NET2], list(self.WANTED))
        assert ruleset.batches == 1

    def test_of_a_containers_two_networks_the_first_publishes(self, ruleset: Ruleset) -> None:
        restore([NET1, NET2], [publication(port()), on_net2(port(), port(8081))])
        assert ruleset.elements("ports4") == {
            ("tcp", 8080): CHAIN,
            ("tcp", 8081): f"published/ovs_net2/{WEB[:12]}",
        }

    def test_of_two_containers_that_have_one_port_the_first_publishes_and_nobody_goes_without_the_rest(
        self, ruleset: Ruleset
    ) -> None:
        restore([NET1], [publication(port()), publication(port(), port(8081), container_id=DB)])
        assert ruleset.elements("ports4") == {
            ("tcp", 8080): CHAIN,
            ("tcp", 8081): f"published/ovs_net1/{DB[:12]}",
        }


publications = st.builds(
    publication,
    ports=st.lists(published_ports, min_size=1, max_size=4).map(tuple),
    bridge=st.sampled_from(["ovs_net1", "ovs_net2"]),
    container_id=st.sampled_from([WEB, DB]),
)


@given(st.lists(publications, min_size=1, max_size=5, unique_by=lambda each: (each.bridge, each.container_id)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_containers_that_come_and_go_leave_nothing_and_publish_each_port_once(
    ruleset: Ruleset, wanted: list[Publication]
) -> None:
    ruleset.table = None
    there = [each for each in wanted if attempt(partial(ensure, each)) is None]
    assert ruleset.table is not None
    leading = {chain for name in MAPS for chain in ruleset.elements(name).values()}
    assert leading <= {f"published/{each.bridge}/{each.container_id[:12]}" for each in there}
    for index, each in enumerate(there):
        remove(each, needed=any(other.bridge == each.bridge for other in there[index + 1 :]))
    assert ruleset.table is None
