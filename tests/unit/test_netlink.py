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

from netavark_geneve.netlink import IFF_NOARP, IFF_UP, Kernel

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


def test_refusal_is_an_error_of_the_operating_system(wire: Wire) -> None:
    wire.code = errno.EEXIST
    with Kernel() as kernel, pytest.raises(FileExistsError, match="File exists"):
        kernel.set_flags(5, IFF_UP)
