# SPDX-License-Identifier: Apache-2.0
"""Look at all that is ours on this host, in OVSDB, in the kernel and in files; nothing is changed."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from . import dns, firewall, linklist, stale, sweep, sysctls
from .errors import Deadline
from .found import Found, Link
from .model import Line, Network, Settings
from .naming import OWNER
from .options import UNMANAGED
from .stale import Thing

LOOK = 10.0  # seconds for one look at the host
What = TypeVar("What", str, Line, Link, Settings)


class Host:
    """This host, looked at as often as needed; each time anew, since a connection may miss what comes after it."""

    def __init__(self, networks: Iterable[Network], environ: Mapping[str, str]) -> None:
        self.networks = [each for each in networks if each.driver == OWNER and each.options.get("mode") != UNMANAGED]
        self.environ = environ
        self._boot_id = sysctls.boot_id()

    def look(self) -> Found:
        """Everything; what follows the rows of OVSDB when a container starts before them, so that they explain it."""
        chains = firewall.find_chains()
        outside = Found(
            self._boot_id,
            chains=chains or (),
            has_table=chains is not None,
            lines=dns.find_lines(),
            has_resolver=dns.has_instance(),
            settings=sysctls.find_files(),
            unfinished=dns.find_unfinished() + sysctls.find_unfinished(),
        )
        return self.look_inside(outside)

    def look_inside(self, outside: Found | None = None) -> Found:
        """What says which containers are live; interfaces come last, for they come after the rows."""
        outside = outside or Found(self._boot_id)
        with sweep.connect(self.environ, Deadline(LOOK)) as ovs:
            ports, bridges = ovs.find_all()
        seen = linklist.find_all([port.name for port in ports])
        named = tuple((network.bridge, network.name) for network in self.networks if network.bridge)
        return replace(outside, ports=ports, bridges=bridges, links=seen, networks=named)

    def has_bridge(self, network: Network) -> bool:
        """Whether the network has its bridge here just now."""
        return any(bridge.name == network.bridge and bridge.is_ours for bridge in self.look_inside().bridges)

    def still(self, things: Iterable[Thing], what: type[What], **outside: Any) -> list[What]:
        """Of the things those of this type that are stale now, when there is this `outside` of OVSDB and the links."""
        known = {thing.key for thing in things}
        found = stale.find_stale(replace(self.look_inside(), **outside))
        return [thing.what for thing in found if thing.key in known and isinstance(thing.what, what)]
