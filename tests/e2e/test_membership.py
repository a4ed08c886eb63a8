"""Hosts come and go: one line of fabric.toml changes, and what runs goes on running where it was."""

import ipaddress
import itertools
import json
from collections.abc import Sequence
from typing import Any

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Container, Fabric, create, inspect, refusal, run, unreachable
from .wire import wait_until

NETWORK = "net1"
SUBNET = ("--subnet", "192.168.120.0/24")  # eight slots of 32 addresses by default
RUN = ("podman", "run", "--name", "late", "--network", NETWORK, "alpine", "true")


def test_hosts_join_and_nobody_moves(make_fabric: MakeFabric) -> None:
    four = make_fabric(4)
    fabric = Fabric(four.hosts[:2])
    fabric.configure()
    networks = fabric.create(NETWORK, *SUBNET)
    containers = fabric.run(NETWORK, name="old")
    at_first = [state(container) for container in containers]
    assert unreachable(containers) == []

    for size in (3, 4):
        fabric = Fabric(four.hosts[:size])
        fabric.configure()
        newcomer = fabric.hosts[-1]
        networks.append(create(newcomer, NETWORK, *SUBNET))
        containers.append(run(newcomer, NETWORK, name="first"))
        # Each old host learns of the newcomer by its next attach; one of them attaches what it has anew.
        fabric.hosts[0].run("podman", "network", "reload", "old0")
        containers += [run(host, NETWORK, name=f"since{size}") for host in fabric.hosts[1:-1]]

        assert peers(fabric) == expected_peers(fabric.hosts)
        assert unreachable(containers) == []

    assert [state(container) for container in containers[:2]] == at_first
    assert fabric.each(lambda host: ranges(inspect(host, NETWORK))) == [ranges(network) for network in networks]
    check_disjoint(networks)


def test_a_network_made_after_the_growth_is_cut_alike(make_fabric: MakeFabric) -> None:
    """A host that joined late derives its slice without knowing what the others were told, and when."""
    three = make_fabric(3)
    old = Fabric(three.hosts[:2])
    old.configure()
    before = old.create("before", "--subnet", "192.168.120.0/24")
    three.configure()
    newcomer = three.hosts[2]

    check_disjoint([*before, create(newcomer, "before", "--subnet", "192.168.120.0/24")])

    alone = create(newcomer, "only-here", "--internal", "--disable-dns", "--subnet", "192.168.120.0/24")
    check_disjoint([*before, alone])
    later = old.create("only-here", "--internal", "--disable-dns", "--subnet", "192.168.120.0/24")
    assert [ranges(network) for network in later] == [ranges(network) for network in before]
    assert later[0]["options"]["vni"] == alone["options"]["vni"]


def test_a_host_leaves_its_slot_behind(make_fabric: MakeFabric) -> None:
    four = make_fabric(4)
    four.configure()
    networks = four.create(NETWORK, *SUBNET)
    containers = four.run(NETWORK)
    gone, left = four.hosts[1], Fabric([four.hosts[0], *four.hosts[2:]])
    staying = [container for container in containers if container.host is not gone]
    at_first = [state(container) for container in staying]
    assert unreachable(containers) == []
    assert peers(four) == expected_peers(four.hosts)

    listed = ["-" if host is gone else host.address for host in four.hosts]
    left.configure(listed)
    later = left.run(NETWORK, name="later")

    assert peers(left) == expected_peers(left.hosts)
    assert unreachable([*staying, *later]) == []
    assert [state(container) for container in staying] == at_first
    assert left.each(lambda host: ranges(inspect(host, NETWORK))) == [
        ranges(network) for network, host in zip(networks, four.hosts, strict=True) if host is not gone
    ]

    # The host that left is told so if it goes on, and what runs there is not taken down for it.
    Fabric([gone]).configure(listed)
    said = refusal(gone, *RUN)
    assert f"local_ip {gone.address} is not among hosts" in said
    assert "\n" not in said
    running = next(container for container in containers if container.host is gone)
    assert running.ping(str(networks[1]["subnets"][0]["gateway"]))


def test_a_reordered_list_is_refused_and_what_runs_goes_on(make_fabric: MakeFabric) -> None:
    three = make_fabric(3)
    three.configure()
    three.create(NETWORK, *SUBNET)
    containers = three.run(NETWORK)
    at_first = [state(container) for container in containers]
    wired = peers(three)
    swapped, unmoved = three.hosts[:2], three.hosts[2]

    three.configure([three.hosts[1].address, three.hosts[0].address, unmoved.address])
    for host, (now, then) in zip(swapped, ((2, 1), (1, 2)), strict=True):
        said = refusal(host, *RUN)
        assert f"this host ({host.address}) is now number {now} in hosts but was number {then}" in said
        assert "restore the order" in said
        assert "\n" not in said
        host.run("podman", "rm", "late")

    assert peers(three) == wired
    assert [state(container) for container in containers] == at_first
    assert unreachable(containers) == []

    # The third host's own place is as it was, so it cannot know; its tunnels lead to the same peers.
    containers.append(run(unmoved, NETWORK, name="later"))
    assert peers(three) == wired
    # Their names follow the places, so Open vSwitch swaps the ends of two that run, which takes it a moment.
    wait_until(lambda: unreachable(containers) == [], "everybody to reach everybody")

    three.configure()
    containers += three.run(NETWORK, name="again")
    assert peers(three) == wired
    wait_until(lambda: unreachable(containers) == [], "everybody to reach everybody again")
    assert [state(container) for container in containers[:3]] == at_first


def state(container: Container) -> tuple[str, str, list[str]]:
    """What must not change: the process, since when it runs, and the addresses on its interface."""
    since = "{{.State.Status}} {{.State.Pid}} {{.State.StartedAt}}"
    seen = container.host.run("podman", "inspect", "--format", since, container.name).stdout.strip()
    link = container.link()
    return seen, link["address"], [address["local"] for address in link["addr_info"]]


def peers(fabric: Fabric) -> list[list[str]]:
    """The far ends of each host's tunnels, as Open vSwitch has them; none of them in error."""
    find = ("ovs-vsctl", "--format=json", "--columns=options,error", "find", "Interface", "type=geneve")

    def of(host: Host) -> list[str]:
        rows = json.loads(host.run(*find).stdout)["data"]
        assert [error for _, error in rows] == [["set", []]] * len(rows), rows
        return sorted(dict(options[1])["remote_ip"] for options, _ in rows)

    return fabric.each(of)


def expected_peers(hosts: Sequence[Host]) -> list[list[str]]:
    return [sorted(other.address for other in hosts if other is not host) for host in hosts]


def ranges(network: dict[str, Any]) -> list[tuple[int, int]]:
    """The first and last address that this host may give out, for each subnet."""
    leases = [subnet["lease_range"] for subnet in network["subnets"]]
    return [(number(lease["start_ip"]), number(lease["end_ip"])) for lease in leases]


def number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def check_disjoint(networks: Sequence[dict[str, Any]]) -> None:
    """No address of one host's range is in another's."""
    found = sorted(itertools.chain.from_iterable(map(ranges, networks)))
    assert len(found) == len(networks)
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(found)), found
