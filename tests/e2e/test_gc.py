"""What crashes and reboots leave on a host is found, told and removed, and nothing else."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import PLUGIN, Container, create, inspect, run, unreachable
from .faults import BOUND, Caller, host_with_network, ports, wait_for
from .web import fetch, serve
from .wire import wait_until

SUBNET = ("--subnet", "192.168.120.0/24")
OTHER = ("--subnet", "192.168.121.0/24")
GONE = "f" * 64  # the id of a container that nobody knows
# Podman never calls teardown, or netavark gives up before it calls us: the network namespace is gone.
CRASH = """
for container in "$@"; do
    format='{{.State.Pid}} {{.State.ConmonPid}} {{.NetworkSettings.SandboxKey}}'
    read -r init conmon netns < <(podman inspect --format "$format" "$container")
    kill -KILL "$conmon" "$init"
    while [ -e "/proc/$init" ]; do sleep 0.02; done
    umount "$netns"
    rm "$netns"
done
"""


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    """One of two hosts, with two networks of ours that nobody is on yet."""
    host = host_with_network(make_fabric)
    create(host, "net2", *OTHER)
    return host


@pytest.fixture
def caller(host: Host) -> Iterator[Caller]:
    host.run("ip", "netns", "add", "c1")
    caller = Caller(host, inspect(host, "net1"))
    yield caller
    host.run("ip", "netns", "del", "c1", check=False)
    caller.teardown()


def gc(host: Host, *options: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    return host.run("netavark-geneve", "gc", *options, check=False, timeout=timeout)


def collected(host: Host) -> list[str]:
    """The lines of a gc that removes everything stale, without the word "removed" that each begins with."""
    result = gc(host, "--apply")
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    assert all(line.startswith("removed ") for line in lines), result
    return [line.removeprefix("removed ") for line in lines]


def assert_all_well(host: Host) -> None:
    """Nothing is found, nor waited for, and nothing is changed."""
    before = host.snapshot()
    for options in ((), ("--apply",)):
        result = gc(host, *options)
        assert (result.returncode, result.stdout, result.stderr) == (0, "nothing is stale\n", "")
    wait_for(host, before)


def crash(*containers: Container) -> None:
    """The containers are gone, and Podman forgets them without having been able to take them off their network."""
    (host,) = {container.host for container in containers}
    names = [container.name for container in containers]
    host.sh(CRASH, *names)
    for name in names:  # the first time it only learns that the container has ended
        host.sh('podman rm -f -t0 "$1" || podman rm -f -t0 "$1"', name)


def test_running_containers_are_left_alone(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    fabric.configure()
    fabric.create("net1", *SUBNET, "--subnet", "fd00:120::/64")
    fabric.create("net2", *OTHER, "--internal")
    one, two = fabric.hosts
    one.run("ovs-vsctl", "add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
    create(one, "net3", "--opt", "mode=unmanaged", "--interface-name", "theirs", "--subnet", "192.168.122.0/24")
    serve(one, "net1", "-p", "8080:80", name="web")
    containers = [*fabric.run("net1"), run(one, "net2", name="inside"), run(one, "net3", name="outside")]
    run(one, "net2", "--network", "net1", name="both")

    fabric.each(assert_all_well)

    assert unreachable(containers[:2]) == []
    assert fetch(two, one.address, 8080) == "web"
    assert json.loads(gc(one, "--json").stdout) == []
    one.run("podman", "rm", "-fa", "-t0")
    one.run("ovs-vsctl", "del-br", "theirs")


def test_what_a_crash_leaves_of_containers_is_found_and_removed(host: Host) -> None:
    before = host.snapshot()
    stays = serve(host, "net2", "-p", "8081:80", name="stays")
    running = host.snapshot()
    web = serve(host, "net1", "-p", "8080:80", "-p", "127.0.0.1:9000-9001:9000-9001/udp", name="web")
    crash(web, run(host, "net2", "-p", "8082:80", name="c"))
    left = host.snapshot()

    looked = gc(host)

    assert looked.returncode == 1
    assert looked.stderr.endswith("netavark-geneve gc: found 9 stale; 'netavark-geneve gc --apply' removes them\n")
    assert sorted(re.sub(r"[0-9a-f]{12}\b|(?<=veth)\w+", "#", line) for line in looked.stdout.splitlines()) == [
        "bridge ovs_net1 of network net1: no container is on it",
        "chain network/ovs_net1 of network net1: its network has no container here",
        "chain published/ovs_net1/# of container # on network net1: its container is not on that network",
        "chain published/ovs_net2/# of container # on network net2: its container is not on that network",
        "file /run/sysctl.d/10-geneve-ovs-ovs_net1.conf of network net1: its network has no container here",
        "names c,# of container # on network net2: its container is not on that network",
        "names web,# of container # on network net1: its container is not on that network",
        "port veth# of container c (#) on network net2: its interface is gone",
        "port veth# of container web (#) on network net1: its interface is gone",
    ]
    assert host.snapshot() == left

    assert collected(host) == looked.stdout.splitlines()

    wait_for(host, running)
    assert stays.ping("192.168.121.1")
    assert fetch(host, "127.0.0.1", 8081) == "stays"
    host.run("podman", "rm", "-fa", "-t0")
    wait_for(host, before)


def test_every_other_kind_of_leftover_is_found_and_removed(host: Host) -> None:
    """What a kill in the middle of something leaves, made by hand; of a network that is in use, and of others."""
    serve(host, "net1", "-p", "8080:80", name="web")
    before = host.snapshot()
    host.sh(LEFTOVERS, GONE)

    looked = gc(host)

    assert looked.returncode == 1
    assert looked.stderr.startswith("netavark-geneve gc: 10 may be of a container that is just starting or ending;")
    assert set(looked.stdout.splitlines()) == {
        "port veth-old of container old (ffffffffffff) on network net1: it is of an earlier boot",
        "interface ovs_net2 of network net2: its bridge is gone",
        "interface veth-left of container left (ffffffffffff) on network net1: no bridge has it",
        "chain network/ovs_gone: its network has no container here",
        "chain published/ovs_net1/ffffffffffff of container ffffffffffff on network net1:"
        " its container is not on that network",
        "chain resolver/ovs_gone: its network has no container here",
        "names gone of container ffffffffffff on network gone: its container is not on that network",
        "names left of container ffffffffffff on network net1: its container is not on that network",
        "file /run/sysctl.d/10-geneve-ovs-ovs_gone.conf: its network has no container here",
        "file /run/netavark-geneve/aardvark-dns.new: whoever wrote it never finished",
        "file /run/sysctl.d/10-geneve-ovs-ovs_net1.4194305: whoever wrote it never finished",
    }
    assert set(collected(host)) == set(looked.stdout.splitlines())
    wait_for(host, before)
    assert fetch(host, "127.0.0.1", 8080) == "web"


# 4194305 is more than the largest number of a process: proc(5), pid_max.
LEFTOVERS = """
tags() { printf ' external_ids:%s' owner=geneve-ovs role=container network-id=1 network-name=net1 "$@"; }
ovs-vsctl add-port ovs_net1 veth-old -- set Port veth-old \
    $(tags container-id="$1" container-name=old container-interface=eth0 boot-id=earlier) 2>/dev/null || true
