"""`-p`: published ports, reached from wherever a client can be."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.lab import Host

from .fabric import IMAGE, Container, Fabric, create, refusal, run
from .web import fetch, serve
from .wire import wait_until

SUBNET = ("--subnet", "192.168.120.0/24")
SUBNET6 = ("--subnet", "fd00:120::/64")
OTHER = ("--subnet", "192.168.121.0/24")


@contextmanager
def answering(container: Container, server: str) -> Iterator[None]:
    """A socat server inside the container's namespace."""
    prefix = ("nsenter", f"--net={container.host.netns(container.name)}", "--")
    with container.host.popen(*prefix, "socat", server, "SYSTEM:echo served by $SOCAT_SOCKADDR") as process:
        try:
            kind = "-lun" if server.startswith("UDP") else "-ltn"
            wait_until(lambda: container.host.run(*prefix, "ss", "-H", kind).stdout != "", "the server to listen")
            yield
        finally:
            process.terminate()


def published(host: Host) -> list[str]:
    """The chains of published ports in our table."""
    listed = host.run("nft", "--json", "list", "table", "inet", "netavark_geneve", check=False)
    objects = json.loads(listed.stdout)["nftables"] if listed.returncode == 0 else []
    return [item["chain"]["name"] for item in objects if "chain" in item and item["chain"]["name"].startswith("publ")]


def test_a_published_port_is_reached_from_everywhere(fabric: Fabric) -> None:
    """Same host, another host, a container of the same network here and there, and of another network."""
    one, two, three = fabric.hosts
    fabric.create("net1", *SUBNET)
    fabric.create("net2", *OTHER)
    web = serve(one, "net1", "-p", "8080:80", name="web")
    neighbour, remote = run(one, "net1", name="neighbour"), run(two, "net1", name="remote")
    stranger, far_stranger = run(one, "net2", name="stranger"), run(three, "net2", name="far-stranger")

    assert fetch(one, "127.0.0.1", 8080) == "web"
    assert fetch(one, one.address, 8080) == "web"
    assert fetch(one, "192.168.120.1", 8080) == "web"
    assert fetch(two, one.address, 8080) == "web"
    assert fetch(one, web.address, 80) == "web"
    for client in (web, neighbour, remote, stranger, far_stranger):
        assert fetch(client.host, one.address, 8080, inside=client) == "web", client.name
    assert fetch(remote.host, "192.168.120.1", 8080, inside=remote) == "web"  # the gateway's address, by the tunnel
    assert fetch(stranger.host, web.address, 80, inside=stranger) == ""  # only what is published


def test_published_ports_open_nothing_that_the_host_serves_to_itself(fabric: Fabric) -> None:
    """Where there are some, 127.0.0.0/8 is routed (route_localnet), and a container may be root of its own network."""
    host = fabric.hosts[0]
    Fabric([host]).create("net1", *SUBNET)
    intruder = serve(host, "net1", "-p", "8080:80", name="web")
    own = ("sysctl -qw net.ipv4.conf.all.route_localnet=1", "ip address delete 127.0.0.1/8 dev lo")
    for command in (*own, "ip route add 127.0.0.0/8 via 192.168.120.1"):
        host.netns_run(intruder.name, *command.split())

    ask = ("socat", "-T5", "-", "TCP:127.0.0.5:9999,connect-timeout=2")

    def answer() -> str:
        return host.netns_run(intruder.name, *ask, check=False).stdout

    with host.popen("socat", "TCP-LISTEN:9999,bind=127.0.0.5,fork,reuseaddr", "SYSTEM:echo own") as server:
        try:
            wait_until(lambda: host.run(*ask, check=False).stdout == "own\n", "the host to serve itself")
            assert answer() == ""
            host.run("nft", "flush", "chain", "inet", "netavark_geneve", "prerouting")
            assert answer() == "own\n"  # so the test would see it
            host.run("netavark-geneve", "reload")
            assert answer() == ""
        finally:
            server.terminate()


