# SPDX-License-Identifier: Apache-2.0
"""The underlay: the ways to the peers, and what they carry."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..addresses import OVERHEAD, VLAN_TAG, Address
from ..errors import GeneveError
from ..found import Offload, Way
from ..model import Network
from ..options import Options
from .finding import FAULT, WARNING, Finding, failed

OFFLOAD = "tx-udp_tnl-segmentation"
STRICT = "1"  # of rp_filter: ip-sysctl.rst of the kernel


@dataclass(frozen=True)
class Need:
    """Bytes that an IP packet to the peers of a network has at most."""

    network: str
    mtu: int


def find_needs(network: Network, options: Options, local: Address) -> list[Need]:
    """Of one network; none when `create` has not recorded its MTU."""
    if options.mtu is None:
        return []
    return [Need(network.name, options.mtu + OVERHEAD[local.version] + (VLAN_TAG if options.vlan else 0))]


def check_way(peer: Address, way: Way | GeneveError, needs: Iterable[Need]) -> Finding:
    """A route to the peer that carries the largest packet of every network that goes there."""
    name = f"way to {peer}"
    largest = max(needs, key=lambda need: need.mtu, default=None)
    wanted = f"a route for {largest.mtu} bytes" if largest else "a route"
    if isinstance(way, GeneveError):
        return failed(name, way, wanted=wanted)
    found = f"{way.interface} for {way.mtu} bytes"
    if largest is None or way.mtu >= largest.mtu:
        return Finding(name, found, wanted)
    reason = f"full-size packets of network {largest.network} do not fit into the tunnel"
    remedy = f"ip link set {way.interface} mtu {largest.mtu}"
    if way.is_of_route:
        remedy = f"take 'mtu {way.mtu}' out of the route (ip route get {peer})"
    return Finding(name, found, wanted, FAULT, reason, remedy)


def check_return_path(interface: str, mode: str, astray: Sequence[str]) -> Finding:
    """Reverse-path filtering where the tunnels end; `astray` are peers to whom the answers leave elsewhere."""
    name, wanted = f"rp_filter of {interface}", "0 or 2, or every peer's route by this interface"
    if mode != STRICT or not astray:
        return Finding(name, mode, wanted)
    reason = f"what comes from {', '.join(astray)} is dropped, since the way back is another one"
    return Finding(name, mode, wanted, FAULT, reason, f"sysctl -w net.ipv4.conf.{interface}.rp_filter=2")


def check_offload(interface: str, offload: Offload | None) -> Finding:
    """Whether the card cuts up large packets inside tunnels; one that cannot is a note, no more."""
    name = f"{OFFLOAD} of {interface}"
    if offload is None or (offload.is_fixed and not offload.is_on):
        return Finding(name, "not of this card", "on, where the card can")
    if offload.is_on:
        return Finding(name, "on", "on, where the card can")
    reason = "the CPU cuts up what the card could"
    return Finding(name, "off", "on", WARNING, reason, f"ethtool -K {interface} {OFFLOAD} on")


def check_vnis(networks: Mapping[str, int]) -> Iterator[Finding]:
    """Two networks of one VNI are one network, or Open vSwitch refuses the second tunnel."""
    by_vni: dict[int, list[str]] = {}
    for name, vni in networks.items():
        by_vni.setdefault(vni, []).append(name)
    for vni, names in by_vni.items():
        if len(names) == 1:
            yield Finding(f"VNI {vni}", names[0], "one network")
        else:
            first, second = names[0], names[1]
            reason = f"{first} and {second} would share their tunnels"
            remedy = f"create {second} again with another --opt vni=, the same on every host"
            yield Finding(f"VNI {vni}", ", ".join(names), "one network", FAULT, reason, remedy)
