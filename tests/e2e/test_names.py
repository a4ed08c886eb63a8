"""Containers find each other by name, through a resolver of this host's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Container, create, refusal, run
from .wire import wait_until

SUBNET = ("--subnet", "192.168.120.0/24")
SUBNET6 = ("--subnet", "fd00:120::/64")
OTHER = ("--subnet", "192.168.121.0/24")
DIRECTORY = "/run/netavark-geneve/aardvark-dns"
A, AAAA = 1, 28  # RFC 1035, RFC 3596
PROGRAM = "/usr/lib/podman/aardvark-dns"


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    fabric = make_fabric(1)
    fabric.configure()
    return fabric.hosts[0]


ASK = """
import ipaddress, socket, struct, sys
server, name, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in server else socket.AF_INET
question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + struct.pack("!BHH", 0, kind, 1)
with socket.socket(family, socket.SOCK_DGRAM) as client:
    client.settimeout(5)
    client.connect((server, 53))
    client.send(struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + question)
    reply = client.recv(4096)
rest = reply[12 + len(question):]
for _ in range(struct.unpack("!H", reply[6:8])[0]):
    while rest[0] and rest[0] < 0xC0:  # RFC 1035 4.1.4: labels, or a pointer to them
        rest = rest[1 + rest[0]:]
    rest = rest[2:] if rest[0] else rest[1:]
    found, _, _, length = struct.unpack("!HHIH", rest[:10])
    if found == kind:
        print(ipaddress.ip_address(rest[10:10 + length]))
    rest = rest[10 + length:]
"""


def resolve(client: Container, name: str, kind: int = A, server: str | None = None) -> list[str]:
    """The addresses that the container's resolver gives for a name."""
    arguments = (server or nameservers(client)[0], name, str(kind))
    return sorted(client.host.netns_run(client.name, "python3", "-c", ASK, *arguments).stdout.split())


def nameservers(container: Container) -> list[str]:
    return container.sh("sed -n 's/^nameserver //p' /etc/resolv.conf").split()


def search(container: Container) -> str:
    return container.sh("sed -n 's/^search //p' /etc/resolv.conf")


def test_names_aliases_short_ids_and_host_names(host: Host) -> None:
    create(host, "net1", *SUBNET, *SUBNET6)
    web = run(host, "net1", "--network-alias", "www", "--hostname", "frontend", name="web")
    client = run(host, "net1", name="client")
    short = host.run("podman", "inspect", "--format", "{{.Id}}", "web").stdout[:12]

    for name in ("web", "www", "frontend", short, "web.dns.podman"):
        assert resolve(client, name) == [web.address], name
    assert resolve(client, "web", AAAA) == ["fd00:120::2"]
    assert client.sh("ping -4 -c1 -w9 web | head -1").startswith(f"PING web ({web.address})")
    assert sorted(nameservers(client)) == ["192.168.120.1", "fd00:120::1"]
    assert search(client) == "dns.podman"  # as netavark 1.14 does it
    assert resolve(client, "nobody.dns.podman") == []


def test_a_name_goes_with_its_container_and_the_resolver_with_the_last(host: Host) -> None:
    create(host, "net1", *SUBNET)
    create(host, "net2", *OTHER)
    run(host, "net1", name="web")
    client = run(host, "net1", "--network", "net2", name="client")
    other = run(host, "net2", name="other")

    assert resolve(client, "other", server="192.168.121.1") == [other.address]
    assert resolve(other, "web.dns.podman") == []  # not on its network

    host.run("podman", "rm", "-f", "-t0", "web")
    wait_until(lambda: resolve(client, "web.dns.podman", server="192.168.120.1") == [], "the name to go")
    host.run("podman", "rm", "-f", "-t0", "client", "other")
    assert host.run("pgrep", "-f", DIRECTORY, check=False).stdout == ""
    assert host.run("ls", DIRECTORY, check=False).returncode != 0


def test_it_stands_beside_netavarks_own(host: Host) -> None:
    create(host, "net1", *SUBNET)
    host.run("podman", "network", "create", "--subnet", "10.99.0.0/24", "plain")
    try:
        web, client = run(host, "net1", name="web"), run(host, "net1", name="client")
        theirs = run(host, "plain", name="theirs")
        both = run(host, "net1", "--network", "plain", name="both")

        assert resolve(client, "web") == [web.address]
        assert resolve(both, "theirs", server="10.99.0.1") == [theirs.address]
        host.run("podman", "rm", "-f", "-t0", "web", "client", "both")
        assert resolve(theirs, "theirs") == [theirs.address]
    finally:
        host.sh(
            "podman network rm -f -t0 plain; nft delete table inet netavark; rm -r /run/containers/networks/firewall;"
            "rm -rf /run/containers/networks/aardvark-dns /run/containers/networks/aardvark.lock"
        )


