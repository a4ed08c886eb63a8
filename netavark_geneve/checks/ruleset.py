# SPDX-License-Identifier: Apache-2.0
"""What nftables does with one packet that comes in, as far as `nft -j list ruleset` tells. Pure.

A rule may ask what we cannot know. Then both ways are followed, and where they end differently the answer is that
we cannot tell, with the rule.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..addresses import Address

ACCEPT, DROP, RETURN, GO_ON = "accept", "drop", "return", "go on"
ENDS = {"accept": {ACCEPT}, "drop": {DROP}, "reject": {DROP}, "return": {RETURN}, "queue": {ACCEPT, DROP}}
# Statements that let the packet go on to the next one.
HARMLESS = {"counter", "log", "mangle", "notrack", "set", "map", "flow", "dup", "ct helper", "ct timeout", "comment"}
FAMILIES = {4: ("inet", "ip", "netdev"), 6: ("inet", "ip6", "netdev")}
HOOKS = ("ingress", "prerouting", "input")  # in the order of a packet's way in
DEPTH = 16  # jumps inside jumps, as many as the kernel allows

Json = Mapping[str, Any]
Spellings = frozenset[Any]  # of one value; empty: no value equals it
OTHER_PROTOCOL: Spellings = frozenset({"other protocol"})


@dataclass(frozen=True)
class Packet:
    """The first packet of a tunnel's peer (or of somebody else), as it reaches this host."""

    interface: str
    source: Address
    destination: Address
    port: int


@dataclass(frozen=True)
class Verdict:
    """What becomes of the packet (None: cannot tell), and by which chain or rule."""

    outcome: str | None
    where: str = ""
    base: tuple[str, str, str] = ("", "", "")  # family, table and name of the chain that the hook calls


class Ruleset:
    """The objects of `nft -j list ruleset`; tables of ours are left out by the caller."""

    def __init__(self, objects: Iterable[Json]) -> None:
        self._chains: dict[tuple[str, str, str], list[Json]] = {}
        self._sets: dict[tuple[str, str, str], list[Any]] = {}
        self._bases: list[Json] = []
        for item in objects:
            for kind, value in item.items():
                if kind == "chain":
                    self._chains[_key(value, "name")] = []
                    if value.get("hook") in HOOKS and value.get("type") == "filter":
                        self._bases.append(value)
                elif kind == "rule":
                    self._chains[_key(value, "chain")].append(value)
                elif kind in ("set", "map"):
                    self._sets[_key(value, "name")] = value.get("elem", [])
        self._bases.sort(key=lambda chain: (HOOKS.index(chain["hook"]), chain.get("prio", 0)))

    def judge(self, packet: Packet) -> Verdict:
        """The first chain that drops it for sure; else the first that may; else it is accepted."""
        doubt = None
        for base in self._bases:
            key = _key(base, "name")
            if key[0] not in FAMILIES[packet.source.version] or packet.interface not in _devices(base, packet):
                continue
            walk = _Walk(self._chains, self._sets, packet)
            policy = base.get("policy", ACCEPT)
            outcomes = {policy if outcome == RETURN else outcome for outcome in walk.through(key, DEPTH)}
            if outcomes == {DROP}:
                return Verdict(DROP, f"chain {' '.join(key)}", key)
            if DROP in outcomes and doubt is None:
                doubt = Verdict(None, walk.doubt, key)
        return doubt or Verdict(ACCEPT)


