# SPDX-License-Identifier: Apache-2.0
"""Take one attachment off the switch, and with the last one the network off this host."""

from collections.abc import Mapping

from . import firewall, links, sysctls
from .errors import Deadline
from .log import logger
from .switch import START_IT, Switch


def leave(
    ovs: Switch, bridge: str, tags: Mapping[str, str], environ: Mapping[str, str], deadline: Deadline, *, internal: bool
) -> None:
    """Remove the port that carries `tags`; when the bridge went with it, all that the network had besides."""

    def is_needed() -> bool:
        return ovs.has_bridge(bridge, tags["network-id"])

    followed = ovs.detach(bridge, tags, deadline)
    if not followed:
        logger.warning("ovs-vswitchd does not follow; %s", START_IT)
    if is_needed():
        return
    if not followed:
        # Under the userspace datapath the bridge's interface outlives the daemon, with its address.
        links.remove_tap(bridge)
    if not internal:
        firewall.remove_egress(bridge, environ, deadline, is_needed=is_needed)
        if not is_needed():
            sysctls.remove(bridge)
