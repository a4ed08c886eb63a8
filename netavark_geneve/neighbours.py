# SPDX-License-Identifier: Apache-2.0
"""Tell every host of the network where an address now lives.

An address that comes back on a new container keeps its MAC, but the switches still know that MAC at its
old port and would send there until it answers something: a second's stall. The announcement corrects all
neighbour caches and all MAC tables on its way.
"""

import os
import socket
import struct

from .addresses import Interface
from .errors import GeneveError
from .model import Veth

ETH_P_ARP = 0x0806
ETH_P_EXPERIMENTAL = 0x88B5  # IEEE 802: for local experiments; nobody takes it up
BROADCAST = b"\xff" * 6
ALL_NODES = "ff02::1"
NA_OVERRIDE = 0x20000000  # RFC 4861 §4.4
HOP_LIMIT = 255  # RFC 4861 §7.1.2: receivers drop anything else


def announce(veth: Veth) -> None:
    """Send a gratuitous ARP or an unsolicited NA for each address; runs in the container's namespace."""
    mac = bytes.fromhex(veth.mac.replace(":", ""))
    frames = [_lesson(mac), *(_arp(mac, address) for address in veth.addresses if address.version == 4)]
    try:
        # One socket for all: the kernel waits an RCU period, 10 ms, when a packet socket is closed.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((veth.interface, 0))
            for frame in frames:
                raw.send(frame)
        for address in veth.addresses:
            if address.version == 6:
                _announce_ipv6(veth.interface, mac, address)
    except OSError as error:
        raise GeneveError(f"cannot announce {veth.interface} to its neighbours: {error.strerror}") from error


def _lesson(mac: bytes) -> bytes:
    """A frame that no switch has a cached flow for.

    Open vSwitch learns where a MAC is only from packets that it looks at. The announcements of an address
    that has been here seconds ago still match the flows of then, which know nothing of where it was
    meanwhile. A destination that is new each time (a group address, so that it is flooded) matches none.
    """
    group = b"\x03" + os.urandom(5)
    return group + mac + struct.pack("!H", ETH_P_EXPERIMENTAL) + bytes(46)


def _arp(mac: bytes, address: Interface) -> bytes:
    """An ARP announcement, RFC 5227 §2.3: a request whose sender and target address are the same."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.ip.packed + bytes(6) + address.ip.packed
    return BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + arp


def _announce_ipv6(interface: str, mac: bytes, address: Interface) -> None:
    """An unsolicited neighbour advertisement, RFC 4861 §7.2.6; the kernel fills in the checksum."""
    target_link_layer = struct.pack("!BB", 2, 1) + mac
    advertisement = struct.pack("!BBHI", 136, 0, 0, NA_OVERRIDE) + address.ip.packed + target_link_layer
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        raw.bind((str(address.ip), 0))
        raw.sendto(advertisement, (ALL_NODES, 0, 0, index))
