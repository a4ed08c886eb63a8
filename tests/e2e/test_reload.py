"""Somebody flushed the firewall: what brings everything back without touching the containers."""

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Fabric, create, run
from .web import fetch, serve

SUBNET = ("--subnet", "192.168.120.0/24", "--subnet", "fd00:120::/64")


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    fabric = make_fabric(2)
    fabric.configure()
    return fabric


def ruleset(host: Host) -> list[str]:
    """Every line, sorted: chains stand in the order in which they were made."""
    return sorted(host.run("nft", "--stateless", "list", "ruleset").stdout.splitlines())


@pytest.mark.parametrize("command", ["netavark-geneve reload", "podman network reload --all"])
def test_a_flushed_firewall_is_restored(fabric: Fabric, command: str) -> None:
    one, two = fabric.hosts
    for number, network in enumerate(("net1", "net2")):
        create(one, network, "--subnet", f"192.168.12{number}.0/24", "--subnet", f"fd00:12{number}::/64")
    web = serve(one, "net1", "-p", "8080:80", "-p", "127.0.0.1:9000-9002:9000-9002/udp", name="web")
    serve(one, "net2", "-p", f"{one.address}:8081:80", name="other")
    before, running = ruleset(one), one.run("podman", "ps", "--format", "{{.ID}} {{.StartedAt}}").stdout

    one.run("nft", "flush", "ruleset")
    assert fetch(two, one.address, 8080) == ""
    one.run(*command.split())

    assert ruleset(one) == before
    assert [fetch(two, one.address, port) for port in (8080, 8081)] == ["web", "other"]
    assert fetch(one, "127.0.0.1", 8080) == "web"
    assert web.ping(two.address)
    assert one.run("podman", "ps", "--format", "{{.ID}} {{.StartedAt}}").stdout == running


def test_reload_says_what_it_did_and_changes_nothing_that_is_well(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    create(one, "net1", *SUBNET)
    serve(one, "net1", "-p", "8080:80", name="web")
    run(one, "net1", name="c")
    before = one.snapshot()

    said = one.run("netavark-geneve", "reload").stdout

    assert said == "restored 2 container(s) on 1 network(s)\n"
    assert one.snapshot() == before


def test_reload_brings_back_names_and_settings(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    create(one, "net1", *SUBNET)
    web, client = serve(one, "net1", name="web"), run(one, "net1", name="client")
    one.sh(
        "kill $(cat /run/netavark-geneve/aardvark-dns/aardvark.pid); rm -r /run/netavark-geneve/aardvark-dns;"
        "sysctl -qw net.ipv4.ip_forward=0; rm /run/sysctl.d/10-geneve-ovs-ovs_net1.conf"
    )

    one.run("netavark-geneve", "reload")

    assert client.sh("nslookup web | tail -n +3 | grep -o '192[0-9.]*'") == web.address
    assert one.read("/proc/sys/net/ipv4/ip_forward").strip() == "1"


def test_reload_without_a_container_leaves_nothing(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    before = one.snapshot()

    assert one.run("netavark-geneve", "reload").stdout == "restored 0 container(s) on 0 network(s)\n"
    assert one.snapshot() == before


def test_a_port_that_a_crash_left_over_is_forgotten(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    create(one, "net1", *SUBNET)
    serve(one, "net1", "-p", "8080:80", name="web")
    run(one, "net1", name="c")
    veth = one.sh("ovs-vsctl --bare --columns=name find Port external_ids:container-name=web").stdout.strip()
    one.run("ip", "link", "del", veth)  # what a reboot of the host, or of the kernel, does to it

    assert one.run("netavark-geneve", "reload").stdout == "restored 1 container(s) on 1 network(s)\n"

    assert "published/" not in one.run("nft", "list", "table", "inet", "netavark_geneve").stdout


def test_reload_names_what_is_missing(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    one.stop_ovsdb()
    try:
        result = one.run("netavark-geneve", "reload", check=False)
    finally:
        one.start_ovsdb()

    assert result.returncode == 1
    assert result.stderr.startswith("netavark-geneve reload: no ovsdb-server on /run/openvswitch/db.sock:")
