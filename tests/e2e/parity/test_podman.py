"""What Podman's own tests ask of its networks, asked of the plugin's networks through the real Podman.

Which test of Podman is which here, and what is left out and why: docs/parity.md.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import MakeFabric
from tests.e2e.fabric import IMAGE, Container, Fabric, create, inspect, refusal, run
from tests.e2e.wire import wait_until
from tests.lab import Host

SUBNET = ("--subnet", "192.168.120.0/24")
SUBNET6 = ("--subnet", "fd00:120::/64")
OTHER = ("--subnet", "192.168.121.0/24")
GATEWAY, GATEWAY6 = "192.168.120.1", "fd00:120::1"
PORT = 8080
LOCAL = ("-p", f"127.0.0.1:{PORT}:80")
WEB = ("sh", "-c", "echo web >/var/www/index.html; exec httpd -f -p 80 -h /var/www")
RESOLVERS = "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    """One of two hosts that know each other."""
    two = make_fabric(2)
    two.configure()
    return two.hosts[0]


@pytest.fixture
def mapped(host: Host) -> Iterator[tuple[str, ...]]:
    """What makes `podman run` a container with a user namespace of its own, and busybox in it."""
    host.sh("mkdir -p /tmp/tree/bin; cp /bin/busybox /tmp/tree/bin; chown -R 100000:100000 /tmp/tree")
    yield ("--uidmap", "0:100000:65536", "--rootfs", "/tmp/tree", "/bin/busybox")
    host.sh("podman rm -fa -t0 >&2; rm -r /tmp/tree")


def web(host: Host, network: str, *options: str, name: str = "web") -> Container:
    """A web server that is published."""
    server = run(host, network, "-p", f"{PORT}:80", *options, name=name, command=WEB)
    wait_until(lambda: fetch(host, server.address, 80) == "web", "the web server")
    return server


def fetch(host: Host, address: str = "127.0.0.1", port: int = PORT) -> str:
    """What a web server says to a client on the host; "" when there is no answer."""
    url = f"http://{address}:{port}/"
    return host.run("curl", "-sS", "--max-time", "3", "--noproxy", "*", url, check=False).stdout.strip()


def status(host: Host, container: str) -> dict[str, Any]:
    """By network, what Podman reports of a container."""
    shown = host.run("podman", "inspect", "--format", "{{json .NetworkSettings.Networks}}", container).stdout
    return dict(json.loads(shown))


def file(host: Host, path: str, *options: str) -> list[str]:
    """The lines of a file that Podman writes for a new container."""
    return host.run("podman", "run", "--rm", *options, IMAGE, "cat", path).stdout.splitlines()


def test_networks_come_in_order_and_go(host: Host) -> None:
    names = ["net1", "net2", "net3"]
    for index, name in enumerate(reversed(names)):
        create(host, name, "--subnet", f"192.168.12{index}.0/24")
    assert host.run("podman", "network", "ls", "-q").stdout.split() == [*names, "podman"]
    assert "network already exists" in refusal(host, "podman", "network", "create", "-d", "geneve-ovs", *OTHER, "net1")

    host.run("podman", "network", "rm", *names)

    assert "not found" in refusal(host, "podman", "network", "rm", "net1")
    events = host.run("podman", "events", "--stream=false", "--filter", "type=network", "--since", "1m").stdout
    for name in names:
        for what in ("create", "remove"):
            assert any(
                f"network {what}" in line and f"name={name}, type=geneve-ovs" in line for line in events.splitlines()
            )


def test_a_port_on_localhost_of_a_container_with_a_user_namespace(host: Host, mapped: tuple[str, ...]) -> None:
    """Its client is the gateway, not the container itself."""
    create(host, "net1", *SUBNET)
    tell = (*mapped, "nc", "-l", "-p", "80", "-e", "/bin/busybox", "netstat", "-tn")
    host.run("podman", "run", "-d", "--name", "c", "--network", "net1", *LOCAL, *tell)
    key = host.run("podman", "inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "c").stdout
    assert "/netns/netns-" in key
    wait_until(lambda: ":80 " in host.netns_run("c", "ss", "-ltn").stdout, "the server to listen")

    said = host.run("socat", "-T5", "-", f"TCP:127.0.0.1:{PORT}").stdout

    assert f"{status(host, 'c')['net1']['IPAddress']}:80" in said
    assert f"{GATEWAY}:" in said
    assert "127.0.0.1" not in said


@pytest.mark.parametrize("qualified", [False, True], ids=["", "with fqdn"])
def test_a_pod_is_in_its_hosts_file(host: Host, qualified: bool) -> None:
    create(host, "net1", *SUBNET)
    added = ("--add-host", "pod1.fqdn;pod1:127.0.0.1") if qualified else ()
    host.run("podman", "pod", "create", "--name", "pod1", "--infra-name", "infra1", "--network", "net1", *added)

    lines = [line.split() for line in file(host, "/etc/hosts", "--pod", "pod1", "--name", "c1")]

    address = status(host, "infra1")["net1"]["IPAddress"]
    assert any(line and line[0] == address and "infra1" in line for line in lines), lines
    assert any(line and line[0] == "127.0.0.1" and "c1" in line for line in lines), lines
    assert not qualified or ["127.0.0.1", "pod1.fqdn", "pod1"] in lines


def test_reload_brings_ports_back_and_keeps_addresses(host: Host) -> None:
    create(host, "net1", *SUBNET)
    create(host, "net2", *OTHER, *SUBNET6)
    web(host, "net1")
    before = status(host, "web")

    host.run("nft", "flush", "ruleset")
    assert fetch(host) == ""
    assert host.run("podman", "network", "reload", "web").stdout.strip() != ""
    assert fetch(host) == "web"
    assert status(host, "web") == before

    host.run("podman", "network", "connect", "net2", "web")
    before = status(host, "web")
    assert before["net2"]["GlobalIPv6Address"].startswith("fd00:120::")
    host.run("podman", "network", "reload", "--all")
    assert status(host, "web") == before
    assert fetch(host) == "web"


def test_resolv_conf(host: Host) -> None:
    """Servers that a container without IPv6 could not ask are left out; names are asked of this host's gateway."""
    create(host, "net1", *SUBNET)
    create(host, "net2", *SUBNET6)
    create(host, "plain", *OTHER, "--disable-dns")
    before = host.read("/etc/resolv.conf")
    host.write("/etc/resolv.conf", RESOLVERS)
    host.write("/run/dns.conf", '[containers]\ndns_servers = ["1.1.1.1"]\ndns_searches = ["example.com"]\n')
    try:
        shown = {
            network: [line for line in file(host, "/etc/resolv.conf", "--network", network) if "nameserver" in line]
            for network in ("net1", "net2", "plain")
        }
        assert shown == {
            "net1": [f"nameserver {GATEWAY}"],
            "net2": [f"nameserver {GATEWAY6}"],
            "plain": ["nameserver 192.0.2.53"],
        }
        command = ("podman", "run", "--rm", "--network", "net1", "--dns-option", "attempts:1", IMAGE)
        env = {"CONTAINERS_CONF_OVERRIDE": "/run/dns.conf"}
        overridden = host.run(*command, "cat", "/etc/resolv.conf", env=env).stdout.splitlines()
        assert sorted(overridden) == sorted(["search example.com", f"nameserver {GATEWAY}", "options attempts:1"])
    finally:
        host.write("/etc/resolv.conf", before)
        host.run("rm", "-f", "/run/dns.conf")


