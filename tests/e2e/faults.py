"""Faults that a test makes on a host, and the sentences and the state that it wants to see then."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.lab import Host, Snapshot, diff

from .conftest import MakeFabric
from .fabric import PLUGIN, plugin
from .wire import wait_until

BOUND = 30.0  # seconds within which everything must have failed; the plugin gives itself 13
HOSTS = ["192.168.0.10", "192.168.0.11"]
NETNS = "/run/netns/c1"
START_IT = ["is Open vSwitch running?", "systemctl start openvswitch"]
Act = Callable[[Host], object]

DATABASE = "/etc/openvswitch/conf.db"
# A file system of its own for the database, which is full but for less than a change takes.
SMALL_DISK = """
ovsdb-tool compact "$1"
cp "$1" /run/conf.db; mount -t tmpfs -o size=1m tmpfs "${1%/*}"; mv /run/conf.db "$1"
"""
FILL = """
dd if=/dev/zero of="$1.filler" bs=4k status=none || true
for number in $(seq 1000); do
    ovs-vsctl --no-wait set Open_vSwitch . external_ids:filler=$number || exit 0
done
exit 1
"""
MAKE_ROOM = 'rm "$1.filler"; ovs-vsctl --no-wait remove Open_vSwitch . external_ids filler'
BACK = 'cp "$1" /run/conf.db; umount "${1%/*}"; mv /run/conf.db "$1"'


def fill_disk(host: Host) -> None:
    host.stop_ovsdb()
    host.sh(SMALL_DISK, DATABASE)
    host.start_ovsdb()
    host.sh(FILL, DATABASE)


def make_room(host: Host) -> None:
    host.sh(MAKE_ROOM, DATABASE)
    host.stop_ovsdb()
    host.sh(BACK, DATABASE)
    host.start_ovsdb()


# How a daemon fails, how it is mended, and the words of the sentence.
DAEMONS: dict[str, tuple[Act, Act, list[str]]] = {
    "ovs-vswitchd stopped": (Host.stop_vswitchd, Host.start_vswitchd, ["Open vSwitch did not take", *START_IT]),
    "ovs-vswitchd frozen": (
        lambda host: host.freeze("ovs-vswitchd"),
        lambda host: host.thaw("ovs-vswitchd"),
        ["Open vSwitch did not take", *START_IT],
    ),
    "ovsdb-server stopped": (Host.stop_ovsdb, Host.start_ovsdb, ["no ovsdb-server on", *START_IT]),
    "ovsdb-server frozen": (
        lambda host: host.freeze("ovsdb-server"),
        lambda host: host.thaw("ovsdb-server"),
        ["ovsdb-server does not answer", *START_IT],
    ),
    "disk full": (fill_disk, make_room, ["ovsdb-server cannot write its database", "No space left on device"]),
}


@dataclass(frozen=True)
class Caller:
    """Calls the plugin as netavark does, for a container that Podman knows nothing of."""

    host: Host
    network: dict[str, Any]

    def setup(self, address: str = "192.168.120.9") -> subprocess.CompletedProcess[str]:
        return plugin(self.host, "setup", NETNS, request=self.request(address), timeout=BOUND)

    def teardown(self) -> subprocess.CompletedProcess[str]:
        return plugin(self.host, "teardown", NETNS, request=self.request(), timeout=BOUND)

    def setup_and(self, fail: Act) -> None:
        """A setup that works, and the fault after it."""
        result = self.setup()
        assert result.returncode == 0, result
        assert len(ports(self.host)) == 1, ports(self.host)
        fail(self.host)

    def signal_in_mid_setup(self, name: str) -> subprocess.CompletedProcess[str]:
        """Send a signal once the port stands in the database; how the plugin ends. ovs-vswitchd is frozen."""
        # The shell's wait tells the plugin's own end; a signal by Popen would reach the shell too.
        script = 'geneve=$1; shift; "$geneve" "$@" <<<"$REQUEST" & echo $! >/run/setup.pid; wait $!'
        command = ("bash", "-c", script, "sh", PLUGIN, "setup", NETNS)
        pipe = subprocess.PIPE
        with self.host.popen(*command, env={"REQUEST": self.request()}, stdout=pipe, stderr=pipe) as process:
            wait_until(lambda: len(ports(self.host)) == 1, "the port to stand in the database", BOUND)
            self.host.sh('kill "-$1" "$(cat /run/setup.pid)"; rm /run/setup.pid', name)
            stdout, stderr = process.communicate(timeout=BOUND)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def ping_gateway(self) -> bool:
        """Whether the switch forwards for the container."""
        command = ("ip", "netns", "exec", "c1", "ping", "-n", "-q", "-c1", "-W2", "192.168.120.1")
        return self.host.run(*command, check=False).returncode == 0

    def request(self, address: str = "192.168.120.9") -> str:
        return json.dumps(
            {
                "container_id": "c" * 64,
                "container_name": "c1",
                "port_mappings": None,
                "network": self.network,
                "network_options": {"interface_name": "eth0", "static_ips": [address], "static_mac": None},
            }
        )


def host_with_network(make_fabric: MakeFabric) -> Host:
    """One of two hosts that know each other, with a network."""
    fabric = make_fabric(1)
    fabric.configure(hosts=HOSTS)
    fabric.create("net1", "--subnet", "192.168.120.0/24", "--opt", "vni=77")
    return fabric.hosts[0]


@contextmanager
def fault(host: Host, make: Callable[[], object], mend: Callable[[], object]) -> Iterator[None]:
    """A fault for as long as the block; afterwards the host is as it was before."""
    before = host.snapshot()
    make()
    try:
        yield
    finally:
        mend()
    wait_for(host, before)


def wait_for(host: Host, before: Snapshot) -> None:
    """Wait until the host is as it was: ovs-vswitchd may still be busy with what it missed."""
    seen = before

    def same() -> bool:
        nonlocal seen
        seen = host.snapshot()
        return seen == before

    with suppress(AssertionError):
        wait_until(same, "the host to be as it was", BOUND)
    left = diff(before, seen)
    assert not left, f"not as it was:\n{left}"


def assert_says(sentence: str, words: list[str]) -> None:
    """All of these words, and nothing that is meant for a programmer."""
    *warnings, error = sentence.splitlines()
    assert all(line.startswith("[WARNING geneve-ovs]") for line in warnings), sentence
    assert [word for word in words if word not in error] == [], sentence
    assert [word for word in ("OVSDB Error", "Traceback", "this is a bug") if word in error] == [], sentence


def ports(host: Host) -> list[str]:
    """The containers' ports in the database."""
    return host.run(
        "ovs-vsctl", "--bare", "--columns=name", "find", "Port", "external_ids:role=container"
    ).stdout.split()
