"""What the tests of netavark ask of its bridge driver, asked of the plugin through the real netavark.

Which test of netavark is which here, and what is left out and why: docs/parity.md.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Fabric, create
from .parity.netavark import Request, Sandbox, ask, attached, define, gateways, sandboxes, serving
from .wire import read, recording, wait_until

SUBNET = {4: "10.88.0.0/16", 6: "fd10:88:a::/64"}
ADDRESS = {4: "10.88.0.2", 6: "fd10:88:a::2"}  # in the slice of the first host
LOCALHOST = "127.0.0.1"
WILDCARD = {4: "0.0.0.0", 6: "::"}
OWN = {4: "own4", 6: "own6"}  # an address of the host that is none of the network's
HOST_PORT, CONTAINER_PORT = 18080, 8000


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Two hosts: one has the containers, the other is anybody outside."""
    two = make_fabric(2)
    two.configure()
    return two


@pytest.fixture
def host(fabric: Fabric) -> Host:
    return fabric.hosts[0]


@pytest.fixture
def sandbox(host: Host) -> Iterator[Sandbox]:
    """A namespace for a container."""
    with sandboxes(host, "c1") as (sandbox,):
        yield sandbox


def mapping(host_port: int, container_port: int, protocol: str = "tcp", host_ip: str = "", count: int = 1) -> Any:
    return {
        "host_ip": host_ip,
        "host_port": host_port,
        "container_port": container_port,
        "protocol": protocol,
        "range": count,
    }


@contextmanager
def sysctls(host: Host, wanted: Mapping[str, int]) -> Iterator[None]:
    """Settings of the host, by their paths below /proc/sys/net, for the length of a block."""
    before = {name: host.read(f"/proc/sys/net/{name}") for name in wanted}
    try:
        for name, value in wanted.items():
            host.write(f"/proc/sys/net/{name}", str(value))
        yield
    finally:
        for name, text in before.items():
            host.write(f"/proc/sys/net/{name}", text)


@contextmanager
def read_only_sysctls(host: Host) -> Iterator[None]:
    host.run("mount", "--bind", "-o", "ro", "/proc/sys", "/proc/sys")
    try:
        yield
    finally:
        host.run("umount", "/proc/sys")


@contextmanager
def failing(host: Host, program: str) -> Iterator[str]:
    """A directory with a program that fails."""
    host.write(f"/tmp/failing/{program}", "#!/bin/sh\necho no such luck >&2\nexit 1\n")
    host.run("chmod", "+x", f"/tmp/failing/{program}")
    try:
        yield "/tmp/failing"
    finally:
        host.run("rm", "-r", "/tmp/failing")


# One container


@pytest.mark.parametrize("mac", [None, "aa:bb:cc:dd:ee:ff"], ids=["any MAC", "a MAC of the user's choice"])
@pytest.mark.parametrize("family", [4, 6])
def test_the_answer_is_what_the_container_has(host: Host, sandbox: Sandbox, family: int, mac: str | None) -> None:
    network = define(host, "podman0", SUBNET[family])
    (gateway,) = gateways(network)
    request = Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[family]], "static_mac": mac}})

    with attached(request) as (answer,):
        (link,) = sandbox.ip("-details", "address", "show", "eth0")
        (bridge,) = json.loads(host.run("ip", "-json", "address", "show", "podman0").stdout)
        ipnet = f"{ADDRESS[family]}/{SUBNET[family].partition('/')[2]}"
        assert answer["podman0"]["interfaces"] == {
            "eth0": {"mac_address": link["address"], "subnets": [{"gateway": gateway, "ipnet": ipnet}]}
        }
        assert mac in (None, link["address"])
        assert link["linkinfo"]["info_kind"] == "veth"
        assert {"UP", "LOWER_UP"} <= set(link["flags"])
        assert ipnet in [f"{address['local']}/{address['prefixlen']}" for address in link["addr_info"]]
        assert sandbox.ip("address", "show", "lo")[0]["addr_info"][0]["local"] == LOCALHOST
        assert "UP" in bridge["flags"]
        assert bridge["address"] != link["address"]
        assert gateway in [address["local"] for address in bridge["addr_info"]]
        assert host.run("ping", "-c1", "-W2", ADDRESS[family]).returncode == 0

    assert sandbox.ip("address", "show", "scope", "global") == []
    assert host.run("ip", "link", "show", "podman0", check=False).returncode == 1


