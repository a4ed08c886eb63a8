"""Networks and containers made through Podman's Docker-compatible API, as docker-compose makes them.

With curl, which is as close as it gets without a client of Docker's; the requests are those that docker-compose sends.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import IMAGE, Container, Fabric, address, create, inspect, refusal
from .web import SERVER, fetch
from .wire import wait_until

SOCKET = "/run/podman.sock"
SUBNET, OTHER = "192.168.120.0/24", "192.168.121.0/24"


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Iterator[Fabric]:
    """Two hosts that know each other, whose Podman serves the API."""
    two = make_fabric(2)
    two.configure()
    with ExitStack() as stack:
        for host in two.hosts:
            stack.enter_context(service(host))
        yield two


@pytest.fixture
def host(fabric: Fabric) -> Host:
    return fabric.hosts[0]


@contextmanager
def service(host: Host) -> Iterator[None]:
    serve = ("podman", "system", "service", "--time=0", f"unix://{SOCKET}")
    with host.popen(*serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(host), "the API to answer")
            yield
        finally:
            host.run("podman", "rm", "-fa", "-t0")
            process.terminate()


def answers(host: Host) -> bool:
    ping = ("curl", "-sS", "--unix-socket", SOCKET, "http://podman/_ping")
    return host.run(*ping, check=False).stdout == "OK"


def call(host: Host, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """One request of the API; the status, and the answer if it is JSON."""
    said = host.run(
        *("curl", "-sS", "--unix-socket", SOCKET, "-X", method, "-H", "Content-Type: application/json"),
        *(() if body is None else ("-d", json.dumps(body))),
        *("-w", "\n%{http_code}", f"http://podman/v1.41/{path}"),
    ).stdout
    text, _, status = said.rpartition("\n")
    return int(status), json.loads(text) if text.startswith(("{", "[")) else text


def network(name: str, subnet: str, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """What docker-compose asks for; an option of the plugin's is a label."""
    return {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": "geneve-ovs",
        "EnableIPv6": False,
        "Internal": False,
        "Attachable": False,
        "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet}]},
        "Options": None,
        "Labels": {"com.docker.compose.network": name} | (labels or {}),
        **fields,
    }


def service_container(host: Host, name: str, network: str, port: int | None = None, **endpoint: Any) -> Container:
    """A web server that tells its name, created and started; perhaps published at a port of the host."""
    body = {
        "Image": IMAGE,
        "Cmd": SERVER,
        "Env": [f"NAME={name}"],
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {
            "NetworkMode": network,
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": str(port)}]} if port else {},
        },
        "NetworkingConfig": {"EndpointsConfig": {network: endpoint}},
    }
    assert call(host, "POST", f"containers/create?name={name}", body)[0] == 201
    assert call(host, "POST", f"containers/{name}/start") == (204, "")
    return Container(host, name, address(host, name, network))


def resolve(client: Container, name: str) -> list[str]:
    """The IPv4 addresses that a container finds for a name."""
    said = client.host.run("podman", "exec", client.name, "nslookup", "-type=a", name, check=False).stdout
    return [line.split()[-1] for line in said.partition("\n\n")[2].splitlines() if line.startswith("Address")]


def test_services_on_two_hosts(fabric: Fabric) -> None:
    """The same compose file on each: options of the plugin as labels, the MTU by Docker's own name for it."""
    labels = {"geneve-ovs.vni": "77", "geneve-ovs.isolate": "false"}
    options = {"com.docker.network.driver.mtu": "1400"}
    for host in fabric.hosts:
        assert call(host, "POST", "networks/create", network("net1", SUBNET, labels, Options=options))[0] == 201

    one, other = (service_container(host, f"web{host.index}", "net1", 8080) for host in fabric.hosts)

    assert (one.address, other.address) == ("192.168.120.2", "192.168.120.34")
    assert one.link()["mtu"] == 1400
    for client, server in ((one, other), (other, one)):
        assert client.ping(server.address)
        assert fetch(client.host, server.address, 80, inside=client) == server.name
        assert fetch(client.host, server.host.address, 8080) == server.name
    for host in fabric.hosts:
        recorded = inspect(host, "net1")
        assert (recorded["options"]["vni"], recorded["options"]["isolate"]) == ("77", "false")
        status, shown = call(host, "GET", "networks/net1")
        assert status == 200
        assert shown["Options"]["vni"] == "77"
        assert shown["Labels"] == {"com.docker.compose.network": "net1", **labels}
        assert host.run("ovs-vsctl", "get", "Bridge", "ovs_net1", "external_ids:vni").stdout == '"77"\n'


