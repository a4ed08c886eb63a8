# SPDX-License-Identifier: Apache-2.0
"""The way out, isolation and the way to the resolver: what a Gateway makes of the table."""

from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netavark_geneve import firewall
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Foreign, Gateway, Publication
from netavark_geneve.nftables import conntrack, equals, field, interface, prefix

from .makers import CONTAINER_ID, port
from .ruleset import Ruleset, Table

ONE = Gateway(
    "ovs_net1", ((ip_network("192.168.120.0/24"), None), (ip_network("fd00:120::/64"), None)), isolate="false"
)
OTHER = Gateway("ovs_net2", ((ip_network("192.168.121.0/24"), ip_address("192.168.0.10")),))
GATEWAYS = (ip_address("192.168.120.1"), ip_address("fd00:120::1"))
NO_PORTS = Publication("ovs_net1", CONTAINER_ID, "net1 web", (), ())


def ensure(gateway: Gateway, publication: Publication = NO_PORTS, foreign: Foreign | None = None) -> None:
    firewall.ensure(gateway, publication, lambda: foreign or Foreign(), Deadline(10), first=True)


def remove(gateway: Gateway, *, needed: bool = False) -> None:
    firewall.remove(gateway.bridge, CONTAINER_ID, Deadline(10), is_needed=lambda: needed, has_ports=False)


def destination(network: str) -> Any:
    return equals(field("ip6" if ":" in network else "ip", "daddr"), prefix(ip_network(network)))


def source(network: str) -> Any:
    return equals(field("ip6" if ":" in network else "ip", "saddr"), prefix(ip_network(network)))


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, True), ({"NETAVARK_FW": "nftables"}, True), ({"NETAVARK_FW": ""}, True), ({"NETAVARK_FW": "none"}, False)],
    ids=str,
)
def test_packet_filter_is_ours_unless_containers_conf_says_none(environ: dict[str, str], wanted: bool) -> None:
    assert firewall.is_wanted(environ) is wanted


