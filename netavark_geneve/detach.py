# SPDX-License-Identifier: Apache-2.0
"""Take a container off a network: by tags, to the end, as often as one likes."""

import os
from collections.abc import Mapping

from . import links, naming
from .errors import Deadline, Failures, during
from .kept import Kept
from .leave import withdraw
from .model import Container, Network

DEADLINE = 10.0  # seconds; Podman holds its network lock meanwhile, but what is not removed now stays


def detach(
    network: Network, container: Container, netns_path: str, environ: Mapping[str, str], kept: Kept | None = None
) -> None:
    """Remove port and veth; with the last container the bridge and its tunnels.

    Works without the container's namespace, and when nothing is left to remove. A step that fails does
    not stop the next; what failed is raised at the end.
    """
    deadline = Deadline(DEADLINE)
    port = None
    if kept is not None:
        kept.left(network.id, container.addresses)
    with during(f"detach {container.name} from network {network.name}"), Failures() as failures:
        # The port first: ovs-vswitchd complains in its log about a port whose device vanishes.
        with failures.collected():
            port = withdraw(network, container, environ, deadline, pool=kept.pool if kept else None)
        with failures.collected():
            _remove_routes(network, netns_path)
        with failures.collected():
            if port is not None:
                links.make_vanish(port)
            else:
                links.remove_left(
                    naming.alias(network.name, container.name, container.id, container.interface),
                    naming.veth_stem(network.id, container.id, container.interface),
                )


def _remove_routes(network: Network, netns_path: str) -> None:
    """The network's own routes that stay without its interface: blackholes, and those by another interface."""
    if network.routes and os.path.exists(netns_path):
        with links.namespace(netns_path) as netns, links.inside(netns):
            links.remove_routes(network.routes, [subnet.subnet for subnet in network.subnets])
