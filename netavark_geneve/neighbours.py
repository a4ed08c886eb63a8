# SPDX-License-Identifier: Apache-2.0
"""Ask the network whether an address is free, and tell every host of it where the address now lives.

An address that comes back on a new container keeps its MAC, but the switches still know that MAC at its
old port and would send there until it answers something: a second's stall. The announcement corrects all
neighbour caches and all MAC tables on its way.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .addresses import Interface
from .aside import close_aside
from .errors import GeneveError, failing_to
from .model import Veth
from .naming import random_mac

ETH_P_ALL = 0x0003  # linux/if_ether.h
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ETH_P_EXPERIMENTAL = 0x88B5  # IEEE 802: for local experiments; nobody takes it up
BROADCAST = b"\xff" * 6
NO_MAC = bytes(6)

ARP_HEADER = struct.pack("!HHBB", 1, 0x0800, 6, 4)  # Ethernet and IPv4
ARP_REQUEST, ARP_REPLY = 1, 2
NO_IPV4 = bytes(4)

ICMPV6 = 58
SOLICITATION, ADVERTISEMENT = 135, 136  # RFC 4861 §4.3, §4.4
NA_OVERRIDE = 0x20000000  # RFC 4861 §4.4
HOP_LIMIT = 255  # RFC 4861 §7.1: receivers drop anything else
ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
SOLICITED_NODE = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")  # and the address's last three octets
NO_IPV6 = bytes(16)
LINK_LOCAL = socket.inet_pton(socket.AF_INET6, "fe80::")[:8]  # the prefix

SOL_PACKET, PACKET_AUXDATA = 263, 8  # linux/socket.h, linux/if_packet.h
AUXDATA = struct.Struct("=3I4H")  # struct tpacket_auxdata; the last but one is the VLAN tag
VLAN_ID = 0x0FFF
FRAME_MAX = 128  # more than what we look at of any frame

PROBES = 5  # spread over the wait
DRAIN = 0.005  # seconds for what has arrived already, however late we come to read it


class Neighbours:
    """The other hosts of the container's layer-2 network."""

    def __init__(self, raw: socket.socket, veth: Veth) -> None:
        self._raw = raw
        self._veth = veth
        self._addresses = {address.ip.packed: address for address in veth.addresses}
        self._probers: set[bytes] = set()
        self._probed = time.monotonic()

    def is_cut_off(self) -> bool:
        """Whether the interface has gone, or is down; whatever has its name by now is another one."""
        return self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def probe(self, prober: bytes | None = None) -> None:
        """Ask all hosts whether they have one of our addresses, by the MAC of one who has asked before, or a new one.

        One that all switches know spares them the work that a new one makes, see below: a tenth of an attach beside
        a thousand others.
        """
        self._probed = time.monotonic()
        self._send_probes(prober or random_mac())

    def check_free(self, wait: float) -> None:
        """Read the answers until `wait` seconds after probe(); raises GeneveError when an address is taken."""
        if not self._addresses:
            return
        for part in range(1, PROBES):
            moment = self._probed + wait * part / PROBES
            if moment > time.monotonic():  # else nobody would wait for the answer
                self._read_answers(moment)
                # Again: a tunnel of the userspace datapath that does not know its peer's MAC asks for it and
                # drops the packet.
                self._send_probes(random_mac(), again=True)
        self._read_answers(self._probed + wait)

    def announce(self, *, was_here: bool) -> None:
        """Send a gratuitous ARP or an unsolicited NA for each address, which `was_here` a moment ago or was not.

        Each of these frames goes to every port of every host, and leaves a flow that each switch works out anew with
        every change for ten seconds: with a thousand ports, milliseconds. So none is sent that nobody needs.
        """
        mac = _octets(self._veth.mac)
        announcements = (
            _announce_ipv4(mac, address) if address.version == 4 else _announce_ipv6(mac, address)
            for address in self._veth.addresses
        )
        with failing_to(f"announce {self._veth.interface} to its neighbours"):
            if was_here or not self._addresses:
                self._raw.send(_lesson(mac))
            for frame in announcements:
                self._raw.send(frame)

    def nudge(self) -> None:
        """Have our own switch learn one more MAC.

        For the container itself, so that it goes nowhere once the switch knows where that is; nobody takes it up.
        """
        with failing_to(f"send from {self._veth.interface}"):
            self._raw.send(_ethernet(_octets(self._veth.mac), random_mac(), ETH_P_EXPERIMENTAL, bytes(46)))

    def _send_probes(self, prober: bytes, *, again: bool = False) -> None:
        # Not the container's MAC: that is derived from the address, so another holder of the address has
        # it too, and a switch that knows it at the holder's port drops an answer that is to go there.
        # Nor has any switch a cached flow for one that is new, be it one that drops what it is to carry through a
        # tunnel whose peer is not known yet. Their MAC tables forget it in time. And as it is one more MAC to learn,
        # all of them go through their flows, and find the announcement that matched one from before: what only
        # matches does not tell them, for up to half a second, that the address has moved.
        self._probers.add(prober)
        with failing_to(f"ask the neighbours of {self._veth.interface} for its addresses"):
            for address in self._addresses.values():
                probe = _probe_ipv4 if address.version == 4 else _probe_ipv6
                self._raw.send(probe(prober, address))
                if again and address.version == 6:
                    self._raw.send(_lookup_ipv6(prober, address))

    def _read_answers(self, until: float) -> None:
        """Read what others say until then, and what has arrived before; a flood must not hold us up."""
        last = max(until, time.monotonic() + DRAIN / PROBES)
        with failing_to(f"hear the neighbours of {self._veth.interface}"):
            while (now := time.monotonic()) < last:
                self._raw.settimeout(max(0.0, until - now))
                try:
                    frame, control, _, sender = self._raw.recvmsg(FRAME_MAX, socket.CMSG_SPACE(AUXDATA.size))
                except (TimeoutError, BlockingIOError):  # the latter with a timeout of zero
                    return
                if sender[2] != socket.PACKET_OUTGOING and not _is_tagged(control):
                    self._check(frame)

    def _check(self, frame: bytes) -> None:
        claim = _claim_ipv4(frame) or _claim_ipv6(frame)
        if claim is None:
            return
        claimed, mac = claim
        address = self._addresses.get(claimed)
        if address is not None and mac not in self._probers:
            option = "--ip" if address.version == 4 else "--ip6"
            raise GeneveError(
                f"address {address.ip} is already in use in the network by {mac.hex(':')}; remove that container or"
                f" choose another {option} (--opt conflict_detection=false switches this check off)"
            )