def test_an_option_of_the_plugins_is_dropped_on_the_way(host: Host) -> None:
    """By Podman, with a warning that clients do not show. That is what the labels are for."""
    status, answer = call(host, "POST", "networks/create", network("net1", SUBNET, Options={"vni": "78"}))

    assert status == 201
    assert answer["Warning"] == '"vni: 78" is not a recognized option'
    assert inspect(host, "net1")["options"]["vni"] != "78"


def test_a_label_that_is_wrong(host: Host) -> None:
    """The sentence is the one that the command line shows."""
    for labels, words in (
        ({"geneve-ovs.nonsense": "1"}, ["unknown option 'nonsense'", "known options are", "vni"]),
        ({"geneve-ovs.vni": "blue"}, ["vni=blue", "must be a number from 1 to 16777215"]),
        ({"geneve-ovs.slot": "1"}, ["slot", "leave it out"]),
    ):
        status, answer = call(host, "POST", "networks/create", network("net1", SUBNET, labels))
        assert status == 500
        assert [word for word in words if word not in answer["message"]] == [], answer

    line = ("-d", "geneve-ovs", "--subnet", SUBNET, "--label", "geneve-ovs.nonsense=1", "net1")
    assert "unknown option 'nonsense'" in refusal(host, "podman", "network", "create", *line)
    assert host.run("podman", "network", "ls", "-q").stdout.split() == ["podman"]


def test_an_option_wins_over_a_label(host: Host) -> None:
    both = ("--opt", "vni=5", "--label", "geneve-ovs.vni=6", "--label", "geneve-ovs.mtu=1300")

    made = create(host, "net1", "--subnet", SUBNET, *both)

    assert (made["options"]["vni"], made["options"]["mtu"]) == ("5", "1300")
    assert made["labels"] == {"geneve-ovs.vni": "6", "geneve-ovs.mtu": "1300"}


def test_labels_of_others_are_left_alone(host: Host) -> None:
    labels = {"vni": "6", "org.example.geneve-ovs.vni": "6", "geneve-ovs": "6"}

    assert call(host, "POST", "networks/create", network("net1", SUBNET, labels))[0] == 201

    assert inspect(host, "net1")["options"]["vni"] != "6"
    assert labels.items() <= inspect(host, "net1")["labels"].items()


def test_an_address_and_a_mac_of_the_users_choice(host: Host) -> None:
    """compose's `ipv4_address` and `mac_address`; what is in another host's share is refused in a sentence."""
    create(host, "net1", "--subnet", SUBNET)

    chosen = service_container(
        host, "web", "net1", IPAMConfig={"IPv4Address": "192.168.120.20"}, MacAddress="02:00:00:12:34:56"
    )

    assert chosen.address == "192.168.120.20"
    assert chosen.link()["address"] == "02:00:00:12:34:56"
    body = {
        "Image": IMAGE,
        "HostConfig": {"NetworkMode": "net1"},
        "NetworkingConfig": {"EndpointsConfig": {"net1": {"IPAMConfig": {"IPv4Address": "192.168.120.40"}}}},
    }
    assert call(host, "POST", "containers/create?name=foreign", body)[0] == 201
    status, answer = call(host, "POST", "containers/foreign/start")
    assert status == 500
    assert "192.168.120.40 is outside 192.168.120.1-192.168.120.30" in answer["message"]


def test_a_driver_option_of_a_container_is_dropped_on_the_way(host: Host) -> None:
    """By Podman, without a word; use `podman run --network net1:vlan=30`."""
    create(host, "net1", "--subnet", SUBNET)

    service_container(host, "web", "net1", DriverOpts={"vlan": "30"})

    assert host.run("ovs-vsctl", "--bare", "--columns=name", "find", "Port", "tag=30").stdout == ""


