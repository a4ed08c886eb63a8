"""The options of Podman's bridge driver, at a network whose bridge is one of Open vSwitch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import IMAGE, Fabric, create, plugin_error, refusal, run, unreachable
from .parity.netavark import Request, Sandbox, define, sandboxes
from .web import fetch, serve
from .wire import BROADCAST, ETHERTYPE, SEND, listen, mac, wait_until

SUBNET = ("--subnet", "192.168.120.0/24")
OTHER = ("--subnet", "192.168.121.0/24")
OWN = "br-own"  # a bridge of the user's
UNMANAGED = ("--opt", "mode=unmanaged", "--interface-name", OWN)
VLAN_TYPE = 0x8100  # IEEE 802.1Q
ROUNDS = 4


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Two hosts that know each other by fabric.toml."""
    two = make_fabric(2)
    two.configure()
    return two


@pytest.fixture
def host(fabric: Fabric) -> Host:
    return fabric.hosts[0]


@pytest.fixture
def sandbox(host: Host) -> Iterator[Sandbox]:
    """A namespace for a container that Podman does not know."""
    with sandboxes(host, "c1") as (sandbox,):
        yield sandbox


@pytest.fixture
def bridges(fabric: Fabric) -> Iterator[Fabric]:
    """A bridge of the user's on each host; when the containers are gone it is as it was before they came."""
    fabric.each(lambda host: host.run("ovs-vsctl", "add-br", OWN, "--", "set", "Bridge", OWN, "datapath_type=netdev"))
    try:
        before = fabric.each(Host.snapshot)
        yield fabric
        fabric.each(lambda host: host.run("podman", "rm", "-fa", "-t0"))
        assert fabric.each(Host.snapshot) == before
    finally:
        fabric.each(lambda host: host.sh('podman rm -fa -t0 >&2; ovs-vsctl del-br "$1"', OWN))


# VLANs


def test_the_vlan_of_a_network(fabric: Fabric) -> None:
    """All of it is in there, this host's gateway too, and the tag has its place in the tunnels' packets."""
    networks = fabric.create("net1", *SUBNET, "--opt", "vlan=20")

    one, other = fabric.run("net1")

    assert [network["options"]["mtu"] for network in networks] == ["1446", "1446"]
    assert [container.link()["mtu"] for container in (one, other)] == [1446, 1446]
    assert unreachable([one, other], "-M", "do", "-s", "1418") == []  # 1446 less the headers of IP and ICMP
    assert all(one.ping(gateway) for gateway in ("192.168.120.1", "192.168.120.33"))
    for host in fabric.hosts:
        assert host.run("ovs-vsctl", "get", "Port", "ovs_net1", "tag").stdout == "20\n"
        assert [tag for _, tag in container_ports(host)] == [20]
    serve(one.host, "net1", "-p", "8080:80", name="web")
    assert fetch(other.host, one.host.address, 8080) == "web"


def test_the_vlan_of_a_container_sets_it_apart(fabric: Fabric) -> None:
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET, "--opt", "vlan=20")
    rest = fabric.run("net1")
    apart = [run(here, "net1:vlan=30", name="apart0"), run(there, "net1:vlan=30", name="apart1")]
    untagged = [run(here, "net1:vlan=0", name="untagged0"), run(there, "net1:vlan=0", name="untagged1")]

    assert [unreachable(group) for group in (rest, apart, untagged)] == [[], [], []]
    for one, other in ((apart[0], rest[0]), (apart[0], rest[1]), (apart[0], untagged[0]), (untagged[0], rest[1])):
        assert not one.ping(other.address, "-W1"), f"{one.name} -> {other.name}"
    assert not apart[0].ping("192.168.120.1", "-W1")  # the gateway is in the network's VLAN


def test_a_tag_has_its_place_in_the_tunnel_also_where_only_a_container_has_one(fabric: Fabric) -> None:
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET)

    client, web = run(here, "net1:vlan=30", name="client"), serve(there, "net1:vlan=30", name="web")

    assert client.ping(web.address)
    largest = client.link()["mtu"] - 28
    assert client.ping(web.address, "-M", "do", "-s", str(largest)), f"{largest} bytes do not arrive"


