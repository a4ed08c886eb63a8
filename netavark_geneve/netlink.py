# SPDX-License-Identifier: Apache-2.0
"""Netlink as far as an attach speaks it: netlink(7), rtnetlink(7), linux/if_link.h, linux/rtnetlink.h.

pyroute2 speaks all of it, and does so for whatever only looks at the host. Its way to six messages goes through so much
memory that after a rest, which the caches have not survived, it was a fifth of an attach; and to load it, a fifth of
one without the helper.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

from .addresses import Address, Interface
from .addresses import Network as IPNetwork

REQUEST, ACK, EXCL, CREATE, APPEND = 0x01, 0x04, 0x200, 0x400, 0x800  # of a message
DUMP, DUMP_INTERRUPTED = 0x300, 0x10
ERROR, DONE = 2, 3  # the types of an answer that is an error number, or 0
IFF_UP, IFF_NOARP, IFF_PROMISC = 0x01, 0x80, 0x100

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 24, 25
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 18, 20, 26, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 8, b"\x01"
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_ROUTE_TYPES = {"unicast": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_MAIN, _STATIC, _UNIVERSE, _NOWHERE = 254, 4, 0, 255  # table, protocol and scopes of a route
_ANSWER_MAX = 65536  # bytes; an error repeats the request, and a dump comes in pieces of half as many
_KIND = 0x3FFF  # of an attribute; the rest are flags
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_REQUEST_MAX = 2**21  # bytes; as nft has it


class Kernel:
    """A socket to the kernel of the network namespace that it was opened in. Requests raise OSError when refused."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def add_veth(self, name: str, mtu: int, flags: int, peer: str, mac: str, netns: int) -> None:
        """Make a pair, this end with these flags, its `peer` in the namespace of that descriptor with this MAC.

        Asked for from this end, since before Linux 6.15 the kernel looks here for the name of the end that it is asked
        for, also when that is to be elsewhere: many a host has an eth0, and so have its containers.
        """
        there = _link() + text(_IFLA_IFNAME, peer) + number(_IFLA_MTU, mtu)
        there += attribute(_IFLA_ADDRESS, octets(mac)) + number(_IFLA_NET_NS_FD, netns)
        info = text(_INFO_KIND, "veth") + attribute(_INFO_DATA, attribute(_VETH_INFO_PEER, there))
        here = text(_IFLA_IFNAME, name) + number(_IFLA_MTU, mtu) + attribute(_IFLA_LINKINFO, info)
        self._change(_NEWLINK, CREATE | EXCL, _link(flags=flags) + here)

    def set_flags(self, index: int, flags: int) -> None:
        """Set these of an interface; its others stay."""
        self._change(_NEWLINK, 0, _link(index, flags))

    def describe(self, index: int, *, name: str | None = None, alias: str | None = None, has_ipv6: bool) -> None:
        """Name an interface that is down; unless told that it `has_ipv6` it will never get an address of itself.

        Of a link without IPv6, as below an MTU of 1280 or where the kernel has none, the latter is refused with
        EAFNOSUPPORT.
        """
        changes = b"" if name is None else text(_IFLA_IFNAME, name)
        changes += b"" if alias is None else text(_IFLA_IFALIAS, alias)
        if not has_ipv6:
            of_ipv6 = attribute(socket.AF_INET6, attribute(_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE))
            changes += attribute(_IFLA_AF_SPEC, of_ipv6)
        self._change(_NEWLINK, 0, _link(index) + changes)

    def set_master(self, index: int, master: int) -> None:
        self._change(_NEWLINK, 0, _link(index) + number(_IFLA_MASTER, master))

    def delete_link(self, index: int) -> None:
        self._change(_DELLINK, 0, _link(index))

    def add_address(self, index: int, address: Interface, flags: int = 0) -> None:
        """IPv4 with the network's broadcast address; `flags` are IFA_F_… of linux/if_addr.h."""
        header = struct.pack("=BBBBI", FAMILY[address.version], address.network.prefixlen, 0, 0, index)
        own = attribute(_IFA_ADDRESS, address.ip.packed) + number(_IFA_FLAGS, flags)
        if address.version == 4:
            broadcast = address.network.broadcast_address.packed
            own += attribute(_IFA_LOCAL, address.ip.packed) + attribute(_IFA_BROADCAST, broadcast)
        self._change(_NEWADDR, CREATE | EXCL, header + own)

    def append_route(self, to: IPNetwork, kind: str, gateway: Address | None, metric: int, index: int | None) -> None:
        """Behind others of the same destination and metric."""
        self._change(_NEWROUTE, CREATE | APPEND, _route(to, kind, _STATIC, _UNIVERSE, gateway, metric, index))

    def delete_route(self, to: IPNetwork, kind: str, gateway: Address | None, metric: int) -> None:
        self._change(_DELROUTE, 0, _route(to, kind, 0, _NOWHERE, gateway, metric, None))

    def ask(self, kind: int, flags: int, body: bytes) -> tuple[int, bytes]:
        """Send one request; type and body of the (first) answer."""
        self._socket.send(message(kind, flags, body))
        answered, _, answer = next(_messages(self._socket.recv(_ANSWER_MAX)))
        return answered, answer

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all answers. Raises InterruptedError when there was a change between them."""
        self._socket.send(message(kind, DUMP, body))
        found, seen = [], 0
        while True:
            for answered, flags, answer in _messages(self._socket.recv(_ANSWER_MAX)):
                seen |= flags
                if answered not in (ERROR, DONE):
                    found.append(answer)
                    continue
                _check(answer)
                if seen & DUMP_INTERRUPTED:  # not before the end, or the next one would be refused
                    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
                return found

    def change(self, requests: list[bytes]) -> None:
        """Send messages that belong together, of which one is answered, or the first that is refused."""
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _REQUEST_MAX)
        self._socket.send(b"".join(requests))
        _, _, answer = next(_messages(self._socket.recv(_ANSWER_MAX)))
        _check(answer)

    def _change(self, kind: int, flags: int, body: bytes) -> None:
        _, answer = self.ask(kind, ACK | flags, body)  # which is an error, also when there is none
        _check(answer)


FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def message(kind: int, flags: int, body: bytes) -> bytes:
    """One request; padded to four bytes, as attributes are."""
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, which may hold others; padded to four bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes that stand there one behind the other: what kind, and what is in it."""
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & _KIND, data[at + 4 : at + length]
        at += length + -length % 4


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each answer."""
    at = 0
    while at < len(data):
        length, kind, flags = struct.unpack_from("=IHH", data, at)
        yield kind, flags, data[at + 16 : at + length]
        at += length + -length % 4


def _check(answer: bytes) -> None:
    code = -struct.unpack_from("=i", answer)[0]
    if code:
        raise OSError(code, os.strerror(code))


def _link(index: int = 0, flags: int = 0) -> bytes:
    """struct ifinfomsg; the flags to set."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _route(
    to: IPNetwork, kind: str, protocol: int, scope: int, gateway: Address | None, metric: int, index: int | None
) -> bytes:
    """struct rtmsg and its attributes."""
    header = (FAMILY[to.version], to.prefixlen, 0, 0, _MAIN, protocol, scope, _ROUTE_TYPES[kind], 0)
    way = attribute(_RTA_DST, to.network_address.packed) + number(_RTA_PRIORITY, metric)
    way += b"" if gateway is None else attribute(_RTA_GATEWAY, gateway.packed)
    way += b"" if index is None else number(_RTA_OIF, index)
    return struct.pack("=8BI", *header) + way
