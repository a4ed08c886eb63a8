# SPDX-License-Identifier: Apache-2.0
"""Attach a container to a network: the order of everything, and the undo of everything."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import firewall, links, neighbours, switch, sysctls
from .errors import Deadline, GeneveError, during
from .leave import leave
from .log import logger, timed
from .membership import find_mesh
from .model import AttachPlan, AttachResult, Container, Network
from .options import parse
from .plan import attach_result, plan_attach

DEADLINE = 10.0  # seconds for one attach
UNDO_DEADLINE = 3.0  # seconds more to undo it when it failed


def attach(network: Network, container: Container, netns_path: str, environ: Mapping[str, str]) -> AttachResult:
    """Put the container on the network, or leave everything as it was and raise GeneveError.

    netavark never calls teardown for the driver whose setup failed, so the undo of each step is ours; it
    is registered before the step, since a step that fails may have done its first half.
    """
    deadline = Deadline(DEADLINE)
    with ExitStack() as stack, during(f"attach {container.name} to network {network.name}"):
        options = parse(network.options)
        mesh = find_mesh(options, own=None, deadline=deadline)
        plan = plan_attach(network, options, mesh, container, boot_id=_boot_id(), attempt=os.urandom(8).hex())
        result = attach_result(network, plan)
        bridge, veth, tags = plan.bridge, plan.veth, plan.port_tags
        netns = stack.enter_context(links.namespace(netns_path))
        ovs = stack.enter_context(switch.connect(environ, deadline, bridge.name, tags))
        undo = stack.enter_context(ExitStack())

        with timed("links"):
            left = ovs.find_port(tags)  # by an attempt that was killed half-way
            if left is not None:
                links.remove_link(left)
            undo.callback(_undo, links.remove_link, veth.name)
            links.create_veth(veth, netns)
            with links.inside(netns):
                links.configure_container(veth)

        undo.callback(_undo, _leave, ovs, network, plan, environ)
        sysctls.write(plan.egress)
        ovs.attach(plan, deadline)

        with timed("nftables"):
            firewall.ensure_egress(plan.egress, environ, deadline)
        with timed("gateway and announcement"):
            links.configure_bridge(bridge)
            sysctls.apply(plan.egress)
            with links.inside(netns):
                neighbours.announce(veth)
        undo.pop_all()
    return result


def _leave(ovs: switch.Switch, network: Network, plan: AttachPlan, environ: Mapping[str, str]) -> None:
    """Back off the switch; the attempt may have used up its own deadline."""
    leave(ovs, plan.bridge.name, plan.port_tags, environ, Deadline(UNDO_DEADLINE), internal=network.internal)


def _undo(remove: Callable[..., object], *arguments: Any) -> None:
    """An undo that fails must not hide the error that called for it."""
    try:
        remove(*arguments)
    except GeneveError as error:
        logger.warning("could not undo: %s; the next attach or detach of this container will", error)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
