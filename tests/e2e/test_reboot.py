"""The power fails: Open vSwitch keeps its database, nobody was told, and containers come back as they were.

A host of the lab cannot boot, so this is what `reboot` does to it: the processes of containers and of Open vSwitch
are killed; what the kernel had goes (namespaces, interfaces, mounts, packet filter), and so does what was on a
tmpfs; then Open vSwitch starts with its database. Two things are not as after a boot: the kernel's boot id is
still the same, so the rows in the database get another one; and a helper lives on.
"""

import subprocess

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Container, Fabric, address, create, run, unreachable
from .faults import ports, wait_for
from .web import fetch, serve

OWN = "br-own"  # a bridge of the user's
ALWAYS = "--restart=always"
# conmon first, or it would call Podman to clean up. Namespaces take the interfaces in them along, a little later.
POWER_FAILS = """
containers=$(podman ps -q)
kill -KILL $(podman inspect --format '{{.State.ConmonPid}}' $containers)
kill -KILL $(podman inspect --format '{{.State.Pid}}' $containers)
[ ! -e /run/netavark-geneve/aardvark-dns ] || kill -KILL "$(cat /run/netavark-geneve/aardvark-dns/aardvark.pid)"
nft flush ruleset
cut -d' ' -f2 /proc/mounts | grep -E '^(/run/netns|/var/lib/containers/storage/overlay[^/]*)/' | sort -ru |
    xargs -r umount --lazy
while ip link | grep -q 'alias geneve-ovs'; do sleep 0.02; done
for tap in $(ip -brief link show type tun | cut -d' ' -f1 | grep -vxE 'br-phy|ovs-netdev'); do ip link del "$tap"; done
rm -rf /run/containers /run/crun /run/libpod /run/lock/* /run/netns/* /run/sysctl.d /dev/shm/*
[ ! -d /run/netavark-geneve ] || find /run/netavark-geneve -mindepth 1 ! -type s -delete
"""
AGE = """
for table in Port Interface; do
    for row in $(ovs-vsctl --bare --columns=_uuid find $table external_ids:role=container); do
        ovs-vsctl --no-wait set $table $row external_ids:boot-id=earlier
    done
done
"""


def reboot(host: Host) -> None:
    host.stop_vswitchd(crash=True)
    host.stop_ovsdb(crash=True)
    host.sh(POWER_FAILS)
    host.start_ovsdb()
    host.sh(AGE)
    host.start_vswitchd()


def start_as_at_boot(host: Host) -> None:
    """What podman-restart.service does."""
    host.run("podman", "start", "--all", "--filter", "restart-policy=always", timeout=90)


def gc(host: Host, *options: str) -> subprocess.CompletedProcess[str]:
    return host.run("netavark-geneve", "gc", *options, check=False, timeout=90)


def broken_ports(host: Host) -> list[str]:
    """The containers' ports of an earlier boot, and those that the switch could not set up."""
    find = ("ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "external_ids:role=container")
    conditions = ("external_ids:boot-id=earlier", "ofport=-1", "error!=[]")
    return [name for condition in conditions for name in host.run(*find, condition).stdout.split()]


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Two hosts that share a network; the first of them has another one."""
    two = make_fabric(2)
    two.configure()
    two.create("net1", "--subnet", "192.168.120.0/24")
    create(two.hosts[0], "net2", "--subnet", "192.168.121.0/24")
    return two


@pytest.mark.parametrize("with_gc", [True, False], ids=["gc at boot", "nobody told"])
def test_containers_come_back_with_their_addresses_and_nothing_is_left(fabric: Fabric, with_gc: bool) -> None:
    host, there = fabric.hosts
    far = run(there, "net1", name="far")
    before = host.snapshot()
    come_back = [serve(host, "net1", "-p", "8080:80", ALWAYS, name="web"), run(host, "net1", ALWAYS, name="db")]
    stay_away = [run(host, "net1", name="gone"), run(host, "net2", name="alone")]
    reboot(host)
    assert len(broken_ports(host)) == 3 * len(ports(host)) == 3 * len(come_back + stay_away)

    if with_gc:
        result = gc(host, "--apply")
        assert (result.returncode, result.stderr) == (0, "")  # it had nothing to wait for
        assert kinds(result) == ["removed bridge"] * 2 + ["removed port"] * 4
        assert host.run("ovs-vsctl", "list-br").stdout == "br-phy\n"
    start_as_at_boot(host)

    assert [address(host, each.name, "net1") for each in come_back] == [each.address for each in come_back]
    assert unreachable([*come_back, far]) == []
    assert fetch(host, "127.0.0.1", 8080) == "web"
    assert Container(host, "db", "").sh("wget -qO- http://web") == "web"
    assert broken_ports(host) == []
    assert len(ports(host)) == len(come_back)
    left = gc(host)  # the bridge of a network that was not used again
    assert left.stdout == "nothing is stale\n" if with_gc else kinds(left) == ["bridge ovs_net2"]

    if not with_gc:
        host.run("podman", "start", "alone")
        assert gc(host).stdout == "nothing is stale\n"
    host.run("podman", "rm", "-fa", "-t0")
    wait_for(host, before)


def kinds(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The first two words of each line."""
    return sorted(" ".join(line.split()[:2]) for line in result.stdout.splitlines())


@pytest.mark.parametrize("with_gc", [True, False], ids=["gc at boot", "nobody told"])
def test_on_a_bridge_of_the_users_own(make_fabric: MakeFabric, with_gc: bool) -> None:
    """Nothing tells when it was used last, and no row of theirs may be touched."""
    (host,) = make_fabric(1).hosts
    host.run("ovs-vsctl", "add-br", OWN, "--", "set", "Bridge", OWN, "datapath_type=netdev")
    theirs = ("type=internal", 'mac="02:00:00:00:00:07"')
    host.run("ovs-vsctl", "add-port", OWN, "theirs", "--", "set", "Interface", "theirs", *theirs)
    try:
        unmanaged = ("--opt", "mode=unmanaged", "--interface-name", OWN)
        create(host, "net1", "--subnet", "192.168.120.0/24", *unmanaged)
        before = host.snapshot()
        one, other = (run(host, "net1", ALWAYS, name=name) for name in ("one", "other"))
        run(host, "net1", name="gone")
        reboot(host)
        assert len(broken_ports(host)) == 3 * 3

        if with_gc:
            assert kinds(gc(host, "--apply")) == ["removed port"] * 3
            assert host.run("ovs-vsctl", "list-ports", OWN).stdout == "theirs\n"
        start_as_at_boot(host)

        assert [address(host, each.name, "net1") for each in (one, other)] == [one.address, other.address]
        assert unreachable([one, other]) == []
        assert broken_ports(host) == []
        assert len(ports(host)) == 2
        assert gc(host).stdout == "nothing is stale\n"
        host.run("podman", "rm", "-fa", "-t0")
        wait_for(host, before)
    finally:
        host.run("podman", "rm", "-fa", "-t0")
        host.run("ovs-vsctl", "del-br", OWN)