@pytest.mark.parametrize(
    ("options", "untagged"), [((), "net1"), (("--opt", "vlan=20"), "net1:vlan=0")], ids=["", "of another VLAN"]
)
def test_an_untagged_container_neither_hears_nor_speaks_in_a_vlan(
    fabric: Fabric, options: tuple[str, ...], untagged: str
) -> None:
    """Neither by accident, in broadcasts, nor on purpose, with tags that it writes itself."""
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET, *options)
    one, other = run(here, "net1:vlan=30", name="one"), run(there, "net1:vlan=30", name="other")
    eve, friend = run(here, untagged, name="eve"), run(there, untagged, name="friend")
    forged = b"a frame that eve tagged"
    frame = b"".join(
        [mac(BROADCAST), mac(eve.link()["address"]), VLAN_TYPE.to_bytes(2), (30).to_bytes(2), ETHERTYPE.to_bytes(2)]
    )

    with listen([one, other, eve, friend], "vlan") as wire:
        secret = wire.send(one, BROADCAST)
        here.netns_run("eve", "python3", "-c", SEND, "eth0", (frame + forged).ljust(60, b"\0").hex())
        # What comes behind these frames, on the same ways.
        last = {name: wire.send(container, BROADCAST) for name, container in (("one", one), ("friend", friend))}
        wait_until(lambda: wire.copies(last["one"])["other"] == 1, "the end of VLAN 30")
        wait_until(lambda: wire.copies(last["friend"])["eve"] == 1, "the end outside it")

        assert wire.copies(secret) == {"one": 0, "other": 1, "eve": 0, "friend": 0}
        assert wire.copies(forged) == {"one": 0, "other": 0, "eve": 0, "friend": 0}


def test_no_such_vlan(host: Host) -> None:
    words = ["vlan=4095", "must be a number from 0 to 4094"]
    line = ("podman", "network", "create", "-d", "geneve-ovs", *SUBNET, "--opt", "vlan=4095", "net1")
    assert_says(refusal(host, *line), words)
    create(host, "net1", *SUBNET)
    assert_says(refused(host, "net1:vlan=4095"), words)


# A bridge of the user's own


def test_a_bridge_of_the_users_own_is_left_as_it_is(bridges: Fabric) -> None:
    """Containers come and go; of the bridge only the ports change, and the host routes nothing of it."""
    host = bridges.hosts[0]
    before = described(host)
    network = create(host, "net1", *SUBNET, *UNMANAGED, "--opt", "datapath_type=netdev")
    assert network["network_interface"] == OWN
    assert {"vni", "isolate"} & set(network["options"]) == set()

    one, other = run(host, "net1", name="one"), run(host, "net1", name="other")

    assert unreachable([one, other]) == []
    assert described(host) == before
    assert host.run("ip", "-brief", "address", "show", OWN).stdout.split()[2:] == []
    assert sorted(host.run("ovs-vsctl", "list-ports", OWN).stdout.split()) == [
        name for name, _ in container_ports(host)
    ]
    assert "netavark_geneve" not in host.run("nft", "list", "tables").stdout
    host.run("podman", "rm", "-fa", "-t0")
    assert described(host) == before


def test_what_is_attached_by_hand_is_reached(bridges: Fabric) -> None:
    """The peer host by a GENEVE port as the manual procedure has it, and an interface of this host."""
    here, there = bridges.hosts
    bridges.create("net1", *SUBNET, *UNMANAGED)
    client, web = run(here, "net1", name="client"), serve(there, "net1", name="web")

    with tunnels_by_hand(bridges), veth_by_hand(here, "192.168.120.250/24"):
        wait_until(lambda: client.ping(web.address), "the tunnel")
        assert fetch(here, web.address, 80, inside=client) == "web"
        assert web.ping("192.168.120.250")


def test_the_datapath_of_the_users_bridge_counts(bridges: Fabric) -> None:
    """Checksums that are left to the hardware do not pass a userspace datapath: ping works, and TCP stalls."""
    here, there = bridges.hosts
    bridges.configure(datapath_type="")
    bridges.create("net1", *SUBNET, *UNMANAGED)
    client, web = run(here, "net1", name="client"), serve(there, "net1", name="web")

    with tunnels_by_hand(bridges):
        wait_until(lambda: client.ping(web.address), "the tunnel")
        assert fetch(here, web.address, 80, inside=client) == "web"


