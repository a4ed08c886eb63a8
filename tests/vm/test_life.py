"""The life of two hosts with a kernel and an init of their own: installed, cut off, booted, upgraded, removed."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.e2e.wire import wait_until
from tests.lab import CommandError

from .conftest import Packages, Timing
from .fabric import (
    CONFIG,
    CONTAINERS,
    IMAGE,
    Container,
    container,
    containers,
    install,
    interfaces,
    is_active,
    started,
    unreachable,
)
from .machine import TIMEOUT, VirtualMachine

UNITS = ("netavark-geneve.socket", "netavark-geneve-gc.service", "netavark-geneve-reload.service")
MTU = 1450
HEADERS = 28  # bytes in front of ping's payload: IPv4 20, ICMP 8
BLOB = 8 << 20  # bytes
EVERY = 0.1  # seconds between two packets of a connection that is watched
MOST_LOST = 10  # packets: a second
TALK = """
import itertools, socket, sys, time
with socket.create_connection((sys.argv[1], 7)) as connection, connection.makefile() as lines:
    for number in itertools.count():
        connection.sendall(b"%d\\n" % number)
        assert int(lines.readline()) == number
        print(number, flush=True)
        time.sleep(float(sys.argv[2]))
"""
OURS = ("find", "/", "-xdev", "-name", "*netavark?geneve*", "!", "-path", "/root/*.deb", "-o", "-name", "geneve?ovs*")


def test_the_package_brings_plugin_and_units(pair: Sequence[VirtualMachine]) -> None:
    for machine in pair:
        assert "geneve-ovs" in machine.run("podman", "info", "--format={{.Plugins.Network}}").stdout
        assert machine.run("systemctl", "is-enabled", *UNITS).stdout.split() == ["enabled"] * len(UNITS)
        assert is_active(machine, UNITS[0])


def test_containers_talk_over_the_kernels_datapath(pair: Sequence[VirtualMachine]) -> None:
    for machine in pair:
        datapaths = re.findall(r"^\S+@\S+:", machine.run("ovs-appctl", "dpif/show").stdout, re.M)
        assert datapaths == ["system@ovs-system:"]
    assert unreachable(containers(pair)) == []
    web, far = (container(machine, "web") for machine in pair)
    assert (web.fetch(far), far.fetch(web)) == ("web-host1\n", "web-host0\n")


def test_doctor_says_what_an_installed_host_wants_yet(pair: Sequence[VirtualMachine]) -> None:
    """Debian comes without a packet filter, so the tunnels' port is open; the remedy is to be typed as it stands."""
    for machine in pair:
        (finding,) = complaints(machine)
        assert (finding["name"], finding["state"]) == ("UDP port 6081", "warning")
        machine.run("sh", "-c", finding["remedy"])
        assert complaints(machine) == []
    assert unreachable(containers(pair)) == []
    for machine in pair:
        machine.run("nft", "delete", "table", "inet", "tunnels_6081")


def test_doctor_misses_a_switch_that_is_stopped_and_all_is_well_when_it_is_back(pair: Sequence[VirtualMachine]) -> None:
    machine = pair[0]
    machine.run("systemctl", "stop", "openvswitch-switch", "ovs-vswitchd", "ovsdb-server")
    try:
        faults = [finding["name"] for finding in complaints(machine) if finding["state"] == "fault"]
        assert faults == ["database of Open vSwitch"]
    finally:
        machine.run("systemctl", "start", "openvswitch-switch")
    wait_until(lambda: unreachable(containers(pair)) == [], "all containers to reach each other again", TIMEOUT)
    assert [finding["name"] for finding in complaints(machine)] == ["UDP port 6081"]


def complaints(machine: VirtualMachine) -> list[dict[str, str]]:
    """What doctor finds that is not well."""
    found = json.loads(machine.run("netavark-geneve", "doctor", "--json", check=False).stdout)
    return [finding for finding in found if finding["state"] != "ok"]


def test_a_full_packet_passes_and_one_byte_more_does_not(pair: Sequence[VirtualMachine]) -> None:
    web, far = (container(machine, "web") for machine in pair)
    assert web.ping(far, "-M", "do", "-s", str(MTU - HEADERS))
    tried = web.run("ping", "-n", "-c1", "-W5", "-M", "do", "-s", str(MTU - HEADERS + 1), far.address, check=False)
    assert tried.returncode != 0
    assert "message too long" in (tried.stdout + tried.stderr).lower()


def test_tcp_with_the_offloads_that_the_interfaces_have(pair: Sequence[VirtualMachine]) -> None:
    """Nothing is switched off, neither in the container nor at the NIC."""
    web, far = (container(machine, "web") for machine in pair)
    for features in (web.run("ethtool", "-k", "eth0").stdout, web.machine.run("ethtool", "-k", "eth0").stdout):
        for feature in ("tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"):
            assert f"{feature}: on" in features
    make = f"head -c {BLOB} /dev/urandom >/var/www/blob; sha256sum /var/www/blob"
    wanted = far.machine.run("podman", "exec", "web", "sh", "-euc", make).stdout.split()[0]
    fetched = web.run("sh", "-euc", 'curl -sS "$1" | sha256sum', "sh", f"http://{far.address}/blob").stdout.split()[0]
    assert fetched == wanted