ip link add veth-left type veth peer name veth-peer
ip link set veth-left alias "geneve-ovs net1 left ${1:0:12} eth0"
ip tuntap add ovs_net2 mode tap
nft -f - <<RULES
add chain inet netavark_geneve published/ovs_net1/${1:0:12}
add chain inet netavark_geneve network/ovs_gone
add chain inet netavark_geneve resolver/ovs_gone
add element inet netavark_geneve ports4 { tcp . 9999 : jump published/ovs_net1/${1:0:12} }
add element inet netavark_geneve sources4 { 192.168.99.0/24 : jump network/ovs_gone }
add element inet netavark_geneve bridges { ovs_gone }
add element inet netavark_geneve strict { ovs_gone }
RULES
cd /run/netavark-geneve
echo "$1 192.168.120.9  left" >>aardvark-dns/net1
printf '%s\\n' 192.168.99.1 "$1 192.168.99.2  gone" >aardvark-dns/gone
touch aardvark-dns.new
cd /run/sysctl.d
touch 10-geneve-ovs-ovs_gone.conf 10-geneve-ovs-ovs_net1.4194305
"""


@pytest.mark.cold(reason="a helper outlives its caller and undoes the setup itself")
def test_setups_that_are_killed_at_any_moment(host: Host, caller: Caller) -> None:
    before = host.snapshot()
    host.run("ip", "netns", "add", "c2")
    caller_dns = {**caller.network, "dns_enabled": True}
    start = time.monotonic()
    killed_setup(host, caller_dns, 0, seconds=BOUND)
    whole = time.monotonic() - start
    for number in range(1, KILLS):
        killed_setup(host, caller_dns, number, seconds=whole * (FIRST_KILL + number / KILLS))
    left = len(ports(host))
    host.run("ip", "netns", "del", "c2")

    lines = collected(host)

    assert left > 1  # some were killed late enough
    assert len([line for line in lines if line.startswith("port ")]) == left
    wait_for(host, before)


KILLS = 24
FIRST_KILL = 0.25  # of the time that a whole setup takes; before that Python is starting


def killed_setup(host: Host, network: dict[str, Any], number: int, seconds: float) -> None:
    """A setup of a container of its own, into a namespace that they share, that is killed after so long."""
    request = json.loads(Caller(host, network).request(f"192.168.120.{2 + number}"))
    request |= {
        "container_id": f"{number:064x}",
        "container_name": f"n{number}",
        "port_mappings": [
            {"container_port": 80, "host_ip": "", "host_port": 8000 + number, "protocol": "tcp", "range": 1}
        ],
    }
    request["network_options"] |= {"interface_name": f"eth{number}", "aliases": [f"n{number}"]}
    command = ("timeout", "-s", "KILL", f"{seconds:.2f}", PLUGIN, "setup", "/run/netns/c2")
    host.run(*command, input=json.dumps(request), check=False, timeout=BOUND)


@pytest.mark.cold(reason="a helper outlives its caller and undoes the setup itself")
def test_a_setup_that_was_killed_while_its_namespace_lives_on(host: Host, caller: Caller) -> None:
    """The interface is left, in a namespace that the next attempt uses; there is no port yet."""
    before = host.snapshot()
    host.run("ip", "link", "add", "veth9", "type", "veth", "peer", "name", "eth0", "netns", "c1")
    host.run("ip", "link", "set", "veth9", "alias", f"geneve-ovs net1 c1 {'c' * 12} eth0")

    assert collected(host) == [f"interface veth9 of container c1 ({'c' * 12}) on network net1: no bridge has it"]

    wait_for(host, before)
    assert caller.setup().returncode == 0
    assert caller.ping_gateway()


def test_a_container_that_is_just_starting_is_left_alone(host: Host, caller: Caller) -> None:
    """The plugin waits for ovs-vswitchd: interface and rows are there, rules and names not yet, or just now."""
    host.freeze("ovs-vswitchd")
    try:
        with ThreadPoolExecutor(1) as pool:
            setup = pool.submit(caller.setup)
            wait_until(lambda: len(ports(host)) == 1, "the port to stand in the database", BOUND)
            result = gc(host, "--apply")
            host.thaw("ovs-vswitchd")
            assert setup.result().returncode == 0
    finally:
        host.thaw("ovs-vswitchd")

    assert (result.returncode, result.stdout) == (0, "nothing is stale\n")
    assert caller.ping_gateway()


def test_containers_that_come_and_go_meanwhile_lose_nothing(host: Host) -> None:
    """gc comes at any moment of theirs, again and again; the interfaces of some are there before their ports are.

    One stays, and so does the bridge: this is about gc, not about the last one that goes and the first that comes.
    """
    run(host, "net1", "--ip", "192.168.120.9", name="stays")
    before = host.snapshot()
    network = inspect(host, "net1")
    with churn(host, network) as failures:
        end = time.monotonic() + CHURN
        while time.monotonic() < end:
            result = gc(host, "--apply")
            assert result.returncode == 0, result
            assert result.stdout == "nothing is stale\n"
    assert failures == [], "\n".join(failures)
    wait_for(host, before)


CHURN, WORKERS = 40.0, 3  # seconds, containers at once
# One after the other in a namespace of its own, and each must reach the gateway with the published port there.
CHURNER = """
ip netns add "$1"
while [ ! -e /run/churn.end ]; do
    reply=$("$2" setup "/run/netns/$1" <<<"$REQUEST") || echo "setup of $1 failed: $reply"
    ip netns exec "$1" ping -n -q -c1 -W2 192.168.120.1 >/dev/null || echo "$1 does not reach its gateway"
    nft list chain inet netavark_geneve "published/ovs_net1/$3" | grep -q dnat || echo "$1 has no rules"
    grep -q "^$3" /run/netavark-geneve/aardvark-dns/net1 || echo "$1 has no name"
    "$2" teardown "/run/netns/$1" <<<"$REQUEST" || echo "teardown of $1 failed"