def test_connect_and_disconnect_with_a_published_port(host: Host) -> None:
    create(host, "net1", *SUBNET)
    create(host, "net2", *OTHER)
    server = web(host, "net1", "--hostname", "www")
    run(host, "net1", name="idle")
    first = status(host, "web")["net1"]
    assert set(first["Aliases"]) >= {first["Aliases"][0], "www"}
    assert fetch(host) == "web"

    def in_hosts(address: str) -> bool:
        return address in server.sh("cat /etc/hosts").split()

    assert in_hosts(first["IPAddress"])
    host.run("podman", "network", "disconnect", "net1", "web")
    assert not in_hosts(first["IPAddress"])
    assert fetch(host) == ""
    host.run("podman", "network", "connect", "net1", "web")
    again = status(host, "web")["net1"]
    assert again["IPAddress"] != first["IPAddress"]
    assert again["MacAddress"] != first["MacAddress"]
    assert in_hosts(again["IPAddress"])
    assert fetch(host) == "web"

    for verb in ("disconnect", "connect"):  # a container without ports
        quiet = host.run("podman", "network", verb, "net1", "idle")
        assert quiet.stdout + quiet.stderr == ""

    host.run("podman", "network", "connect", "net2", "web")
    assert fetch(host) == "web"
    host.run("podman", "network", "disconnect", "net1", "web")
    assert fetch(host) == "web"


