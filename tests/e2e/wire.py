"""What passes on the interfaces of containers: frames are put on the wire and counted there, not inferred."""

import re
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from tests.lab import Host

from .fabric import Container

DEADLINE = 30.0  # seconds for anything that happens by itself; far more than it takes
MOST = 3000  # frames that one capture keeps: enough to see a loop, not enough to drown in it
BROADCAST = "ff:ff:ff:ff:ff:ff"
ETHERTYPE = 0x88B5  # IEEE 802, local experimental: nobody but us
SHORTEST = 60  # bytes of an Ethernet frame without its checksum

SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind((sys.argv[1], 0))
    raw.send(bytes.fromhex(sys.argv[2]))
"""
REACH = """
for address in "$@"; do
    ping -n -q -c1 -W5 "$address" >&2 || echo "$address"
done
"""


@dataclass(frozen=True)
class Capture:
    """What arrives at one interface of a container; what it sends itself is left out."""

    container: Container
    interface: str
    netns: str
    mac: str
    output: IO[str]

    def frames(self) -> list[bytes]:
        """Every frame so far."""
        frames: list[bytes] = []
        complete, _, _ = read(self.output).rpartition("\n")
        for line in complete.splitlines():
            if row := re.match(r"\t0x([0-9a-f]{4}):  ([0-9a-f ]+)$", line):
                data = bytes.fromhex(row[2])
                if int(row[1], 16) == 0:
                    frames.append(data)
                else:
                    frames[-1] += data
        return frames

    def count(self, marker: bytes) -> int:
        """How many frames with these bytes somewhere in them."""
        return sum(marker in frame for frame in self.frames())

    def send(self, destination: str) -> bytes:
        """Put one frame on the wire as the container; the bytes by which it is known again."""
        marker = secrets.token_bytes(16)
        frame = mac(destination) + mac(self.mac) + ETHERTYPE.to_bytes(2) + marker
        python = ("python3", "-c", SEND, self.interface, frame.ljust(SHORTEST, b"\0").hex())
        self.container.host.run("nsenter", f"--net={self.netns}", "--", *python)
        return marker


@dataclass(frozen=True)
class Wire:
    """Captures on several containers at once, by the names of the containers."""

    captures: dict[str, Capture]

    def send(self, container: Container, destination: str) -> bytes:
        """See `Capture.send`."""
        return self.captures[container.name].send(destination)

    def copies(self, marker: bytes) -> dict[str, int]:
        """By container, how often a marked frame arrived. Ask after `settle()`."""
        return {name: capture.count(marker) for name, capture in self.captures.items()}

    def wait_for(self, marker: bytes, sender: Container) -> None:
        """Wait until every container but the sender has got its copy; a second copy anywhere ends the test."""

        def arrived() -> bool:
            copies = self.copies(marker)
            assert max(copies.values()) < 2, f"a frame from {sender.name} is multiplied: {copies}"
            return all(copies[name] for name in self.captures if name != sender.name)

        wait_until(arrived, f"a frame from {sender.name} to arrive everywhere")

    def settle(self) -> None:
        """Return once everything is counted that was on its way when this was called.

        A second copy comes later than the first: passed on by a host that has no business to do so, behind
        the frame that it delivered to its own containers. So each container now broadcasts a frame of its
        own, which follows any such copy through the same switches and tunnels; the last one to arrive
        closes the count.
        """
        for capture in self.captures.values():
            self.wait_for(capture.send(BROADCAST), capture.container)


@contextmanager
def listen(containers: Sequence[Container], condition: str = "", interface: str = "eth0") -> Iterator[Wire]:
    """tcpdump on every one of these containers; `condition` widens what is kept besides our own frames."""
    captures: dict[str, Capture] = {}
    wanted = f"ether proto {ETHERTYPE}" + (f" or ({condition})" if condition else "")
    with ExitStack() as stack:
        for container in containers:
            netns = container.host.netns(container.name)
            output = stack.enter_context(
                recording(
                    container.host,
                    *("nsenter", f"--net={netns}", "--", "tcpdump", "-i", interface, "-Q", "in"),
                    *("-n", "-t", "-l", "-xx", "--immediate-mode", "-c", str(MOST), wanted),
                )
            )
            address = container.link(interface)["address"]
            captures[container.name] = Capture(container, interface, netns, address, output)
        wait_until(lambda: all("listening on" in read(c.output) for c in captures.values()), "tcpdump to listen")
        yield Wire(captures)


@contextmanager
def recording(host: Host, *command: str) -> Iterator[IO[str]]:
    """Run a command in the background; a file with all that it has said so far, for `read()`."""
    # "a": the file's position is one for us and the command, and reading must not move its writes.
    with tempfile.TemporaryFile("a+", errors="replace") as output:
        process = host.popen(*command, stdout=output, stderr=output)
        try:
            yield output
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)


def read(output: IO[str]) -> str:
    output.seek(0)
    return output.read()


def answers(
    container: Container, address: str, interface: str = "eth0", timeout: int = 5, replies: int = 1
) -> set[str]:
    """The MACs that answer ARP requests for this address on this interface, until there are so many replies."""
    ask = ("arping", "-b", f"-c{replies}", f"-w{timeout}", "-I", interface, address)
    said = container.host.netns_run(container.name, *ask, check=False).stdout
    assert re.search(r"Sent [1-9]\d* probes", said), said
    return {found.lower() for found in re.findall(r"reply from \S+ \[([0-9A-F:]+)\]", said)}


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def unreached(container: Container, addresses: Sequence[str], timeout: float = 120) -> list[str]:
    """Those of the addresses that do not answer the container, all asked in one go, for a message."""
    silent = container.host.netns_run(container.name, "sh", "-c", REACH, "sh", *addresses, timeout=timeout).stdout
    return [f"{container.name} -> {address}" for address in silent.split()]


def all_unreached(asking: Sequence[Container], addresses: Sequence[str], timeout: float = 120) -> list[str]:
    """`unreached()` for several containers, four at a time; nobody is asked to reach itself."""

    def ask(one: Container) -> list[str]:
        return unreached(one, [address for address in addresses if address != one.address], timeout)

    with ThreadPoolExecutor(4) as pool:
        return [line for lines in pool.map(ask, asking) for line in lines]


def wait_until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Poll until it is so; at the deadline, fail with what was waited for."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"waited {deadline:g} s for {what}"
        time.sleep(0.02)
