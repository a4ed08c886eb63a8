# SPDX-License-Identifier: Apache-2.0
"""What a process that serves many requests keeps from one for the next. All of it may be lost at any time."""

import time
from collections.abc import Iterable

from .addresses import Address
from .ovsdb import Pool

LATELY = 15.0  # seconds; Open vSwitch forgets a flow that nobody has used for 10 (max-idle, ovs-vswitchd.conf.db(5))


class Kept:
    """Connections to OVSDB, and which addresses have left their networks a moment ago."""

    def __init__(self) -> None:
        self.pool = Pool()
        self._since = time.monotonic()
        self._left: dict[tuple[str, Address | None], float] = {}

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

    def close(self) -> None:
        self.pool.close()
