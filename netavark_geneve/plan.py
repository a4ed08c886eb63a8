# SPDX-License-Identifier: Apache-2.0
"""Decide what one attach makes true. Pure: no netlink, no files, no clock."""

import ipaddress
import re

from . import naming
from .addresses import Address, Interface
from .errors import GeneveError
from .fabric import mesh as fabric
from .fabric.mesh import Mesh
from .model import AttachPlan, AttachResult, Bridge, Container, Egress, Network, Route, Subnet, Veth
from .options import DST_PORT_DEFAULT, Options

DEFAULT_ROUTE = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
_MAC = re.compile(r"[0-9a-fA-F]([02468aceACE])(:[0-9a-fA-F]{2}){5}", re.ASCII)


def plan_attach(
    network: Network, options: Options, mesh: Mesh | None, container: Container, *, boot_id: str, attempt: str
) -> AttachPlan:
    """All of one attach, validated; `attempt` tells it from any other of the same container.

    Raises GeneveError on what cannot be done.
    """
    if network.bridge is None or options.vni is None or options.mtu is None:
        raise GeneveError(
            f"network {network.name} lacks what 'podman network create -d geneve-ovs' records"
            " (network_interface, options vni and mtu); remove it and create it again"
        )
    _check_container(network, container)
    _check_place(network, options, mesh)
    for address in container.addresses:
        _check_address(network, address)
    addresses = tuple(
        ipaddress.ip_interface((address, _subnet(network, address).subnet.prefixlen))
        for address in dict.fromkeys(container.addresses)
    )
    return AttachPlan(
        bridge=_bridge(network, options, mesh),
        tunnels=()
        if mesh is None
        else fabric.wanted_tunnels(
            mesh,
            network_id=network.id,
            network_name=network.name,
            vni=options.vni,
            dst_port=options.dst_port or DST_PORT_DEFAULT,
        ),
        veth=Veth(
            name=naming.veth(network.id, container.id, container.interface, attempt),
            interface=container.interface,
            mac=_mac(container, addresses),
            mtu=options.mtu,
            addresses=addresses,
            routes=_routes(network, options),
            alias=naming.alias(network.name, container.name, container.id, container.interface),
            ipv6=any(subnet.subnet.version == 6 for subnet in network.subnets),
            # OVS's userspace datapath forwards packets whose checksum the kernel left to the "hardware":
            # ping works and TCP stalls.
            checksum_offload=options.datapath_type != "netdev",
        ),
        port_tags=naming.container_tags(network.id, container.id, container.interface)
        | {
            "network-name": network.name,
            "container-name": container.name,
            "addresses": ",".join(str(address.ip) for address in addresses),
            "boot-id": boot_id,
        },
        egress=_egress(network, options),
    )


def attach_result(network: Network, plan: AttachPlan) -> AttachResult:
    """What Podman is told, known before anything is changed."""
    return AttachResult(
        interface=plan.veth.interface,
        mac=plan.veth.mac,
        addresses=tuple((address, _subnet(network, address.ip).gateway) for address in plan.veth.addresses),
    )


def _check_container(network: Network, container: Container) -> None:
    if not naming.is_interface_name(container.interface):
        raise GeneveError(
            f"interface name {container.interface!r} is not valid; use 1 to 15 letters, digits, '.', '-', '_'"
        )
    if container.options:
        raise GeneveError(
            f"unknown option {', '.join(sorted(container.options))} in --network {network.name}:…;"
            " geneve-ovs knows ip, ip6, mac and interface_name there"
        )
    if container.published_ports:
        raise GeneveError(
            f"geneve-ovs publishes no ports yet: leave out -p/--publish for network {network.name}"
            " and reach the container by its address"
        )
    if not container.addresses:
        raise GeneveError(f"no address was allocated for network {network.name}; check its ipam_options and subnets")


def _check_place(network: Network, options: Options, mesh: Mesh | None) -> None:
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


def _bridge(network: Network, options: Options, mesh: Mesh | None) -> Bridge:
    assert network.bridge is not None
    assert options.vni is not None
    assert options.mtu is not None
    gateways = tuple(
        ipaddress.ip_interface((subnet.gateway, subnet.subnet.prefixlen))
        for subnet in network.subnets
        if subnet.gateway is not None and _is_ours(subnet)
    )
    return Bridge(
        name=network.bridge,
        datapath_type=options.datapath_type or "",
        hwaddr=_first_mac(gateways) or naming.bridge_mac(options.vni, str(mesh.local) if mesh else network.id),
        mtu=options.mtu,
        vni=options.vni,
        addresses=gateways,
        tags=naming.network_tags(network.id) | {"network-name": network.name, "vni": str(options.vni)},
    )


def _is_ours(subnet: Subnet) -> bool:
    """A gateway inside this host's range is on this host; any other is another host's or a router's."""
    return subnet.gateway is not None and (subnet.lease_range is None or subnet.gateway in subnet.lease_range)


def _egress(network: Network, options: Options) -> Egress:
    """Out through this host go the subnets whose gateway is here."""
    source = {4: options.outbound_addr4, 6: options.outbound_addr6}
    return Egress(
        bridge=network.bridge or "",
        subnets=tuple((subnet.subnet, source[subnet.subnet.version]) for subnet in network.subnets if _is_ours(subnet)),
    )


def _routes(network: Network, options: Options) -> tuple[Route, ...]:
    """The default routes, unless the user wants none, and the user's own."""
    if options.no_default_route:
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
        raise GeneveError(f"{address} is {reserved[address]}, which no container can have; choose another --ip")


def _mac(container: Container, addresses: tuple[Interface, ...]) -> str:
    if container.mac is None:
        mac = _first_mac(addresses)
        assert mac is not None  # _check_container saw to it
        return mac
    if not _MAC.fullmatch(container.mac) or container.mac == "00:00:00:00:00:00":
        raise GeneveError(f"--mac-address {container.mac!r} is not a unicast MAC address like 02:00:00:12:34:56")
    return container.mac.lower()


def _first_mac(addresses: tuple[Interface, ...]) -> str | None:
    """From the first IPv4 address if there is one: its MAC can be told by eye."""
    ordered = sorted(addresses, key=lambda address: address.version)
    return naming.mac_of_address(ordered[0].ip) if ordered else None
