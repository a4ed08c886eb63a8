# SPDX-License-Identifier: Apache-2.0
"""Which addresses of a subnet belong to which host.

A subnet is cut into `slots` equal slices, a power of two; host number i (from 1) owns slice i. The cut
must not depend on how many hosts there are today: a host that joins later would cut differently.
"""

import ipaddress
from dataclasses import dataclass

from .errors import GeneveError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

SLOTS_DEFAULT = 16
SLOTS_MAX = 4096
SLICE_MIN = 4  # its first and last address stay unused, one is the gateway's, one a container's
SLICE_ROOMY = 32
OVERHEAD = {4: 50, 6: 70}  # bytes: outer IP 20 or 40, UDP 8, GENEVE 8 (RFC 8926 §3), inner Ethernet 14
VLAN_TAG = 4  # bytes: IEEE 802.1Q, inside the tunnel
MTU_MIN = {4: 576, 6: 1280}  # bytes: RFC 791 and RFC 8200 §5


@dataclass(frozen=True)
class Range:
    """Addresses from `first` to `last`, both included."""

    first: Address
    last: Address

    def __contains__(self, address: Address) -> bool:
        return self.first.version == address.version and int(self.first) <= int(address) <= int(self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def default_slots(subnet: Network) -> int:
    """16, or as many as leave at least 32 addresses in each slice (but one at least)."""
    slots = SLOTS_DEFAULT
    while slots > 1 and subnet.num_addresses // slots < SLICE_ROOMY:
        slots //= 2
    return slots


def slice_range(subnet: Network, slots: int, slot: int) -> Range:
    """The addresses that host number `slot` (1…slots) may use.

    Each slice leaves out its first and last address, as if it were a subnet of its own, so that no host
    gets the subnet's network or broadcast address. Raises GeneveError when nothing useful remains.
    """
    size = subnet.num_addresses // slots
    if size < SLICE_MIN:
        raise GeneveError(
            f"subnet {subnet} is too small for {slots} slots, each needs {SLICE_MIN} addresses at least;"
            " use a larger --subnet or fewer --opt slots="
        )
    start = subnet.network_address + (slot - 1) * size
    return Range(start + 1, start + (size - 2))
