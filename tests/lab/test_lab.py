"""The lab itself: its hosts do what real hosts do, and it leaves nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import CommandError, Host, Lab, LabError, diff
from .registry import RUN
from .topology import CHECKOUT

COMMAND = str(Path(__file__).with_name("lab"))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(hosts=2, mtu=9000) as running:
        yield running


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.hosts[0]


@pytest.mark.parametrize(("family", "headers"), [("-4", 28), ("-6", 48)])
def test_the_underlay_carries_packets_of_its_mtu(host: Host, family: str, headers: int) -> None:
    host.run("ping", family, "-c1", "-w9", "-Mdo", f"-s{9000 - headers}", "host1")


def test_open_vswitch_tunnels_over_the_underlay(lab: Lab) -> None:
    for host, peer in (lab.hosts, lab.hosts[::-1]):
        host.sh(
            """ovs-vsctl --timeout=10 add-br br-test -- set Bridge br-test datapath_type=netdev \
                -- add-port br-test tunnel -- set Interface tunnel type=geneve "options:remote_ip=$1"
            ip address add "$2/24" dev br-test
            ip link set br-test mtu 8950 up""",
            peer.address,
            f"10.1.0.{host.index}",
        )
    lab.hosts[0].run("ping", "-c1", "-w9", "-Mdo", "-s8922", "10.1.0.1")
    for host in lab.hosts:
        host.run("ovs-vsctl", "--timeout=10", "del-br", "br-test")


def test_podman_runs_containers(host: Host) -> None:
    assert host.run("podman", "run", "--rm", "--network=none", "alpine", "echo", "hi").stdout == "hi\n"
    host.run("podman", "run", "--rm", "alpine", "ping", "-c1", "10.88.0.1")
    host.sh("cd /; su user -c 'podman run --rm alpine true'")


def test_exec_is_inside_the_container(host: Host) -> None:
    host.run("podman", "run", "-d", "--name", "web", "alpine", "httpd", "-f", "-h", "/bin")
    inside = host.run("podman", "exec", "web", "ls", "/etc").stdout.split()
    assert "passwd" in inside
    assert "debian_version" not in inside
    assert "10.88.0." in host.netns_run("web", "ip", "address", "show", "eth0").stdout
    host.run("podman", "rm", "-f", "-t0", "web")


def test_the_plugin_is_where_podman_looks_for_it(host: Host) -> None:
    assert '"version"' in host.run("/usr/libexec/netavark/geneve-ovs", "info", input="").stdout


def test_a_failed_command_says_everything(host: Host) -> None:
    with pytest.raises(CommandError, match=r"(?s)host0: .*exited with 3.*stdout\nout.*stderr\nerr"):
        host.sh("echo out; echo err >&2; exit 3")
    with pytest.raises(CommandError, match=r"(?s)did not finish within 0.3 s.*out"):
        host.sh("echo out; setsid sleep 60 & exit 0", timeout=0.3)
    host.run("pkill", "sleep")


def test_a_snapshot_shows_what_was_left_and_nothing_else(host: Host) -> None:
    before = host.snapshot()
    host.run("ovs-vsctl", "add-br", "left", "--", "set", "Bridge", "left", "datapath_type=netdev")
    assert "+ovsdb: Bridge table: " in diff(before, host.snapshot())
    host.run("ovs-vsctl", "del-br", "left")
    host.run("ping", "-c1", "host1")
    assert not diff(before, host.snapshot())


def test_daemons_stop_and_come_back(host: Host) -> None:
    ping = ("ping", "-c1", "-W1", "host1")
    before = host.snapshot()
    host.stop_vswitchd(crash=True)
    assert host.run(*ping, check=False).returncode
    host.start_vswitchd()
    host.stop_ovsdb()
    assert host.run("ovs-vsctl", "--timeout=1", "show", check=False).returncode
    host.start_ovsdb()
    host.run(*ping)
    host.freeze("ovsdb-server")
    assert host.run("ovs-vsctl", "--timeout=1", "show", check=False).returncode
    host.thaw("ovsdb-server")
    host.link_down()
    assert host.run(*ping, check=False).returncode
    host.link_up()
    host.run(*ping)
    assert not diff(before, host.snapshot())


def test_firewalld_starts_and_stops_and_leaves_nothing(host: Host) -> None:
    before = host.snapshot()
    host.start_firewalld()
    assert host.run("firewall-cmd", "--get-default-zone").stdout == "public\n"
    running = host.snapshot()
    assert "+firewall: table inet firewalld" in diff(before, running)
    host.run("firewall-cmd", "--zone=trusted", "--add-source=10.1.0.0/24")
    assert "+zones: trusted:  sources: 10.1.0.0/24" in diff(running, host.snapshot())
    host.restart_firewalld()
    assert not diff(running, host.snapshot())
    host.stop_firewalld()
    assert not diff(before, host.snapshot())


def test_firewalld_keeps_strangers_out_and_the_underlay_up(lab: Lab) -> None:
    host, peer = lab.hosts
    connect = ("socat", "-u", "/dev/null", f"TCP:{host.address}:8080,connect-timeout=1")
    with host.popen("socat", "-u", "TCP-LISTEN:8080,fork,reuseaddr", "STDOUT", stdout=subprocess.DEVNULL) as server:
        peer.sh('for _ in $(seq 50); do "$@" && exit; sleep 0.1; done', *connect)
        host.start_firewalld()
        try:
            assert peer.run(*connect, check=False).returncode
            peer.run("ping", "-c1", "-w9", host.name)
            host.run("firewall-cmd", "--add-port=8080/tcp")
            peer.run(*connect)
        finally:
            host.stop_firewalld()
            server.kill()


def test_files_of_the_plugin_show_in_a_snapshot_with_their_content(host: Host) -> None:
    before = host.snapshot()
    host.write("/run/netavark-geneve/net1/left", "one\ntwo\n")
    seen = diff(before, host.snapshot())
    host.run("rm", "-r", "/run/netavark-geneve")
    for line in ("files: net1", "files: net1/left", "contents: net1/left:one", "contents: net1/left:two"):
        assert f"+{line.replace(': ', ': /run/netavark-geneve/')}\n" in f"{seen}\n"
    assert not diff(before, host.snapshot())


def test_a_host_joins_and_nothing_is_left_of_a_lab() -> None:
    before = _machine()
    with Lab(hosts=1) as lab:
        lab.hosts[0].run("podman", "run", "-d", "alpine", "sleep", "1000")
        joined = lab.add_host()
        joined.run("ping", "-c1", "-w9", "host0")
        assert _machine() == before, "a lab shows on the machine"
    assert not lab.state.exists()
    assert _processes(lab.name) == []
    assert _machine() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_the_lab_down(number: signal.Signals) -> None:
    script = """if True:
        from tests.lab import Lab
        with Lab(1, name="signalled") as lab:
            print(flush=True)
            lab.hosts[0].sh("sleep 60")"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        process.wait(timeout=20)
    assert _processes("signalled") == []
    assert not (RUN / "signalled").exists()


