# SPDX-License-Identifier: Apache-2.0
"""Decide what one attach makes true. Pure: no netlink, no files, no clock."""

import ipaddress
import re

from . import naming, tags
from .addresses import MTU_MIN, VLAN_TAG, Address, Interface
from .errors import GeneveError
from .fabric import mesh as fabric
from .fabric.mesh import Mesh
from .model import (
    AttachPlan,
    AttachResult,
    Bridge,
    Container,
    Gateway,
    Names,
    Network,
    Publication,
    Route,
    Subnet,
    Tunnel,
    Veth,
)
from .options import DST_PORT_DEFAULT, ISOLATE_DEFAULT, NETDEV, UNMANAGED, ContainerOptions, Options, parse_container

DEFAULT_ROUTE = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
_MAC = r"[0-9a-fA-F]([02468aceACE])(:[0-9a-fA-F]{2}){5}"


def plan_attach(
    network: Network,
    options: Options,
    mesh: Mesh | None,
    container: Container,
    *,
    boot_id: str,
    attempt: str,
    dns_port: int,
) -> AttachPlan:
    """All of one attach, validated; `attempt` tells it from any other of the same container.

    Raises GeneveError on what cannot be done.
    """
    managed = options.mode != UNMANAGED
    if network.bridge is None or options.mtu is None or (managed and options.vni is None):
        raise GeneveError(
            f"network {network.name} lacks what 'podman network create -d geneve-ovs' records"
            " (network_interface, options vni and mtu); remove it and create it again"
        )
    check_place(network, options, mesh)
    addresses = _addresses(network, options, mesh, container)
    return AttachPlan(
        bridge=plan_bridge(network, options, mesh),
        tunnels=_tunnels(network, options, mesh),
        veth=_veth(network, options, container, addresses, attempt),
        port_tags=tags.of_container(network.id, network.name, container, boot_id),
        gateway=plan_gateway(network, options, dns_port),
        publication=plan_publication(network, options, container),
        names=plan_names(network, container),
        detect_conflicts=options.conflict_detection is not False and mesh is not None,
    )


def plan_gateway(network: Network, options: Options, dns_port: int) -> Gateway:
    """Out through this host go the subnets whose gateway is here."""
    source = {4: options.outbound_addr4, 6: options.outbound_addr6}
    return Gateway(
        bridge=network.bridge or "",
        subnets=tuple((subnet.subnet, source[subnet.subnet.version]) for subnet in _routed_here(network, options)),
        isolate=options.isolate or ISOLATE_DEFAULT,
        forwards=not network.internal,
        listen=_listen(network),
        dns_port=dns_port,
    )


def plan_publication(network: Network, options: Options, container: Container) -> Publication:
    """The ports lead to the container's first address of each family, as with netavark.

    Not on an internal network, nor where this host is no gateway, which the answers would pass by.
    """
    subnets = () if network.internal else _routed_here(network, options)
    routed = [address for address in container.addresses if any(address in subnet.subnet for subnet in subnets)]
    first = {address.version: address for address in reversed(routed)}
    return Publication(
        bridge=network.bridge or "",
        container_id=container.id,
        comment=f"{network.name} {container.name}",
        ports=container.ports if first else (),
        addresses=tuple(first[version] for version in sorted(first)),
    )


def plan_names(network: Network, container: Container) -> Names | None:
    """What this host's resolver learns of the container."""
    if not network.dns_enabled:
        return None
    return Names(
        network=network.name,
        internal=network.internal,
        listen=_listen(network),
        upstreams=network.dns_servers,
        container_id=container.id,
        addresses=container.addresses,
        names=tuple(dict.fromkeys((container.name, *container.aliases))),
    )


def _listen(network: Network) -> tuple[Address, ...]:
    """Where the network's resolver on this host answers."""
    routed = network.subnets if network.dns_enabled else ()
    return tuple(subnet.gateway for subnet in routed if subnet.gateway and subnet.is_routed_here)