@pytest.mark.parametrize(
    ("options", "metrics"),
    [({}, [100]), ({"metric": "200"}, [200]), ({"no_default_route": "true"}, [])],
    ids=["default metric", "a metric", "no default route"],
)
def test_default_routes(host: Host, sandbox: Sandbox, options: dict[str, str], metrics: list[int]) -> None:
    network = define(host, "podman0", *SUBNET.values(), options=options)

    with attached(Request(sandbox, [network], {"podman0": {"static_ips": list(ADDRESS.values())}})):
        for family in SUBNET:
            assert [route["metric"] for route in sandbox.ip(f"-{family}", "route", "show", "default")] == metrics


STATIC = {
    4: {"10.89.0.0/24": "10.88.0.2", "10.90.0.0/24": "10.88.0.3", "10.92.0.0/24": "10.91.0.1"},
    6: {
        "fd10:89:b::/64": "fd10:88:a::ac02",
        "fd10:89:c::/64": "fd10:88:a::ac03",
        "fd10:51:b::/64": "fd10:49:b::30",
    },
}
ELSEWHERE = {4: "10.91.0.10/24", 6: "fd10:49:b::2/64"}  # an interface that the container has already


@pytest.mark.parametrize("family", [4, 6])
def test_static_routes_come_and_go(host: Host, sandbox: Sandbox, family: int) -> None:
    """Also the one that leads through an interface that is none of ours and stays."""
    sandbox.run("ip", "link", "add", "other", "type", "bridge")
    sandbox.run("ip", "address", "add", ELSEWHERE[family], "dev", "other", "nodad")
    sandbox.run("ip", "link", "set", "other", "up")
    wanted = STATIC[family]
    routes = [{"destination": destination, "gateway": gateway} for destination, gateway in wanted.items()]
    network = define(host, "podman0", SUBNET[family], routes=routes)

    def found() -> dict[str, str]:
        return {
            route["dst"]: route.get("gateway", "")
            for route in sandbox.ip(f"-{family}", "route")
            if route["dst"] in wanted
        }

    with attached(Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[family]]}})):
        assert found() == wanted
    assert found() == {}


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
@pytest.mark.parametrize("family", [4, 6])
def test_routes_to_nowhere_come_and_go(host: Host, sandbox: Sandbox, family: int, kind: str) -> None:
    """netavark knows them from version 2 on; older ones refuse the request, so the plugin is called directly."""
    nowhere, _, somewhere = STATIC[family]
    gateway = next(iter(STATIC[family].values()))
    routes = [{"destination": nowhere, "route_type": kind}, {"destination": somewhere, "gateway": gateway}]
    network = define(host, "podman0", SUBNET[family], routes=routes)
    request = Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[family]]}})

    def found() -> dict[str, str]:
        return {
            route["dst"]: route.get("type", "unicast")
            for route in sandbox.ip("-details", f"-{family}", "route")
            if route["dst"] in (nowhere, somewhere)
        }

    answer = request.call("setup")
    try:
        assert answer.returncode == 0, answer.stdout
        assert found() == {nowhere: kind, somewhere: "unicast"}
    finally:
        request.call("teardown")
    assert found() == {}


def test_without_ipam_there_is_a_link_and_no_more(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "podman0", ipam_options={"driver": "none"})

    with attached(Request(sandbox, [network])) as (answer,):
        (link,) = sandbox.ip("address", "show", "eth0")
        assert answer["podman0"]["interfaces"]["eth0"]["mac_address"] == link["address"]
        assert "UP" in link["flags"]
        assert [address for address in link["addr_info"] if address["scope"] == "global"] == []
        assert sandbox.ip("route") == []