def test_ports_of_both_families(fabric: Fabric) -> None:
    one, two, _ = fabric.hosts
    Fabric([one]).create("net1", *SUBNET, *SUBNET6)
    serve(one, "net1", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", f"[{one.address6}]:8082:80", name="web")

    assert [fetch(two, one.address, port) for port in (8080, 8081, 8082)] == ["web", "", ""]
    assert [fetch(one, "127.0.0.1", port) for port in (8080, 8081, 8082)] == ["web", "web", ""]
    assert [fetch(two, one.address6, port) for port in (8080, 8081, 8082)] == ["web", "", "web"]


def test_a_range_keeps_its_order_and_two_containers_may_serve_the_same_port(fabric: Fabric) -> None:
    one, two, _ = fabric.hosts
    Fabric([one]).create("net1", *SUBNET)
    serve(one, "net1", "-p", "8079-8081:79-81", name="first")
    serve(one, "net1", "-p", "9080:80", name="second")

    assert [fetch(two, one.address, port) for port in (8079, 8080, 8081, 9080)] == ["", "first", "", "second"]


def test_udp_answers_come_from_the_address_that_was_asked(fabric: Fabric) -> None:
    one, two, _ = fabric.hosts
    Fabric([one]).create("net1", *SUBNET)
    server = run(one, "net1", "-p", "5000:6000/udp", name="server")

    with answering(server, "UDP4-LISTEN:6000,fork"):
        # A connected socket takes an answer from nobody but whom it asked.
        said = two.run("socat", "-T3", "-t3", "-", f"UDP4-CONNECT:{one.address}:5000", input="hello\n").stdout
    assert said.strip() == f"served by {server.address}"


def test_replies_leave_under_strict_reverse_path_filtering(fabric: Fabric) -> None:
    """A host that is strict about where packets come from, and a container with two ways out."""
    one, two, _ = fabric.hosts
    before = one.read("/proc/sys/net/ipv4/conf/all/rp_filter").strip()
    one.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    try:
        create(one, "net1", *SUBNET)
        create(one, "net2", *OTHER)
        serve(one, "net1", "--network", "net2", "-p", "8080:80", name="web")

        assert fetch(two, one.address, 8080) == "web"
        assert fetch(one, "127.0.0.1", 8080) == "web"
        one.run("podman", "network", "disconnect", "net1", "web")
        assert fetch(two, one.address, 8080) == "web"  # by the other network
        one.run("podman", "network", "connect", "net1", "web")
        one.run("podman", "network", "disconnect", "net2", "web")
        assert fetch(two, one.address, 8080) == "web"
    finally:
        one.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={before}")


def test_who_leaves_takes_only_its_own_ports(fabric: Fabric) -> None:
    one, two, _ = fabric.hosts
    Fabric([one]).create("net1", *SUBNET)
    serve(one, "net1", "-p", "8080:80", name="first")
    serve(one, "net1", "-p", "9080:80", name="second")
    assert len(published(one)) == 2

    one.run("podman", "rm", "-f", "-t0", "first")
    again = serve(one, "net1", "-p", "8080:80", name="third")

    assert [fetch(two, one.address, port) for port in (8080, 9080)] == ["third", "second"]
    assert again.host.run("podman", "port", "third").stdout.strip() == "80/tcp -> 0.0.0.0:8080"
    one.run("podman", "rm", "-f", "-t0", "second", "third")
    assert published(one) == []


def test_a_port_that_is_taken_is_refused_and_stays_with_its_owner(fabric: Fabric) -> None:
    one, two, _ = fabric.hosts
    Fabric([one]).create("net1", *SUBNET)
    serve(one, "net1", "-p", "8080:80", name="first")

    said = refusal(one, "podman", "run", "-d", "--name", "second", "--network", "net1", "-p", "8080:80", IMAGE)

    assert "8080: bind: address already in use" in said  # Podman asks the kernel before it asks us
    assert fetch(two, one.address, 8080) == "first"


def test_an_internal_network_publishes_nothing(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    Fabric([one]).create("net1", *SUBNET, "--internal")
    serve(one, "net1", "-p", "8080:80", name="web")

    assert published(one) == []


@pytest.mark.parametrize("isolate", ["strict", "true", "false"])
def test_isolation_between_networks(fabric: Fabric, isolate: str) -> None:
    """Ours against each other, and against Podman's own bridge, with and without its isolate."""
    one = fabric.hosts[0]
    podman_network = ("podman", "network", "create", "--disable-dns")
    create(one, "net1", *SUBNET, "--opt", f"isolate={isolate}")
    create(one, "net2", *OTHER, "--opt", "isolate=true")
    create(one, "net3", "--subnet", "192.168.122.0/24", "--opt", "isolate=false")
    one.run(*podman_network, "--subnet", "10.99.0.0/24", "plain")
    one.run(*podman_network, "--subnet", "10.98.0.0/24", "--interface-name", "br-iso", "--opt", "isolate=true", "iso")
    try:
        asking = run(one, "net1", name="asking")
        others = [run(one, network, name=f"on-{network}") for network in ("net2", "net3", "plain", "iso")]
        reached = [container.name for container in others if asking.ping(container.address)]
        reached_back = [container.name for container in others if container.ping(asking.address)]
    finally:
        _remove(one, ["plain", "iso"])

    expected = {
        "strict": [],
        "true": ["on-net3", "on-plain"],
        "false": ["on-net2", "on-net3", "on-plain", "on-iso"],
    }
    assert reached == reached_back == expected[isolate]


def _remove(host: Host, networks: Sequence[str]) -> None:
    """Remove networks of Podman's own, and what netavark leaves behind."""
    host.sh(
        'podman network rm -f -t0 "$@" >&2; nft delete table inet netavark; rm -r /run/containers/networks/firewall',
        *networks,
    )