def test_two_networks_may_share_a_bridge_of_the_users_own(bridges: Fabric) -> None:
    host = bridges.hosts[0]
    create(host, "net1", *SUBNET, *UNMANAGED)
    create(host, "net2", *OTHER, *UNMANAGED)

    pair = [run(host, "net1", name="c1"), run(host, "net1", name="c2")]
    run(host, "net2", name="c3")
    assert [bridge for bridge, _ in container_bridges(host)] == [OWN] * 3
    host.run("podman", "rm", "-f", "-t0", "c3")

    assert unreachable(pair) == []


def test_a_bridge_that_nobody_has_made(host: Host) -> None:
    create(host, "net1", *SUBNET, *UNMANAGED)
    before = host.snapshot()

    sentence = refused(host, "net1")

    assert_says(sentence, [f"no Open vSwitch bridge {OWN}", "mode=unmanaged", f"ovs-vsctl add-br {OWN}"])
    assert host.snapshot() == before


def test_a_bridge_that_is_another_networks(host: Host) -> None:
    """It would go with the other network's last container, or, kept by ours, never."""
    create(host, "net1", *SUBNET)
    line = ("-d", "geneve-ovs", *OTHER, "--opt", "mode=unmanaged", "--interface-name", "ovs_net1", "net2")

    assert_says(refusal(host, "podman", "network", "create", *line), ["ovs_net1", "network net1"])


@pytest.mark.parametrize("option", ["isolate=true", "vni=5", "vrf=blue", "outbound_addr4=192.168.0.10"])
def test_what_is_the_owners_business_on_a_bridge_of_the_users_own(host: Host, option: str) -> None:
    line = ("podman", "network", "create", "-d", "geneve-ovs", *SUBNET, *UNMANAGED, "--opt", option, "net1")

    assert_says(refusal(host, *line), [option.partition("=")[0], "no effect", "mode=unmanaged", "leave it out"])


# The name of the host's end


def test_the_hosts_end_has_a_name_of_the_users_choice(fabric: Fabric) -> None:
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET)

    web, far = run(here, "net1:host_interface_name=web0", name="web"), run(there, "net1", name="far")

    (shown,) = json.loads(here.run("ip", "-json", "-details", "link", "show", "web0").stdout)
    assert shown["linkinfo"]["info_kind"] == "veth"
    assert here.run("ovs-vsctl", "iface-to-br", "web0").stdout == "ovs_net1\n"
    assert far.ping(web.address)
    here.run("podman", "rm", "-f", "-t0", "web")
    assert not has_link(here, "web0")


def test_a_name_that_an_interface_of_the_host_has(host: Host) -> None:
    """Who has it keeps it."""
    create(host, "net1", *SUBNET)
    host.run("ip", "link", "add", "own0", "type", "bridge")
    try:
        assert_says(refused(host, "net1:host_interface_name=own0"), ["own0", "already", "choose another"])
        assert has_link(host, "own0")
    finally:
        host.run("ip", "link", "del", "own0", check=False)


def test_a_name_that_another_container_has(fabric: Fabric) -> None:
    """Who has it stays on the network."""
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET)
    web, far = run(here, "net1:host_interface_name=web0", name="web"), run(there, "net1", name="far")

    assert_says(refused(here, "net1:host_interface_name=web0"), ["web0", "already", "choose another"])

    assert far.ping(web.address)


RUN_WEB = f"podman run -d --name web --network net1:host_interface_name=web0 --ip 192.168.120.9 {IMAGE} sleep 1000"
AGAIN = {
    "removed and run": ("podman rm -f -t0 web", RUN_WEB),
    "restarted": ("podman restart -t0 web",),
    "reloaded": ("podman network reload web",),
}


