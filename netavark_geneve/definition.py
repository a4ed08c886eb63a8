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
    VLAN_TAG,
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
from .options import ISOLATE_DEFAULT, UNMANAGED, Options, record

MTU_ALONE = 1500  # bytes: Ethernet's, for a network that crosses no tunnel
IPAM_NONE = "none"  # layer 2 only: addresses are the containers' own business
FOR_MANAGED = ("vni", "isolate", "vrf", "outbound_addr4", "outbound_addr6")
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
    if options.dns is not None:  # clients of the Docker-compatible API have no other way to say it
        network = dataclasses.replace(network, dns_enabled=options.dns)
    _check_supported(network, options)
    subnets = network.subnets
    if not subnets and network.ipam_driver != IPAM_NONE:
        subnets = (Subnet(_pool_subnet(network, subnet_pool)),)
    slots = _slots(subnets, options, facts.mesh)
    managed = options.mode != UNMANAGED
    subnets = tuple(_complete_subnet(subnet, network, managed, slots, facts.mesh) for subnet in subnets)
    completed = dataclasses.replace(
        network,
        bridge=network.bridge or naming.bridge(network.name),
        subnets=subnets,
        dns_enabled=network.dns_enabled and managed and any(subnet.is_routed_here for subnet in subnets),
        options=record(
            dataclasses.replace(
                options,
                local_ip=facts.mesh.local if facts.mesh else None,
                slots=slots,
                slot=facts.mesh.slot if facts.mesh and slots else None,
                vni=options.vni or naming.vni(network.name) if managed else None,
                mtu=_mtu(subnets, options, facts),
                isolate=options.isolate or ISOLATE_DEFAULT if managed else None,
            )
        ),
    )
    if network.dns_servers and not completed.dns_enabled:
        raise GeneveError(
            "--dns has no effect: this host has no gateway in the network to resolve names on; leave it out"
        )
    _check_conflicts(completed, facts)
    return completed


def _check_supported(network: Network, options: Options) -> None:
    if network.ipam_driver not in ("", "host-local", IPAM_NONE):
        raise GeneveError(
            f"ipam driver {network.ipam_driver!r} is not supported; use host-local, which is the default, or none"
        )
    if options.mode == UNMANAGED:
        useless = [key for key in FOR_MANAGED if getattr(options, key) is not None]
        if useless:
            raise GeneveError(
                f"option {', '.join(useless)} has no effect with mode={UNMANAGED}, where the bridge and all that"
                " belongs to it are yours; leave it out"
            )
    if network.bridge is not None and not naming.is_interface_name(network.bridge):
        raise GeneveError(
            f"--interface-name {network.bridge!r} is no valid bridge name; use 1 to 15 letters, digits, '.', '-', '_'"
        )
    if network.ipv6_enabled and network.subnets and all(subnet.subnet.version == 4 for subnet in network.subnets):
        raise GeneveError("--ipv6 needs an IPv6 --subnet, the same on every host; add one or leave out --ipv6")
    for subnet in network.subnets:
        if subnet.subnet.is_multicast or subnet.subnet.is_loopback or subnet.subnet.is_link_local:
            raise GeneveError(f"--subnet {subnet.subnet} cannot be that of a network; use a private one")
        has_resolver = network.dns_enabled and options.mode != UNMANAGED
        if network.internal and subnet.gateway is not None and not has_resolver:
            raise GeneveError("an --internal network without DNS has no gateway; leave out --gateway or --disable-dns")


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


def _complete_subnet(subnet: Subnet, network: Network, managed: bool, slots: int | None, mesh: Mesh | None) -> Subnet:
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
    return Subnet(subnet.subnet, _gateway(subnet, network, managed, lease_range), lease_range)


def _gateway(subnet: Subnet, network: Network, managed: bool, lease_range: Range) -> Address | None:
    """The one the user chose, or this host. Left open, Podman would fill in the subnet's first address."""
    if network.internal and not (network.dns_enabled and managed):
        return None  # with DNS it is where the resolver listens, and no more
    if subnet.gateway is not None:
        if network.internal and subnet.gateway not in lease_range:
            raise GeneveError(
                f"--gateway {subnet.gateway} of an --internal network is its resolver's, inside {lease_range}"
            )
        return subnet.gateway
    return _first_host(subnet.subnet, lease_range) if managed else subnet.subnet.network_address + 1


