# SPDX-License-Identifier: Apache-2.0
"""Decide what on this host serves no container any more. Pure: what was found in, judgement out."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .found import Bridge, Found, Line, Link, Port, Settings

PORT, BRIDGE, INTERFACE, CHAIN, TABLE = "port", "bridge", "interface", "chain", "table"
NAMES, RESOLVER, FILE = "names", "resolver", "file"
TABLE_NAME, RESOLVER_NAME = "inet netavark_geneve", "aardvark-dns"
CERTAIN = (PORT, BRIDGE)  # what stands in OVSDB is there whole or not at all
ID_SHOWN = 12  # digits of a container's id, as Podman shows them and as aliases and chains carry them
_CHAIN = re.compile(r"(?:network|resolver)/(?P<network>[^/]+)|published/(?P<bridge>[^/]+)/(?P<container>[^/]+)")


@dataclass(frozen=True)
class Thing:
    """Something of ours, and why nobody needs it; `reason` None when somebody does."""

    kind: str
    name: str
    what: Port | Bridge | Link | Line | Settings | str
    reason: str | None
    network: str = ""
    container_id: str = ""
    container: str = ""

    @property
    def key(self) -> tuple[str, object]:
        """By which it is known again: one that was removed and made anew under its name is another one."""
        match self.what:
            case Port(row=identity) | Bridge(row=identity) | Link(index=identity):
                return self.kind, identity
            case what:
                return self.kind, what

    @property
    def short_id(self) -> str:
        return self.container_id[:ID_SHOWN]

    def __str__(self) -> str:
        container = f"{self.container} ({self.short_id})" if self.container else self.short_id
        whose = f" of container {container}" * bool(container)
        network = f" {'on' if container else 'of'} network {self.network}" * bool(self.network)
        return f"{self.kind} {self.name}{whose}{network}: {self.reason}"


def find_stale(found: Found) -> list[Thing]:
    """What serves nobody, in the order in which it is to be removed."""
    return [thing for thing in judge(found) if thing.reason]


def confirmed(before: Collection[Thing], now: Iterable[Thing]) -> list[Thing]:
    """What is stale for certain, and what was so `before` and still is.

    Of what is not in OVSDB a part is there before the rows of a container that starts, and another part after
    those of one that ends: it is only left over if it stays.
    """
    known = {thing.key for thing in before}
    return [thing for thing in now if thing.kind in CERTAIN or thing.key in known]


def judge(found: Found) -> Iterator[Thing]:
    """Everything that is ours, with what nobody needs told from the rest."""
    links = {link.name: link for link in found.links}
    ports = [_port(port, links.get(port.name), found.boot_id) for port in found.ports]
    live = [port for port, thing in zip(found.ports, ports, strict=True) if not thing.reason]
    bridges = [_bridge(bridge, live) for bridge in found.bridges if bridge.is_ours]
    used = {thing.name for thing in bridges if not thing.reason}
    named = dict(found.networks) | {bridge.name: bridge.network for bridge in found.bridges if bridge.is_ours}
    yield from ports
    yield from bridges
    yield from _interfaces(found, {port.name for port in live})
    yield from _rules(found, used, live, named)
    yield from _names(found, live)
    for file in found.settings:
        reason = None if file.bridge in used else "its network has no container here"
        yield Thing(FILE, file.path, file, reason, network=named.get(file.bridge, ""))
    for path in found.unfinished:
        yield Thing(FILE, path, path, "whoever wrote it never finished")


def _port(port: Port, link: Link | None, boot_id: str) -> Thing:
    reason = _why_not(port, link, boot_id)
    return Thing(PORT, port.name, port, reason, port.network, port.container_id, port.container)


def _why_not(port: Port, link: Link | None, boot_id: str) -> str | None:
    """Why the port serves nobody. The veth goes with the container's network namespace."""
    if not port.container_id or not port.interface:
        return None  # somebody changed its external_ids: nothing tells that its container is gone
    if port.boot_id and port.boot_id != boot_id:
        return "it is of an earlier boot"
    owner = link and link.owner
    if owner and (owner.container_id, owner.interface) == (port.container_id[:ID_SHOWN], port.interface):
        return None
    return "its interface is gone"


def _bridge(bridge: Bridge, live: Iterable[Port]) -> Thing:
    is_used = bridge.has_others or any(port.bridge == bridge.name for port in live)
    return Thing(BRIDGE, bridge.name, bridge, None if is_used else "no container is on it", network=bridge.network)


def _interfaces(found: Found, in_use: Collection[str]) -> Iterator[Thing]:
    """The veths of containers; of other interfaces those that are called like a bridge of ours."""
    ports, bridges = {port.name for port in found.ports}, {bridge.name for bridge in found.bridges}
    networks = dict(found.networks)
    for link in found.links:
        owner = link.owner
        if owner is not None:
            unused = "its port is stale" if link.name in ports else "no bridge has it"
            reason = None if link.name in in_use else unused
            yield Thing(INTERFACE, link.name, link, reason, owner.network, owner.container_id, owner.container)
        elif link.name in networks:
            reason = None if link.name in bridges else "its bridge is gone"
            yield Thing(INTERFACE, link.name, link, reason, networks[link.name])


def _rules(found: Found, used: Collection[str], live: Iterable[Port], named: Mapping[str, str]) -> Iterator[Thing]:
    """The chains of the packet filter, and the table that has none."""
    containers = {(port.bridge, port.container_id[:ID_SHOWN]) for port in live}
    for name in found.chains:
        parts = _CHAIN.fullmatch(name)
        if parts is None:
            continue
        if parts["network"]:
            reason = None if parts["network"] in used else "its network has no container here"
        else:
            is_live = (parts["bridge"], parts["container"]) in containers
            reason = None if is_live else "its container is not on that network"
        bridge = parts["network"] or parts["bridge"]
        yield Thing(CHAIN, name, name, reason, named.get(bridge, ""), parts["container"] or "")
    if found.has_table:
        yield Thing(TABLE, TABLE_NAME, TABLE_NAME, None if found.chains else "it serves no network")


def _names(found: Found, live: Iterable[Port]) -> Iterator[Thing]:
    """What the resolver knows, and the resolver that knows nothing."""
    containers = {(port.network, port.container_id) for port in live}
    for line in found.lines:
        reason = None if (line.network, line.container_id) in containers else "its container is not on that network"
        yield Thing(NAMES, line.names or "(none)", line, reason, line.network, line.container_id)
    if found.has_resolver:
        yield Thing(RESOLVER, RESOLVER_NAME, RESOLVER_NAME, None if found.lines else "it has no names to answer for")
