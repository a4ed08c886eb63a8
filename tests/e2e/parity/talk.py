"""A server that says how it was reached, and a client that asks it, in TCP, UDP and SCTP.

usage: talk.py serve PROTOCOL PORT …          talk.py ask PROTOCOL ADDRESS PORT SECONDS

It runs on the hosts of the lab, where nothing but the standard library is at hand. SCTP is spoken in raw
IP packets, since many a kernel has no SCTP sockets, nor needs any to forward it: an INIT chunk, answered
by an INIT ACK (RFC 9260 section 3.3) whose cookie carries the answer.
"""

import secrets
import selectors
import socket
import struct
import sys
from collections.abc import Callable

SCTP = 132
INIT, INIT_ACK = 1, 2
COOKIE = 7  # a parameter of INIT ACK
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def serve(protocol: str, ports: list[int]) -> None:
    """Tell everybody on which of these ports, and under which address, the server knows them."""
    selector = selectors.DefaultSelector()

    def on(server: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        selector.register(server, selectors.EVENT_READ, answer)

    if protocol == "sctp":
        for family in (socket.AF_INET, socket.AF_INET6):
            on(socket.socket(family, socket.SOCK_RAW, SCTP), lambda server: _answer_sctp(server, ports))
    for port in ports if protocol != "sctp" else ():
        server = socket.socket(socket.AF_INET6, KINDS[protocol])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", port))
        if protocol == "tcp":
            server.listen()
        on(server, _answer_tcp if protocol == "tcp" else _answer_udp)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj)


def ask(protocol: str, address: str, port: int, seconds: float) -> str:
    """What the server says; OSError when there is no answer in time."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if protocol == "sctp":
        return _ask_sctp(socket.socket(family, socket.SOCK_RAW, SCTP), address, port, seconds)
    with socket.socket(family, KINDS[protocol]) as client:
        client.settimeout(seconds)
        client.connect((address, port))
        client.send(b"?")
        if not (said := client.recv(100)):
            raise ConnectionError("no answer")
        return said.decode()


def _text(port: int, peer: str) -> bytes:
    return f"{port} {peer.removeprefix('::ffff:')}".encode()


def _answer_tcp(server: socket.socket) -> None:
    client, peer = server.accept()
    with client:
        client.recv(100)
        client.send(_text(server.getsockname()[1], peer[0]))


def _answer_udp(server: socket.socket) -> None:
    _, peer = server.recvfrom(100)
    server.sendto(_text(server.getsockname()[1], peer[0]), peer)


def _answer_sctp(server: socket.socket, ports: list[int]) -> None:
    data, peer = server.recvfrom(2000)
    packet = _payload(server, data)
    source, destination, _, checksum, kind = struct.unpack("!HHIIB", packet[:13])
    if kind != INIT or destination not in ports or checksum != _checksum(packet):
        return
    (tag,) = struct.unpack("!I", packet[16:20])
    answer = _text(destination, peer[0])
    cookie = struct.pack("!HH", COOKIE, 4 + len(answer)) + answer + bytes(-len(answer) % 4)
    server.sendto(_packet(destination, source, tag, INIT_ACK, cookie), (peer[0], 0))


def _ask_sctp(client: socket.socket, address: str, port: int, seconds: float) -> str:
    own = 32768 + secrets.randbelow(28000)
    with client:
        client.settimeout(seconds)
        client.connect((address, 0))
        client.send(_packet(own, port, 0, INIT))
        while True:
            packet = _payload(client, client.recv(2000))
            if packet[:4] == struct.pack("!HH", port, own) and packet[12] == INIT_ACK:
                (length,) = struct.unpack("!H", packet[34:36])
                return packet[36 : 32 + length].decode()


def _payload(raw: socket.socket, data: bytes) -> bytes:
    """Without the header that IPv4's raw sockets give along."""
    return data if raw.family == socket.AF_INET6 else data[4 * (data[0] & 15) :]


def _packet(source: int, destination: int, tag: int, kind: int, parameters: bytes = b"") -> bytes:
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20 + len(parameters), 1 + secrets.randbelow(2**32 - 1), 65536, 1, 1, 1)
    packet = struct.pack("!HHII", source, destination, tag, 0) + chunk + parameters
    return packet[:8] + struct.pack("!I", _checksum(packet)) + packet[12:]


def _checksum(packet: bytes) -> int:
    """CRC32c of the packet with its checksum set to zero (RFC 9260 appendix A), as the number on the wire."""
    crc = 0xFFFFFFFF
    for byte in packet[:8] + bytes(4) + packet[12:]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return int.from_bytes((crc ^ 0xFFFFFFFF).to_bytes(4, "little"))


if __name__ == "__main__":
    verb, which, *rest = sys.argv[1:]
    if verb == "serve":
        serve(which, [int(port) for port in rest])
    try:
        print(ask(which, rest[0], int(rest[1]), float(rest[2])))
    except OSError as error:
        sys.exit(str(error))