class _Walk:
    """One packet's way through the chains of one hook."""

    def __init__(self, chains: Mapping[Any, list[Json]], sets: Mapping[Any, list[Any]], packet: Packet) -> None:
        self._chains = chains
        self._sets = sets
        self._packet = packet
        self.doubt = ""  # the first rule of which we could not tell whether it holds

    def through(self, key: tuple[str, str, str], depth: int) -> set[str]:
        """How the packet may leave this chain."""
        outcomes: set[str] = set()
        for rule in self._chains.get(key, ()) if depth else ():
            for holds, ends in self._branches(rule, key, depth):
                if holds is None and ends != {GO_ON} and not self.doubt:
                    self.doubt = f"rule {rule.get('handle', '?')} of chain {' '.join(key)}"
                outcomes |= ends - {GO_ON}
                if holds and GO_ON not in ends:
                    return outcomes
        return outcomes | {RETURN}

    def _branches(self, rule: Json, key: tuple[str, str, str], depth: int) -> Iterator[tuple[bool | None, set[str]]]:
        """Each verdict that the rule may come to: whether it does (None: perhaps), and how the packet then ends."""
        holds: bool | None = True
        for expression in rule.get("expr", ()):
            ((kind, value),) = expression.items()
            if kind == "match":
                holds = _both(holds, self._matches(value, key))
            elif kind == "vmap":
                for matched, verdict in self._mapped(value, key):
                    applies = _both(holds, matched)
                    if applies is not False:
                        yield applies, self._ends(verdict, key, depth)
                    if matched:
                        break
            elif kind == "xt":  # a match or target of iptables that nft has no words for
                if isinstance(value, dict) and value.get("type") == "target":
                    if value.get("name") == "REJECT":
                        yield holds, {DROP}
                else:
                    holds = _both(holds, None)
            elif kind in ENDS or kind in ("jump", "goto"):
                yield holds, self._ends(expression, key, depth)
            elif kind not in HARMLESS:
                holds = _both(holds, None)  # limit, quota and the like
            if holds is False:
                return

    def _ends(self, verdict: Json, key: tuple[str, str, str], depth: int) -> set[str]:
        ((kind, value),) = verdict.items()
        if kind in ("jump", "goto"):
            back = GO_ON if kind == "jump" else RETURN
            outcomes = self.through((key[0], key[1], value["target"]), depth - 1)
            return {back if outcome == RETURN else outcome for outcome in outcomes}
        return ENDS.get(kind, {GO_ON})

    def _mapped(self, value: Json, key: tuple[str, str, str]) -> Iterator[tuple[bool | None, Json]]:
        data = value["data"]
        elements = self._named(data, key) if isinstance(data, str) else data.get("set", [])
        for element, verdict in elements:
            yield self._equals(self._value(value["key"]), element, key), verdict

    def _matches(self, match: Json, key: tuple[str, str, str]) -> bool | None:
        found = self._value(match["left"])
        if found is OTHER_PROTOCOL:
            return False
        equal = self._equals(found, match["right"], key)
        if match["op"] == "!=":
            return None if equal is None else not equal
        return equal if match["op"] in ("==", "in") else None

    def _value(self, left: Any) -> Any:
        """What the packet has there: its spellings, a list of such for a concatenation; None is unknown."""
        if not isinstance(left, dict) or len(left) != 1:
            return None
        ((kind, value),) = left.items()
        if kind == "concat":
            return [self._value(part) for part in value]
        if kind == "payload":
            return self._payload(value)
        if kind == "fib":
            return _fib(value)
        return self._known().get((kind, value.get("key"))) if isinstance(value, dict) else None

    def _payload(self, value: Json) -> Spellings | None:
        packet, family = self._packet, {4: "ip", 6: "ip6"}[self._packet.source.version]
        protocol, field = value.get("protocol"), value.get("field")
        if protocol not in (family, "udp", "th"):
            return OTHER_PROTOCOL if protocol not in (None, "ether", "vlan") else None
        known: dict[tuple[Any, Any], Spellings] = {
            (family, "saddr"): frozenset({packet.source}),
            (family, "daddr"): frozenset({packet.destination}),
            ("ip", "protocol"): frozenset({"udp", 17}),
            ("ip6", "nexthdr"): frozenset({"udp", 17}),
            ("udp", "dport"): frozenset({packet.port}),
            ("th", "dport"): frozenset({packet.port}),
        }
        return known.get((protocol, field))

    def _known(self) -> dict[tuple[str, Any], Spellings]:
        version = self._packet.source.version
        return {
            ("meta", "iifname"): frozenset({self._packet.interface}),
            ("meta", "iif"): frozenset({self._packet.interface}),
            ("meta", "l4proto"): frozenset({"udp", 17}),
            ("meta", "nfproto"): frozenset({f"ipv{version}"}),
            ("meta", "protocol"): frozenset({"ip" if version == 4 else "ip6"}),
            ("meta", "pkttype"): frozenset({"host", "unicast"}),
            ("ct", "state"): frozenset({"new"}),
            ("ct", "status"): frozenset(),
            ("ct", "direction"): frozenset({"original"}),
        }

    def _equals(self, found: Any, right: Any, key: tuple[str, str, str]) -> bool | None:
        """Whether the packet's value is this one, or one of these."""
        if found is None:
            return None
        if isinstance(right, str) and right.startswith("@"):
            return self._equals(found, self._named(right, key), key)
        if isinstance(right, list) or (isinstance(right, dict) and "set" in right):
            members = right["set"] if isinstance(right, dict) else right
            answers = [self._equals(found, member, key) for member in members]
            return True if True in answers else None if None in answers else False
        if isinstance(right, dict) and "elem" in right:
            return self._equals(found, right["elem"]["val"], key)
        if isinstance(right, dict) and "concat" in right:
            if not isinstance(found, list):
                return None
            holds: bool | None = True
            for part, value in zip(found, right["concat"], strict=True):
                holds = _both(holds, self._equals(part, value, key))
            return holds
        return None if isinstance(found, list) else _is(found, right)

    def _named(self, name: str, key: tuple[str, str, str]) -> list[Any]:
        return self._sets.get((key[0], key[1], name.removeprefix("@")), [])


def _is(found: Spellings, right: Any) -> bool | None:
    """Whether one spelling of the value is this one, or inside this prefix or range."""
    for value in found:
        if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return _has_address(right, value)
        if isinstance(right, dict) and "range" in right and isinstance(value, int):
            first, last = right["range"]
            return bool(first <= value <= last)
        if isinstance(right, dict):
            return None
        if isinstance(value, str) and isinstance(right, str) and right.endswith("*") and value.startswith(right[:-1]):
            return True
    return right in found or right == "*"


def _has_address(right: Any, address: Address) -> bool | None:
    try:
        match right:
            case {"prefix": {"addr": start, "len": length}}:
                return address in ipaddress.ip_network(f"{start}/{length}", strict=False)
            case {"range": [first, last]}:
                return int(ipaddress.ip_address(first)) <= int(address) <= int(ipaddress.ip_address(last))
            case str():
                return address == ipaddress.ip_address(right)
    except ValueError:
        pass
    return None


def _fib(value: Json) -> Spellings | None:
    """There is a way back to the packet's source by where it came from, and its destination is ours."""
    flags = value.get("flags", [])
    if value.get("result") == "type":
        return frozenset({"local"}) if "daddr" in flags else frozenset({"unicast"})
    return frozenset({True, "exists"}) if "saddr" in flags else None


def _both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _key(value: Json, name: str) -> tuple[str, str, str]:
    return value["family"], value["table"], value[name]


def _devices(base: Json, packet: Packet) -> tuple[str, ...]:
    """Those whose packets the chain sees; all but for a hook of a device."""
    device = base.get("dev", packet.interface)
    return tuple(device) if isinstance(device, list) else (device,)