@pytest.mark.parametrize("commands", AGAIN.values(), ids=AGAIN)
def test_a_name_that_is_used_again_at_once(fabric: Fabric, commands: tuple[str, ...]) -> None:
    """ovs-vswitchd knows devices by name, and must not take the new one for the old; only a ping tells."""
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET)
    far = run(there, "net1", name="far")
    here.run(*RUN_WEB.split())

    for number in range(ROUNDS):
        for command in commands:
            here.run(*command.split())
        assert far.ping("192.168.120.9"), f"round {number} of {ROUNDS}"


def test_a_name_that_a_crash_has_left_in_the_switch(host: Host, sandbox: Sandbox) -> None:
    """After a reboot Open vSwitch still has the port; the container that was there never comes back for it."""
    network = create(host, "net1", *SUBNET)
    lost = Request(
        sandbox, [network], {"net1": {"static_ips": ["192.168.120.9"], "options": {"host_interface_name": "web0"}}}
    )
    assert lost.call("setup").returncode == 0
    try:
        host.run("ip", "netns", "del", sandbox.name)
        wait_until(lambda: not has_link(host, "web0"), "the interface to go with its namespace")

        web = run(host, "net1:host_interface_name=web0", name="web")

        assert web.ping("192.168.120.1")
    finally:
        lost.call("teardown")


# Docker's names of options


def test_options_by_the_names_that_docker_gave_them(fabric: Fabric) -> None:
    docker = ("--opt", "com.docker.network.driver.mtu=1400", "--opt", "com.docker.network.bridge.name=mybr")

    networks = fabric.create("net1", *SUBNET, *docker)
    one, other = fabric.run("net1")

    assert [network["network_interface"] for network in networks] == ["mybr", "mybr"]
    assert [network["options"]["mtu"] for network in networks] == ["1400", "1400"]
    assert all("docker" not in key for network in networks for key in network["options"])
    assert one.link()["mtu"] == 1400
    assert one.ping(other.address)
    assert "mybr" in one.host.run("ovs-vsctl", "list-br").stdout.split()


# Without addresses


def test_without_addresses_a_network_is_a_switch_and_no_more(fabric: Fabric) -> None:
    here, there = fabric.hosts
    networks = fabric.create("net1", "--ipam-driver", "none")
    one, other = run(here, "net1", name="one"), run(there, "net1", name="other")

    for network, container in zip(networks, (one, other), strict=True):
        assert not network.get("subnets")
        assert network["ipam_options"] == {"driver": "none"}
        assert container.address == ""
        link = container.link()
        assert (link["addr_info"], link["mtu"], link["operstate"]) == ([], 1450, "UP")
        assert container.host.netns_run(container.name, "ip", "route").stdout == ""
        assert "netavark_geneve" not in container.host.run("nft", "list", "tables").stdout
        assert container.host.run("ip", "-brief", "address", "show", "ovs_net1").stdout.split()[2:] == []

    there.netns_run("other", "ip", "address", "add", "10.5.0.2/24", "dev", "eth0")
    for again in (None, "network reload one", "restart -t0 one"):
        if again:
            here.run("podman", *again.split())
            assert one.link()["addr_info"] == []
        here.netns_run("one", "ip", "address", "add", "10.5.0.1/24", "dev", "eth0")
        assert one.ping("10.5.0.2", "-M", "do", "-s", "1422"), again


def test_without_addresses_but_with_ipv6(fabric: Fabric) -> None:
    """`--ipv6`, as IPv6 is off in a container otherwise."""
    fabric.create("net1", "--ipam-driver", "none", "--ipv6")
    one, other = fabric.run("net1")
    for number, container in enumerate((one, other), 1):
        address = ("ip", "address", "add", f"fd00:5::{number}/64", "dev", "eth0", "nodad")
        container.host.netns_run(container.name, *address)

    assert one.ping("fd00:5::2")


def test_addresses_by_dhcp_are_refused(host: Host) -> None:
    said = refusal(host, "podman", "network", "create", "-d", "geneve-ovs", "--ipam-driver", "dhcp", "net1")

    assert_says(said, ["'dhcp'", "not supported", "host-local", "none"])


# Routes