# Published ports


@dataclass(frozen=True)
class Ports:
    """What is published, and in which families the container has an address."""

    protocol: str = "tcp"
    families: tuple[int, ...] = (4,)
    host_ip: str = ""
    count: int = 1


V4, V6, DUAL = (4,), (6,), (4, 6)
# The keys are netavark's own titles.
PORTS = {
    "port forwarding ipv4 - tcp": Ports(),
    "port forwarding ipv6 - tcp": Ports(families=V6),
    "port forwarding dualstack - tcp": Ports(families=DUAL),
    "port forwarding ipv4 - udp": Ports("udp"),
    "port forwarding ipv6 - udp": Ports("udp", V6),
    "port forwarding dualstack - udp": Ports("udp", DUAL),
    "port forwarding ipv4 - sctp": Ports("sctp"),
    "port forwarding ipv6 - sctp": Ports("sctp", V6),
    "port forwarding dualstack - sctp": Ports("sctp", DUAL),
    "port range forwarding ipv4 - tcp": Ports(count=3),
    "port range forwarding ipv6 - tcp": Ports(families=V6, count=3),
    "port range forwarding ipv4 - udp": Ports("udp", count=3),
    "port range forwarding ipv6 - udp": Ports("udp", V6, count=3),
    "port range forwarding dual - udp": Ports("udp", DUAL, count=3),
    "port range forwarding dual - tcp": Ports("tcp", DUAL, count=3),
    "port forwarding with hostip ipv4 - tcp": Ports(host_ip=OWN[4]),
    "port forwarding with hostip ipv4 dual stack - tcp": Ports(families=DUAL, host_ip=OWN[4]),
    "port forwarding with hostip ipv6 - tcp": Ports(families=V6, host_ip=OWN[6]),
    "port forwarding with hostip ipv6 dual stack - tcp": Ports(families=DUAL, host_ip=OWN[6]),
    "port forwarding with wildcard hostip ipv4 - tcp": Ports(host_ip=WILDCARD[4]),
    "port forwarding with wildcard hostip ipv4 dual stack - tcp": Ports(families=DUAL, host_ip=WILDCARD[4]),
    "port forwarding with wildcard hostip ipv6 - tcp": Ports(families=V6, host_ip=WILDCARD[6]),
    "port forwarding with wildcard hostip ipv6 dual stack - tcp": Ports(families=DUAL, host_ip=WILDCARD[6]),
    "port forwarding with hostip ipv4 - udp": Ports("udp", host_ip=OWN[4]),
    "port forwarding with hostip ipv6 - udp": Ports("udp", V6, host_ip=OWN[6]),
    "port forwarding with localhost - tcp": Ports(host_ip=LOCALHOST),
}