def _first_host(subnet: IPNetwork, lease_range: Range) -> Address:
    """The range's first address; a user's range may start at the subnet's own, which is nobody's."""
    first = lease_range.first
    return first + 1 if first == subnet.network_address else first


def _mtu(subnets: Iterable[Subnet], options: Options, facts: HostFacts) -> int:
    lowest = max((MTU_MIN[subnet.subnet.version] for subnet in subnets), default=MTU_MIN[4])
    highest = MTU_ALONE
    if facts.mesh is not None and facts.underlay_mtu is not None:
        highest = facts.underlay_mtu - OVERHEAD[facts.mesh.local.version] - (VLAN_TAG if options.vlan else 0)
        if (options.mtu or highest) > highest:
            raise GeneveError(
                f"option mtu={options.mtu} does not fit: the underlay to the peers carries {facts.underlay_mtu} bytes,"
                f" which leaves {highest} inside the tunnel; use at most that, or raise the underlay's MTU"
            )
    mtu = options.mtu or highest
    if mtu < lowest:
        raise GeneveError(f"MTU {mtu} is too small for this network; {lowest} is the least it may have")
    return mtu


def _check_conflicts(network: Network, facts: HostFacts) -> None:
    """Refuse what another network of this host, or the host itself, already has."""
    for one, other in _pairs(network.subnets):
        if one.subnet.version == other.subnet.version and one.subnet.overlaps(other.subnet):
            raise GeneveError(f"subnets {one.subnet} and {other.subnet} of this network overlap; leave one out")
    if network.options.get("mode") == UNMANAGED:
        _check_not_ours(network, facts)  # the bridge and its addresses are the user's
        return
    _check_bridge_free(network, facts)
    if any(subnet.gateway is not None for subnet in network.subnets):
        for subnet in network.subnets:
            _check_subnet_free(network, subnet.subnet, facts)


def _check_not_ours(network: Network, facts: HostFacts) -> None:
    for other in facts.networks:
        if other.driver == naming.OWNER and other.bridge == network.bridge and other.options.get("mode") != UNMANAGED:
            raise GeneveError(
                f"bridge {network.bridge} is that of network {other.name}, not yours; use another or that network"
            )


def _check_bridge_free(network: Network, facts: HostFacts) -> None:
    for other in facts.networks:
        if other.id == network.id:
            continue
        if other.bridge == network.bridge:
            raise GeneveError(
                f"interface name {network.bridge} is already that of network {other.name};"
                " choose another with --interface-name"
            )
        if other.driver == naming.OWNER and other.options.get("vni") == network.options["vni"]:
            raise GeneveError(
                f"VNI {network.options['vni']} is already that of network {other.name};"
                " choose another with --opt vni=, the same on every host"
            )
    if network.bridge in facts.links:
        raise GeneveError(
            f"this host already has an interface {network.bridge}; choose another with --interface-name, or attach to"
            f" it with --opt mode={UNMANAGED} if it is an Open vSwitch bridge of yours"
            f" (if it is left over from a network of this plugin: ovs-vsctl del-br {network.bridge})"
        )


def _check_subnet_free(network: Network, subnet: IPNetwork, facts: HostFacts) -> None:
    """A network without a gateway has no address on the host, so equal subnets on two bridges never meet."""
    hint = "choose another --subnet, the same on every host"
    for other in facts.networks:
        if other.id == network.id:
            continue
        for taken in other.subnets:
            if other.driver == naming.OWNER and taken.gateway is None:
                continue
            if taken.subnet.version == subnet.version and taken.subnet.overlaps(subnet):
                raise GeneveError(f"subnet {subnet} overlaps with {taken.subnet} of network {other.name}; {hint}")
    for name, address in facts.interfaces:
        if address.version == subnet.version and address.network.overlaps(subnet):
            raise GeneveError(f"subnet {subnet} overlaps with {address} on {name} of this host; {hint}")


def _pairs(subnets: tuple[Subnet, ...]) -> Iterable[tuple[Subnet, Subnet]]:
    return ((one, other) for index, one in enumerate(subnets) for other in subnets[index + 1 :])