class TestWayOut:
    def test_packets_leave_under_an_address_of_the_host_but_not_what_stays_in_the_network(
        self, ruleset: Ruleset
    ) -> None:
        ensure(ONE)
        stays = [
            rule
            for subnet, multicast in (("192.168.120.0/24", "224.0.0.0/4"), ("fd00:120::/64", "ff00::/8"))
            for rule in (
                [destination(subnet), conntrack("status", "dnat"), {"masquerade": None}],
                [destination(subnet), {"return": None}],
                [destination(multicast), {"return": None}],
                [source(subnet), {"masquerade": None}],
            )
        ]
        assert ruleset.rules("network/ovs_net1") == stays
        assert ruleset.elements("sources4") == {"192.168.120.0/24": "network/ovs_net1"}
        assert ruleset.elements("sources6") == {"fd00:120::/64": "network/ovs_net1"}

    def test_packets_leave_under_the_address_that_the_user_chose(self, ruleset: Ruleset) -> None:
        ensure(OTHER)
        assert ruleset.rules("network/ovs_net2")[-1] == [
            source("192.168.121.0/24"),
            {"snat": {"addr": "192.168.0.10", "family": "ip"}},
        ]

    def test_each_family_has_its_own_address(self, ruleset: Ruleset) -> None:
        both = tuple(
            (subnet, ip_address(own)) for (subnet, _), own in zip(ONE.subnets, ("10.0.0.1", "fd00::1"), strict=True)
        )
        ensure(replace(ONE, subnets=both))
        translations = [rule[-1] for rule in ruleset.rules("network/ovs_net1") if "snat" in rule[-1]]
        assert translations == [
            {"snat": {"addr": "10.0.0.1", "family": "ip"}},
            {"snat": {"addr": "fd00::1", "family": "ip6"}},
        ]

    def test_network_without_a_way_out_touches_nothing(self, ruleset: Ruleset) -> None:
        ensure(replace(ONE, subnets=()))
        assert ruleset.batches == 0

    def test_gateway_that_does_not_forward_translates_nothing(self, ruleset: Ruleset) -> None:
        ensure(replace(ONE, forwards=False))
        assert ruleset.rules("network/ovs_net1") == []
        assert ruleset.elements("sources4") == ruleset.elements("sources6") == {}

    def test_ensuring_twice_is_ensuring_once(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        once = ruleset.snapshot()
        ensure(ONE)
        assert ruleset.snapshot() == once

    def test_rules_that_were_edited_are_repaired(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        before = ruleset.snapshot()
        assert ruleset.table is not None
        ruleset.table.chains["postrouting"].clear()
        ruleset.table.chains["forward"].append(([{"accept": None}], None))
        ruleset.table.chains["network/ovs_net1"].append(([{"drop": None}], None))
        ensure(ONE)
        assert ruleset.snapshot() == before

    def test_each_attach_is_one_batch(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        ensure(OTHER)
        assert ruleset.batches == 2

    def test_what_nft_refuses_for_another_reason_is_told_as_it_is(
        self, ruleset: Ruleset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal = GeneveError("nft refused our rules: Operation not supported")

        def run(commands: object, deadline: Deadline) -> None:
            raise refusal

        monkeypatch.setattr(firewall, "run", run)
        with pytest.raises(GeneveError) as caught:
            ensure(ONE)
        assert caught.value is refusal


class TestLeftovers:
    WEB = f"published/ovs_net1/{CONTAINER_ID[:12]}"
    PORTS = Publication("ovs_net1", CONTAINER_ID, "net1 web", (port(),), (ip_address("192.168.120.2"),))

    @staticmethod
    def remove(*stale: str) -> None:
        firewall.remove_chains(lambda chains: stale, Deadline(10))

    def test_chains_are_those_of_networks_and_containers(self, ruleset: Ruleset) -> None:
        ensure(replace(ONE, listen=GATEWAYS, dns_port=5353), self.PORTS)
        with ruleset.lock():
            assert firewall.find_chains() == ("network/ovs_net1", self.WEB, "resolver/ovs_net1")

    def test_host_without_the_table_needs_no_nft(self, ruleset: Ruleset) -> None:
        assert firewall.find_chains() is None
        self.remove("network/ovs_net1")
        assert ruleset.batches == 0

    def test_network_that_is_stale_leaves_the_other_as_it_was(self, ruleset: Ruleset) -> None:
        ensure(OTHER)
        before = ruleset.snapshot()
        ensure(replace(ONE, listen=GATEWAYS, dns_port=5353, isolate="strict"), self.PORTS)
        self.remove("network/ovs_net1", "resolver/ovs_net1", self.WEB)
        assert ruleset.snapshot() == before

    def test_container_that_is_stale_leaves_its_network(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        before = ruleset.snapshot()
        ensure(ONE, self.PORTS)
        self.remove(self.WEB)
        assert ruleset.snapshot() == before

    def test_last_one_takes_the_table_along(self, ruleset: Ruleset) -> None:
        ensure(ONE, self.PORTS)
        self.remove("network/ovs_net1", self.WEB)
        assert ruleset.table is None

    def test_table_that_serves_nobody_goes(self, ruleset: Ruleset) -> None:
        ruleset.table = Table(chains={"forward": []}, hooks={"forward"})
        self.remove()
        assert ruleset.table is None

    def test_what_somebody_else_put_into_the_table_keeps_it(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        assert ruleset.table is not None
        ruleset.table.chains["mine"] = []
        self.remove("network/ovs_net1")
        assert firewall.find_chains() == ("mine",)

    def test_what_is_stale_is_asked_when_nobody_else_can_come_or_go(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        asked = []

        def find_stale(chains: Collection[str]) -> Collection[str]:
            asked.append((ruleset.is_locked, list(chains)))
            return []

        before = ruleset.snapshot()
        firewall.remove_chains(find_stale, Deadline(10))
        assert asked == [(True, ["network/ovs_net1"])]
        assert ruleset.snapshot() == before


class TestRemoval:
    def test_network_that_goes_leaves_the_other_as_it_was(self, ruleset: Ruleset) -> None:
        ensure(OTHER)
        before = ruleset.snapshot()
        ensure(replace(ONE, listen=GATEWAYS, dns_port=5353, isolate="strict"))
        assert ruleset.snapshot() != before
        remove(ONE)
        assert ruleset.snapshot() == before

    def test_network_whose_name_begins_like_anothers_takes_nothing_of_it_along(self, ruleset: Ruleset) -> None:
        longer = replace(OTHER, bridge="ovs_net11")
        ensure(longer)
        before = ruleset.snapshot()
        ensure(ONE)
        remove(ONE)
        assert ruleset.snapshot() == before

    def test_last_network_takes_the_table_along_and_going_twice_is_fine(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        ensure(OTHER)
        for gateway in (ONE, OTHER, OTHER):
            remove(gateway)
        assert ruleset.table is None
        assert ruleset.batches == 3  # the last goes with the table, without nft

    def test_container_that_is_not_the_last_leaves_the_network(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        before = ruleset.snapshot()
        remove(ONE, needed=True)
        assert ruleset.snapshot() == before
        assert ruleset.batches == 1

    def test_whether_the_network_is_needed_is_asked_when_nobody_else_can_join_or_leave(self, ruleset: Ruleset) -> None:
        asked = []

        def is_needed() -> bool:
            asked.append(ruleset.is_locked)
            return True

        ensure(ONE)
        firewall.remove("ovs_net1", CONTAINER_ID, Deadline(10), is_needed=is_needed, has_ports=False)
        assert asked == [True]


class TestIsolation:
    def is_forwarded(self, ruleset: Ruleset, one: str, other: str) -> bool:
        """Whether the chain `forward` lets a plain packet pass from one bridge to another."""

        def meets(condition: Any) -> bool:
            names = {"iifname": one, "oifname": other}
            match = condition["match"]
            if "meta" not in match["left"]:
                return False  # the packet is neither translated nor invalid
            name, wanted = names[match["left"]["meta"]["key"]], match["right"]
            if wanted.startswith("@"):
                return name in ruleset.members(wanted.removeprefix("@"))
            return name.startswith(wanted.removesuffix("*")) if wanted.endswith("*") else bool(name == wanted)

        for *conditions, verdict in ruleset.rules("forward"):
            if all(map(meets, conditions)):
                return "accept" in verdict
        return True

    @pytest.mark.parametrize(
        ("one", "other", "joined"),
        [
            ("false", "false", True),
            ("false", "true", True),
            ("true", "true", False),
            ("false", "strict", False),
            ("true", "strict", False),
            ("strict", "strict", False),
        ],
    )
    def test_networks_of_ours_are_joined_unless_one_is_strict_or_both_isolated(
        self, ruleset: Ruleset, one: str, other: str, joined: bool
    ) -> None:
        ensure(replace(ONE, isolate=one))
        ensure(replace(OTHER, isolate=other))
        for pair in (("ovs_net1", "ovs_net2"), ("ovs_net2", "ovs_net1")):
            assert self.is_forwarded(ruleset, *pair) is joined

    def test_internal_network_is_joined_with_nothing(self, ruleset: Ruleset) -> None:
        ensure(replace(ONE, isolate="false"))
        ensure(replace(OTHER, isolate="false", forwards=False))
        for outside in ("ovs_net1", "eth0"):
            assert not self.is_forwarded(ruleset, outside, "ovs_net2")
            assert not self.is_forwarded(ruleset, "ovs_net2", outside)
        assert self.is_forwarded(ruleset, "ovs_net1", "eth0")

    @pytest.mark.parametrize(
        ("isolate", "foreign", "joined"),
        [
            ("false", "br-a", True),
            ("false", "br-isolated", True),
            ("true", "br-a", True),
            ("true", "br-isolated", False),
            ("strict", "br-a", False),
            ("strict", "br-isolated", False),
            ("strict", "podman9", False),
            ("true", "podman9", True),
            ("strict", "eth0", True),
        ],
    )
    def test_networks_of_netavarks_are_joined_as_among_themselves(
        self, ruleset: Ruleset, isolate: str, foreign: str, joined: bool
    ) -> None:
        """netavark makes podman9 after us, so it is known by its name alone."""
        ensure(replace(ONE, isolate=isolate), foreign=Foreign(("br-a", "br-isolated"), ("br-isolated",)))
        for pair in (("ovs_net1", foreign), (foreign, "ovs_net1")):
            assert self.is_forwarded(ruleset, *pair) is joined

    def test_networks_of_others_are_none_of_our_business(self, ruleset: Ruleset) -> None:
        ensure(replace(ONE, isolate="strict"), foreign=Foreign(("br-a", "br-b"), ("br-a", "br-b")))
        assert self.is_forwarded(ruleset, "br-a", "br-b")

    def test_networks_of_netavarks_that_are_gone_are_forgotten(self, ruleset: Ruleset) -> None:
        ensure(ONE, foreign=Foreign(("br-a", "br-b"), ("br-a",)))
        ensure(OTHER, foreign=Foreign(("br-b",)))
        assert (ruleset.members("foreign"), ruleset.members("foreign_isolated")) == ({"br-b"}, set())

    def test_what_is_published_is_reached_from_every_network(self, ruleset: Ruleset) -> None:
        """It was translated, and is let through before anything is kept apart; what is invalid was never translated."""
        ensure(ONE)
        _, _, invalid, published, *apart = ruleset.rules("forward")
        assert invalid == [interface("iif", "@bridges"), conntrack("state", "invalid"), {"drop": None}]
        assert published == [conntrack("status", "dnat"), {"accept": None}]
        assert {tuple(rule[-1]) for rule in apart} == {("drop",)}

    def test_loopback_of_the_host_is_not_reached_from_a_network(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        guard = [destination("127.0.0.0/8"), interface("iif", "@bridges"), {"drop": None}]
        assert ruleset.rules("prerouting")[0] == guard


class TestResolver:
    def test_resolver_on_the_port_that_everybody_asks_needs_no_way(self, ruleset: Ruleset) -> None:
        ensure(ONE)
        without = ruleset.snapshot()
        ensure(replace(ONE, listen=GATEWAYS))
        assert ruleset.snapshot() == without
        assert ruleset.elements("hostports4") == {}

    def test_network_without_a_resolver_needs_no_way(self, ruleset: Ruleset) -> None:
        ensure(replace(ONE, dns_port=5353))
        assert ruleset.elements("hostports4") == ruleset.elements("hostports6") == {}

    @pytest.mark.parametrize("forwards", [True, False], ids=["way out", "internal"])
    def test_queries_are_led_to_the_port_of_containers_conf(self, ruleset: Ruleset, forwards: bool) -> None:
        ensure(replace(ONE, listen=GATEWAYS, dns_port=5353, forwards=forwards))
        assert ruleset.elements("hostports4") == {
            ("192.168.120.1", "tcp", 53): "resolver/ovs_net1",
            ("192.168.120.1", "udp", 53): "resolver/ovs_net1",
        }
        assert ruleset.elements("hostports6") == {
            ("fd00:120::1", "tcp", 53): "resolver/ovs_net1",
            ("fd00:120::1", "udp", 53): "resolver/ovs_net1",
        }
        assert ruleset.rules("resolver/ovs_net1") == [
            [equals({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]}), {"redirect": {"port": 5353}}]
        ]