done
ip netns del "$1"
"""


@contextmanager
def churn(host: Host, network: dict[str, Any]) -> Iterator[list[str]]:
    """Containers come and go until the end of the block; what went wrong is in the list then."""
    failures: list[str] = []

    def work(number: int) -> str:
        request = json.loads(Caller(host, network).request(f"192.168.120.{2 + number}"))
        name, container_id = f"n{number}", f"{number + 1:012x}" + "0" * 52
        port = {"container_port": 80, "host_ip": "", "host_port": 8000 + number, "protocol": "tcp", "range": 1}
        request |= {"container_id": container_id, "container_name": name, "port_mappings": [port]}
        command = ("bash", "-uc", CHURNER, "sh", name, PLUGIN, container_id[:12])
        done = host.run(*command, env={"REQUEST": json.dumps(request)}, timeout=CHURN + 2 * BOUND)
        return done.stdout + done.stderr

    with ThreadPoolExecutor(WORKERS) as pool:
        work_done = [pool.submit(work, number) for number in range(WORKERS)]
        try:
            yield failures
        finally:
            host.run("touch", "/run/churn.end")
            failures += [line for each in work_done for line in each.result().splitlines()]
            host.run("rm", "/run/churn.end")


def test_tap_that_the_switch_left_behind(host: Host, caller: Caller) -> None:
    """ovs-vswitchd is away while the last container goes, so nobody removes the bridge's interface."""
    before = host.snapshot()
    assert caller.setup().returncode == 0
    host.stop_vswitchd()
    try:
        host.run("ip", "netns", "del", "c1")
        host.run("ovs-vsctl", "--no-wait", "del-br", "ovs_net1")
    finally:
        host.start_vswitchd()
    assert host.run("ip", "link", "show", "ovs_net1", check=False).returncode == 0

    assert "interface ovs_net1 of network net1: its bridge is gone" in collected(host)

    host.run("ip", "netns", "add", "c1")
    wait_for(host, before)


