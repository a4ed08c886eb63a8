# SPDX-License-Identifier: Apache-2.0
"""What a process that serves many requests keeps from one for the next. All of it may be lost at any time."""

import time
from collections.abc import Iterable

from .addresses import Address
from .naming import random_mac
from .ovsdb import Pool

LATELY = 15.0  # seconds; Open vSwitch forgets a flow that nobody has used for 10 (max-idle, ovs-vswitchd.conf.db(5))
PROBER_AGE = 60.0  # seconds; it pays where there are many attaches a minute


class Kept:
    """Connections to OVSDB, which addresses have left their networks a moment ago, and who has asked for others."""

    def __init__(self) -> None:
        self.pool = Pool()
        self._since = time.monotonic()
        self._left: dict[tuple[str, Address | None], float] = {}
        self._probers: dict[str, tuple[float, bytes]] = {}

    def left(self, network_id: str, addresses: Iterable[Address]) -> None:
        """Remember that a container with these addresses has left; without any, that it could be each of them."""
        now = time.monotonic()
        self._left = {key: moment for key, moment in self._left.items() if now - moment < LATELY}
        self._left |= {(network_id, address): now for address in (tuple(addresses) or (None,))}

    def was_here_lately(self, network_id: str, addresses: Iterable[Address]) -> bool:
        """Whether switches may still have flows for one of these addresses; before we know, they may."""
        now = time.monotonic()
        moments = [self._left.get((network_id, address), self._since) for address in (None, *addresses)]
        return now - max(moments) < LATELY

    def prober(self, network_id: str) -> bytes:
        """The MAC under which this host asks for addresses of the network.

        Not the same for ever: whatever a switch has got wrong about one is over with it.
        """
        now = time.monotonic()
        since, mac = self._probers.get(network_id, (-PROBER_AGE, b""))
        if now - since >= PROBER_AGE:
            mac = random_mac()
            self._probers = {key: kept for key, kept in self._probers.items() if now - kept[0] < PROBER_AGE}
            self._probers[network_id] = now, mac
        return mac

    def close(self) -> None:
        self.pool.close()