@contextmanager
def open_socket(veth: Veth, interface: str | None = None) -> Iterator[Neighbours]:
    """Listen on the container's end of `veth`, or on another `interface` of the same layer-2 network.

    The current namespace must have it, and it must be up; then usable from anywhere.
    """
    interface = interface or veth.interface
    step = f"open a packet socket on {interface}"
    with failing_to(step):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # hears nothing until it is bound
    try:
        with failing_to(step):
            raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            raw.bind((interface, ETH_P_ALL))
        yield Neighbours(raw, veth)
    finally:
        close_aside(raw.close)


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _is_tagged(control: list[tuple[int, int, bytes]]) -> bool:
    """Whether a frame is of another VLAN. The kernel has taken the tag off and put it beside the frame.

    A port without an access VLAN gets the frames of all of them.
    """
    return any(AUXDATA.unpack(data)[-2] & VLAN_ID for _, _, data in control)


def _lesson(mac: bytes) -> bytes:
    """A frame that no switch has a cached flow for.

    Open vSwitch learns where a MAC is only from packets that it looks at. The announcements of an address
    that has been here seconds ago still match the flows of then, which know nothing of where it was
    meanwhile. A destination that is new each time (a group address, so that it is flooded) matches none.
    """
    group = b"\x03" + os.urandom(5)
    return _ethernet(group, mac, ETH_P_EXPERIMENTAL, bytes(46))


def _announce_ipv4(mac: bytes, address: Interface) -> bytes:
    """An ARP announcement, RFC 5227 §2.3: a request whose sender and target address are the same."""
    return _arp_request(mac, address.ip.packed, address.ip.packed)


