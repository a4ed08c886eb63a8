# SPDX-License-Identifier: Apache-2.0
"""Make again all that this host has for its running containers outside the switch, as if nothing had flushed it.

The address of the bridge's interface, too: where that is a device of ovs-vswitchd's, it comes back down.
"""

from collections.abc import Iterable, Iterator, Mapping

from . import dns, firewall, firewalld, links, podman, switch, sysctls, tags
from .errors import Deadline, Failures
from .log import logger
from .model import Container, Gateway, Network, Publication
from .options import parse
from .plan import plan_bridge, plan_gateway, plan_names, plan_publication

DEADLINE = 30.0  # seconds, for a host full of containers

Attached = list[tuple[Network, Container]]


def reload(networks: Iterable[Network], environ: Mapping[str, str]) -> Attached:
    """Restore gateways, packet filter, firewalld's zone, kernel settings and names; what there is besides of ours goes.

    OVSDB knows the containers, `networks` are Podman's. A step that fails does not stop the next.
    """
    deadline = Deadline(DEADLINE)
    with switch.connect_all(environ, deadline) as ovs:
        attached = list(_attached(ovs, {network.id: network for network in networks}))
        with Failures() as failures:
            with failures.collected():
                _restore_ways(attached, environ, deadline, failures)
            with failures.collected():
                _restore_names(attached, environ, deadline)
    return attached


def _attached(ovs: switch.Switch, networks: Mapping[str, Network]) -> Iterator[tuple[Network, Container]]:
    """The containers whose interface is there; without one, it is what a crash left."""
    for port, found in ovs.all_containers():
        network = networks.get(found.get("network-id", ""))
        if network is None:
            logger.warning("port %s is of network %s, which Podman does not know", port, found.get("network-name"))
        elif links.find_link(port) is not None:
            try:
                yield network, tags.container(found)
            except ValueError as error:
                logger.warning("port %s: somebody changed its external_ids (%s); start its container anew", port, error)


def _restore_ways(attached: Attached, environ: Mapping[str, str], deadline: Deadline, failures: Failures) -> None:
    """In to the containers and out; one network that is broken does not keep the others from it."""
    dns_port = dns.port(environ)
    gateways: list[Gateway] = []
    publications: list[Publication] = []
    for network in {network.id: network for network, _ in attached}.values():
        with failures.collected():
            options = parse(network.options)
            gateway = plan_gateway(network, options, dns_port)
            if not gateway.subnets:
                continue
            own = [plan_publication(network, options, container) for other, container in attached if other is network]
            own = [publication for publication in own if publication.ports]
            gateways.append(gateway)
            publications += own
            links.configure_bridge(plan_bridge(network, options, None))
            sysctls.apply(gateway, localhost=bool(own))
    if firewall.is_wanted(environ):
        with failures.collected():
            firewalld.ensure_trusted([subnet for gateway in gateways for subnet, _ in gateway.subnets], deadline)
        with failures.collected():
            firewall.restore(gateways, publications, podman.find_foreign(environ), deadline)


def _restore_names(attached: Attached, environ: Mapping[str, str], deadline: Deadline) -> None:
    program = dns.find_program(environ)
    names = [plan_names(network, container) for network, container in attached]
    if program is not None:
        dns.replace_all([entry for entry in names if entry is not None], program, environ, deadline)
