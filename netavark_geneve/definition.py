# SPDX-License-Identifier: Apache-2.0
"""Complete a network's definition. Pure: everything known of the host comes in as `HostFacts`."""

import dataclasses
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from . import naming
from .addresses import (
    MTU_MIN,
    OVERHEAD,
    Address,
    Interface,
    Range,
    default_slots,
    slice_range,
)
from .addresses import Network as IPNetwork
from .errors import GeneveError
from .fabric.mesh import Mesh
from .model import Network, Subnet
from .options import Options, record

MTU_ALONE = 1500  # bytes: Ethernet's, for a network that crosses no tunnel
POOL_PREFIX = {4: 24, 6: 64}  # prefix length of a subnet that is derived from subnet_pool


@dataclass(frozen=True)
class HostFacts:
    """What the host looks like while a network is created.

    `mesh` is None for a network of this host alone. `underlay_mtu` (bytes) is the smallest on the ways to
    the peers. `interfaces` are the host's own addresses by interface name, `links` all its interfaces.
    """

    mesh: Mesh | None
    underlay_mtu: int | None
    networks: tuple[Network, ...]
    interfaces: tuple[tuple[str, Interface], ...]
    links: frozenset[str] = frozenset()


def complete(network: Network, options: Options, facts: HostFacts, *, subnet_pool: str | None) -> Network:
    """Validate a new network and derive bridge, VNI, MTU, lease ranges and gateways.

    Raises GeneveError, in a sentence, on the first thing that cannot work.
    """
    _check_supported(network)
    subnets = network.subnets or (Subnet(_pool_subnet(network, subnet_pool)),)
    slots = _slots(subnets, options, facts.mesh)
    bridge = network.bridge or naming.bridge(network.name)
    completed = dataclasses.replace(
        network,
        bridge=bridge,
        subnets=tuple(_complete_subnet(subnet, network.internal, slots, facts.mesh) for subnet in subnets),
        options=record(
            dataclasses.replace(
                options,
                local_ip=facts.mesh.local if facts.mesh else None,
                slots=slots,
                slot=facts.mesh.slot if facts.mesh and slots else None,
                vni=options.vni or naming.vni(network.name),
                mtu=_mtu(subnets, options.mtu, facts),
            )
        ),
    )
    _check_conflicts(completed, facts)
    return completed


def _check_supported(network: Network) -> None:
    if network.ipam_driver not in ("", "host-local"):
        raise GeneveError(
            f"ipam driver {network.ipam_driver!r} is not supported; leave out --ipam-driver, or use host-local"
        )
    if network.dns_servers:
        raise GeneveError("geneve-ovs serves no DNS yet, so --dns has no effect on its networks; leave it out")
    if network.bridge is not None and not naming.is_interface_name(network.bridge):
        raise GeneveError(
            f"--interface-name {network.bridge!r} is no valid bridge name; use 1 to 15 letters, digits, '.', '-', '_'"
        )
    if network.ipv6_enabled and network.subnets and all(subnet.subnet.version == 4 for subnet in network.subnets):
        raise GeneveError("--ipv6 needs an IPv6 --subnet, the same on every host; add one or leave out --ipv6")
    for subnet in network.subnets:
        if subnet.subnet.is_multicast or subnet.subnet.is_loopback or subnet.subnet.is_link_local:
            raise GeneveError(f"--subnet {subnet.subnet} cannot be that of a network; use a private one")
        if network.internal and subnet.gateway is not None:
            raise GeneveError("an --internal network has no gateway; leave out either --gateway or --internal")


def _pool_subnet(network: Network, pool: str | None) -> IPNetwork:
    """A subnet inside `subnet_pool` that every host derives alike from the network's name."""
    if pool is None:
        raise GeneveError("no subnet: give --subnet, the same on every host, or set subnet_pool in fabric.toml")
    try:
        inside = ipaddress.ip_network(pool)
    except ValueError as error:
        raise GeneveError(f"subnet_pool {pool!r} of fabric.toml is not a network: {error}") from error
    bits = POOL_PREFIX[inside.version] - inside.prefixlen
    if bits < 0 or (network.ipv6_enabled and inside.version == 4):
        raise GeneveError(f"subnet_pool {pool} of fabric.toml has no subnet to give for this network; use --subnet")
    number = naming.vni(network.name) % 2**bits
    size = 2 ** (inside.max_prefixlen - POOL_PREFIX[inside.version])
    return ipaddress.ip_network((inside.network_address + number * size, POOL_PREFIX[inside.version]))


