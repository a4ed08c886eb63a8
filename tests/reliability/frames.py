"""Frames that the containers of one host exchange with those of all hosts, and a look at each that arrives.

Runs as a program on a host: `python3 frames.py JOB`, where JOB is JSON: the addresses of each network, by its name.
Takes orders on standard input and answers each with a line; at its end prints, as JSON, what it has counted. Every
frame names its network, its sender and the address that it is for, and is sent once.
"""

import fcntl
import ipaddress
import json
import os
import random
import selectors
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

ETHERTYPE = 0x88B6  # IEEE 802, local experimental 2; the plugin uses the first
INTERFACE = "eth0"
TICK = 0.2  # seconds between two frames of a container
ANYBODY = "anybody"
SIOCGIFHWADDR = 0x8927
SHOWN = 10


@dataclass
class Container:
    """A container's namespace, with an interface or without."""

    name: str
    network: str
    raw: socket.socket
    address: str | None = None  # while it is known to be attached
    seen: set[tuple[str, int]] = field(default_factory=set)


class Watch:
    def __init__(self, addresses: dict[str, list[str]]) -> None:
        self.addresses = addresses
        self.host = socket.gethostname()
        self.containers: dict[str, Container] = {}
        self.number = 0  # of the latest frame; no other of this host has the same
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.selector = selectors.DefaultSelector()

    def obey(self, order: str, name: str, *words: str) -> None:
        """`add NAME NETWORK`, `up NAME ADDRESS`, `down NAME`, `del NAME`: its namespace, and its address in it."""
        if order == "add":
            container = Container(name, words[0], _open(name))
            self.containers[name] = container
            self.selector.register(container.raw, selectors.EVENT_READ, container)
        elif order == "del":
            container = self.containers.pop(name)
            self.read(container)
            self.selector.unregister(container.raw)
            container.raw.close()
        else:
            self.containers[name].address = words[0] if order == "up" else None

    def read(self, container: Container) -> None:
        """Look at everything that has arrived."""
        while True:
            try:
                frame, (_, _, kind, *_) = container.raw.recvfrom(256)
            except BlockingIOError:
                return
            except OSError:  # the interface went down
                continue
            if kind != socket.PACKET_OUTGOING:
                self.judge(container, frame[14:].rstrip(b"\0").decode(errors="replace"), kind)

    def judge(self, container: Container, text: str, kind: int) -> None:
        """Count it. What comes before the container's `setup` has answered, nobody can hear: it is "early"."""
        network, sender, number, address = text.split(" ")
        is_for_it = kind != socket.PACKET_HOST or container.address in (None, address)
        if network != container.network or not is_for_it:
            self.find("early" if container.address is None else "wrong", container, text)
        if (sender, int(number)) in container.seen:
            self.find("duplicates", container, text)
        container.seen.add((sender, int(number)))
        self.counts["flooded" if kind == socket.PACKET_OTHERHOST else "received"] += 1

    def find(self, what: str, container: Container, text: str) -> None:
        self.counts[what] += 1
        if what != "early":
            self.wrong.append(f"{what}: {container.name} with {container.address} got {text}")

    def send(self, container: Container) -> None:
        """To everybody or to somebody; also to addresses that nobody has just now."""
        own = _mac(container.raw)
        if own is None:
            return
        self.number += 1
        address = ANYBODY if random.random() < 0.5 else random.choice(self.addresses[container.network])
        target = b"\xff" * 6 if address == ANYBODY else b"\x0a\x58" + ipaddress.ip_address(address).packed
        text = f"{container.network} {self.host}/{container.name} {self.number} {address}"
        try:
            container.raw.sendto(target + own + ETHERTYPE.to_bytes(2) + text.encode().ljust(50, b"\0"), (INTERFACE, 0))
            self.counts["sent"] += 1
        except OSError:  # it is going, or its queue is full
            self.counts["not sent"] += 1

    def run(self) -> None:
        """Until nobody gives orders any more."""
        orders = sys.stdin
        self.selector.register(orders, selectors.EVENT_READ)
        tick = time.monotonic()
        while True:
            for key, _ in self.selector.select(max(0.0, tick - time.monotonic())):
                if isinstance(key.data, Container):
                    self.read(key.data)
                    continue
                line = orders.readline()
                if not line:
                    return
                self.obey(*line.split())
                print("done", flush=True)
            if time.monotonic() >= tick:
                tick = time.monotonic() + TICK
                for container in self.containers.values():
                    self.send(container)


def _open(name: str) -> socket.socket:
    """A socket in the namespace that hears all of its interfaces, also those that are yet to come."""
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{name}") as there:
        os.setns(there.fileno(), os.CLONE_NEWNET)  # type: ignore[attr-defined] # Python 3.12; the lab's hosts have 3.13
        try:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETHERTYPE))
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)  # type: ignore[attr-defined]
    return raw


def _mac(raw: socket.socket) -> bytes | None:
    """Of the container's interface, None while there is none."""
    try:
        return fcntl.ioctl(raw, SIOCGIFHWADDR, INTERFACE.encode().ljust(40, b"\0"))[18:24]
    except OSError:
        return None


if __name__ == "__main__":
    watch = Watch(json.loads(sys.argv[1]))
    watch.run()
    print(json.dumps({"counts": watch.counts, "wrong": watch.wrong[:SHOWN]}))
