# SPDX-License-Identifier: Apache-2.0
"""Create a network: look at the host, complete the definition. Nothing is made before a container needs it."""

from collections.abc import Iterable, Mapping

from . import config, underlay
from .definition import HostFacts, complete
from .errors import Deadline, during
from .fabric.mesh import Mesh
from .log import logger
from .membership import find_mesh
from .model import Network
from .options import parse, with_defaults

DEADLINE = 10.0  # seconds, for names to resolve


def create(network: Network, others: Iterable[Network], environ: Mapping[str, str]) -> Network:
    """The network with everything derived filled in. Raises GeneveError on what cannot work."""
    with during(f"create network {network.name}"):
        fabric = config.load(environ)
        options = with_defaults(parse(network.options), fabric)
        interfaces = underlay.find_interfaces()
        own = tuple(address.ip for _, address in interfaces)
        mesh = find_mesh(options, own=own, deadline=Deadline(DEADLINE))
        if mesh is None and "hosts" not in network.options:
            logger.warning(
                "network %s is local to this host: no hosts in %s and no --opt hosts=; list all hosts there and create"
                " it again, or say --opt hosts=none",
                network.name,
                fabric.path,
            )
        facts = HostFacts(
            mesh=mesh,
            underlay_mtu=None if mesh is None else _underlay_mtu(mesh),
            networks=tuple(others),
            interfaces=interfaces,
            links=underlay.find_links(),
        )
        return complete(network, options, facts, subnet_pool=fabric.subnet_pool)


def _underlay_mtu(mesh: Mesh) -> int:
    """The smallest MTU on the ways to the peers; without peers, to this host's own endpoint."""
    if not mesh.peers:
        return underlay.find_interface_mtu(mesh.local)
    return min(underlay.find_path_mtu(peer) for _, peer in mesh.peers)