def _slots(subnets: Iterable[Subnet], options: Options, mesh: Mesh | None) -> int | None:
    """How many slices each subnet is cut into; None when the user chose all ranges (`--ip-range`)."""
    derived = [subnet.subnet for subnet in subnets if subnet.lease_range is None]
    if not derived:
        return None
    if mesh is None:
        return options.slots or 1
    slots = options.slots or min(default_slots(subnet) for subnet in derived)
    if mesh.size > slots:
        raise GeneveError(
            f"hosts names {mesh.size} hosts but {', '.join(map(str, derived))} is cut into {slots} slots;"
            " use a larger --subnet or more --opt slots=, the same on every host"
        )
    return slots


def _complete_subnet(subnet: Subnet, internal: bool, slots: int | None, mesh: Mesh | None) -> Subnet:
    lease_range = subnet.lease_range
    if lease_range is None:
        lease_range = slice_range(subnet.subnet, slots or 1, mesh.slot if mesh else 1)
    elif lease_range.first not in subnet.subnet or lease_range.last not in subnet.subnet:
        raise GeneveError(f"--ip-range {lease_range} is not inside --subnet {subnet.subnet}")
    elif int(lease_range.first) > int(lease_range.last):
        raise GeneveError(f"--ip-range {lease_range} ends before it starts; turn it round")
    if subnet.gateway is not None and (
        subnet.gateway not in subnet.subnet or subnet.gateway == subnet.subnet.network_address
    ):
        raise GeneveError(f"--gateway {subnet.gateway} is not a host's address inside --subnet {subnet.subnet}")
    gateway = None if internal else subnet.gateway or _first_host(subnet.subnet, lease_range)
    return Subnet(subnet.subnet, gateway, lease_range)


def _first_host(subnet: IPNetwork, lease_range: Range) -> Address:
    """The range's first address; a user's range may start at the subnet's own, which is nobody's."""
    first = lease_range.first
    return first + 1 if first == subnet.network_address else first


def _mtu(subnets: Iterable[Subnet], wanted: int | None, facts: HostFacts) -> int:
    lowest = max(MTU_MIN[subnet.subnet.version] for subnet in subnets)
    highest = MTU_ALONE
    if facts.mesh is not None and facts.underlay_mtu is not None:
        highest = facts.underlay_mtu - OVERHEAD[facts.mesh.local.version]
        if (wanted or highest) > highest:
            raise GeneveError(
                f"option mtu={wanted} does not fit: the underlay to the peers carries {facts.underlay_mtu} bytes,"
                f" which leaves {highest} inside the tunnel; use at most that, or raise the underlay's MTU"
            )
    mtu = wanted or highest
    if mtu < lowest:
        raise GeneveError(f"MTU {mtu} is too small for this network; {lowest} is the least it may have")
    return mtu


def _check_conflicts(network: Network, facts: HostFacts) -> None:
    """Refuse what another network of this host, or the host itself, already has."""
    for one, other in _pairs(network.subnets):
        if one.subnet.version == other.subnet.version and one.subnet.overlaps(other.subnet):
            raise GeneveError(f"subnets {one.subnet} and {other.subnet} of this network overlap; leave one out")
    for other_network in facts.networks:
        if other_network.id == network.id:
            continue
        if other_network.bridge == network.bridge:
            raise GeneveError(
                f"interface name {network.bridge} is already that of network {other_network.name};"
                " choose another with --interface-name"
            )
        if other_network.options.get("vni") == network.options["vni"]:
            raise GeneveError(
                f"VNI {network.options['vni']} is already that of network {other_network.name};"
                " choose another with --opt vni=, the same on every host"
            )
    if network.bridge in facts.links:
        raise GeneveError(
            f"this host already has an interface {network.bridge}; choose another with --interface-name"
            f" (if it is left over from a network of this plugin: ovs-vsctl del-br {network.bridge})"
        )
    # An internal network has no address on the host, so equal subnets on two bridges never meet.
    if not network.internal:
        for subnet in network.subnets:
            _check_subnet_free(network, subnet.subnet, facts)


def _check_subnet_free(network: Network, subnet: IPNetwork, facts: HostFacts) -> None:
    hint = "choose another --subnet, the same on every host"
    for other in facts.networks:
        if other.id == network.id or (other.internal and other.driver == naming.OWNER):
            continue
        for taken in other.subnets:
            if taken.subnet.version == subnet.version and taken.subnet.overlaps(subnet):
                raise GeneveError(f"subnet {subnet} overlaps with {taken.subnet} of network {other.name}; {hint}")
    for name, address in facts.interfaces:
        if address.version == subnet.version and address.network.overlaps(subnet):
            raise GeneveError(f"subnet {subnet} overlaps with {address} on {name} of this host; {hint}")


def _pairs(subnets: tuple[Subnet, ...]) -> Iterable[tuple[Subnet, Subnet]]:
    return ((one, other) for index, one in enumerate(subnets) for other in subnets[index + 1 :])
