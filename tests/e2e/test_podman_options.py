"""What users know of Podman's networks means the same here."""

import json
from typing import Any

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import IMAGE, Container, Fabric, refusal, run

SUBNET = ("--subnet", "192.168.120.0/24")
ROUNDS = 5


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Two hosts that know each other by fabric.toml."""
    two = make_fabric(2)
    two.configure()
    return two


def test_an_address_of_the_users_choice(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)
    here, there = fabric.hosts

    chosen = run(here, "net1", "--ip", "192.168.120.20", name="c1")
    by_option = run(here, "net1:ip=192.168.120.21", name="c2")

    assert (chosen.address, by_option.address) == ("192.168.120.20", "192.168.120.21")
    assert addresses(chosen.link()) == ["192.168.120.20/24"]
    assert run(there, "net1", name="c3").ping("192.168.120.20")


def test_the_mac_is_derived_from_the_address_or_chosen(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)
    here, there = fabric.hosts

    derived = run(here, "net1", "--ip", "192.168.120.20", name="c1")
    chosen = run(here, "net1", "--mac-address", "02:00:00:12:34:56", name="c2")

    assert derived.link()["address"] == "0a:58:c0:a8:78:14"
    assert chosen.link()["address"] == "02:00:00:12:34:56"
    assert inspected(chosen)["MacAddress"] == "02:00:00:12:34:56"
    assert run(there, "net1", name="c3").ping(chosen.address)
    assert_refused(here, ("--mac-address", "03:00:00:12:34:56"), ["03:00:00:12:34:56", "unicast MAC address"])


def test_names_of_interfaces(fabric: Fabric) -> None:
    networks = fabric.create("net1", *SUBNET, "--interface-name", "blue")
    here, there = fabric.hosts

    one, other = run(here, "net1:interface_name=foo0", name="c1"), run(there, "net1", name="c2")

    assert [network["network_interface"] for network in networks] == ["blue", "blue"]
    assert addresses(one.link("foo0")) == [f"{one.address}/24"]
    assert one.ping(other.address, "-I", "foo0")
    assert "blue" in here.run("ovs-vsctl", "list-br").stdout.split()
    assert addresses(link(here, "blue"), "global") == ["192.168.120.1/24"]
    assert_refused(
        here, ("--network", "net1:interface_name=sixteen-letters-"), ["'sixteen-letters-'", "1 to 15 letters"]
    )


def test_a_range_of_the_users_choice(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(1)
    fabric.configure()

    (network,) = fabric.create("net1", *SUBNET, "--ip-range", "192.168.120.208/29")

    assert network["subnets"][0]["gateway"] == "192.168.120.209"
    (container,) = fabric.run("net1")
    assert container.address == "192.168.120.210"
    assert container.ping("192.168.120.209")


def test_a_gateway_in_this_hosts_slice_is_on_the_bridge(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(1)
    fabric.configure()
    fabric.create("net1", *SUBNET, "--gateway", "192.168.120.5")

    (container,) = fabric.run("net1")

    assert addresses(link(fabric.hosts[0], "ovs_net1"), "global") == ["192.168.120.5/24"]
    assert container.ping("192.168.120.5")
    assert container.address == "192.168.120.1"


def test_the_bridge_has_no_address_but_the_gateway(make_fabric: MakeFabric) -> None:
    """IPv6 would give it one, and chatter; this network has no IPv6."""
    fabric = make_fabric(1)
    fabric.configure()
    fabric.create("net1", *SUBNET)

    fabric.run("net1")

    assert addresses(link(fabric.hosts[0], "ovs_net1")) == ["192.168.120.1/24"]


def test_a_gateway_elsewhere_is_a_router(fabric: Fabric) -> None:
    """It is in the slice of the first host, so the second one leaves it alone, and its containers route by it."""
    fabric.create("net1", *SUBNET, "--gateway", "192.168.120.20")
    here, there = fabric.hosts

    router, container = run(here, "net1", name="c1"), run(there, "net1", name="c2")

    assert addresses(link(here, "ovs_net1"), "global") == ["192.168.120.20/24"]
    assert addresses(link(there, "ovs_net1")) == []
    assert routes(container)["default"] == ("192.168.120.20", 100)
    assert routes(router)["default"] == ("192.168.120.20", 100)
    assert container.ping("192.168.120.20")
    assert inspected(container)["Gateway"] == "192.168.120.20"


def test_an_internal_network_has_no_gateway(fabric: Fabric) -> None:
    networks = fabric.create("net1", *SUBNET, "--internal", "--disable-dns")

    one, other = fabric.run("net1")

    assert [network["subnets"][0].get("gateway") for network in networks] == [None, None]
    assert [addresses(link(host, "ovs_net1")) for host in fabric.hosts] == [[], []]
    assert list(routes(one)) == ["192.168.120.0/24"]
    assert one.ping(other.address)


def test_routes_show_in_the_container(fabric: Fabric) -> None:
    """By a container on the other host, which has an address behind it."""
    here, there = fabric.hosts
    fabric.create("net1", *SUBNET, "--route", "10.8.0.0/16,192.168.120.40,7", "--route", "10.9.0.0/16,192.168.120.40")
    router = run(there, "net1", "--ip", "192.168.120.40", name="c1")
    there.netns_run(router.name, "ip", "address", "add", "10.8.0.1/32", "dev", "lo")

    container = run(here, "net1", name="c2")

    assert routes(container)["10.8.0.0/16"] == ("192.168.120.40", 7)
    assert routes(container)["10.9.0.0/16"] == ("192.168.120.40", 100)
    assert container.ping("10.8.0.1")


def test_connect_and_disconnect_a_running_container(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)
    fabric.create("net2", "--subnet", "192.168.121.0/24")
    here, there = fabric.hosts
    container = run(here, "net1", name="c1")
    far = run(there, "net1", name="c2")
    other = run(there, "net2", name="c3")

    here.run("podman", "network", "connect", "--ip", "192.168.121.9", "net2", "c1")
    assert addresses(container.link("eth1")) == ["192.168.121.9/24"]
    assert container.ping(other.address)

    here.run("podman", "network", "disconnect", "net2", "c1")
    assert not has_link(container, "eth1")
    assert "ovs_net2" not in here.run("ovs-vsctl", "list-br").stdout.split()
    assert not container.ping(other.address)
    assert container.ping(far.address)


RESTARTS = {
    "reload": ("podman network reload c1",),
    "restart": ("podman restart -t0 c1",),
    "stop, start": ("podman stop -t0 c1", "podman start c1"),
}


@pytest.mark.parametrize("commands", RESTARTS.values(), ids=RESTARTS)
def test_a_container_comes_back_with_its_address(fabric: Fabric, commands: tuple[str, ...]) -> None:
    fabric.create("net1", *SUBNET)
    here, there = fabric.hosts
    container, far = run(here, "net1", "--ip", "192.168.120.9", name="c1"), run(there, "net1", name="c2")
    assert far.ping("192.168.120.9")

    for command in commands:
        here.run(*command.split())

    assert inspected(container)["IPAddress"] == "192.168.120.9"
    assert addresses(container.link()) == ["192.168.120.9/24"]
    assert far.ping("192.168.120.9")
    assert container.ping(far.address)
    assert len(ports(here)) == 1


def test_a_pod_has_one_attachment(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)
    here, there = fabric.hosts
    here.run("podman", "pod", "create", "--name", "pod1", "--network", "net1")
    for name, command in (("server", "echo pod >/tmp/file; exec httpd -f -h /tmp"), ("idle", "exec sleep 1000")):
        here.run("podman", "run", "-d", "--pod", "pod1", "--name", name, IMAGE, "sh", "-c", command)
    server, idle = (Container(here, name, "") for name in ("server", "idle"))
    (port,) = ports(here)
    far = run(there, "net1", name="c1")

    assert addresses(server.link()) == addresses(idle.link()) == [f"{port['addresses']}/24"]
    assert port["container-name"] == "pod1"
    assert far.sh(f"wget -q -O - http://{port['addresses']}/file") == "pod"
    assert idle.sh("wget -q -O - http://127.0.0.1/file") == "pod"


def test_a_container_on_several_networks(fabric: Fabric) -> None:
    here, there = fabric.hosts
    for number in (1, 2, 3):
        fabric.create(f"net{number}", "--subnet", f"192.168.{119 + number}.0/24")
    far = [run(there, f"net{number}", name=f"f{number}") for number in (1, 2, 3)]

    container = run(here, "net1", "--network", "net2:interface_name=two", "--network", "net3", name="c1")

    assert all(container.ping(other.address) for other in far)
    assert addresses(container.link("two")) == ["192.168.121.2/24"]
    assert {port["network-name"]: port["container-interface"] for port in ports(here)}["net2"] == "two"


def test_an_unknown_option_of_a_container_is_refused(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)

    words = ["unknown option 'colour'", "net1", "alias, ip, ip6, mac, interface_name, host_interface_name, vlan"]
    assert_refused(fabric.hosts[0], ("--network", "net1:colour=red"), words)


def test_the_port_says_whose_it_is(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(1)
    fabric.configure()
    (network,) = fabric.create("net1", *SUBNET)
    (container,) = fabric.run("net1", name="web")
    host = container.host

    (port,) = ports(host)

    assert port["owner"] == "geneve-ovs"
    assert port["network-name"] == "net1"
    assert port["network-id"] == network["id"]
    assert port["container-name"] == "web0"
    assert port["container-id"] == host.run("podman", "inspect", "--format={{.ID}}", "web0").stdout.strip()
    assert port["container-interface"] == "eth0"
    assert port["addresses"] == container.address


def test_inspect_shows_everything_that_was_derived(fabric: Fabric) -> None:
    networks = fabric.create("net1", *SUBNET)

    for slot, (host, network) in enumerate(zip(fabric.hosts, networks, strict=True), 1):
        assert network["network_interface"] == "ovs_net1"
        assert network["internal"] is network["ipv6_enabled"] is False
        assert network["dns_enabled"] is True
        first = (slot - 1) * 32
        assert network["subnets"] == [
            {
                "subnet": "192.168.120.0/24",
                "gateway": f"192.168.120.{first + 1}",
                "lease_range": {"start_ip": f"192.168.120.{first + 1}", "end_ip": f"192.168.120.{first + 30}"},
            }
        ]
        assert 1 <= int(network["options"].pop("vni")) < 2**24
        assert network["options"] == {
            "hosts": "@/etc/netavark-geneve/fabric.toml",
            "local_ip": host.address,
            "slots": "8",
            "slot": str(slot),
            "mtu": "1450",
            "dst_port": "6081",
            "datapath_type": "netdev",
            "isolate": "strict",
        }
    assert (
        "geneve-ovs"
        in fabric.hosts[0].run("podman", "info", "--format={{.Plugins.Network}}").stdout.strip("[]\n").split()
    )


def test_an_address_is_reached_at_once_on_its_next_container(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET)
    here, there = fabric.hosts
    far = run(there, "net1", name="far")

    for number in range(ROUNDS):
        container = run(here, "net1", "--ip", "192.168.120.9", name=f"c{number}")
        assert answers_at_once(far, "192.168.120.9"), f"round {number} of {ROUNDS}"
        here.run("podman", "rm", "-f", "-t0", container.name)


def test_an_address_is_reached_at_once_on_its_next_host(make_fabric: MakeFabric) -> None:
    """Its MAC moves with it: without an announcement the switches still send to the old host."""
    fabric = make_fabric(3)
    fabric.configure()
    fabric.create("net1", *SUBNET, "--opt", "allow_foreign_ip=true")
    far = run(fabric.hosts[0], "net1", name="far")
    # They keep the bridges of both hosts: a tunnel that is new knows no old places.
    for host in fabric.hosts[1:]:
        run(host, "net1", name="stays")

    address = "192.168.120.200"
    for number in range(4):  # back and forth: the switches still have the flows of the time before
        for host in fabric.hosts[1:]:
            container = run(host, "net1", "--ip", address, name="moves")
            assert answers_at_once(far, address), f"round {number}, {host.name}"
            host.run("podman", "rm", "-f", "-t0", container.name)


def answers_at_once(far: Container, address: str) -> bool:
    """Whether the first echo request is answered, not the one after the stall of a second."""
    command = ("ping", "-n", "-q", "-c1", "-W1", address)
    return far.host.netns_run(far.name, *command, check=False).returncode == 0


def addresses(shown: dict[str, Any], *scopes: str) -> list[str]:
    """The addresses of an interface, those included that nobody asked for; or those of some scopes."""
    wanted = [address for address in shown["addr_info"] if not scopes or address["scope"] in scopes]
    return [f"{address['local']}/{address['prefixlen']}" for address in wanted]


def link(host: Host, name: str) -> dict[str, Any]:
    return dict(json.loads(host.run("ip", "-json", "address", "show", name).stdout)[0])


def has_link(container: Container, name: str) -> bool:
    return container.host.netns_run(container.name, "ip", "link", "show", name, check=False).returncode == 0


def routes(container: Container) -> dict[str, tuple[str | None, int | None]]:
    """By destination, the gateway and the metric."""
    shown = json.loads(container.host.netns_run(container.name, "ip", "-json", "route").stdout)
    return {route["dst"]: (route.get("gateway"), route.get("metric")) for route in shown}


def ports(host: Host) -> list[dict[str, str]]:
    """The tags of all containers' ports."""
    find = ("ovs-vsctl", "--format=json", "--columns=external_ids", "find", "Port", "external_ids:role=container")
    return [dict(row[0][1]) for row in json.loads(host.run(*find).stdout)["data"]]


def inspected(container: Container) -> dict[str, Any]:
    """What `podman inspect` says of the container on net1."""
    shown = container.host.run("podman", "inspect", "--format={{json .NetworkSettings.Networks.net1}}", container.name)
    return dict(json.loads(shown.stdout))


def assert_refused(host: Host, options: tuple[str, ...], words: list[str]) -> None:
    """`podman run` with these options says why not, and leaves neither container nor port."""
    before = ports(host)
    network = () if "--network" in options else ("--network", "net1")

    sentence = refusal(host, "podman", "run", "--rm", *network, *options, IMAGE, "true")

    assert [word for word in words if word not in sentence] == [], sentence
    assert len(sentence.splitlines()) == 1, sentence
    assert ports(host) == before
