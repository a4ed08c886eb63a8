# SPDX-License-Identifier: Apache-2.0
"""The mesh: every host has a tunnel to every other one, from a list that is the same on all of them.

Pure: names are resolved by a function that the caller passes.
"""

import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from .. import naming
from ..addresses import Address
from ..errors import GeneveError
from ..model import Tunnel
from ..options import GONE

_NUMERIC = r"[0-9.]+|.*[:%/].*"  # meant as an address, so never worth a DNS query
_NAME = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?"


@dataclass(frozen=True)
class Mesh:
    """This host's place: its tunnel endpoint, its number in the list (from 1), its peers by their numbers."""

    local: Address
    slot: int
    size: int
    peers: tuple[tuple[int, Address], ...]


def split_hosts(text: str) -> tuple[str, ...]:
    """The list of `--opt hosts=A,B,C`."""
    return tuple(host.strip() for host in text.split(","))


def join(
    hosts: tuple[str, ...],
    *,
    resolve: Callable[[str], Address],
    local_ip: Address | None,
    own: Collection[Address] | None,
) -> Mesh:
    """Find this host among `hosts`: by `local_ip`, else by the addresses that it owns (`own`).

    With `own` None, ownership is not checked (the endpoint was checked when the network was created).
    Raises GeneveError on a malformed list, or when this host is not in it exactly once.
    """
    endpoints = [None if host == GONE else _endpoint(host, resolve) for host in hosts]
    _check_unique(hosts, endpoints)
    local = local_ip or _own_endpoint(hosts, endpoints, own or ())
    if local not in endpoints:
        raise GeneveError(
            f"local_ip {local} is not among hosts ({','.join(hosts)}); the list must name every host, this one too"
        )
    if own is not None and local not in own:
        raise GeneveError(f"local_ip {local} is not an address of this host; it has {_listed(own)}")
    peers = tuple((number, peer) for number, peer in enumerate(endpoints, 1) if peer is not None and peer != local)
    for _, peer in peers:
        if peer.version != local.version:
            raise GeneveError(f"hosts mixes IPv4 and IPv6 ({local}, {peer}); a tunnel needs one family at both ends")
    return Mesh(local=local, slot=endpoints.index(local) + 1, size=len(endpoints), peers=peers)


def wanted_tunnels(mesh: Mesh, *, network_id: str, network_name: str, vni: int, dst_port: int) -> tuple[Tunnel, ...]:
    """One tunnel port to each peer."""
    return tuple(
        Tunnel(
            name=naming.tunnel(vni, number),
            remote=str(peer),
            local=str(mesh.local),
            vni=vni,
            dst_port=dst_port,
            tags=naming.tunnel_tags(network_id) | {"network-name": network_name, "remote": str(peer)},
        )
        for number, peer in mesh.peers
    )


def _endpoint(host: str, resolve: Callable[[str], Address]) -> Address:
    try:
        address = _plain(ipaddress.ip_address(host))
    except ValueError:
        if re.fullmatch(_NUMERIC, host) or not re.fullmatch(_NAME, host):
            raise GeneveError(
                f"hosts: {host!r} is neither an IP address nor a DNS name nor {GONE!r} (a host that is gone)"
            ) from None
        address = resolve(host)
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        raise GeneveError(f"hosts: {host} ({address}) cannot be reached from other hosts; use their underlay addresses")
    return address


def _plain(address: Address) -> Address:
    """The same address for all hosts: without a zone, which means something on one host only, and not mapped."""
    if address.version == 4:
        return address
    if address.scope_id is not None:
        raise GeneveError(
            f"hosts: {address} has a zone, which other hosts do not know; leave out '%{address.scope_id}'"
        )
    return address.ipv4_mapped or address


def _check_unique(hosts: tuple[str, ...], endpoints: list[Address | None]) -> None:
    seen: dict[Address, str] = {}
    for host, endpoint in zip(hosts, endpoints, strict=True):
        if endpoint is None:
            continue
        if endpoint in seen:
            raise GeneveError(f"hosts names {endpoint} twice ({seen[endpoint]}, {host}); every host has one entry")
        seen[endpoint] = host


def _own_endpoint(hosts: tuple[str, ...], endpoints: list[Address | None], own: Collection[Address]) -> Address:
    mine = [endpoint for endpoint in endpoints if endpoint is not None and endpoint in own]
    if not mine:
        raise GeneveError(
            f"none of hosts ({','.join(hosts)}) is an address of this host, which has {_listed(own)};"
            " the list must name every host, this one too"
        )
    if len(mine) > 1:
        raise GeneveError(
            f"hosts names this host {len(mine)} times ({_listed(mine)}); every host has one entry, its tunnel endpoint"
        )
    return mine[0]


def _listed(addresses: Collection[Address]) -> str:
    return ", ".join(str(address) for address in addresses) or "none"