@pytest.mark.parametrize("case", PORTS.values(), ids=PORTS)
def test_published_ports(fabric: Fabric, sandbox: Sandbox, case: Ports) -> None:
    """They answer at the addresses where they are published and at no other, here and to others.

    netavark tries them from the host alone. SCTP is spoken in raw packets, see parity/talk.py.
    """
    here, outside = fabric.hosts
    network = define(here, "podman0", *(SUBNET[family] for family in case.families))
    gateway = dict(zip(case.families, gateways(network), strict=True))
    own = {4: here.address, 6: here.address6}
    client = {4: outside.address, 6: outside.address6}
    options = {"podman0": {"static_ips": [ADDRESS[family] for family in case.families]}}
    host_ip = {OWN[family]: own[family] for family in OWN}.get(case.host_ip, case.host_ip)
    published = mapping(HOST_PORT, CONTAINER_PORT, case.protocol, host_ip, case.count)

    def serves(address: str, family: int) -> bool:
        return family in case.families and host_ip in ("", WILDCARD[family], address)

    def answers(where: Host, address: str, family: int) -> list[int | None]:
        """The container's ports behind these of the host, the first that is not published included."""
        seconds = 5 if serves(address, family) else 1
        found = [ask(where, case.protocol, address, HOST_PORT + i, seconds) for i in range(case.count)]
        return [each and each[0] for each in [*found, ask(where, case.protocol, address, HOST_PORT + case.count, 1)]]

    def expected(address: str, family: int) -> list[int | None]:
        ports = range(CONTAINER_PORT, CONTAINER_PORT + case.count)
        return [*(ports if serves(address, family) else [None] * case.count), None]

    with (
        attached(Request(sandbox, [network], options, [published])),
        serving(sandbox, case.protocol, *range(CONTAINER_PORT, CONTAINER_PORT + case.count + 1)),
    ):
        for family in case.families:
            local = [own[family], gateway[family], *([LOCALHOST] if family == 4 else [])]
            assert {address: answers(here, address, family) for address in local} == {
                address: expected(address, family) for address in local
            }
            assert answers(outside, own[family], family) == expected(own[family], family)
            if serves(own[family], family):  # the container knows who asks
                assert ask(outside, case.protocol, own[family], HOST_PORT) == (CONTAINER_PORT, client[family])
        if serves(LOCALHOST, 4):
            assert ask(here, case.protocol, LOCALHOST, HOST_PORT) == (CONTAINER_PORT, gateway[4])


def test_a_port_in_two_protocols_and_at_two_addresses(fabric: Fabric, sandbox: Sandbox) -> None:
    here, outside = fabric.hosts
    network = define(here, "podman0", SUBNET[4])
    (gateway,) = gateways(network)
    ports = [
        mapping(HOST_PORT, CONTAINER_PORT, "tcp", here.address),
        mapping(HOST_PORT, CONTAINER_PORT + 1, "udp", here.address),
        mapping(HOST_PORT, CONTAINER_PORT + 2, "tcp", gateway),
    ]

    with (
        attached(Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[4]]}}, ports)),
        serving(sandbox, "tcp", CONTAINER_PORT, CONTAINER_PORT + 2),
        serving(sandbox, "udp", CONTAINER_PORT + 1),
    ):
        assert ask(outside, "tcp", here.address, HOST_PORT) == (CONTAINER_PORT, outside.address)
        assert ask(outside, "udp", here.address, HOST_PORT) == (CONTAINER_PORT + 1, outside.address)
        assert ask(here, "tcp", gateway, HOST_PORT) == (CONTAINER_PORT + 2, gateway)
    assert ask(outside, "tcp", here.address, HOST_PORT, 1) is None


def test_a_host_address_that_is_none_is_refused(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "podman0", SUBNET[4])
    ports = [mapping(HOST_PORT, CONTAINER_PORT, host_ip="abcd")]

    refusal = Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[4]]}}, ports).refusal()

    assert "'abcd' is not an IP address" in refusal


# Several networks


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict reverse path"])
def test_a_container_on_two_networks(fabric: Fabric, sandbox: Sandbox, strict: bool) -> None:
    """Its port is reached whichever way the answer takes; teardown ends well though both interfaces are gone."""
    here, outside = fabric.hosts
    networks = [define(here, name, subnet) for name, subnet in {"t1": "10.89.1.0/24", "t2": "10.89.2.0/24"}.items()]
    options = {"t1": {"static_ips": ["10.89.1.2"]}, "t2": {"static_ips": ["10.89.2.2"]}}
    request = Request(sandbox, networks, options, [mapping(HOST_PORT, CONTAINER_PORT)])
    filters = {f"ipv4/conf/{which}/rp_filter": 1 for which in ("all", "default") if strict}

    with sysctls(here, filters):
        for name in filters:
            sandbox.run("sh", "-c", 'echo 1 >"/proc/sys/net/$1"', "sh", name)
        with attached(request) as (answer,):
            assert set(answer) == {"t1", "t2"}
            for index in range(2):
                (link,) = sandbox.ip("-4", "address", "show", f"eth{index}")
                assert link["addr_info"][0]["local"] == f"10.89.{index + 1}.2"
            with serving(sandbox, "tcp", CONTAINER_PORT):
                for where in (here, outside):
                    assert ask(where, "tcp", here.address, HOST_PORT) == (CONTAINER_PORT, where.address)
            for index in range(2):
                sandbox.run("ip", "link", "del", f"eth{index}")
    assert ask(outside, "tcp", here.address, HOST_PORT, 1) is None