def test_services_find_each_other_by_their_aliases(fabric: Fabric) -> None:
    """On a network that compose knows as `external`, made with podman; each host knows its own services."""
    here, there = fabric.hosts
    fabric.create("net1", "--subnet", SUBNET)

    web = service_container(here, "project-web-1", "net1", Aliases=["project-web-1", "web"])
    client = service_container(here, "project-client-1", "net1", Aliases=["project-client-1", "client"])
    far = service_container(there, "far", "net1", Aliases=["web"])

    assert [resolve(client, name) for name in ("web", "project-web-1")] == [[web.address]] * 2
    assert resolve(web, "client") == [client.address]
    assert resolve(far, "web") == [far.address]
    assert client.sh("wget -q -O - http://web/") == "project-web-1"


def test_a_network_made_by_the_api_has_names_when_a_label_says_so(host: Host) -> None:
    """Podman's API asks for them for the driver bridge only, and what it sends is what `--disable-dns` sends."""
    labels = {"geneve-ovs.dns": "true"}
    assert call(host, "POST", "networks/create", network("net1", SUBNET))[0] == 201
    assert call(host, "POST", "networks/create", network("net2", OTHER, labels))[0] == 201
    assert [inspect(host, name)["dns_enabled"] for name in ("net1", "net2")] == [False, True]

    nameless = service_container(host, "nameless", "net1", Aliases=["nameless"])
    assert "192.168.120.1" not in nameless.sh("cat /etc/resolv.conf")
    assert "aardvark" not in host.run("ps", "-e", "-o", "args=").stdout

    web = service_container(host, "web", "net2", Aliases=["www"])
    client = service_container(host, "client", "net2", Aliases=["client"])
    assert client.sh("nslookup www.dns.podman | tail -n +3 | grep -o '192[0-9.]*'") == web.address


def test_a_running_service_joins_another_network_and_leaves_it(fabric: Fabric) -> None:
    here, there = fabric.hosts
    for host in fabric.hosts:
        for name, subnet in {"net1": SUBNET, "net2": OTHER}.items():
            assert call(host, "POST", "networks/create", network(name, subnet))[0] == 201
    web, far = service_container(here, "web", "net1"), service_container(there, "far", "net2")
    endpoint = {"IPAMConfig": {"IPv4Address": "192.168.121.20"}}

    assert call(here, "POST", "networks/net2/connect", {"Container": "web", "EndpointConfig": endpoint})[0] == 200
    assert far.ping("192.168.121.20")
    assert fetch(there, "192.168.121.20", 80, inside=far) == "web"

    assert call(here, "POST", "networks/net2/disconnect", {"Container": "web", "Force": False})[0] == 200
    assert "ovs_net2" not in here.run("ovs-vsctl", "list-br").stdout.split()
    assert web.ping("192.168.120.1")


def test_an_internal_network_of_both_families(fabric: Fabric) -> None:
    config = [{"Subnet": SUBNET}, {"Subnet": "fd00:120::/64"}]
    asked: dict[str, Any] = {"EnableIPv6": True, "Internal": True, "IPAM": {"Driver": "default", "Config": config}}
    for host in fabric.hosts:
        assert call(host, "POST", "networks/create", network("net1", SUBNET, **asked))[0] == 201

    one, other = (service_container(host, f"web{host.index}", "net1") for host in fabric.hosts)

    for container in (one, other):
        assert container.host.netns_run(container.name, "ip", "route", "show", "default").stdout == ""
    assert one.ping(other.address)
    (address6,) = (found["local"] for found in other.link()["addr_info"] if found["local"].startswith("fd00:"))
    assert one.ping(address6)


def test_removing_by_the_api_leaves_nothing(host: Host) -> None:
    before = host.snapshot()
    assert call(host, "POST", "networks/create", network("net1", SUBNET))[0] == 201
    service_container(host, "web", "net1", 8080)

    assert call(host, "POST", "containers/web/kill")[0] == 204
    assert call(host, "DELETE", "containers/web")[0] == 204
    assert call(host, "DELETE", "networks/net1")[0] == 204

    assert host.snapshot() == before