def test_switch_that_does_not_follow_keeps_nobody_from_cleaning_up(host: Host, caller: Caller) -> None:
    before = host.snapshot()
    assert caller.setup().returncode == 0
    host.run("ip", "netns", "del", "c1")
    host.stop_vswitchd()
    try:
        result = gc(host, "--apply")
        assert result.returncode == 0, result
        assert "[WARNING geneve-ovs] ovs-vswitchd does not follow" in result.stderr
        assert "removed bridge ovs_net1 of network net1: no container is on it" in result.stdout
    finally:
        host.start_vswitchd()
    host.run("ip", "netns", "add", "c1")
    wait_for(host, before)


def test_machines_read_json(host: Host) -> None:
    web = serve(host, "net1", "-p", "8080:80", name="web")
    container = host.run("podman", "inspect", "--format={{.ID}}", "web").stdout[:12]
    crash(web)

    result = gc(host, "--json", "--apply")

    assert result.returncode == 0
    removed = json.loads(result.stdout)
    assert [thing["kind"] for thing in removed] == ["port", "bridge", "chain", "chain", "names", "file"]
    assert removed[0] == {
        "kind": "port",
        "name": removed[0]["name"],
        "network": "net1",
        "container": container,
        "reason": "its interface is gone",
        "removed": True,
    }
    assert (removed[1]["name"], removed[1]["container"]) == ("ovs_net1", None)


