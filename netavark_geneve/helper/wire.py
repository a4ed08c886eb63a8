# SPDX-License-Identifier: Apache-2.0
"""What client and helper say to each other, on a Unix stream socket. Builtin modules only: the client pays for each.

The client sends one request, with descriptors for its own network namespace and, if there is one, the
container's (SCM_RIGHTS, unix(7)). The helper first says whether it takes the request, then the answer.
"""

import _socket
import sys

SOCKET = "/run/netavark-geneve/helper.sock"
SOCKET_VARIABLE = "NETAVARK_GENEVE_SOCKET"
TAKEN, NOT_MINE = b"+", b"-"
FORWARDED = ("NETAVARK_FW", "NETAVARK_DNS_PORT", "RUST_LOG")  # of the caller's environment, for this request
SHARED = (  # what caller and helper must agree on, or the helper would serve another host or configuration
    *("OVS_RUNDIR", "NETAVARK_GENEVE_CONFIG", "CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"),
    "CONTAINERS_HELPER_BINARY_DIR",
)
LENGTH = 4  # bytes of each length, big endian
LONGEST = 2**26  # bytes of one part; nobody sends that


def pack(*parts: bytes) -> bytes:
    """Each part with its length in front."""
    return b"".join(len(part).to_bytes(LENGTH, "big") + part for part in parts)


def receive(sock: "_socket.socket", count: int) -> list[bytes]:
    """So many parts. Raises EOFError when the other side ends before that, or sends nonsense."""
    parts = []
    for _ in range(count):
        length = int.from_bytes(exactly(sock, LENGTH), "big")
        if length > LONGEST:
            raise EOFError
        parts.append(exactly(sock, length))
    return parts


def rights(descriptors: list[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data that hands over these descriptors."""
    data = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, data)]


def exactly(sock: "_socket.socket", length: int) -> bytes:
    """So many bytes. Raises EOFError when the other side ends before that."""
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