ISOLATION = {"one": "true", "two": "true", "three": "strict", "four": "strict", "five": "false", "six": None}


def may_talk(one: str | None, other: str | None) -> bool:
    """As in netavark 2, where a network is strictly isolated unless it says otherwise."""
    modes = {one or "strict", other or "strict"}
    return modes in ({"false"}, {"false", "true"})


def test_isolation_of_networks(host: Host) -> None:
    """By packets, not by rules; what is published is open to all, across networks too."""
    networks = {
        name: define(
            host,
            name,
            f"10.89.{index}.0/24",
            f"fd90:{index}::/64",
            options={} if mode is None else {"isolate": mode},
        )
        for index, (name, mode) in enumerate(ISOLATION.items())
    }
    addresses = {name: (f"10.89.{index}.2", f"fd90:{index}::2") for index, name in enumerate(ISOLATION)}
    published = [mapping(HOST_PORT, CONTAINER_PORT, protocol) for protocol in ("tcp", "udp", "sctp")]

    with sandboxes(host, *ISOLATION) as containers:
        requests = [
            Request(
                container,
                [networks[container.name]],
                {container.name: {"static_ips": addresses[container.name]}},
                published if container.name == "four" else (),
            )
            for container in containers
        ]
        with attached(*requests):
            everybody = [address for pair in addresses.values() for address in pair]
            with ThreadPoolExecutor() as pool:
                reached = list(pool.map(lambda container: container.pings(*everybody), containers))
            assert dict(zip(ISOLATION, reached, strict=True)) == {
                one: {
                    address
                    for other in ISOLATION
                    for address in addresses[other]
                    if one == other or may_talk(ISOLATION[one], ISOLATION[other])
                }
                for one in ISOLATION
            }
            _, two, three, four, *_ = containers
            for protocol in ("tcp", "udp", "sctp"):
                with serving(four, protocol, CONTAINER_PORT):
                    for client, at in ((two, gateways(networks["one"])[0]), (three, gateways(networks["one"])[1])):
                        answer = ask(client, protocol, at, HOST_PORT)
                        assert answer is not None, f"{protocol} from {client.name} to {at}"
                        assert answer[0] == CONTAINER_PORT


def test_the_last_container_takes_the_bridge_along(host: Host) -> None:
    network = define(host, "podman0", SUBNET[4])
    settings = "/run/sysctl.d/10-geneve-ovs-podman0.conf"

    def left() -> tuple[bool, bool]:
        """Whether the bridge and its settings are there."""
        bridge = host.run("ip", "link", "show", "podman0", check=False)
        return bridge.returncode == 0, host.run("test", "-e", settings, check=False).returncode == 0

    with sandboxes(host, "c1", "c2") as containers:
        one, other = (
            Request(container, [network], {"podman0": {"static_ips": [f"10.88.0.{index}"]}})
            for index, container in enumerate(containers, start=2)
        )
        with attached(one):
            written = host.read(settings)
            with attached(other):
                assert host.read(settings) == written
            assert left() == (True, True)
            assert containers[0].pings(gateways(network)[0])
        assert left() == (False, False)


# The way out


@pytest.mark.parametrize("family", [4, 6])
def test_an_outbound_address(fabric: Fabric, sandbox: Sandbox, family: int) -> None:
    here, outside = fabric.hosts
    source = {4: "192.168.0.200", 6: "fd00:192:168::200"}[family]
    server = {4: outside.address, 6: outside.address6}[family]
    network = define(here, "podman0", SUBNET[family], options={f"outbound_addr{family}": source})
    here.run("ip", "address", "add", f"{source}/{24 if family == 4 else 64}", "dev", "br-phy", "nodad")
    try:
        with (
            attached(Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[family]]}})),
            serving(outside, "tcp", CONTAINER_PORT),
        ):
            assert ask(sandbox, "tcp", server, CONTAINER_PORT) == (CONTAINER_PORT, source)
    finally:
        here.run("ip", "address", "flush", "dev", "br-phy", "to", source)


