# SPDX-License-Identifier: Apache-2.0
"""Attach a container to a network: the order of everything, and the undo of everything."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

from . import dns, firewall, firewalld, interior, links, podman, switch, sysctls, tap
from .arrival import Arrival, arriving
from .errors import Deadline, GeneveError, during
from .kept import Kept
from .leave import leave, withdraw
from .log import logger, timed
from .membership import find_mesh
from .model import AttachPlan, AttachResult, Container, Network, Veth
from .options import NETDEV, parse
from .plan import attach_result, plan_attach

DEADLINE = 10.0  # seconds for one attach
UNDO_DEADLINE = 3.0  # seconds more to undo it when it failed


def attach(
    network: Network, container: Container, netns_path: str, environ: Mapping[str, str], kept: Kept | None = None
) -> AttachResult:
    """Put the container on the network, or leave everything as it was and raise GeneveError.

    netavark never calls teardown for the driver whose setup failed, so the undo of each step is ours; it
    is registered before the step, since a step that fails may have done its first half.
    """
    deadline = Deadline(DEADLINE)
    with ExitStack() as stack, during(f"attach {container.name} to network {network.name}"):
        plan = _plan(network, container, environ, deadline)
        resolver = _find_resolver(plan, environ)
        result = attach_result(network, plan, search_domains=dns.search_domains() if resolver else None)
        bridge, veth, tags = plan.bridge, plan.veth, plan.port_tags
        netns = stack.enter_context(links.namespace(netns_path))
        pool = kept.pool if kept else None
        ovs = stack.enter_context(switch.connect(environ, deadline, bridge.name, tags, veth.name, pool=pool))
        found = ovs.find_datapath_type(bridge.name)  # goes before what the options say: a bridge may be the user's
        is_userspace = (bridge.datapath_type if found is None else found) == NETDEV
        veth = dataclasses.replace(veth, checksum_offload=not is_userspace)
        was_here = kept is None or kept.was_here_lately(network.id, container.addresses)
        has_bridge = ovs.has_bridge(bridge.name, network.id)
        arrival = stack.enter_context(
            arriving(plan, environ, was_here=was_here, has_bridge=has_bridge, is_userspace=is_userspace)
        )
        undo = stack.enter_context(ExitStack())

        with timed("what was left"):
            left = ovs.find_port(tags)  # by an attempt that was killed half-way
            if left is not None:
                leave(ovs, network, container, environ, deadline)
                links.remove_link(left)
            is_first = not ovs.has_bridge(bridge.name, network.id)  # what was left may have been the last
            arrival.look_from_bridge(None if kept is None or was_here else kept.prober(network.id))
            links.ensure_name_free(veth)  # else the undo would remove what is somebody else's
            ovs.drop_port(veth.name, deadline)

        undo.callback(_undo, links.remove_veth, veth)
        undo.callback(_undo, _leave, network, container, environ)
        sysctls.write(plan.gateway)
        # Also of a bridge that was there: its last container may be leaving, and then it is made again.
        with tap.making(environ) if is_userspace else nullcontext():
            # ovs-vswitchd goes through all of its ports for a link that is new, and once more for a port; or once for
            # both if it hears of the port first. With few of them it would look for the link before that is there.
            is_port_first = ovs.count_ports(bridge.name) >= switch.MANY_PORTS
            if not is_port_first:
                _make_links(veth, netns, arrival)
            with ovs.attaching(plan, deadline) as change:
                if is_port_first:
                    _make_links(veth, netns, arrival)
                # This and what follows while ovsdb-server and ovs-vswitchd are at it.
                with timed("firewall"):
                    _open(plan, environ, deadline, is_first=is_first)
            has_gateway = change.has_bridge and links.is_up(bridge.name)
            if has_gateway:
                _reach_host(plan, resolver, environ, deadline)
            ovs.wait_attached(plan, change.next_cfg, deadline)
        # Had ovs-vswitchd read the flags in the moment between the link and its flags, it has set it down again.
        if not links.is_up(veth.name):
            links.connect_veth(veth)

        arrival.ask()  # the answers come in while the next steps are made
        if not has_gateway:
            _reach_host(plan, resolver, environ, deadline)  # by an interface that is there now
        with timed("addresses and announcement"):
            arrival.check_free()
            with links.inside(netns):
                links.address_container(veth)
            arrival.announce()
        undo.pop_all()
    return result


def _plan(network: Network, container: Container, environ: Mapping[str, str], deadline: Deadline) -> AttachPlan:
    options = parse(network.options)
    return plan_attach(
        *(network, options, find_mesh(options, own=None, deadline=deadline), container),
        boot_id=sysctls.boot_id(),
        attempt=os.urandom(8).hex(),
        dns_port=dns.port(environ),
    )


def _make_links(veth: Veth, netns: int, arrival: Arrival) -> None:
    with timed("links"):
        links.create_veth(veth, netns)
        with links.inside(netns):
            interior.prepare(veth)
            arrival.listen()
        links.connect_veth(veth)


def _find_resolver(plan: AttachPlan, environ: Mapping[str, str]) -> str | None:
    """The program that is to resolve the network's names; None, with a warning, when it is not installed."""
    program = None
    if plan.names is not None:
        program = dns.find_program(environ)
        if program is None:
            logger.warning(
                "aardvark-dns is not installed, so the containers of network %s have no names; install it,"
                " or create the network with --disable-dns",
                plan.names.network,
            )
    return program


def _open(plan: AttachPlan, environ: Mapping[str, str], deadline: Deadline, *, is_first: bool) -> None:
    """Let packets out, and in to the published ports."""
    if not plan.gateway.subnets or not firewall.is_wanted(environ):
        return
    if plan.publication.ports:
        firewalld.check_can_publish(deadline)
    firewalld.ensure_trusted([subnet for subnet, _ in plan.gateway.subnets], deadline)
    firewall.ensure(plan.gateway, plan.publication, lambda: podman.find_foreign(environ), deadline, first=is_first)


def _reach_host(plan: AttachPlan, resolver: str | None, environ: Mapping[str, str], deadline: Deadline) -> None:
    """The host answers as gateway and resolver; the bridge's interface is there."""
    with timed("gateway"):
        links.configure_bridge(plan.bridge)
        sysctls.apply(plan.gateway, localhost=bool(plan.publication.ports))
    with timed("names"):
        if plan.names is not None and resolver is not None:
            dns.ensure_names(plan.names, resolver, environ, deadline)


def _leave(network: Network, container: Container, environ: Mapping[str, str]) -> None:
    """Back off the switch, by a connection of its own: the attempt's may be what failed, and its deadline be over."""
    withdraw(network, container, environ, Deadline(UNDO_DEADLINE))


def _undo(remove: Callable[..., object], *arguments: Any) -> None:
    """An undo that fails must not hide the error that called for it."""
    try:
        remove(*arguments)
    except GeneveError as error:
        logger.warning("could not undo: %s; the next attach or detach of this container will", error)