def test_an_internal_network_has_names_too(host: Host) -> None:
    create(host, "net1", *SUBNET, "--internal")
    web, client = run(host, "net1", name="web"), run(host, "net1", name="client")

    assert resolve(client, "web") == [web.address]
    assert resolve(client, "outside.example") == []


@contextmanager
def upstream(host: Host, address: str, answer: str) -> Iterator[None]:
    """A name server on the host that gives one address for every name."""
    script = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
while True:
    query, client = server.recvfrom(512)
    end = query.index(b"\\0", 12) + 5
    head = query[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0"
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + socket.inet_aton(sys.argv[2])
    server.sendto(head + query[12:end] + record, client)
"""
    host.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    with host.popen("python3", "-c", script, address, answer) as process:
        try:
            wait_until(lambda: address in host.run("ss", "-lun").stdout, "the name server to listen")
            yield
        finally:
            process.terminate()
            host.run("ip", "address", "del", f"{address}/32", "dev", "lo")


def test_other_names_go_to_the_networks_servers_which_are_read_anew_at_each_start(host: Host) -> None:
    with upstream(host, "192.0.2.1", "198.51.100.1"), upstream(host, "192.0.2.2", "198.51.100.2"):
        create(host, "net1", *SUBNET, "--dns", "192.0.2.1")
        client = run(host, "net1", name="client")
        assert resolve(client, "outside.example") == ["198.51.100.1"]

        host.run(
            "podman", "network", "update", "--dns-drop", "192.0.2.1", "--dns-add", "192.0.2.2", "net1", check=False
        )
        servers = json.loads(host.run("podman", "network", "inspect", "net1").stdout)[0]["network_dns_servers"]
        run(host, "net1", name="next")

        wait_until(lambda: resolve(client, "outside.example") == ["198.51.100.2"], f"{servers} to be asked")


def test_without_dns_nothing_of_it_is_there(host: Host) -> None:
    create(host, "net1", *SUBNET, "--disable-dns")
    client = run(host, "net1", name="client")

    assert "192.168.120.1" not in nameservers(client)
    assert host.run("pgrep", "-f", DIRECTORY, check=False).stdout == ""
    assert "--dns" in refusal(
        host, "podman", "network", "create", "-d", "geneve-ovs", "--disable-dns", "--dns", "192.0.2.1", *OTHER, "net2"
    )


def test_where_aardvark_is_not_installed_there_is_a_warning_and_no_broken_resolver(host: Host) -> None:
    create(host, "net1", *SUBNET)
    host.run("mv", PROGRAM, f"{PROGRAM}.away")
    try:
        said = host.run("podman", "run", "-d", "--name", "c", "--network", "net1", "alpine", "sleep", "1000").stderr
        container = Container(host, "c", "192.168.120.2")
    finally:
        host.run("mv", f"{PROGRAM}.away", PROGRAM)

    assert "aardvark-dns is not installed, so the containers of network net1 have no names" in said
    assert "192.168.120.1" not in nameservers(container)


def test_a_resolver_on_another_port(host: Host) -> None:
    host.write("/run/dns-port.conf", "[network]\ndns_bind_port = 1053\n")
    environ = {"CONTAINERS_CONF_OVERRIDE": "/run/dns-port.conf"}
    create(host, "net1", *SUBNET)
    for name in ("web", "client"):
        host.run("podman", "run", "-d", "--name", name, "--network", "net1", "alpine", "sleep", "1000", env=environ)

    client = Container(host, "client", "192.168.120.3")
    assert resolve(client, "web") == ["192.168.120.2"]
    host.run("netavark-geneve", "reload", env=environ)
    assert resolve(client, "web") == ["192.168.120.2"]
    host.run("podman", "rm", "-f", "-t0", "--all", env=environ)
    host.run("rm", "/run/dns-port.conf")


def test_a_resolver_that_cannot_start_fails_the_container_and_leaves_nothing(host: Host) -> None:
    create(host, "net1", *SUBNET)
    with host.popen("socat", "UDP4-RECVFROM:53,bind=0.0.0.0,fork", "SYSTEM:true") as process:
        try:
            wait_until(lambda: ":53" in host.run("ss", "-lun").stdout, "port 53 to be taken")
            said = refusal(host, "podman", "run", "-d", "--name", "c", "--network", "net1", "alpine", "sleep", "1000")
        finally:
            process.terminate()

    assert "aardvark-dns" in said
    assert "Address already in use" in said


def test_names_end_at_the_host(make_fabric: MakeFabric) -> None:
    """What a mesh cannot give: each host's resolver knows this host's containers."""
    fabric = make_fabric(2)
    fabric.configure()
    fabric.create("net1", *SUBNET)
    one, other = fabric.run("net1")

    assert one.ping(other.address)
    assert resolve(one, f"{other.name}.dns.podman") == []
