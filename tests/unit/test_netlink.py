# SPDX-License-Identifier: Apache-2.0
"""What we say to the kernel, as pyroute2 reads it. That the kernel does it is seen in tests/sandbox/test_links.py."""

import errno
import struct
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netavark_geneve.netlink import ACK, IFF_NOARP, IFF_UP, Kernel, attribute, attributes, message, text

NEW, CHANGE, APPEND, DELETE = 0x605, 0x005, 0xC05, 0x005  # REQUEST and ACK with CREATE and EXCL, or APPEND


class Wire:
    """The kernel's end of the socket: it hears one message, and answers with an error number."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.said = b""

    def send(self, data: bytes) -> None:
        self.said = data

    def recv(self, _: int) -> bytes:
        return struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -self.code)

    def setsockopt(self, *_: int) -> None:
        """It is."""

    def close(self) -> None:
        """It is."""

    def heard(self, kind: type) -> Any:
        message = kind(self.said)
        message.decode()
        assert message["header"]["length"] == len(self.said)
        return message


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr("netavark_geneve.netlink.socket.socket", lambda *_: made)
    return made


def test_veth_pair_is_asked_for_from_here_and_has_its_far_end_in_the_namespace(wire: Wire) -> None:
    """From here, since older kernels look here for the name of what they are asked for."""
    with Kernel() as kernel:
        kernel.add_veth("veth1", 1450, 0x180, "eth0", "02:00:00:00:00:01", 7)
    message = wire.heard(ifinfmsg)
    assert (message["header"]["type"], message["header"]["flags"]) == (16, NEW)
    assert (message["index"], message["flags"], message["change"]) == (0, 0x180, 0x180)
    named = ("IFLA_IFNAME", "IFLA_MTU", "IFLA_ADDRESS", "IFLA_NET_NS_FD")
    assert [message.get_attr(name) for name in named] == ["veth1", 1450, None, None]
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    far = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert [far.get_attr(name) for name in named] == ["eth0", 1450, "02:00:00:00:00:01", 7]
    assert (far["flags"], far["change"]) == (0, 0)


def test_interface_gets_name_alias_and_no_ipv6(wire: Wire) -> None:
    with Kernel() as kernel:
        kernel.describe(5, name="web0", alias="geneve-ovs net1", has_ipv6=False)
    message = wire.heard(ifinfmsg)
    assert (message["header"]["type"], message["header"]["flags"]) == (16, CHANGE)
    assert (message["index"], message["change"]) == (5, 0)
    assert [message.get_attr(name) for name in ("IFLA_IFNAME", "IFLA_IFALIAS")] == ["web0", "geneve-ovs net1"]
    of_ipv6 = message.get_attr("IFLA_AF_SPEC").get_attr("AF_INET6")
    assert of_ipv6.get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1


def test_flags_are_set_and_others_stay(wire: Wire) -> None:
    with Kernel() as kernel:
        kernel.set_flags(5, IFF_UP | IFF_NOARP)
    message = wire.heard(ifinfmsg)
    assert (message["index"], message["flags"], message["change"]) == (5, IFF_UP | IFF_NOARP, IFF_UP | IFF_NOARP)


def test_interface_is_put_into_a_vrf_and_deleted(wire: Wire) -> None:
    with Kernel() as kernel:
        kernel.set_master(5, 9)
        assert wire.heard(ifinfmsg).get_attr("IFLA_MASTER") == 9
        kernel.delete_link(5)
    message = wire.heard(ifinfmsg)
    assert (message["header"]["type"], message["index"]) == (17, 5)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("10.0.0.2/24", {"IFA_ADDRESS": "10.0.0.2", "IFA_LOCAL": "10.0.0.2", "IFA_BROADCAST": "10.0.0.255"}),
        ("fd00::2/64", {"IFA_ADDRESS": "fd00::2", "IFA_LOCAL": None, "IFA_BROADCAST": None}),
    ],
)
def test_address(wire: Wire, address: str, wanted: dict[str, str | None]) -> None:
    with Kernel() as kernel:
        kernel.add_address(5, ip_interface(address), 2)
    message = wire.heard(ifaddrmsg)
    assert (message["header"]["type"], message["header"]["flags"]) == (20, NEW)
    assert (message["index"], f"/{message['prefixlen']}") == (5, address[address.index("/") :])
    assert {name: message.get_attr(name) for name in wanted} == wanted
    assert message.get_attr("IFA_FLAGS") == 2


@pytest.mark.parametrize(
    ("to", "kind", "gateway", "index"),
    [
        ("0.0.0.0/0", "unicast", "10.0.0.1", 5),
        ("10.9.0.0/16", "blackhole", None, None),
        ("fd00:9::/48", "unicast", "fd00::1", None),
    ],
)
def test_route(wire: Wire, to: str, kind: str, gateway: str | None, index: int | None) -> None:
    network, way = ip_network(to), gateway and ip_address(gateway)
    with Kernel() as kernel:
        kernel.append_route(network, kind, way or None, 100, index)
        message = wire.heard(rtmsg)
        assert (message["header"]["type"], message["header"]["flags"]) == (24, APPEND)
        assert (message["dst_len"], message["table"], message["scope"], message["proto"]) == (
            network.prefixlen,
            254,
            0,
            4,
        )
        assert message["type"] == {"unicast": 1, "blackhole": 6}[kind]
        found = [message.get_attr(name) for name in ("RTA_GATEWAY", "RTA_PRIORITY", "RTA_OIF")]
        assert found == [gateway, 100, index]

        kernel.delete_route(network, kind, way or None, 100)
    message = wire.heard(rtmsg)
    assert (message["header"]["type"], message["header"]["flags"]) == (25, DELETE)
    assert (message["scope"], message["proto"]) == (255, 0)  # whatever it has


class Dump(Wire):
    """A kernel whose answers come in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self.pieces = list(pieces)

    def recv(self, _: int) -> bytes:
        return self.pieces.pop(0)