def test_an_internal_network_publishes_nothing(fabric: Fabric, sandbox: Sandbox) -> None:
    here, outside = fabric.hosts
    network = define(here, "podman0", SUBNET[4], internal=True)
    options = {"podman0": {"static_ips": [ADDRESS[4]]}}

    with attached(Request(sandbox, [network], options, [mapping(HOST_PORT, CONTAINER_PORT)])):
        assert sandbox.ip("route", "show", "default") == []
        assert "netavark_geneve" not in here.run("nft", "list", "tables").stdout
        with serving(sandbox, "tcp", CONTAINER_PORT):
            assert ask(outside, "tcp", here.address, HOST_PORT, 1) is None


# Names


@pytest.mark.parametrize("port", ["53", "10053"])
@pytest.mark.parametrize("internal", [False, True], ids=["", "internal"])
def test_names(host: Host, internal: bool, port: str) -> None:
    """Each gateway of the network answers, whatever the port behind it; with the last container all is gone."""
    network = define(host, "podman0", *SUBNET.values(), dns_enabled=True, internal=internal)
    addresses = {"c1": {"10.88.0.2", "fd10:88:a::2"}, "c2": {"10.88.0.3", "fd10:88:a::3"}}

    with sandboxes(host, *addresses) as containers:
        requests = [
            Request(
                container,
                [network],
                {"podman0": {"static_ips": sorted(addresses[container.name]), "aliases": [f"alias-{container.name}"]}},
                env={"NETAVARK_DNS_PORT": port},
            )
            for container in containers
        ]
        with attached(*requests) as answers:
            for answer in answers:
                assert answer["podman0"]["dns_server_ips"] == gateways(network)
            for server in gateways(network):
                for name in ("c2", "c2.dns.podman", "alias-c2"):
                    assert containers[0].resolves(name, server) == addresses["c2"], (name, server)
                assert containers[0].resolves("c3.dns.podman", server) == set()
            assert bool(containers[0].ip("route", "show", "default")) is not internal


def test_names_that_are_none_are_left_out(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "podman0", SUBNET[4], dns_enabled=True)
    aliases = ["valid", "space 1", "comma,1", "newline\n2"]
    request = Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[4]], "aliases": aliases}})
    (server,) = gateways(network)

    with attached(request):
        assert [sandbox.resolves(name, server) for name in ("c1", "valid")] == [{ADDRESS[4]}] * 2
        pieces = [f"{piece}.dns.podman" for piece in ("space", "comma", "newline", "1", "2")]
        assert [sandbox.resolves(name, server) for name in pieces] == [set()] * len(pieces)


# A firewall of the host


@pytest.fixture
def firewalld(host: Host) -> Iterator[None]:
    host.start_firewalld()
    yield
    host.stop_firewalld()


@pytest.mark.parametrize("watch", [False, True], ids=["by hand", "watched"])
def test_firewalld(fabric: Fabric, sandbox: Sandbox, firewalld: None, watch: bool) -> None:
    """It lets in what is published, and queries for names, also after a reload."""
    here, outside = fabric.hosts
    network = create(here, "net1", "--subnet", SUBNET[4])  # by Podman, which is asked for it by the reload
    options = {"net1": {"static_ips": [ADDRESS[4]]}}
    (gateway,) = gateways(network)

    def is_open() -> bool:
        zone = here.run("firewall-cmd", "--zone=trusted", "--list-sources").stdout.split()
        answer = ask(outside, "tcp", here.address, HOST_PORT)
        return (
            answer == (CONTAINER_PORT, outside.address)
            and zone == [SUBNET[4]]
            and sandbox.resolves("c1", gateway) == {ADDRESS[4]}
        )

    with ExitStack() as stack:
        stack.enter_context(attached(Request(sandbox, [network], options, [mapping(HOST_PORT, CONTAINER_PORT)])))
        stack.enter_context(serving(sandbox, "tcp", CONTAINER_PORT))
        assert is_open()
        if watch:
            said = stack.enter_context(recording(here, "netavark-geneve", "reload", "--watch"))
            wait_until(lambda: "restored" in read(said), "the first reload of those that are watched for")
        here.run("firewall-cmd", "--reload")
        if not watch:
            here.run("netavark-geneve", "reload")
        wait_until(is_open, "firewalld to trust the network again")
    assert here.run("firewall-cmd", "--zone=trusted", "--list-sources").stdout.split() == []


