"""Networks on the same hosts know nothing of each other, whatever their names and addresses have in common."""

import secrets
from collections.abc import Sequence

from .conftest import MakeFabric
from .fabric import Container, pairs, run, unreachable
from .wire import BROADCAST, answers, listen, mac

COMMON = "a-network-whose-name-is-far-too-long-for-an-interface"
LEFT, RIGHT = f"{COMMON}-left", f"{COMMON}-right"
SUBNET = "192.168.120.0/24"


def test_names_that_are_alike_when_cut_are_two_networks(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(3)
    fabric.configure()
    left = fabric.create(LEFT, "--subnet", "192.168.120.0/24")
    right = fabric.create(RIGHT, "--subnet", "192.168.121.0/24")
    assert len({network["network_interface"] for network in left + right}) == 2
    assert len({network["options"]["vni"] for network in left + right}) == 2

    lefts, rights = fabric.run(LEFT, name="left"), fabric.run(RIGHT, name="right")

    assert unreachable(lefts) == []
    assert unreachable(rights) == []
    check_apart(lefts, rights)
    check_apart(rights, lefts)
    assert not any(left.ping(right.address) for left in lefts for right in rights)


def test_equal_internal_subnets_are_two_networks(make_fabric: MakeFabric) -> None:
    """The same addresses on both sides, so that whoever answers wrongly has every chance to."""
    fabric = make_fabric(3)
    fabric.configure()
    for name in ("blue", "green"):
        fabric.create(name, "--internal", "--disable-dns", "--subnet", SUBNET)

    blues = fabric.each(lambda host: run(host, f"blue:mac=02:00:00:00:0b:0{host.index}", name=f"blue{host.index}"))
    greens = fabric.each(lambda host: run(host, f"green:mac=02:00:00:00:0a:0{host.index}", name=f"green{host.index}"))
    assert [blue.address for blue in blues] == [green.address for green in greens]

    assert unreachable(blues) == []
    assert unreachable(greens) == []
    for one, other in pairs(blues):
        assert answers(one, other.address) == {f"02:00:00:00:0b:0{other.host.index}"}
    for one, other in pairs(greens):
        assert answers(one, other.address) == {f"02:00:00:00:0a:0{other.host.index}"}
    check_apart(blues, greens)
    check_apart(greens, blues)


def test_an_address_that_only_the_other_network_has_is_nobody(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    fabric.configure()
    for name in ("blue", "green"):
        fabric.create(name, "--internal", "--disable-dns", "--subnet", SUBNET)
    one, other = fabric.hosts
    asking = run(one, "blue", name="asking")
    neighbour = run(other, "blue", name="neighbour")
    here = run(one, "green:ip=192.168.120.20", name="here")
    there = run(other, "green:ip=192.168.120.60", name="there")

    assert answers(asking, neighbour.address) == {neighbour.link()["address"]}
    assert answers(here, there.address) == {there.link()["address"]}
    assert [answers(asking, stranger.address, timeout=2) for stranger in (here, there)] == [set(), set()]


def test_no_host_answers_on_an_internal_network(make_fabric: MakeFabric) -> None:
    """Not even the container's own, whose kernel sees the host's end of the veth besides the switch."""
    fabric = make_fabric(2)
    fabric.configure()
    fabric.create("blue", "--internal", "--disable-dns", "--subnet", SUBNET)
    for container in fabric.run("blue"):
        for host in fabric.hosts:
            assert answers(container, host.address, timeout=1) == set()


def test_a_container_on_two_networks_reaches_both(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(3)
    fabric.configure()
    fabric.create("blue", "--subnet", "192.168.120.0/24")
    fabric.create("green", "--subnet", "192.168.121.0/24")
    blues, greens = fabric.run("blue", name="blue"), fabric.run("green", name="green")

    both = run(fabric.hosts[0], "blue", "--network", "green", name="both")
    on = {interface: both.link(interface) for interface in ("eth0", "eth1")}
    subnets = {interface: link["addr_info"][0]["local"].rpartition(".")[0] for interface, link in on.items()}
    assert sorted(subnets.values()) == ["192.168.120", "192.168.121"]
    by = {subnet: interface for interface, subnet in subnets.items()}
    blue, green = by["192.168.120"], by["192.168.121"]

    for side, own, wrong in ((blues, blue, green), (greens, green, blue)):
        local = on[own]["addr_info"][0]["local"]
        for other in side:
            assert both.ping(other.address, "-I", own)
            assert answers(both, other.address, own) == {other.link()["address"]}
            assert other.ping(local)
            assert answers(other, local) == {on[own]["address"]}
        assert answers(both, side[-1].address, wrong, timeout=2) == set()

    # The container is on both, and yet no bridge between them.
    check_apart(blues, greens)
    check_apart(greens, blues)


def check_apart(talking: Sequence[Container], quiet: Sequence[Container]) -> None:
    """Nothing that one network's containers send, by broadcast, by ARP or by ping, arrives at the other's."""
    addresses = {address_of(container) for container in talking}
    assert not addresses & {address_of(container) for container in quiet}, "the test could not tell them apart"
    sent_by_talking = " or ".join(f"ether src {address}" for address in sorted(addresses))
    pattern = secrets.token_bytes(16)

    with listen(talking, "icmp") as heard, listen(quiet, sent_by_talking) as leaked:
        for one in talking:
            heard.wait_for(heard.send(one, BROADCAST), one)
            one.host.netns_run(one.name, "ip", "neighbour", "flush", "dev", "eth0")  # so that it asks again
        for one, other in pairs(talking):
            assert one.ping(other.address, "-p", pattern.hex())
        heard.settle()
        leaked.settle()
        assert all(heard.copies(pattern).values()), "the pings were not seen where they belong"
        strangers = {mac(address) for address in addresses}
        for name, capture in leaked.captures.items():
            assert [frame.hex() for frame in capture.frames() if frame[6:12] in strangers] == [], name


def address_of(container: Container) -> str:
    return str(container.link()["address"])