def test_a_vrf_that_is_missing(host: Host) -> None:
    """The refusal only. The way that works NEEDS A KERNEL WITH VRF, WHICH THE LAB'S IS NOT: IT IS NOT SHOWN HERE.

    Neither is that a bridge of this name is taken for no VRF undone: it stays, and stays out of use.
    """
    create(host, "net1", *SUBNET, "--opt", "vrf=nosuch")
    before = host.snapshot()

    assert_says(refused(host, "net1"), ["nosuch", "no VRF", "ip link add nosuch type vrf table"])

    assert host.snapshot() == before
    host.run("ip", "link", "add", "nosuch", "type", "bridge")
    try:
        assert_says(refused(host, "net1"), ["nosuch", "no VRF"])
        assert has_link(host, "nosuch")
    finally:
        host.run("ip", "link", "del", "nosuch")


def test_a_static_route_with_its_metric(host: Host) -> None:
    create(host, "net1", *SUBNET, "--route", "10.1.0.0/16,192.168.120.1,50")
    run(host, "net1", name="c")

    (route,) = json.loads(host.netns_run("c", "ip", "-json", "route", "show", "10.1.0.0/16").stdout)

    assert (route["gateway"], route["dev"], route["metric"]) == ("192.168.120.1", "eth0", 50)


def test_routes_to_nowhere(host: Host, sandbox: Sandbox) -> None:
    """Podman 5.4 has no word for them, so the plugin is called as a later one will."""
    kinds = {"10.2.0.0/16": "blackhole", "10.3.0.0/16": "unreachable", "10.4.0.0/16": "prohibit"}
    routes: list[dict[str, Any]] = [{"destination": to, "route_type": kind} for to, kind in kinds.items()]
    routes[1]["metric"] = 7
    routes.append({"destination": "10.1.0.0/16", "gateway": "192.168.120.1", "metric": 50})
    network = define(host, "net1", "192.168.120.0/24", routes=routes)
    request = Request(sandbox, [network], {"net1": {"static_ips": ["192.168.120.2"]}})

    def found() -> dict[str, tuple[str, int]]:
        shown = sandbox.ip("-details", "route")
        return {route["dst"]: (route["type"], route["metric"]) for route in shown if route["dst"].startswith("10.")}

    answer = request.call("setup")
    try:
        assert answer.returncode == 0, answer.stdout
        assert found() == {
            "10.1.0.0/16": ("unicast", 50),
            "10.2.0.0/16": ("blackhole", 100),
            "10.3.0.0/16": ("unreachable", 7),
            "10.4.0.0/16": ("prohibit", 100),
        }
    finally:
        request.call("teardown")
    assert found() == {}


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"route_type": "blackhole", "gateway": "192.168.120.1"}, ["blackhole", "no gateway"]),
        ({}, ["needs a gateway"]),
        ({"route_type": "throw"}, ["'throw'", "unicast, blackhole, unreachable, prohibit"]),
        ({"gateway": "fd00:120::1"}, ["fd00:120::1", "IPv4 and IPv6"]),
    ],
    ids=["to nowhere by a gateway", "by nothing", "of an unknown kind", "by a gateway of another family"],
)
def test_a_route_that_makes_no_sense(host: Host, sandbox: Sandbox, route: dict[str, str], words: list[str]) -> None:
    """Also where it got into the network behind the back of `create`."""
    network = define(host, "net1", "192.168.120.0/24")
    network["routes"] = [{"destination": "10.2.0.0/16", **route}]
    request = Request(sandbox, [network], {"net1": {"static_ips": ["192.168.120.2"]}})

    assert_says(plugin_error(request.call("setup")), words)
    assert sandbox.ip("link") == sandbox.ip("link", "show", "lo")


def test_the_default_route_is_by_the_network_of_the_lower_metric(host: Host) -> None:
    """Whichever network comes first."""
    create(host, "far", *SUBNET, "--opt", "metric=200")
    create(host, "near", *OTHER, "--opt", "metric=50")
    create(host, "without", "--subnet", "192.168.122.0/24", "--opt", "metric=10", "--opt", "no_default_route=true")

    for name, networks in {"c1": ("far", "near", "without"), "c2": ("without", "near", "far")}.items():
        run(host, networks[0], "--network", networks[1], "--network", networks[2], name=name)
        (way,) = json.loads(host.netns_run(name, "ip", "-json", "route", "get", "198.51.100.1").stdout)
        assert way["gateway"] == "192.168.121.1", networks