# What goes wrong


def test_a_proc_that_is_read_only(host: Host, sandbox: Sandbox) -> None:
    """It does no harm as long as every setting has its value already."""
    network = define(host, "podman0", SUBNET[4])
    request = Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[4]]}})
    inherited = {"ipv4/conf/default/rp_filter": 2, "ipv4/conf/default/route_localnet": 1}
    inside = {
        "ipv4/conf/default/rp_filter": 2,
        "ipv4/conf/default/arp_notify": 1,
        "ipv6/conf/default/disable_ipv6": 1,
    }
    for name, value in inside.items():
        sandbox.run("sh", "-c", 'echo "$2" >"/proc/sys/net/$1"', "sh", name, str(value))

    with sysctls(host, inherited):
        with read_only_sysctls(host), attached(request):
            assert sandbox.pings(gateways(network)[0])
        with sysctls(host, {"ipv4/ip_forward": 0}), read_only_sysctls(host):
            refusal = request.refusal()

    assert "ip_forward" in refusal
    assert "Read-only file system" in refusal


def test_ipv6_that_is_switched_off_on_the_host(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "podman0", SUBNET[6])

    with sysctls(host, {"ipv6/conf/default/disable_ipv6": 1}):
        refusal = Request(sandbox, [network], {"podman0": {"static_ips": [ADDRESS[6]]}}).refusal()

    assert "IPv6" in refusal


@pytest.mark.cold(reason="a helper looks for nft on its own PATH")
def test_what_nft_says_is_passed_on(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "podman0", SUBNET[4])
    options = {"podman0": {"static_ips": [ADDRESS[4]]}}

    with failing(host, "nft") as directory:
        refusal = Request(sandbox, [network], options, env={"PATH": f"{directory}:/usr/sbin:/usr/bin"}).refusal()

    assert "no such luck" in refusal


def test_a_resolver_that_does_not_start_leaves_nothing(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "podman0", *SUBNET.values(), dns_enabled=True)
    options = {"podman0": {"static_ips": list(ADDRESS.values())}}

    with failing(host, "aardvark-dns") as directory:
        refusal = Request(sandbox, [network], options, env={"CONTAINERS_HELPER_BINARY_DIR": directory}).refusal()

    assert "aardvark-dns" in refusal
    assert "no such luck" in refusal


def test_a_namespace_that_is_gone_takes_its_ports_along(fabric: Fabric) -> None:
    """netavark calls for such a teardown from version 2.1 on; older ones give up, so the plugin is called directly."""
    here, outside = fabric.hosts
    network = define(here, "podman0", SUBNET[4])
    options = {"podman0": {"static_ips": [ADDRESS[4]]}}

    with sandboxes(here, "c1") as (container,):
        request = Request(container, [network], options, [mapping(HOST_PORT, CONTAINER_PORT)])
        request.setup()
        here.run("ip", "netns", "del", "c1")
        gone = request.call("teardown")
        here.run("ip", "netns", "add", "c1")

    assert gone.returncode == 0, gone.stdout
    assert ask(outside, "tcp", here.address, HOST_PORT, 1) is None
    assert "netavark_geneve" not in here.run("nft", "list", "tables").stdout