def attach_result(network: Network, plan: AttachPlan, search_domains: tuple[str, ...] | None) -> AttachResult:
    """What Podman is told, known before anything is changed; `search_domains` None where there is no resolver."""
    return AttachResult(
        interface=plan.veth.interface,
        mac=plan.veth.mac,
        addresses=tuple((address, _subnet(network, address.ip).gateway) for address in plan.veth.addresses),
        dns_servers=() if plan.names is None or search_domains is None else plan.names.listen,
        dns_search_domains=search_domains or (),
    )


def check_place(network: Network, options: Options, mesh: Mesh | None) -> None:
    """Refuse a list of hosts by which this host's addresses would be another's."""
    if mesh is not None and options.slot is not None and mesh.slot != options.slot:
        raise GeneveError(
            f"this host ({mesh.local}) is now number {mesh.slot} in hosts but was number {options.slot} when network"
            f" {network.name} was created, so its addresses belong to another host; restore the order"
            " (append only, '-' in place of a host that is gone)"
        )
    if mesh is not None and options.slots is not None and mesh.size > options.slots:
        raise GeneveError(
            f"hosts names {mesh.size} hosts but network {network.name} has {options.slots} slots;"
            " create a network with a larger subnet for more hosts"
        )


def _addresses(network: Network, options: Options, mesh: Mesh | None, container: Container) -> tuple[Interface, ...]:
    """The container's addresses with their prefix lengths, each once."""
    if not container.addresses and network.subnets:
        raise GeneveError(f"no address was allocated for network {network.name}; check its ipam_options and subnets")
    for address in container.addresses:
        _check_address(network, address)
        if mesh is not None and not options.allow_foreign_ip:
            _check_range(network, address)
        _check_foreign_gateway(network, options, mesh, address)
    return tuple(
        ipaddress.ip_interface((address, _subnet(network, address).subnet.prefixlen))
        for address in dict.fromkeys(container.addresses)
    )


def plan_bridge(network: Network, options: Options, mesh: Mesh | None) -> Bridge:
    """With its addresses here; where it has any, they and not the mesh tell its MAC."""
    assert network.bridge is not None
    assert options.mtu is not None
    gateways = tuple(
        ipaddress.ip_interface((subnet.gateway, subnet.subnet.prefixlen))
        for subnet in _routed_here(network, options)
        if subnet.gateway is not None
    )
    vni = options.vni or 0
    return Bridge(
        name=network.bridge,
        datapath_type=options.datapath_type or "",
        hwaddr=_first_mac(gateways) or naming.bridge_mac(vni, str(mesh.local) if mesh else network.id),
        mtu=options.mtu,
        vni=vni,
        addresses=gateways,
        tags=naming.network_tags(network.id) | {"network-name": network.name, "vni": str(vni)},
        managed=options.mode != UNMANAGED,
        vlan=options.vlan or 0,
        vrf=options.vrf,
    )


def _tunnels(network: Network, options: Options, mesh: Mesh | None) -> tuple[Tunnel, ...]:
    if mesh is None or options.mode == UNMANAGED:
        return ()
    assert options.vni is not None
    return fabric.wanted_tunnels(
        mesh,
        network_id=network.id,
        network_name=network.name,
        vni=options.vni,
        dst_port=options.dst_port or DST_PORT_DEFAULT,
    )


def _veth(
    network: Network, options: Options, container: Container, addresses: tuple[Interface, ...], attempt: str
) -> Veth:
    assert options.mtu is not None
    if not naming.is_interface_name(container.interface):
        raise GeneveError(
            f"interface name {container.interface!r} is not valid; use 1 to 15 letters, digits, '.', '-', '_'"
        )
    own: ContainerOptions = parse_container(container.options, network.name)
    vlan = options.vlan if own.vlan is None else own.vlan
    # `create` left room in the tunnel for the tag of the network, not for one that only this container has.
    mtu = options.mtu - (VLAN_TAG if vlan and not options.vlan else 0)
    ipv6 = network.ipv6_enabled or any(subnet.subnet.version == 6 for subnet in network.subnets)
    if addresses and ipv6 and mtu < MTU_MIN[6]:
        raise GeneveError(f"vlan={vlan} leaves an MTU of {mtu}, too little for IPv6; give the network the vlan instead")
    return Veth(
        name=own.host_interface_name or naming.veth(network.id, container.id, container.interface, attempt),
        stem=naming.veth_stem(network.id, container.id, container.interface),
        interface=container.interface,
        mac=_mac(network, container, addresses),
        mtu=mtu,
        addresses=addresses,
        routes=_routes(network, options),
        alias=naming.alias(network.name, container.name, container.id, container.interface),
        ipv6=ipv6,
        # OVS's userspace datapath forwards packets whose checksum the kernel left to the "hardware":
        # ping works and TCP stalls.
        checksum_offload=options.datapath_type != NETDEV,
        vlan=vlan or 0,
    )


