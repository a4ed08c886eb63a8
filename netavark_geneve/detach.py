# SPDX-License-Identifier: Apache-2.0
"""Take a container off a network: by tags, to the end, as often as one likes."""

import os
from collections.abc import Mapping

from . import links, naming, switch
from .errors import Deadline, Failures, during
from .kept import Kept
from .leave import forget, leave
from .model import Container, Network

DEADLINE = 10.0  # seconds; Podman holds its network lock meanwhile, but what is not removed now stays


def detach(
    network: Network, container: Container, netns_path: str, environ: Mapping[str, str], kept: Kept | None = None
) -> None:
    """Remove port and veth; with the last container the bridge and its tunnels.

    Works without the container's namespace, and when nothing is left to remove. A step that fails does
    not stop the next; what failed is raised at the end.
    """
    bridge = network.bridge or naming.bridge(network.name)
    tags = naming.container_tags(network.id, container.id, container.interface)
    deadline = Deadline(DEADLINE)
    port = None
    if kept is not None:
        kept.left(network.id, container.addresses)
    with during(f"detach {container.name} from network {network.name}"), Failures() as failures:
        left = False
        # The port first: ovs-vswitchd complains in its log about a port whose device vanishes.
        with (
            failures.collected(),
            switch.connect(environ, deadline, bridge, tags, pool=kept.pool if kept else None) as ovs,
        ):
            port = ovs.find_port(tags)
            left = True
            leave(ovs, network, container, environ, deadline)
        if not left:  # no database: what else there is goes all the same
            with failures.collected():
                forget(network, container, environ, deadline, is_needed=lambda: True)
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
