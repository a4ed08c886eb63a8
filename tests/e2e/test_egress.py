"""The way out of a network: through the container's own host, under the host's address."""

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host, Machine

from .conftest import MakeFabric
from .fabric import Container, Fabric, run
from .wire import wait_until

OUTSIDE, OUTSIDE6 = "192.168.0.1", "fd00:192:168::1"
SUBNET = ("--subnet", "192.168.120.0/24")
SUBNET6 = ("--subnet", "fd00:120::/64")
PORT = 8000
TELL_PEER = "SYSTEM:echo $SOCAT_PEERADDR"


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Iterator[Fabric]:
    """Two hosts, and beyond them a server that tells its clients by which address it knows them."""
    fabric = make_fabric(2)
    fabric.configure()
    underlay = fabric.hosts[0].underlay
    underlay.sh(
        # A checksum that is left to the hardware is never made up for by the hosts' userspace datapath.
        "ethtool -K switch tx off >&2; sysctl -qw net.ipv6.conf.switch.disable_ipv6=0;"
        "ip address add $1/24 dev switch; ip address add $2/64 dev switch nodad",
        *(OUTSIDE, OUTSIDE6),
    )
    try:
        with listening(underlay):
            yield fabric
    finally:
        underlay.sh("ip address flush dev switch; sysctl -qw net.ipv6.conf.switch.disable_ipv6=1")


@contextmanager
def listening(machine: Machine, *prefix: str) -> Iterator[None]:
    """A server on `machine`, or inside a namespace that `prefix` enters."""
    with machine.popen(*prefix, "socat", f"TCP6-LISTEN:{PORT},fork,reuseaddr", TELL_PEER) as server:
        try:
            wait_until(lambda: str(PORT) in machine.run(*prefix, "ss", "-ltn").stdout, "the server does not listen")
            yield
        finally:
            server.terminate()


def known_as(client: Container, server: str) -> str:
    """The address by which a server knows the container."""
    target = f"TCP:[{server}]:{PORT}" if ":" in server else f"TCP:{server}:{PORT}"
    told = client.host.netns_run(client.name, "socat", "-T5", "-", f"{target},connect-timeout=5").stdout
    address = ipaddress.IPv6Address(told.strip().strip("[]"))
    return str(address.ipv4_mapped or address)


def ruleset(host: Host) -> list[str]:
    """The names of the nftables tables."""
    objects = json.loads(host.run("nft", "--json", "list", "tables").stdout)["nftables"]
    return [item["table"]["name"] for item in objects if "table" in item]


def test_containers_reach_the_outside_under_their_hosts_address(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET, *SUBNET6)
    containers = fabric.run("net1")

    assert [known_as(container, OUTSIDE) for container in containers] == [host.address for host in fabric.hosts]
    assert [known_as(container, OUTSIDE6) for container in containers] == [host.address6 for host in fabric.hosts]


def test_what_stays_in_the_network_keeps_its_address(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)
    one, other = fabric.run("net1")

    with listening(other.host, "nsenter", f"--net={other.host.netns(other.name)}", "--"):
        assert known_as(one, other.address) == one.address
    assert one.host.run("ping", "-c1", "-w9", other.address).returncode == 0  # the host reaches other hosts' containers


def test_the_address_of_leaving_packets_can_be_chosen(fabric: Fabric) -> None:
    host = fabric.hosts[0]
    host.run("ip", "address", "add", "192.168.0.200/24", "dev", "br-phy")
    try:
        Fabric([host]).create("net1", *SUBNET, "--opt", "outbound_addr4=192.168.0.200")

        assert known_as(run(host, "net1", name="c"), OUTSIDE) == "192.168.0.200"
    finally:
        host.run("ip", "address", "del", "192.168.0.200/24", "dev", "br-phy")