THEIRS = """
ovs-vsctl add-br theirs -- set Bridge theirs datapath_type=netdev external_ids:owner=me external_ids:role=container \
    -- add-port theirs theirs0 -- set Interface theirs0 type=internal -- set Port theirs0 external_ids:role=container \
    -- add-port ovs_net1 theirs1 -- set Interface theirs1 type=internal
ip link add theirs2 type veth peer name theirs3
ip link set theirs2 alias "geneve-ovs is great"
ip tuntap add theirs4 mode tap
ip tuntap add ovs_theirs mode tap
nft -f - <<RULES
add table inet theirs
add chain inet theirs network/ovs_gone
add table ip netavark_geneve
add chain ip netavark_geneve network/ovs_gone
add chain inet netavark_geneve theirs
RULES
touch /run/netavark-geneve/theirs /run/sysctl.d/10-geneve.conf /run/sysctl.d/50-theirs.1
"""
NO_MORE = """
ovs-vsctl del-br theirs -- --if-exists del-port ovs_net1 theirs1
for link in theirs2 theirs4 ovs_theirs; do ip link del $link; done
nft 'delete table inet theirs; delete table ip netavark_geneve; delete chain inet netavark_geneve theirs'
rm /run/netavark-geneve/theirs /run/sysctl.d/10-geneve.conf /run/sysctl.d/50-theirs.1
"""


def test_what_is_somebody_elses_stays(host: Host) -> None:
    create(host, "mine", "--opt", "mode=unmanaged", "--interface-name", "ovs_theirs", "--subnet", "192.168.122.0/24")
    web = serve(host, "net1", name="web")
    host.sh(THEIRS)
    try:
        assert_all_well(host)
        assert web.ping("192.168.120.1")

        before = host.snapshot()
        crash(run(host, "net1", name="c"))
        assert [line.split()[0] for line in collected(host)] == ["port", "names"]
        wait_for(host, before)

        crash(web)
        assert "bridge" not in {line.split()[0] for line in collected(host)}  # there is a port of theirs on it
        assert host.run("ovs-vsctl", "list-ports", "ovs_net1").stdout.split()[-1] == "theirs1"
    finally:
        host.sh(NO_MORE)
    collected(host)


def test_without_a_database_it_says_so(host: Host) -> None:
    host.stop_ovsdb()
    try:
        result = gc(host, "--apply")
    finally:
        host.start_ovsdb()

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("netavark-geneve gc: no ovsdb-server on /run/openvswitch/db.sock:")


def test_elsewhere_than_where_the_interfaces_are_it_refuses(host: Host) -> None:
    """There every port would seem to be without its interface."""
    run(host, "net1", name="c")
    host.run("ip", "netns", "add", "elsewhere")
    before = host.snapshot()
    result = host.run("ip", "netns", "exec", "elsewhere", "netavark-geneve", "gc", "--apply", check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("netavark-geneve gc: this is not the network namespace that Open vSwitch is in")
    assert host.snapshot() == before
    host.run("ip", "netns", "del", "elsewhere")