def test_a_cable_that_is_pulled_and_plugged_in_again(pair: Sequence[VirtualMachine]) -> None:
    here, there = pair
    near, far = container(here, "db"), container(there, "db")
    here.cable(False)
    try:
        assert not near.ping(far)
        assert near.ping(container(here, "web"))
    finally:
        here.cable(True)
    wait_until(lambda: near.ping(far), "the tunnel to carry packets again", TIMEOUT)


def reboot(machine: VirtualMachine) -> None:
    machine.reboot()


def pull_the_plug(machine: VirtualMachine) -> None:
    machine.power_off()
    machine.power_on()


@pytest.mark.parametrize(("index", "how"), [(0, reboot), (1, pull_the_plug)], ids=["a reboot", "a power failure"])
def test_containers_are_back_by_themselves_after(
    pair: Sequence[VirtualMachine],
    index: int,
    how: Callable[[VirtualMachine], None],
    timing: Timing,
    request: pytest.FixtureRequest,
) -> None:
    machine, other = pair[index], pair[1 - index]
    client = container(other, "web")
    start = time.monotonic()
    how(machine)
    machine.wait_for_boot()
    wait_until(lambda: serves(machine, client), "the web server to be back", TIMEOUT)
    served = time.monotonic() - start
    machine.wait_until_up()

    assert unreachable(containers(pair)) == []
    check_the_switch(machine)
    gc = machine.run("netavark-geneve", "gc", check=False)
    assert (gc.returncode, gc.stdout) == (0, "nothing is stale\n")
    timing[request.node.callspec.id] = [*started(machine), served]


def serves(machine: VirtualMachine, client: Container) -> bool:
    """Whether its web server answers, under the address that it has by now: who starts first gets the first one."""
    try:
        web = container(machine, "web")
    except CommandError:  # it has not been started yet
        return False
    return client.fetch(web) == f"web-{machine.name}\n"


def check_the_switch(machine: VirtualMachine) -> None:
    """Every port works, one for each container and one for the tunnel, of this boot."""
    rows = interfaces(machine, "name", "type", "ofport", "error", "external_ids")
    assert [row for row in rows if row[2] in (-1, ["set", []]) or row[3] != ["set", []]] == []
    assert sorted(row[1] for row in rows) == ["", "", "geneve", "internal"]
    boots = {dict(row[4][1]).get("boot-id") for row in rows if row[1] == ""}
    assert boots == {machine.boot_id}


def test_an_upgrade_and_a_downgrade_leave_connections_alone(pair: Sequence[VirtualMachine], packages: Packages) -> None:
    here, there = pair
    near, far, web = container(here, "db"), container(there, "db"), container(there, "web")
    with conversation(far, near) as (echoes, lost):
        for package in (packages.previous, packages.current):
            install(here, package)
            goes_on(echoes)
            fetch = ("wget", "-qO-", f"http://{web.address}")
            assert here.run("podman", "run", "--rm", "--network=net1", IMAGE, *fetch).stdout == "web-host1\n"
        assert lost() <= MOST_LOST
    assert here.run("netavark-geneve", "gc", check=False).returncode == 0


def test_removal_leaves_nothing_but_running_containers(pair: Sequence[VirtualMachine], packages: Packages) -> None:
    here, there = pair
    near, far = container(here, "db"), container(there, "db")
    kept = here.read(CONFIG)
    try:
        with conversation(far, near) as (echoes, lost):
            here.run("apt-get", "purge", "-qqy", "netavark-geneve")
            goes_on(echoes)
            assert lost() <= MOST_LOST
        assert here.run(*OURS).stdout == ""
        assert here.run("systemctl", "list-unit-files", "--no-legend", "netavark-geneve*", check=False).stdout == ""
        assert here.run("systemctl", "--failed", "--no-legend").stdout == ""
        running = here.run("podman", "ps", "--format={{.Names}}").stdout.split()
        assert sorted(running) == list(CONTAINERS)
    finally:
        install(here, packages.current)
        here.write(CONFIG, kept)
    assert here.run("netavark-geneve", "gc", check=False).returncode == 0


@contextmanager
def conversation(client: Container, server: Container) -> Iterator[tuple[Callable[[], int], Callable[[], int]]]:
    """A TCP connection and a ping; how many lines have been echoed on the one, how many packets the other lost."""
    machine = client.machine
    enter = ("nsenter", f"--net={machine.netns(client.name)}", "--")
    units = {
        "talk": ("python3", "-c", TALK, server.address, str(EVERY)),
        "ping": ("ping", "-n", "-i", str(EVERY), server.address),
    }
    for unit, command in units.items():
        output = f"--property=StandardOutput=truncate:/run/{unit}"
        machine.run("systemd-run", "-q", f"--unit={unit}", output, *enter, *command)

    def echoes() -> int:
        assert is_active(machine, "talk")
        return int(machine.sh("wc -l </run/talk").stdout)

    def lost() -> int:
        """Sequence numbers that have had no answer, of those before the last that had one."""
        answered = [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", machine.read("/run/ping"))]
        return max(answered) - len(set(answered))

    try:
        goes_on(echoes)
        yield echoes, lost
    finally:
        machine.run("systemctl", "stop", *units, check=False)


def goes_on(echoes: Callable[[], int]) -> None:
    """The connection is the same and carries more."""
    so_far = echoes()
    wait_until(lambda: echoes() > so_far + 10, "the connection to go on", TIMEOUT)
