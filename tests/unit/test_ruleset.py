# SPDX-License-Identifier: Apache-2.0
"""Whether a tunnel's packets come in, by the rules that nft lists: for sure, for sure not, or nobody can tell."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from netavark_geneve.checks.finding import FAULT, OK, WARNING
from netavark_geneve.checks.packetfilter import Tunnels, check_port, check_rules
from netavark_geneve.checks.ruleset import ACCEPT, DROP, Packet, Ruleset
from netavark_geneve.nftables import equals, field, prefix

from .makers import HOST_1, HOST_2, created, planned

Expression = dict[str, Any]
PEER, PORT = HOST_2, 6081
PACKET = Packet("eth0", ip_address(PEER), ip_address(HOST_1), PORT)
PACKET6 = Packet("eth0", ip_address("fd00::2"), ip_address("fd00::1"), PORT)
TUNNELS = Tunnels(PORT, ip_interface(f"{HOST_1}/24"), {ip_address(PEER): "eth0"})
DPORT = equals(field("udp", "dport"), PORT)
FROM_PEER = equals(field("ip", "saddr"), PEER)
ACCEPTS, DROPS, RETURNS = ({verdict: None} for verdict in ("accept", "drop", "return"))
REJECTS = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
COUNTS = {"counter": {"packets": 1, "bytes": 2}}


def meta(key: str, value: Any) -> Expression:
    return equals({"meta": {"key": key}}, value)


def ct(key: str, value: Any) -> Expression:
    return {"match": {"op": "in", "left": {"ct": {"key": key}}, "right": value}}


def negated(expression: Expression) -> Expression:
    return {"match": {**expression["match"], "op": "!="}}


def jump(target: str, verb: str = "jump") -> Expression:
    return {verb: {"target": target}}


def chain(
    name: str, *rules: list[Expression], table: str = "filter", family: str = "inet", **hook: Any
) -> list[dict[str, Any]]:
    """A chain with its rules, as nft lists them."""
    of = {"family": family, "table": table}
    return [
        {"chain": {**of, "name": name, **hook}},
        *({"rule": {**of, "chain": name, "handle": 3 + n, "expr": expr}} for n, expr in enumerate(rules)),
    ]


def base(*rules: list[Expression], policy: str = "accept", hook: str = "input", **fields: Any) -> list[dict[str, Any]]:
    """The chain that the hook calls."""
    return chain("input", *rules, **{"type": "filter", "hook": hook, "prio": 0, "policy": policy, **fields})


def named(kind: str, name: str, *elements: Any) -> list[dict[str, Any]]:
    return [{kind: {"family": "inet", "table": "filter", "name": name, "elem": list(elements)}}]


# As firewalld 2.3 lists them, less what is alike; the port is that of `allow`.
def firewalld(*allow: list[Expression]) -> list[dict[str, Any]]:
    of: dict[str, Any] = {"table": "firewalld"}
    return [
        *chain(
            "filter_INPUT",
            [ct("state", {"set": ["established", "related"]}), ACCEPTS],
            [ct("status", "dnat"), ACCEPTS],
            [meta("iifname", "lo"), ACCEPTS],
            [ct("state", "invalid"), DROPS],
            [jump("filter_INPUT_ZONES")],
            [REJECTS],
            **{"type": "filter", "hook": "input", "prio": 10, "policy": "accept", **of},
        ),
        *chain(
            "filter_INPUT_ZONES",
            [equals(field("ip", "saddr"), {"prefix": {"addr": "192.168.120.0", "len": 24}}), jump("trusted", "goto")],
            [jump("filter_IN_public", "goto")],
            **of,
        ),
        *chain("trusted", [ACCEPTS], **of),
        *chain(
            "filter_IN_public",
            [jump("filter_IN_public_allow")],
            [meta("l4proto", {"set": ["icmp", "ipv6-icmp"]}), ACCEPTS],
            [REJECTS],
            **of,
        ),
        *chain(
            "filter_IN_public_allow", [equals(field("tcp", "dport"), 22), ct("state", "new"), ACCEPTS], *allow, **of
        ),
    ]


RULESETS: Mapping[str, tuple[list[dict[str, Any]], str | None]] = {
    "no rules": ([], ACCEPT),
    "policy": (base(policy="drop"), DROP),
    "accept before the policy": (base([DPORT, COUNTS, ACCEPTS], policy="drop"), ACCEPT),
    "another port": (base([equals(field("udp", "dport"), 53), ACCEPTS], policy="drop"), DROP),
    "port in a range": (base([equals(field("udp", "dport"), {"range": [6000, 6100]}), ACCEPTS], policy="drop"), ACCEPT),
    "port in a set": (base([equals(field("th", "dport"), {"set": [53, PORT]}), ACCEPTS], policy="drop"), ACCEPT),
    "another protocol": (base([equals(field("tcp", "dport"), PORT), DROPS]), ACCEPT),
    "another protocol, negated": (base([negated(equals(field("tcp", "dport"), 22)), DROPS]), ACCEPT),
    "reject": (base([DPORT, REJECTS]), DROP),
    "the peer alone": (base([FROM_PEER, DPORT, ACCEPTS], policy="drop"), ACCEPT),
    "all but the peer": (base([negated(FROM_PEER), DPORT, DROPS]), ACCEPT),
    "a subnet": (base([equals(field("ip", "saddr"), prefix(TUNNELS.local.network)), ACCEPTS], policy="drop"), ACCEPT),
    "a range of addresses": (
        base([equals(field("ip", "saddr"), {"range": ["192.168.0.11", "192.168.0.12"]}), DROPS]),
        DROP,
    ),
    "a named set": (
        [*named("set", "peers", PEER), *base([equals(field("ip", "saddr"), "@peers"), ACCEPTS], policy="drop")],
        ACCEPT,
    ),
    "a set of elements with attributes": (
        [
            *named("set", "peers", {"elem": {"val": PEER, "timeout": 60}}),
            *base([equals(field("ip", "saddr"), "@peers"), ACCEPTS], policy="drop"),
        ],
        ACCEPT,
    ),
    "a concatenation": (
        base(
            [equals({"concat": [field("ip", "saddr"), field("udp", "dport")]}, {"concat": [PEER, PORT]}), ACCEPTS],
            policy="drop",
        ),
        ACCEPT,
    ),
    "another interface": (base([meta("iifname", "eth1"), DROPS]), ACCEPT),
    "interfaces of a kind": (base([meta("iifname", "eth*"), DROPS]), DROP),
    "another family": (base(family="ip6", policy="drop"), ACCEPT),
    "nfproto": (base([meta("nfproto", "ipv6"), DROPS]), ACCEPT),
    "its own family": (base(family="ip", policy="drop"), DROP),
    "another hook": (base(hook="forward", policy="drop"), ACCEPT),
    "a hook before": (base([DPORT, DROPS], hook="prerouting"), DROP),
    "not a filter": (base([DPORT, DROPS], hook="prerouting", type="nat"), ACCEPT),
    "a device's hook": (base([DROPS], family="netdev", hook="ingress", dev="eth0"), DROP),
    "another device's hook": (base([DROPS], family="netdev", hook="ingress", dev="eth1"), ACCEPT),
    "an established connection": (base([ct("state", ["established", "related"]), ACCEPTS], policy="drop"), DROP),
    "a new one": (base([ct("state", "new"), ACCEPTS], policy="drop"), ACCEPT),
    "jump and come back": ([*chain("other", [RETURNS], [DROPS]), *base([jump("other")], [ACCEPTS])], ACCEPT),
    "jump": ([*chain("other", [DPORT, DROPS]), *base([jump("other")], [ACCEPTS])], DROP),
    "goto comes back to nobody": ([*chain("other"), *base([jump("other", "goto")], [DROPS])], ACCEPT),
    "verdict map": (
        base([{"vmap": {"key": field("udp", "dport"), "data": {"set": [[53, ACCEPTS], [PORT, DROPS]]}}}]),
        DROP,
    ),
    "named verdict map": (
        [*named("map", "ways", [PORT, DROPS]), *base([{"vmap": {"key": field("udp", "dport"), "data": "@ways"}}])],
        DROP,
    ),
    "way back": (
        base([equals({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, False), DROPS], hook="prerouting"),
        ACCEPT,
    ),
    "chains that call each other": ([*chain("other", [jump("other")]), *base([jump("other")], policy="drop")], DROP),
    "one of two chains drops": ([*base([ACCEPTS]), *base(table="late", policy="drop", prio=10)], DROP),
    "firewalld": (firewalld(), DROP),
    "firewalld with a rich rule": (firewalld([FROM_PEER, DPORT, ACCEPTS]), ACCEPT),
    "reject of iptables": (base([DPORT, {"xt": {"type": "target", "name": "REJECT"}}]), DROP),
    "limit": (base([{"limit": {"rate": 1, "per": "second"}}, ACCEPTS], policy="drop"), None),
    "mark": (base([meta("mark", 7), DROPS]), None),
    "a match of iptables": (base([DPORT, {"xt": {"type": "match", "name": "string"}}, DROPS]), None),
    "queue": (base([DPORT, {"queue": None}]), None),
    "comparison": (base([{"match": {"op": ">", "left": {"meta": {"key": "length"}}, "right": 90}}, DROPS]), None),
    "arithmetic": (base([equals({"&": [{"meta": {"key": "mark"}}, 1]}, 1), DROPS]), None),
    "doubt that does not matter": (base([meta("mark", 7), ACCEPTS], [ACCEPTS]), ACCEPT),
    "doubt before what is sure": ([*base([meta("mark", 7), DROPS]), *base(table="late", policy="drop")], DROP),
    "doubt about a log": (base([{"limit": {"rate": 1, "per": "second"}}, {"log": None}]), ACCEPT),
}


@pytest.mark.parametrize(("ruleset", "outcome"), RULESETS.values(), ids=RULESETS)
def test_packet_of_a_peer(ruleset: list[dict[str, Any]], outcome: str | None) -> None:
    assert Ruleset(ruleset).judge(PACKET).outcome == outcome


def test_packet_of_a_peer_over_ipv6() -> None:
    rules = base([equals(field("ip", "saddr"), PEER), DROPS], [equals(field("ip6", "saddr"), "fd00::2"), REJECTS])
    assert Ruleset(rules).judge(PACKET6).outcome == DROP
    assert Ruleset(firewalld()).judge(PACKET6).outcome == DROP
    assert Ruleset(base(family="ip", policy="drop")).judge(PACKET6).outcome == ACCEPT


def test_doubt_is_told_by_the_rule() -> None:
    verdict = Ruleset(base([COUNTS], [meta("mark", 7), DROPS])).judge(PACKET)
    assert verdict.where == "rule 4 of chain inet filter input"


# What is found, how bad that is, and what mends it.
OPEN_TO_PEERS = "open to the peers, and to nobody else"
PORTS: Mapping[str, tuple[list[dict[str, Any]], str, str, str]] = {
    "peers alone": (base([FROM_PEER, DPORT, ACCEPTS], policy="drop"), OPEN_TO_PEERS, OK, ""),
    "all but the peers dropped": (base([negated(FROM_PEER), DPORT, DROPS]), OPEN_TO_PEERS, OK, ""),
    "nothing": (
        [],
        "open to everybody",
        WARNING,
        "nft 'table inet tunnels_6081 { chain input { type filter hook input priority filter;"
        f" ip saddr != {{ {PEER} }} udp dport 6081 drop; }}; }}'",
    ),
    "the underlay's subnet": (
        base([equals(field("ip", "saddr"), prefix(TUNNELS.local.network)), DPORT, ACCEPTS], policy="drop"),
        "open also to 192.168.0.1",
        WARNING,
        "nft 'table inet",
    ),
    "closed": (
        base(policy="drop"),
        f"closed to {PEER}",
        FAULT,
        f"nft insert rule inet filter input 'ip saddr {{ {PEER} }} udp dport 6081 accept'",
    ),
    "closed by firewalld": (
        firewalld(),
        f"closed to {PEER}",
        FAULT,
        f"firewall-cmd --permanent --add-rich-rule='rule family=ipv4 source address={PEER} port port=6081 protocol=udp"
        " accept' && firewall-cmd --reload && netavark-geneve reload",
    ),
    "open in firewalld": (firewalld([DPORT, ACCEPTS]), "open to everybody", WARNING, "take the port"),
    "a doubt": (base([meta("mark", 7), ACCEPTS], policy="drop"), "cannot tell", WARNING, "nft -a list ruleset"),
    "our own rules": (base(table="netavark_geneve", policy="drop"), "open to everybody", WARNING, ""),
}


@pytest.mark.parametrize(("ruleset", "found", "state", "remedy"), PORTS.values(), ids=PORTS)
def test_port_of_the_tunnels(ruleset: list[dict[str, Any]], found: str, state: str, remedy: str) -> None:
    finding = check_port(ruleset, TUNNELS, has_legacy=False)
    assert (finding.found, finding.state) == (found, state)
    assert remedy in finding.remedy


def test_nobody_can_tell_what_the_old_iptables_does() -> None:
    finding = check_port([], TUNNELS, has_legacy=True)
    assert (finding.found, finding.state) == ("cannot tell", WARNING)


OUR_CHAINS = ("prerouting", "forward", "postrouting", "network/ovs_net1")
GATEWAY = planned(created()).gateway


@pytest.mark.parametrize("flushed", [*OUR_CHAINS, None])
def test_rules_of_ours_that_somebody_flushed(flushed: str | None) -> None:
    objects = [
        item
        for name in OUR_CHAINS
        for item in chain(name, *([] if name == flushed else [[ACCEPTS]]), table="netavark_geneve")
    ]
    finding = check_rules(objects, [GATEWAY])
    assert finding.state == (FAULT if flushed else OK)
    assert finding.remedy == ("netavark-geneve reload" if flushed else "")


def test_rules_of_somebody_else_are_not_ours() -> None:
    objects = [item for name in OUR_CHAINS for item in chain(name, [ACCEPTS], table="theirs")]
    assert check_rules(objects, [GATEWAY]).state == FAULT


def test_internal_network_needs_no_rule_in_its_chain() -> None:
    inside = replace(GATEWAY, bridge="ovs_net2", forwards=False)
    assert check_rules(chain("network/ovs_net2", table="netavark_geneve"), [inside]).state == FAULT
    hooks = [item for name in OUR_CHAINS for item in chain(name, [ACCEPTS], table="netavark_geneve")]
    assert check_rules([*hooks, *chain("network/ovs_net2", table="netavark_geneve")], [inside]).state == OK
