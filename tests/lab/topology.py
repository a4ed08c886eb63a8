"""A lab: some hosts on one underlay."""

import os
import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from . import registry
from .errors import LabError
from .host import Host
from .layer import Libs, lower_directories
from .machine import HERE, Machine, Process, Starting, kill
from .signals import deferred, terminable

MAX_HOSTS = 8
PAUSE = ("catatonit", "-P")  # a pid 1 that reaps and does nothing else
CHECKOUT = HERE.parents[1]
# The cable drum. It needs no IPv6 of its own to carry that of the hosts, and no multicast snooping.
UNDERLAY = """
sysctl -qw net.ipv6.conf.default.disable_ipv6=1
ip link add switch mtu "$1" type bridge mcast_snooping 0
ip link set switch up
"""


class Lab:
    """Hosts on one underlay. `with Lab(hosts=3) as lab:` takes it down however the block is left.

    `up()` and `down()` by hand leave it standing in between, also for other processes:
    `Lab.find(name)` is a running lab.
    """

    def __init__(
        self,
        hosts: int = 2,
        mtu: int = 1500,
        libs: Libs = "debian",
        name: str | None = None,
        checkout: Path = CHECKOUT,
    ) -> None:
        self.count = _between(hosts, 1, MAX_HOSTS, "number of hosts")
        self.mtu = _between(mtu, 1280, 65000, "MTU")
        self.libs: Libs = libs
        self.name = name or f"lab-{secrets.token_hex(3)}"
        self.checkout = checkout
        self.hosts: list[Host] = []
        self._children: list[subprocess.Popen[str]] = []
        self._block = ExitStack()
        if not re.fullmatch(r"\w[\w.-]{0,40}", self.name):
            raise LabError(f"{self.name!r} cannot name a lab; use letters, digits, dots and dashes")

    @classmethod
    def find(cls, name: str) -> Self:
        """The running lab of this name."""
        settings = registry.settings(name)
        lab = cls(settings["hosts"], settings["mtu"], settings["libs"], name)
        states = sorted(path.parent for path in lab.state.glob("host*/pid"))
        lab.hosts = [lab._host(Machine.find(state)) for state in states]
        return lab

    @property
    def state(self) -> Path:
        return registry.RUN / self.name

    @property
    def underlay(self) -> Machine:
        """The switch between the hosts; tcpdump on its ports host0, host1, … sees all traffic."""
        return Machine.find(self.state / "underlay")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(terminable())
            self.up()
            self._block = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._block:
            self.down()

    def up(self) -> None:
        """Start everything; all or nothing."""
        need_root()
        lower = lower_directories(self.checkout, self.libs)
        facts = {"hosts": self.count, "mtu": self.mtu, "libs": self.libs, "lower": lower}
        with ExitStack() as stack:
            with deferred():
                registry.claim(self.name, facts)
                stack.callback(self.down)
            underlay, *machines = self._start("underlay", *(f"host{index}" for index in range(self.count)))
            underlay.sh(UNDERLAY, str(self.mtu))
            self._join([self._host(machine) for machine in machines])
            stack.pop_all()

    def add_host(self) -> Host:
        """Join one more host to the running lab."""
        index = _between(len(self.hosts) + 1, 1, MAX_HOSTS, "number of hosts") - 1
        self._join([self._host(machine) for machine in self._start(f"host{index}")])
        return self.hosts[-1]

    def down(self) -> None:
        """Take everything down, whatever state it is in."""
        with deferred():
            kill(Process.read(path) for path in self.state.glob("*/pid"))
            for child in self._children:
                child.wait(timeout=5)
            self._children.clear()
            self.hosts.clear()
            registry.release(self.name)

    def _start(self, *names: str) -> list[Machine]:
        """Start machines side by side."""
        lower = registry.settings(self.name)["lower"]
        starting: list[Starting] = []
        with deferred():  # or a machine that nobody knows of yet could be left behind
            try:
                for name in names:
                    starting.append(Starting(self.state / name, lower, PAUSE))
                machines = [start.wait() for start in starting]
            except BaseException:
                for start in starting:
                    start.abort()
                raise
            self._children += [start.process for start in starting]
        return machines

    def _host(self, machine: Machine) -> Host:
        index = int(machine.name.removeprefix("host"))
        return Host(machine.name, machine.init, index=index, mtu=self.mtu, underlay=self.underlay)

    def _join(self, hosts: list[Host]) -> None:
        """Cable hosts to the underlay and boot them, side by side."""
        with ExitStack() as stack:
            # Each host's network namespace as an open file: its pid means nothing on the underlay.
            files = [stack.enter_context(open(f"/proc/{host.pid}/ns/net")) for host in hosts]
            cables = "".join(
                f"link add {host.name} mtu {self.mtu} master switch type veth"
                f" peer name underlay mtu {self.mtu} netns /proc/self/fd/{file.fileno()}\n"
                f"link set {host.name} up\n"
                for host, file in zip(hosts, files, strict=True)
            )
            self.underlay.run("ip", "-batch", "-", input=cables, pass_fds=[file.fileno() for file in files])
        self.hosts += hosts
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.boot, hosts))


def need_root() -> None:
    if os.geteuid():
        raise LabError("the lab is made of namespaces and mounts; run it as root")


def _between(number: int, low: int, high: int, what: str) -> int:
    if not low <= number <= high:
        raise LabError(f"the {what} must be {low} to {high}, not {number}")
    return number
