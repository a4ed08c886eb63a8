# SPDX-License-Identifier: Apache-2.0
"""Take a container off a network: by tags, to the end, as often as one likes."""

from collections.abc import Mapping

from . import links, naming, switch
from .errors import Deadline, GeneveError, during
from .model import Network

DEADLINE = 5.0  # seconds; Podman holds its network lock meanwhile


def detach(network: Network, container_id: str, interface: str, environ: Mapping[str, str]) -> None:
    """Remove port and veth; with the last container the bridge and its tunnels.

    Works without the container's namespace, and when nothing is left to remove. A step that fails does
    not stop the next; what failed is raised at the end.
    """
    bridge = network.bridge or naming.bridge(network.name)
    tags = naming.container_tags(network.id, container_id, interface)
    veth = naming.veth(network.id, container_id, interface)
    with during(f"detach {container_id[:12]} from network {network.name}"):
        failures = []
        # The port first: ovs-vswitchd complains in its log about a port whose device vanishes.
        try:
            deadline = Deadline(DEADLINE)
            with switch.connect(environ, deadline, bridge, veth, tags) as ovs:
                ovs.detach(bridge, tags, deadline)
        except GeneveError as error:
            failures.append(str(error))
        try:
            links.remove_veth(veth)
        except GeneveError as error:
            failures.append(str(error))
        if failures:
            raise GeneveError("; ".join(failures))