def test_an_internal_network_has_no_way_out(fabric: Fabric) -> None:
    """Not even when the container makes itself a route by the address where the resolver is."""
    host = fabric.hosts[0]
    Fabric([host]).create("net1", *SUBNET, "--internal")
    container = run(host, "net1", name="c")

    assert host.netns_run("c", "ip", "route", "show", "default").stdout == ""
    assert not container.ping(OUTSIDE)
    host.netns_run("c", "ip", "route", "add", "default", "via", "192.168.120.1")
    assert not container.ping(OUTSIDE)


def test_an_internal_network_without_names_leaves_the_host_alone(fabric: Fabric) -> None:
    host = fabric.hosts[0]
    Fabric([host]).create("net1", *SUBNET, "--internal", "--disable-dns")
    run(host, "net1", name="c")

    assert "netavark_geneve" not in ruleset(host)
    assert host.run("ip", "-brief", "address", "show", "ovs_net1").stdout.split()[2:] == []


def test_a_host_without_firewall_driver_gets_no_rules(fabric: Fabric) -> None:
    host = fabric.hosts[0]
    Fabric([host]).create("net1", *SUBNET)
    host.write("/run/none.conf", '[network]\nfirewall_driver = "none"\n')
    environ = {"CONTAINERS_CONF_OVERRIDE": "/run/none.conf"}

    host.run("podman", "run", "-d", "--name", "c", "--network", "net1", "alpine", "sleep", "1000", env=environ)

    assert "netavark_geneve" not in ruleset(host)
    host.run("netavark-geneve", "reload", env=environ)
    assert "netavark_geneve" not in ruleset(host)
    assert "all is well" in host.run("netavark-geneve", "doctor", env=environ, check=False).stdout
    host.run("podman", "rm", "-f", "-t0", "c", env=environ)
    host.run("rm", "/run/none.conf")


def test_rules_that_somebody_flushed_are_back_after_a_reload(fabric: Fabric) -> None:
    host = fabric.hosts[0]
    Fabric([host]).create("net1", *SUBNET)
    container = run(host, "net1", name="c")

    host.run("nft", "flush", "ruleset")
    assert not container.ping(OUTSIDE)
    host.run("podman", "network", "reload", "c")

    assert known_as(container, OUTSIDE) == host.address


def test_networks_come_and_go_without_disturbing_each_other(fabric: Fabric) -> None:
    """Ours and Podman's own bridge, each with its own table."""
    host = fabric.hosts[0]
    single = Fabric([host])
    single.create("net1", *SUBNET)
    single.create("net2", "--subnet", "192.168.121.0/24")
    host.run("podman", "network", "create", "--subnet", "10.99.0.0/24", "--disable-dns", "plain")
    containers = [run(host, network, name=f"on-{network}") for network in ("net1", "net2", "plain")]

    def reached() -> list[str]:
        return [container.name for container in containers if container.ping(OUTSIDE)]

    try:
        assert reached() == ["on-net1", "on-net2", "on-plain"]
        assert not containers[0].ping(containers[1].address)  # not through the host either
        host.run("podman", "rm", "-f", "-t0", "on-net1")
        del containers[0]
        assert reached() == ["on-net2", "on-plain"]
        host.run("podman", "rm", "-f", "-t0", "on-net2")
        del containers[0]
        assert reached() == ["on-plain"]
        assert "netavark_geneve" not in ruleset(host)
    finally:
        # netavark leaves these.
        host.sh(
            "podman network rm -f -t0 plain; nft delete table inet netavark; rm -r /run/containers/networks/firewall"
        )


def test_settings_are_told_to_systemd_as_long_as_they_are_needed(fabric: Fabric) -> None:
    host = fabric.hosts[0]
    Fabric([host]).create("net1", *SUBNET)
    run(host, "net1", name="c")

    settings = host.read("/run/sysctl.d/10-geneve-ovs-ovs_net1.conf")
    assert "net/ipv4/ip_forward = 1" in settings
    assert host.read("/proc/sys/net/ipv4/conf/ovs_net1/rp_filter").strip() == "2"

    host.run("podman", "rm", "-f", "-t0", "c")
    assert "geneve-ovs" not in host.run("ls", "/run/sysctl.d").stdout
