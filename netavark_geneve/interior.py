# SPDX-License-Identifier: Apache-2.0
"""What is set of a container's interface inside its namespace by files and ioctls; by netlink links.py sees to it."""

import fcntl
import socket
import struct
from array import array

from . import files
from .errors import GeneveError, failing_to
from .model import Veth

_SIOCSIFFLAGS, _IFF_UP, _IFF_MULTICAST = 0x8914, 0x1, 0x1000  # linux/sockios.h, linux/if.h
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h


def prepare(veth: Veth) -> None:
    """Settings as netavark's bridge driver makes them, no IPv6, its own checksums; and up, without a carrier yet."""
    _write_sysctl(veth, "ipv4/conf/{}/arp_notify", "1")
    _write_sysctl(veth, "ipv4/conf/{}/rp_filter", "2")  # with two networks the answer may leave by the other one
    # Also where the network has IPv6: until the addresses are known to be free, nothing may claim them.
    _write_sysctl(veth, "ipv6/conf/{}/disable_ipv6", "1")
    with (
        failing_to(f"set up {veth.interface} in the container"),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel,
    ):
        if not veth.checksum_offload:
            _disable_checksum_offload(kernel, veth.interface)
        # As it was made, and up; netlink would look for its index first.
        fcntl.ioctl(kernel, _SIOCSIFFLAGS, struct.pack("16sH22x", veth.interface.encode(), _IFF_UP | _IFF_MULTICAST))


def enable_ipv6(veth: Veth) -> None:
    """Without waiting for the duplicate address detection, which we did, and without listening to routers."""
    for name in ("accept_ra", "accept_dad", "autoconf", "disable_ipv6"):
        _write_sysctl(veth, f"ipv6/conf/{{}}/{name}", "0")


def _write_sysctl(veth: Veth, path: str, value: str) -> None:
    file = f"/proc/sys/net/{path.format(veth.interface)}"
    try:
        files.write(file, value)
    except FileNotFoundError as error:
        # A kernel without IPv6 has nothing to be quietened.
        if veth.ipv6:
            raise GeneveError(f"cannot set {file}: this kernel has no IPv6, but the network does") from error
    except OSError as error:
        if not _has(file, value):  # /proc may be read-only where all is well already
            raise GeneveError(f"cannot set {file} to {value} in the container: {error.strerror}") from error


def _has(file: str, value: str) -> bool:
    try:
        return files.read(file).strip() == value
    except OSError:
        return False


def _disable_checksum_offload(kernel: socket.socket, interface: str) -> None:
    """Have the kernel compute every checksum itself before a packet leaves: ethtool's "tx off"."""
    value = array("I", (_ETHTOOL_STXCSUM, 0))  # struct ethtool_value
    request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])  # struct ifreq
    with failing_to(f"turn off transmit checksum offload of {interface}"):
        fcntl.ioctl(kernel, _SIOCETHTOOL, request)
