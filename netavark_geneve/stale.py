# SPDX-License-Identifier: Apache-2.0
"""Decide what on this host serves no container any more. Pure: what was found in, judgement out."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .found import Bridge, Found, Link, Port
from .model import Line, Settings

PORT, BRIDGE, INTERFACE, CHAIN, TABLE = "port", "bridge", "interface", "chain", "table"
NAMES, RESOLVER, FILE = "names", "resolver", "file"
TABLE_NAME, RESOLVER_NAME = "inet netavark_geneve", "aardvark-dns"
NO_INTERFACE = "its interface is gone"
NO_NETWORK, NO_CONTAINER = "its network has no container here", "its container is not on that network"
ID_SHOWN = 12  # digits of a container's id, as Podman shows them and as aliases and chains carry them


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
    def is_of_switch(self) -> bool:
        """Whether it stands in OVSDB, where it is there whole or not at all."""
        return self.kind in (PORT, BRIDGE)

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be of a container that is just starting or ending."""
        return not self.is_of_switch or self.reason == NO_INTERFACE

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


def confirmed(before: Iterable[Thing], now: Iterable[Thing]) -> list[Thing]:
    """What was stale `before` and still is.

    Of a container that starts a part is there before its rows in OVSDB, and its interface after them; of one that
    ends another part is there after them, and its port for a moment after its interface was seen to be gone. What is
    left over stays.
    """
    known = {thing.key for thing in before}
    return [thing for thing in now if thing.key in known]


def judge(found: Found) -> Iterator[Thing]:
    """Everything that is ours, with what nobody needs told from the rest."""
    links = {link.name: link for link in found.links}
    reasons = {port: _why_not(port, links.get(port.name), found.boot_id) for port in found.ports}
    live = [port for port, reason in reasons.items() if not reason]
    occupied = {port.bridge for port in live}
    ours = [bridge for bridge in found.bridges if bridge.is_ours]
    used = {bridge.name for bridge in ours if bridge.has_others or bridge.name in occupied}
    named = dict(found.networks) | {bridge.name: bridge.network for bridge in ours}
    for port, reason in reasons.items():
        yield Thing(PORT, port.name, port, reason, port.network, port.container_id, port.container)
    for bridge in ours:
        reason = None if bridge.name in used else "no container is on it"
        yield Thing(BRIDGE, bridge.name, bridge, reason, bridge.network)
    yield from _interfaces(found, {port.name for port in live})
    yield from _rules(found, used, live, named)
    yield from _names(found, live)
    for file in found.settings:
        yield Thing(FILE, file.path, file, None if file.bridge in used else NO_NETWORK, named.get(file.bridge, ""))
    for path in found.unfinished:
        yield Thing(FILE, path, path, "whoever wrote it never finished")


def _why_not(port: Port, link: Link | None, boot_id: str) -> str | None:
    """Why the port serves nobody. The veth goes with the container's network namespace."""
    if not port.container_id or not port.interface:
        return None  # somebody changed its external_ids: nothing tells that its container is gone
    if port.boot_id and port.boot_id != boot_id:
        return "it is of an earlier boot"
    owner = link and link.owner
    if owner and (owner.container_id, owner.interface) == (port.container_id[:ID_SHOWN], port.interface):
        return None
    return NO_INTERFACE


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
        kind, _, rest = name.partition("/")
        bridge, _, container = rest.partition("/")
        if kind == "published" and container:
            reason = None if (bridge, container) in containers else NO_CONTAINER
        elif kind in ("network", "resolver") and not container:
            reason = None if bridge in used else NO_NETWORK
        else:
            continue  # somebody else's
        yield Thing(CHAIN, name, name, reason, named.get(bridge, ""), container)
    if found.has_table:
        yield Thing(TABLE, TABLE_NAME, TABLE_NAME, None if found.chains else "it serves no network")


def _names(found: Found, live: Iterable[Port]) -> Iterator[Thing]:
    """What the resolver knows, and the resolver that knows nothing."""
    containers = {(port.network, port.container_id) for port in live}
    for line in found.lines:
        reason = None if (line.network, line.container_id) in containers else NO_CONTAINER
        yield Thing(NAMES, line.names or "(none)", line, reason, line.network, line.container_id)
    if found.has_resolver:
        yield Thing(RESOLVER, RESOLVER_NAME, RESOLVER_NAME, None if found.lines else "it has no names to answer for")