def _probe_ipv4(mac: bytes, address: Interface) -> bytes:
    """An ARP probe, RFC 5227 §2.1.1: a request from nobody, so that no cache takes us for the holder."""
    return _arp_request(mac, NO_IPV4, address.ip.packed)


def _announce_ipv6(mac: bytes, address: Interface) -> bytes:
    """An unsolicited neighbour advertisement, RFC 4861 §7.2.6."""
    target_link_layer = struct.pack("!BB", 2, 1) + mac
    body = struct.pack("!I", NA_OVERRIDE) + address.ip.packed + target_link_layer
    return _icmpv6(mac, address.ip.packed, ALL_NODES, ADVERTISEMENT, body)


def _probe_ipv6(mac: bytes, address: Interface) -> bytes:
    """The neighbour solicitation of duplicate address detection, RFC 4862 §5.4.2."""
    return _solicitation(mac, NO_IPV6, address)


def _lookup_ipv6(mac: bytes, address: Interface) -> bytes:
    """The solicitation of who looks for the address, RFC 4861 §7.2.2. Its answer goes to the asker alone.

    That of a probe goes to all, and a switch which has dropped one before goes on to drop its like, for a while.
    """
    source_link_layer = struct.pack("!BB", 1, 1) + mac
    return _solicitation(mac, LINK_LOCAL + os.urandom(8), address, source_link_layer)


def _solicitation(mac: bytes, source: bytes, address: Interface, option: bytes = b"") -> bytes:
    group = SOLICITED_NODE[:13] + address.ip.packed[13:]
    return _icmpv6(mac, source, group, SOLICITATION, bytes(4) + address.ip.packed + option)


def _claim_ipv4(frame: bytes) -> tuple[bytes, bytes] | None:
    """The address that the sender of an ARP frame has, or probes for itself, and its MAC."""
    if len(frame) < 42 or frame[12:20] != struct.pack("!H", ETH_P_ARP) + ARP_HEADER:
        return None
    operation, mac, sender, _, target = struct.unpack("!H6s4s6s4s", frame[20:42])
    if operation not in (ARP_REQUEST, ARP_REPLY):
        return None
    if sender != NO_IPV4:
        return sender, mac
    return (target, mac) if operation == ARP_REQUEST else None


def _claim_ipv6(frame: bytes) -> tuple[bytes, bytes] | None:
    """The address that a neighbour advertisement is for, or that another host probes for, and its MAC."""
    if len(frame) < 78 or frame[12:14] != struct.pack("!H", ETH_P_IPV6):
        return None
    next_header, hop_limit, source, kind, code, target = struct.unpack("!2B16s16x2B6x16s", frame[20:78])
    if (next_header, hop_limit, code) != (ICMPV6, HOP_LIMIT, 0):
        return None
    # A solicitation from anybody but :: is one who looks for the address, not one who has it.
    if kind == ADVERTISEMENT or (kind == SOLICITATION and source == NO_IPV6):
        return target, frame[6:12]
    return None


def _arp_request(mac: bytes, sender: bytes, target: bytes) -> bytes:
    request = ARP_HEADER + struct.pack("!H", ARP_REQUEST) + mac + sender + NO_MAC + target
    return _ethernet(BROADCAST, mac, ETH_P_ARP, request)


def _icmpv6(mac: bytes, source: bytes, group: bytes, kind: int, body: bytes) -> bytes:
    """A message to a multicast group, RFC 4443 §2.1; whose MAC is that of RFC 2464 §7."""
    length = 4 + len(body)
    pseudo_header = source + group + struct.pack("!II", length, ICMPV6)  # RFC 8200 §8.1
    checksum = _checksum(pseudo_header + struct.pack("!BBH", kind, 0, 0) + body)
    header = struct.pack("!IHBB", 6 << 28, length, ICMPV6, HOP_LIMIT) + source + group
    message = struct.pack("!BBH", kind, 0, checksum) + body
    return _ethernet(b"\x33\x33" + group[-4:], mac, ETH_P_IPV6, header + message)


def _checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071, of whole 16-bit words: their sum modulo 2¹⁶−1, inverted."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return 0xFFFF - total % 0xFFFF


def _ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return destination + source + struct.pack("!H", kind) + payload