def _routed_here(network: Network, options: Options) -> tuple[Subnet, ...]:
    if options.mode == UNMANAGED:
        return ()
    return tuple(subnet for subnet in network.subnets if subnet.is_routed_here)


def _routes(network: Network, options: Options) -> tuple[Route, ...]:
    """The default routes, unless the user wants none, and the user's own."""
    if options.no_default_route or network.internal:
        return network.routes
    defaults = tuple(
        Route(DEFAULT_ROUTE[subnet.gateway.version], subnet.gateway, options.metric)
        for subnet in network.subnets
        if subnet.gateway is not None
    )
    return defaults + network.routes


def _subnet(network: Network, address: Address) -> Subnet:
    for subnet in network.subnets:
        if address in subnet.subnet:
            return subnet
    subnets = ", ".join(str(subnet.subnet) for subnet in network.subnets) or "none"
    raise GeneveError(f"address {address} is not inside a subnet of network {network.name} ({subnets})")


def _check_address(network: Network, address: Address) -> None:
    """Podman lets `--ip` be any address of the subnet."""
    subnet = _subnet(network, address)
    reserved = {
        subnet.gateway: f"the gateway of network {network.name}",
        subnet.subnet.network_address: f"the network address of {subnet.subnet}",
    }
    if address.version == 4:
        reserved[subnet.subnet.broadcast_address] = f"the broadcast address of {subnet.subnet}"
    if address in reserved:
        raise GeneveError(
            f"{address} is {reserved[address]}, which no container can have; choose another {_option(address)}"
        )


def _option(address: Address) -> str:
    """How the user chooses such an address."""
    return "--ip" if address.version == 4 else "--ip6"


def _check_range(network: Network, address: Address) -> None:
    """Podman knows which addresses are in use on this host, and nothing of the other hosts."""
    lease_range = _subnet(network, address).lease_range
    if lease_range is not None and address not in lease_range:
        raise GeneveError(
            f"{address} is outside {lease_range}, this host's share of network {network.name}, and may be another"
            f" host's; choose an {_option(address)} inside, or create the network with --opt allow_foreign_ip=true"
        )


def _check_foreign_gateway(network: Network, options: Options, mesh: Mesh | None, address: Address) -> None:
    """Where the gateways are the first addresses of the slices, also of hosts that have no container to show it."""
    subnet = _subnet(network, address)
    if mesh is None or not options.slots or options.mode == UNMANAGED or not subnet.is_routed_here:
        return
    size = subnet.subnet.num_addresses // options.slots
    start = int(subnet.subnet.network_address)
    assert subnet.gateway is not None
    if (int(subnet.gateway) - start) % size == (int(address) - start) % size == 1:
        raise GeneveError(
            f"{address} is the gateway of another host's slice of {subnet.subnet}; choose another {_option(address)}"
        )


def _mac(network: Network, container: Container, addresses: tuple[Interface, ...]) -> str:
    if container.mac is None:
        return _first_mac(addresses) or naming.container_mac(network.id, container.id, container.interface)
    if not re.fullmatch(_MAC, container.mac) or container.mac == "00:00:00:00:00:00":
        raise GeneveError(f"--mac-address {container.mac!r} is not a unicast MAC address like 02:00:00:12:34:56")
    return container.mac.lower()


def _first_mac(addresses: tuple[Interface, ...]) -> str | None:
    """From the first IPv4 address if there is one: its MAC can be told by eye."""
    ordered = sorted(addresses, key=lambda address: address.version)
    return naming.mac_of_address(ordered[0].ip) if ordered else None
