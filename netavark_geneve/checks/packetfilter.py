# SPDX-License-Identifier: Apache-2.0
"""The packet filter: the tunnels' port, open to the peers and to nobody else; and the rules of our networks."""

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ..addresses import Address, Interface
from ..model import Gateway
from .finding import FAULT, WARNING, Finding
from .ruleset import ACCEPT, DROP, Json, Packet, Ruleset, Verdict

FIREWALLD = ("inet", "firewalld")
OURS = ("inet", "netavark_geneve")
HOOKS = ("prerouting", "forward", "postrouting")  # chains of ours that are never without rules
RESTORE = "netavark-geneve reload"
# Addresses for documentation, RFC 5737 and RFC 3849: of nobody.
STRANGERS: dict[int, Address] = {4: ipaddress.ip_address("203.0.113.1"), 6: ipaddress.ip_address("2001:db8::1")}


@dataclass(frozen=True)
class Tunnels:
    """Where tunnels of one UDP port end: the endpoint here, and each peer with the interface that leads there."""

    port: int
    local: Interface
    peers: Mapping[Address, str]

    @property
    def strangers(self) -> tuple[Address, ...]:
        """Somebody far away, and on the underlay's own subnet the first who is no host of ours."""
        hosts = (address for address in self.local.network.hosts() if address not in {self.local.ip, *self.peers})
        return (STRANGERS[self.local.version], *islice(hosts, 1))


def check_port(objects: Sequence[Json], tunnels: Tunnels, *, has_legacy: bool) -> Finding:
    """Judge by the rules of nftables, which are firewalld's too; `has_legacy` is those of the old iptables."""
    name, wanted = f"UDP port {tunnels.port}", "open to the peers, and to nobody else"
    if has_legacy:
        remedy = "see iptables-legacy-save"
        return Finding(name, "cannot tell", wanted, WARNING, "there are rules of the old iptables", remedy)
    ruleset = Ruleset(item for item in objects if _table(item) != OURS)
    interface = next(iter(tunnels.peers.values()))
    ways = {**dict.fromkeys(tunnels.strangers, interface), **tunnels.peers}
    verdicts = {
        address: ruleset.judge(Packet(interface, address, tunnels.local.ip, tunnels.port))
        for address, interface in ways.items()
    }
    with_firewalld = any(_table(item) == FIREWALLD for item in objects)
    closed = [peer for peer in tunnels.peers if verdicts[peer].outcome == DROP]
    if closed:
        by = verdicts[closed[0]]
        remedy = _rich_rules(closed, tunnels.port) if with_firewalld else _insert(by, closed, tunnels.port)
        reason = f"{by.where} drops what {_listed(closed)} send{'s' * (len(closed) == 1)}"
        return Finding(name, f"closed to {_listed(closed)}", wanted, FAULT, reason, remedy)
    others = [stranger for stranger in tunnels.strangers if verdicts[stranger].outcome == ACCEPT]
    doubts = [verdict for verdict in verdicts.values() if verdict.outcome is None]
    if doubts and not others:
        reason, remedy = f"cannot judge {doubts[0].where}", "see 'nft -a list ruleset'"
        return Finding(name, "cannot tell", wanted, WARNING, reason, remedy)
    if others:
        reason = f"whoever sends from there, as {_listed(others)} could, can put frames into the networks"
        everybody = len(others) == len(tunnels.strangers)
        found = "open to everybody" if everybody else f"open also to {_listed(others)}"
        remedy = CLOSE_FIREWALLD if with_firewalld else _close(tunnels)
        return Finding(name, found, wanted, WARNING, reason, remedy)
    return Finding(name, wanted, wanted)


def check_rules(objects: Iterable[Json], gateways: Iterable[Gateway]) -> Finding:
    """The rules of the networks that have containers here: a chain each, and those that hooks call."""
    filled, known = set(), set()
    for item in objects:
        if _table(item) == OURS:
            known |= {chain["name"] for kind, chain in item.items() if kind == "chain"}
            filled |= {rule["chain"] for kind, rule in item.items() if kind == "rule"}
    missing = []
    for gateway in gateways:
        chain = f"network/{gateway.bridge}"  # of an internal network it has no rules
        missing += [hook for hook in HOOKS if hook not in filled]
        missing += [chain] if chain not in (filled if gateway.forwards else known) else []
    wanted = "the rules of every network that has containers here"
    if not missing:
        return Finding("packet filter", f"{len(filled)} chains", wanted)
    reason = f"somebody flushed table {' '.join(OURS)}, so packets and published ports do not pass"
    return Finding("packet filter", f"nothing in {_listed(dict.fromkeys(missing))}", wanted, FAULT, reason, RESTORE)


def check_trusted(subnets: Collection[str]) -> Finding:
    """`subnets` of networks with containers here that firewalld does not trust."""
    name, wanted = "zone trusted of firewalld", "the subnets of networks that have containers here"
    if not subnets:
        return Finding(name, "all", wanted)
    reason = f"firewalld was reloaded, and rejects what containers on {_listed(subnets)} send"
    return Finding(name, f"without {_listed(subnets)}", wanted, FAULT, reason, RESTORE)


CLOSE_FIREWALLD = (
    "take the port (or the service of it) out of the underlay's zone, see 'firewall-cmd --list-all', and let the peers"
    " in by rich rules, as step 3 of the README has them"
)


def _rich_rules(peers: Collection[Address], port: int) -> str:
    rules = [
        f"--add-rich-rule='rule family=ipv{peer.version} source address={peer} port port={port} protocol=udp accept'"
        for peer in peers
    ]
    return f"firewall-cmd --permanent {' '.join(rules)} && firewall-cmd --reload && {RESTORE}"


def _insert(by: Verdict, peers: Sequence[Address], port: int) -> str:
    return f"nft insert rule {' '.join(by.base)} '{_saddr(peers[0])} {{ {_listed(peers)} }} udp dport {port} accept'"


def _close(tunnels: Tunnels) -> str:
    """A table of its own, which an accept elsewhere does not overrule."""
    peers = f"{_saddr(tunnels.local.ip)} != {{ {_listed(tunnels.peers)} }}"
    chain = f"chain input {{ type filter hook input priority filter; {peers} udp dport {tunnels.port} drop; }};"
    return f"nft 'table inet tunnels_{tunnels.port} {{ {chain} }}'"


def _saddr(address: Address) -> str:
    return "ip saddr" if address.version == 4 else "ip6 saddr"


def _table(item: Json) -> tuple[str, str]:
    ((_, value),) = item.items()
    return value.get("family", ""), value.get("table", value.get("name", ""))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
