"""A host of the lab: Podman, Open vSwitch, and an underlay address."""

from dataclasses import dataclass
from typing import Literal

from .machine import HERE, Machine
from .snapshot import Snapshot, snapshot

Daemon = Literal["ovs-vswitchd", "ovsdb-server"]
SWITCH, FIREWALLD = ((HERE / name).read_text() for name in ("switch.sh", "firewalld.sh"))


@dataclass(frozen=True)
class Host(Machine):
    """Commands run on it as they would on a machine of its own."""

    index: int
    mtu: int
    underlay: Machine

    @property
    def address(self) -> str:
        return f"192.168.0.{10 + self.index}"

    @property
    def address6(self) -> str:
        return f"fd00:192:168::{10 + self.index}"

    def boot(self) -> None:
        """Start Open vSwitch and the underlay."""
        self._run("boot")

    def stop_vswitchd(self, crash: bool = False) -> None:
        """Stop the switch. The underlay goes with it: br-phy is a device of vswitchd's."""
        self._run("end", "ovs-vswitchd", "KILL" if crash else "TERM")

    def start_vswitchd(self) -> None:
        self._run("start_vswitchd")

    def stop_ovsdb(self, crash: bool = False) -> None:
        """Stop the database; its content stays."""
        self._run("end", "ovsdb-server", "KILL" if crash else "TERM")

    def start_ovsdb(self) -> None:
        self._run("start_ovsdb")

    def freeze(self, daemon: Daemon) -> None:
        """Stop a daemon in mid-air: it keeps its sockets and answers nobody."""
        self._run("signal", daemon, "STOP")

    def thaw(self, daemon: Daemon) -> None:
        self._run("signal", daemon, "CONT")

    def start_firewalld(self) -> None:
        """Start firewalld as Debian configures it; its default zone lets nobody in, not even the peers."""
        self.run("sh", "-c", FIREWALLD, "firewalld.sh", "start")

    def restart_firewalld(self) -> None:
        """Stop it and start it again: it forgets what was not made permanent."""
        self.run("sh", "-c", FIREWALLD, "firewalld.sh", "restart")

    def stop_firewalld(self) -> None:
        """Stop it, and the bus; its rules go with it."""
        self.run("sh", "-c", FIREWALLD, "firewalld.sh", "stop")

    def link_down(self) -> None:
        """Pull the underlay's cable."""
        self.underlay.run("ip", "link", "set", self.name, "down")

    def link_up(self) -> None:
        self.underlay.run("ip", "link", "set", self.name, "up")

    def snapshot(self) -> Snapshot:
        """All that a network plugin could leave behind on this host."""
        return snapshot(self)

    def _run(self, function: str, *arguments: str) -> None:
        """Call a function of switch.sh."""
        env = {
            "NAME": self.name,
            "INDEX": str(self.index),
            "MTU": str(self.mtu),
            "IPV4": f"{self.address}/24",
            "IPV6": f"{self.address6}/64",
        }
        self.run("sh", "-c", SWITCH, "switch.sh", function, *arguments, env=env)
