# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch: whether it runs, whether it can do GENEVE, and what it made of our rows."""

from collections.abc import Collection

from ..found import Broken
from .finding import FAULT, Finding

RESTART = "restart Open vSwitch (systemctl restart openvswitch-switch or openvswitch)"
ANEW = "podman network reload --all"


def check_configuration(cur_cfg: int, next_cfg: int) -> Finding:
    """The number of the configuration that ovs-vswitchd has reached, and of the last one that somebody asked for."""
    if cur_cfg >= next_cfg:
        return Finding("configuration of ovs-vswitchd", str(cur_cfg), str(next_cfg))
    reason = "ovs-vswitchd does not follow the database, so no container starts"
    return Finding("configuration of ovs-vswitchd", str(cur_cfg), str(next_cfg), FAULT, reason, RESTART)


def check_geneve(types: Collection[str]) -> Finding:
    if "geneve" in types:
        return Finding("tunnels of Open vSwitch", "geneve", "geneve")
    found = ", ".join(sorted(types)) or "none"
    remedy = "install an Open vSwitch with GENEVE, 2.7 or later"
    return Finding("tunnels of Open vSwitch", found, "geneve", FAULT, "this build cannot make our tunnels", remedy)


def check_module(name: str, kernel: str, *, is_there: bool, networks: Collection[str]) -> Finding:
    """A module of the kernel's datapath, loaded or to be loaded when it is needed."""
    if is_there:
        return Finding(f"kernel module {name}", "there", "there")
    reason = f"the kernel {kernel} has no such module, but {', '.join(networks)} would use its datapath"
    remedy = (
        "install the kernel's modules (on Fedora and Enterprise Linux kernel-modules) and boot that kernel, or create"
        " the networks with --opt datapath_type=netdev"
    )
    return Finding(f"kernel module {name}", "none", "there", FAULT, reason, remedy)


def check_interface(interface: Broken) -> Finding:
    """One that ovs-vswitchd could not set up, and of which it is not known that its container is gone."""
    name = f"{interface.role} {interface.name}"
    reason = f"ovs-vswitchd could not set up {interface.name}: {interface.error}"
    return Finding(name, "an error", "none", FAULT, reason, ANEW)


def check_mtu(network: str, bridge: str, mtu: int | None, wanted: int) -> Finding:
    """The MTU of a bridge's interface, and what `create` recorded."""
    name = f"MTU of {bridge}"
    if mtu == wanted:
        return Finding(name, str(mtu), str(wanted))
    reason = f"the host and the containers of network {network} disagree about what a packet may have"
    remedy = f"ovs-vsctl set Interface {bridge} mtu_request={wanted}" if mtu is not None else ANEW
    return Finding(name, str(mtu or "no interface"), str(wanted), FAULT, reason, remedy)


def check_gateway(network: str, found: Collection[str], wanted: Collection[str], *, is_up: bool) -> Finding:
    """The addresses of a bridge's interface, which go when Open vSwitch makes the interface anew."""
    name = f"gateway of network {network}"
    state = f"{_listed(found)}, {'up' if is_up else 'down'}"
    if set(wanted) <= set(found) and is_up:
        return Finding(name, state, _listed(wanted))
    reason = "the bridge's interface is not as an attach leaves it, so nothing leaves the network"
    return Finding(name, state, f"{_listed(wanted)}, up", FAULT, reason, ANEW)


def check_tunnels(network: str, found: Collection[str], wanted: Collection[str]) -> Finding:
    """Where the tunnels of a network lead, whose list of hosts may be a newer one."""
    name = f"tunnels of network {network}"
    if set(found) == set(wanted):
        return Finding(name, _listed(found), _listed(wanted))
    reason = "the tunnels are those of another list of hosts"
    return Finding(name, _listed(found), _listed(wanted), FAULT, reason, ANEW)


def _listed(peers: Collection[str]) -> str:
    return ", ".join(sorted(peers)) or "none"