def test_the_command_line() -> None:
    def call(*arguments: str) -> tuple[int, str]:
        result = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
        return result.returncode, result.stdout + result.stderr

    name = ("--name", f"cli-{os.getpid()}")
    try:
        assert call("up", "1", *name)[0] == 0
        assert call("up", "1", *name) == (
            1,
            f"lab: there is a lab {name[1]!r} already; use it, or take it down with: lab down --name {name[1]}\n",
        )
        assert call("run", *name, "host0", "--", "sh", "-c", "hostname; exit 7") == (7, "host0\n")
        assert call("run", *name, "host1", "true")[0] == 1
        assert name[1] in call("status")[1]
    finally:
        assert call("down", *name) == (0, "")
    assert call("down", *name)[0] == 1


def test_a_wrong_number_is_refused_in_words() -> None:
    with pytest.raises(LabError, match="the number of hosts must be 1 to 8, not 9"):
        Lab(hosts=9)
    with pytest.raises(LabError, match="cannot name a lab"):
        Lab(name="../x")


def _machine() -> tuple[str, list[str], list[str]]:
    """What of a lab could show on this machine: mounts, links, files."""
    run = Path("/run")
    return (
        Path("/proc/self/mounts").read_text(),
        os.listdir("/sys/class/net"),
        [str(path) for path in run.glob("netns/*")],
    )


def _processes(name: str) -> list[int]:
    """The processes that see the file systems of a lab."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if f"{RUN}/{name}/" in text:
            found.append(int(path.parent.name))
    return found
