# SPDX-License-Identifier: Apache-2.0
"""Take one attachment off the switch, and with the last one the network off this host."""

from collections.abc import Callable, Mapping

from . import dns, firewall, firewalld, naming, switch, sysctls
from .errors import Deadline, Failures
from .log import logger
from .model import Container, Network
from .options import UNMANAGED
from .ovsdb import START_IT, Pool
from .switch import Switch
from .tap import remove_left_tap


def withdraw(
    network: Network,
    container: Container,
    environ: Mapping[str, str],
    deadline: Deadline,
    *,
    pool: Pool | None = None,
) -> str | None:
    """Leave by a connection of its own; the name of the port. Without a database what else there is goes all the same.

    Raises GeneveError at the end when something of it failed.
    """
    bridge = network.bridge or naming.bridge(network.name)
    tags = naming.container_tags(network.id, container.id, container.interface)
    port, left = None, False
    with Failures() as failures:
        with failures.collected(), switch.connect(environ, deadline, bridge, tags, pool=pool) as ovs:
            port, left = ovs.find_port(tags), True
            leave(ovs, network, container, environ, deadline)
        if not left:
            with failures.collected():
                forget(network, container, environ, deadline, is_needed=lambda: True)
    return port


def leave(ovs: Switch, network: Network, container: Container, environ: Mapping[str, str], deadline: Deadline) -> None:
    """Remove the container's port and what else it has on this host; all of the network's when the bridge went too."""
    bridge = network.bridge or naming.bridge(network.name)
    tags = naming.container_tags(network.id, container.id, container.interface)
    managed = network.options.get("mode") != UNMANAGED

    def is_needed() -> bool:
        return ovs.has_bridge(bridge, network.id)

    with Failures() as failures:
        with failures.collected():
            # Nobody meets the port again, unless the next one is to have its name.
            wait = "host_interface_name" in container.options
            had_bridge = is_needed()
            followed = ovs.detach(bridge, tags, deadline, wait=wait)
            if not followed:
                logger.warning("ovs-vswitchd does not follow; %s", START_IT)
            if managed and had_bridge and not is_needed():
                remove_left_tap(bridge, environ, deadline)
        with failures.collected():
            forget(network, container, environ, deadline, is_needed=is_needed)


def forget(
    network: Network,
    container: Container,
    environ: Mapping[str, str],
    deadline: Deadline,
    *,
    is_needed: Callable[[], bool],
) -> None:
    """Remove what the host has for the container, and for the network once it `is_needed` no more."""
    bridge = network.bridge or naming.bridge(network.name)
    routed = [subnet.subnet for subnet in network.subnets if subnet.is_routed_here]
    if network.options.get("mode") == UNMANAGED or not routed:
        return
    with Failures() as failures:
        if network.dns_enabled:
            with failures.collected():
                dns.remove_names(network.name, container.id)
        if firewall.is_wanted(environ):
            with failures.collected():
                firewall.remove(bridge, container.id, deadline, is_needed=is_needed, has_ports=bool(container.ports))
        if not is_needed():
            if firewall.is_wanted(environ):
                with failures.collected():
                    firewalld.remove_trusted(routed, deadline)
            with failures.collected():
                sysctls.remove(bridge)
