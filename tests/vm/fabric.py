"""Two virtual machines with the package on them, and the containers of the story."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netavark_geneve import __version__
from tests.e2e.wire import wait_until
from tests.lab.topology import CHECKOUT

from .machine import TIMEOUT, VirtualMachine, each

QUADLETS = Path(__file__).parent / "quadlets"
CONFIG = "/etc/netavark-geneve/fabric.toml"
IMAGE = "localhost/alpine"
CONTAINERS = ("db", "web")  # of each machine: one with a restart policy, one of Quadlet's
UNITS = ("openvswitch-switch.service", "web.service", "podman-restart.service")  # what a boot waits for
ECHO = ("nc", "-ll", "-p", "7", "-e", "cat")


@dataclass(frozen=True)
class Container:
    """A container of a machine, and its address."""

    machine: VirtualMachine
    name: str
    address: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a tool of the machine's inside the container's network namespace."""
        return self.machine.netns_run(self.name, *command, check=check)

    def ping(self, other: "Container", *options: str) -> bool:
        """One echo request, answered."""
        return self.run("ping", "-n", "-q", "-c1", "-W5", *options, other.address, check=False).returncode == 0

    def fetch(self, other: "Container", file: str = "") -> str:
        """What the other's web server says; "" when it is not reached."""
        url = f"http://{other.address}/{file}"
        return self.run("curl", "-sS", "--connect-timeout", "5", "--max-time", "60", url, check=False).stdout


def package(version: str = __version__) -> Path:
    """The Debian package of this checkout, built under this version."""
    subprocess.run(["make", "-s", "-C", str(CHECKOUT), "deb", f"VERSION={version}"], check=True)
    return CHECKOUT / "dist" / f"netavark-geneve_{version}_all.deb"


def install(machine: VirtualMachine, package: Path) -> None:
    """As a user does who has the file: upgrades and downgrades, too."""
    destination = f"/root/{package.name}"
    machine.put(package, destination)
    command = ("apt-get", "install", "-qqy", "--allow-downgrades", "--no-install-recommends", destination)
    machine.run("env", "DEBIAN_FRONTEND=noninteractive", *command)


def deploy(running: Sequence[VirtualMachine]) -> None:
    """The same configuration, network and containers on every machine."""
    hosts = json.dumps([machine.address for machine in running])

    def one(machine: VirtualMachine) -> None:
        machine.write(CONFIG, f"hosts = {hosts}\n")
        for path in QUADLETS.iterdir():
            machine.write(f"/etc/containers/systemd/{path.name}", path.read_text(encoding="utf-8"))
        machine.sh("systemctl daemon-reload; systemctl start --no-block web.service")
        machine.run("systemctl", "enable", "-q", "podman-restart.service")
        wait_until(lambda: is_active(machine, "web.service"), "the web server to run", TIMEOUT)
        machine.run("podman", "run", "-d", "--restart=always", "--name=db", "--network=net1", IMAGE, *ECHO)

    each(running, one)


def is_active(machine: VirtualMachine, unit: str) -> bool:
    return machine.run("systemctl", "is-active", unit, check=False).stdout == "active\n"


def container(machine: VirtualMachine, name: str) -> Container:
    found = machine.run("podman", "inspect", "--format={{json .NetworkSettings.Networks}}", name).stdout
    return Container(machine, name, str(json.loads(found)["net1"]["IPAddress"]))


def containers(running: Sequence[VirtualMachine]) -> list[Container]:
    return [container(machine, name) for machine in running for name in CONTAINERS]


def unreachable(talking: Sequence[Container], *options: str) -> list[str]:
    """Pairs of which one does not reach the other, for a message; empty when all is well."""
    wanted = [(one, other) for one in talking for other in talking if one is not other]
    return [f"{one} -> {other}" for one, other in wanted if not one.ping(other, *options)]


def interfaces(machine: VirtualMachine, *columns: str) -> list[list[Any]]:
    """These columns of all interfaces of Open vSwitch."""
    listed = machine.run("ovs-vsctl", "--format=json", f"--columns={','.join(columns)}", "list", "Interface").stdout
    return list(json.loads(listed)["data"])


def started(machine: VirtualMachine) -> list[float]:
    """When each of UNITS was done, in seconds since the kernel's start."""
    show = ("systemctl", "show", "--value", "--property=ActiveEnterTimestampMonotonic", *UNITS)
    return [int(line) / 1e6 for line in machine.run(*show).stdout.split()]