def test_several_addresses_of_one_subnet(host: Host, sandbox: Sandbox) -> None:
    network = define(host, "net1", "192.168.120.0/24", "fd00:120::/64")
    addresses = ["192.168.120.5", "192.168.120.6", "fd00:120::5", "fd00:120::6"]
    request = Request(sandbox, [network], {"net1": {"static_ips": addresses}})

    answer = request.call("setup")
    try:
        assert answer.returncode == 0, answer.stdout
        told = json.loads(answer.stdout)["interfaces"]["eth0"]["subnets"]
        assert [subnet["ipnet"].partition("/")[0] for subnet in told] == addresses
        (link,) = sandbox.ip("address", "show", "eth0")
        has = sorted(address["local"] for address in link["addr_info"] if address["scope"] == "global")
        assert has == addresses
        for address in addresses:
            assert host.run("ping", "-n", "-q", "-c1", "-W2", address, check=False).returncode == 0, address
    finally:
        request.call("teardown")


def refused(host: Host, network: str) -> str:
    """What `podman run` says on a network that it cannot be on; it leaves no container."""
    return refusal(host, "podman", "run", "--rm", "--network", network, IMAGE, "true")


def assert_says(sentence: str, words: list[str]) -> None:
    assert [word for word in words if word not in sentence] == [], sentence
    assert len(sentence.splitlines()) == 1, sentence


def has_link(host: Host, name: str) -> bool:
    return host.run("ip", "link", "show", name, check=False).returncode == 0


def container_ports(host: Host) -> list[tuple[str, int | None]]:
    """The names and tags of all containers' ports, sorted by name."""
    find = ("ovs-vsctl", "--format=json", "--columns=name,tag", "find", "Port", "external_ids:role=container")
    rows = json.loads(host.run(*find).stdout)["data"]
    return sorted((name, tag if isinstance(tag, int) else None) for name, tag in rows)


def container_bridges(host: Host) -> list[tuple[str, str]]:
    """The bridge of each container's port."""
    return [(host.run("ovs-vsctl", "port-to-br", name).stdout.strip(), name) for name, _ in container_ports(host)]


def described(host: Host) -> dict[str, Any]:
    """All that the database has on the user's bridge and its own port, but for the list of its ports."""
    listed: dict[str, Any] = {}
    for table, wanted in {
        "Bridge": "_uuid,name,datapath_type,external_ids,other_config,fail_mode,protocols,controller",
        "Port": "_uuid,name,tag,trunks,protected,external_ids,other_config",
        "Interface": "_uuid,name,type,options,mtu_request,external_ids,other_config",
    }.items():
        columns = ("ovs-vsctl", "--format=json", f"--columns={wanted}", "list", table, OWN)
        listed[table] = json.loads(host.run(*columns).stdout)["data"]
    return listed


@contextmanager
def tunnels_by_hand(fabric: Fabric) -> Iterator[None]:
    """A GENEVE port on each of two hosts to the other, as an administrator makes it."""
    here, there = fabric.hosts
    for host, peer in ((here, there), (there, here)):
        interface = ("set", "Interface", "to_peer", "type=geneve", f"options:remote_ip={peer.address}")
        host.run("ovs-vsctl", "add-port", OWN, "to_peer", "--", *interface)
    try:
        yield
    finally:
        fabric.each(lambda host: host.run("ovs-vsctl", "del-port", OWN, "to_peer"))


@contextmanager
def veth_by_hand(host: Host, address: str) -> Iterator[None]:
    """An interface of the host's on the user's bridge, with an address."""
    try:
        host.sh(
            "ip link add own0 type veth peer name own1; ethtool -K own1 tx off >&2;"
            ' ip address add "$2" dev own1; ip link set own0 up; ip link set own1 up; ovs-vsctl add-port "$1" own0',
            *(OWN, address),
        )
        yield
    finally:
        host.sh('ovs-vsctl --if-exists del-port "$1" own0; ip link del own0', OWN)