def answer(kind: int, body: bytes, flags: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


END = answer(3, struct.pack("=i", 0))


@pytest.fixture
def dump(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*pieces: bytes) -> Dump:
        made = Dump(*pieces)
        monkeypatch.setattr("netavark_geneve.netlink.socket.socket", lambda *_: made)
        return made

    return make


def test_list_is_read_to_its_end(dump: Any) -> None:
    wire = dump(answer(20, b"once") + answer(20, b"more"), answer(20, b"last"), END)
    with Kernel() as kernel:
        assert kernel.dump(22, b"what") == [b"once", b"more", b"last"]
    assert wire.said == message(22, 0x300, b"what")


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (answer(20, b"more", flags=0x12) + END, InterruptedError),
        (answer(2, struct.pack("=i", -errno.ENOENT)), FileNotFoundError),
        (answer(3, struct.pack("=i", -errno.EPERM)), PermissionError),
    ],
    ids=["of two states", "refused", "broken off"],
)
def test_list_that_is_not_whole_is_none(dump: Any, last: bytes, error: type[OSError]) -> None:
    dump(answer(20, b"once") + last)
    with Kernel() as kernel, pytest.raises(error):
        kernel.dump(22, b"")


def test_attributes_are_read_as_they_are_written() -> None:
    """Whatever flags the kernel puts to their kinds."""
    inner = text(1, "net1") + attribute(2, b"\x01")
    assert list(attributes(inner + attribute(0x8003, b"nested"))) == [(1, b"net1\0"), (2, b"\x01"), (3, b"nested")]


def test_messages_that_belong_together_go_at_once(wire: Wire) -> None:
    wire.code = errno.EBUSY
    first, second = message(1, 0, b"once"), message(2, ACK, b"more")
    with Kernel() as kernel, pytest.raises(OSError, match="Device or resource busy"):
        kernel.change([first, second])
    assert wire.said == first + second


def test_refusal_is_an_error_of_the_operating_system(wire: Wire) -> None:
    wire.code = errno.EEXIST
    with Kernel() as kernel, pytest.raises(FileExistsError, match="File exists"):
        kernel.set_flags(5, IFF_UP)