def test_a_port_survives_restarts(host: Host) -> None:
    """The container's process dies and the policy restarts it; then the user restarts it."""
    create(host, "net1", *SUBNET)
    web(host, "net1", "--restart", "always")

    def pid() -> str:
        return host.run("podman", "inspect", "--format", "{{.State.Pid}}", "web").stdout.strip()

    before = pid()
    host.run("kill", "-9", before)
    wait_until(lambda: pid() not in ("0", before), "the container to restart")
    wait_until(lambda: fetch(host) == "web", "the port after the restart by policy")
    host.run("podman", "restart", "-t0", "web")
    wait_until(lambda: fetch(host) == "web", "the port after the restart by the user")


def test_restarts_use_up_no_addresses(host: Host, mapped: tuple[str, ...]) -> None:
    """Seven starts on a network with five addresses, and no namespace stays behind."""
    create(host, "net1", "--subnet", "192.168.120.0/29", "--opt", "hosts=none")
    before = host.run("ls", "/run/netns").stdout
    command = ("--network", "net1", "--restart", "on-failure:6", *mapped, "false")

    assert host.run("podman", "run", "--name", "c", *command, check=False).returncode == 1
    count = ("podman", "inspect", "--format", "{{.RestartCount}}", "c")
    wait_until(lambda: host.run(*count).stdout.strip() == "6", "six restarts")
    host.run("podman", "wait", "c")

    host.run("podman", "run", "--rm", "--network", "net1", IMAGE, "true")
    assert host.run("ls", "/run/netns").stdout == before


def test_inspect_shows_the_containers_that_run(host: Host) -> None:
    create(host, "net1", *SUBNET)
    create(host, "net2", *OTHER)
    for name in ("c1", "c2"):
        host.run("podman", "create", "--name", name, "--network", "net1", IMAGE, "sleep", "1000")
    assert inspect(host, "net1")["containers"] == {}

    host.run("podman", "start", "c1", "c2")
    run(host, "net2", name="c3")

    shown = {container["name"]: container["interfaces"] for container in inspect(host, "net1")["containers"].values()}
    assert set(shown) == {"c1", "c2"}
    for name, interfaces in shown.items():
        reported = status(host, name)["net1"]
        subnets = [{"ipnet": f"{reported['IPAddress']}/24", "gateway": GATEWAY}]
        assert interfaces == {"eth0": {"subnets": subnets, "mac_address": reported["MacAddress"]}}


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
def test_a_wildcard_is_a_conflict_with_every_address(host: Host, address: str) -> None:
    Fabric([host]).create("net1", *SUBNET, *SUBNET6)
    web(host, "net1")

    said = refusal(host, "podman", "run", "-d", "--network", "net1", "-p", f"{address}:{PORT}:80", IMAGE)

    assert "already" in said
    assert fetch(host) == "web"
