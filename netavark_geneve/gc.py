# SPDX-License-Identifier: Apache-2.0
"""Find what crashes and reboots left on this host, and remove it: what was found, minus what is live.

What a running container needs is known from OVSDB and the kernel alone; Podman is not asked, which may hold
its lock. Nobody is kept from starting or ending containers meanwhile, so whatever is removed is decided about
once more, where nobody can be faster: in the transaction, under the lock, or on the very interface.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from . import dns, firewall, firewalld, links, stale, sweep, sysctls
from .errors import Deadline, Failures, GeneveError
from .found import Bridge, Link, Port
from .log import logger
from .model import Line, Network, Settings
from .ovsdb import START_IT
from .stale import Thing
from .survey import Host
from .tap import remove_left_tap

DEADLINE = 30.0  # seconds for all removals, on a host full of leftovers
GRACE = 15.0  # seconds; longer than an attach with its undo, or a detach, takes
PARTS = 3  # of that time, with a look after each: one that starts over and over is caught ending once, not each time
FOLLOW_MAX = 5.0  # seconds that ovs-vswitchd gets to follow


@dataclass(frozen=True)
class Report:
    """What is stale, and what of it was removed; `error` is what kept us from more."""

    things: tuple[Thing, ...]
    removed: frozenset[Thing] = frozenset()
    error: GeneveError | None = None


def gc(
    networks: Iterable[Network], environ: Mapping[str, str], *, apply: bool, wait: Callable[[float, int], None]
) -> Report:
    """Find what is stale, and with `apply` remove it; `networks` are Podman's.

    `wait` is called, with the seconds and with how many things it is about, while there is something of which
    only time tells whether it is stale. Raises GeneveError when the host cannot be looked at.
    """
    host = Host(networks, environ)
    sweep.check_namespace(environ)
    things = stale.find_stale(host.look())
    for part in range(PARTS):
        doubtful = sum(thing.is_doubtful for thing in things)
        if doubtful:
            wait(GRACE / PARTS, doubtful)
        if doubtful or (things and not part):
            things = stale.confirmed(things, stale.find_stale(host.look()))
    if not apply or not things:
        return Report(tuple(things))
    error = None
    try:
        _remove(things, host)
    except GeneveError as failure:
        error = failure
    return _outcome(things, host, error)


def _outcome(things: list[Thing], host: Host, error: GeneveError | None) -> Report:
    """What became of them, by another look. What somebody uses by now was not stale after all."""
    try:
        now = {thing.key: thing.reason for thing in stale.judge(host.look())}
    except GeneveError as unseen:
        return Report(tuple(things), error=error or unseen)
    still = [thing for thing in things if thing.key not in now or now[thing.key]]
    return Report(tuple(still), frozenset(thing for thing in still if thing.key not in now), error)


def _remove(things: list[Thing], host: Host) -> None:
    """Everything, in this order; a step that fails does not stop the next."""
    deadline = Deadline(DEADLINE)
    with Failures() as failures:
        for step in (_remove_from_switch, _remove_interfaces, _remove_rules, _remove_names, _remove_files):
            with failures.collected():
                step(things, host, deadline)


def _remove_from_switch(things: list[Thing], host: Host, deadline: Deadline) -> None:
    """Ports, with the last of a bridge the bridge, with that its tunnels and what is left of its interface."""
    ports = [thing.what for thing in things if isinstance(thing.what, Port)]
    going = {thing.name for thing in things if isinstance(thing.what, Bridge)}
    touched = sorted({port.bridge for port in ports} | going)
    if not touched:
        return
    with sweep.connect(host.environ, deadline) as ovs, Failures() as failures:
        next_cfg = 0
        for bridge in touched:
            with failures.collected():
                rows = [port.row for port in ports if port.bridge == bridge]
                next_cfg = max(next_cfg, ovs.remove(bridge, rows, with_bridge=bridge in going, deadline=deadline))
        if not ovs.has_completed(next_cfg, Deadline(min(FOLLOW_MAX, deadline.remaining()))):
            logger.warning("ovs-vswitchd does not follow; %s", START_IT)
        for bridge in going:
            with failures.collected():
                remove_left_tap(bridge, host.environ, deadline)


def _remove_interfaces(things: list[Thing], host: Host, _: Deadline) -> None:
    with Failures() as failures:
        for link in host.still(things, Link) if _any(things, stale.INTERFACE) else ():
            with failures.collected():
                links.remove_found(link.index, link.name)


def _remove_rules(things: list[Thing], host: Host, deadline: Deadline) -> None:
    if _any(things, stale.CHAIN, stale.TABLE):
        firewall.remove_chains(lambda chains: host.still(things, str, chains=tuple(chains)), deadline)
        gone = {thing.network for thing in things if thing.kind == stale.CHAIN and not thing.container_id}
        _distrust([network for network in host.networks if network.name in gone], host, deadline)


def _distrust(networks: Iterable[Network], host: Host, deadline: Deadline) -> None:
    """Take the networks' subnets out of firewalld's zone; put back those of a network that somebody joins meanwhile."""
    if not firewalld.is_installed():
        return
    for network in networks:
        routed = [subnet.subnet for subnet in network.subnets if subnet.is_routed_here]
        if not host.has_bridge(network):
            firewalld.remove_trusted(routed, deadline)
            if host.has_bridge(network):
                firewalld.ensure_trusted(routed, deadline)


def _remove_names(things: list[Thing], host: Host, _: Deadline) -> None:
    if _any(things, stale.NAMES, stale.RESOLVER) or any(thing.what in dns.find_unfinished() for thing in things):
        dns.remove_lines(lambda lines: host.still(things, Line, lines=tuple(lines)))


def _remove_files(things: list[Thing], host: Host, _: Deadline) -> None:
    with Failures() as failures:
        for thing in things:
            with failures.collected():
                if isinstance(thing.what, Settings):
                    sysctls.remove_file(thing.what, partial(_is_needed, thing, thing.what, host))
                elif thing.what in sysctls.find_unfinished():
                    sysctls.remove_unfinished(thing.name)


def _is_needed(thing: Thing, file: Settings, host: Host) -> bool:
    return not host.still([thing], Settings, settings=(file,))


def _any(things: Iterable[Thing], *kinds: str) -> bool:
    return any(thing.kind in kinds for thing in things)
