"""Podman knows which addresses are in use on its own host; that no two hosts use one is the plugin's business."""

import subprocess

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import IMAGE, Fabric, create, refusal, run
from .faults import wait_for

pytestmark = pytest.mark.alone(reason="who has an address must say so within milliseconds, also where all is busy")

SUBNET = ("--subnet", "192.168.120.0/24")
SUBNET6 = ("--subnet", "fd00:120::/64")
FOREIGN = ("--opt", "allow_foreign_ip=true")
ADDRESS, ADDRESS6 = "192.168.120.200", "fd00:120::f000:0:0:200"  # in no slice of these three hosts
MAC, MAC6 = "0a:58:c0:a8:78:c8", "0a:58:25:aa:f5:66"  # that are derived from them
ROUNDS = 4

# Subnets, what both containers ask for, and the words of the refusal.
DUPLICATES = {
    "IPv4": (SUBNET, ("--ip", ADDRESS), [ADDRESS, MAC, "another --ip "]),
    "IPv6": (SUBNET6, ("--ip6", ADDRESS6), [ADDRESS6, MAC6, "another --ip6 "]),
}


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Three hosts that know each other: one has the address, one wants it too, one looks on."""
    three = make_fabric(3)
    three.configure()
    return three


def test_an_address_of_another_hosts_share_is_refused(fabric: Fabric) -> None:
    here = fabric.hosts[0]
    create(here, "net1", *SUBNET, *SUBNET6)
    before = here.snapshot()

    for option, address, share in (
        ("--ip", "192.168.120.31", "192.168.120.1-192.168.120.30"),
        ("--ip", "192.168.120.40", "192.168.120.1-192.168.120.30"),
        ("--ip6", ADDRESS6, "fd00:120::1-fd00:120::1fff:ffff:ffff:fffe"),
    ):
        said = refused(here, option, address)
        assert_says(said, [f"{address} is outside {share}", "net1", f"choose an {option} inside", FOREIGN[1]])

    assert here.snapshot() == before
    assert run(here, "net1", "--ip", "192.168.120.30", name="last").ping("192.168.120.1")


def test_an_address_of_another_hosts_share_may_be_allowed(fabric: Fabric) -> None:
    here, there, _ = fabric.hosts
    fabric.create("net1", *SUBNET, *SUBNET6, *FOREIGN)

    moved = run(here, "net1", "--ip", ADDRESS, "--ip6", ADDRESS6, name="moved")

    far = run(there, "net1", name="far")
    assert moved.address == ADDRESS
    assert far.ping(ADDRESS)
    assert far.ping(ADDRESS6)


def test_a_network_of_one_host_has_no_shares(fabric: Fabric) -> None:
    """As with Podman's own bridge, where `--ip-range` is for the addresses that Podman chooses."""
    here = fabric.hosts[0]
    create(here, "net1", *SUBNET, "--ip-range", "192.168.120.64/27", "--opt", "hosts=none")

    given, chosen = run(here, "net1", name="given"), run(here, "net1", "--ip", ADDRESS, name="chosen")

    assert (given.address, chosen.address) == ("192.168.120.66", ADDRESS)
    assert given.ping(ADDRESS)


@pytest.mark.parametrize(("subnet", "asked", "words"), DUPLICATES.values(), ids=DUPLICATES)
def test_an_address_that_another_host_uses(
    fabric: Fabric, subnet: tuple[str, ...], asked: tuple[str, str], words: list[str]
) -> None:
    """Who comes second is told whose it is, and leaves nothing behind; who was first notices nothing."""
    here, there, _ = fabric.hosts
    fabric.create("net1", *subnet, *FOREIGN)
    first, third = run(here, "net1", *asked, name="first"), run(fabric.hosts[2], "net1", name="third")
    assert third.ping(first.address)
    before, had = there.snapshot(), first.link()

    for number in range(ROUNDS):
        said = refused(there, *asked)
        assert_says(said, ["already in use", *words, "conflict_detection=false"])
        assert third.ping(first.address), f"round {number} of {ROUNDS}"

    assert first.link() == had
    wait_for(there, before)
    assert run(there, "net1", name="other").ping(first.address)  # by an address of its own


def test_whose_address_it_is_is_told_by_the_mac_that_the_user_chose(fabric: Fabric) -> None:
    here, there, _ = fabric.hosts
    fabric.create("net1", *SUBNET, *FOREIGN)
    run(here, "net1", "--ip", ADDRESS, "--mac-address", "02:00:00:12:34:56", name="first")

    assert_says(refused(there, "--ip", ADDRESS), [ADDRESS, "already in use", "02:00:00:12:34:56"])


@pytest.mark.parametrize(("subnet", "asked", "words"), DUPLICATES.values(), ids=DUPLICATES)
def test_an_address_that_is_used_by_a_host_that_has_been_silent(
    fabric: Fabric, subnet: tuple[str, ...], asked: tuple[str, str], words: list[str]
) -> None:
    """As after a power cut, when all hosts come back at once.

    A userspace tunnel that does not know its peer's MAC asks for it, and drops what it was to carry: the first
    question is lost. Nobody can wait for ever for an answer, so on a busy machine one of them may come too late.
    """
    here, there, _ = fabric.hosts
    fabric.create("net1", *subnet, *FOREIGN)
    run(here, "net1", *asked, name="first")

    said = []
    for _ in range(ROUNDS):
        for host in (here, there):
            # A flow that is left from before would take the peer's MAC past the switch, which then never learns it.
            host.sh("ovs-appctl tnl/neigh/flush >&2; ovs-appctl revalidator/purge >&2")
        result = start(there, *asked)
        there.run("podman", "rm", "-f", "-i", "-t0", "c")
        if result.returncode:
            said.append(result.stderr.strip())

    assert len(said) >= ROUNDS - 1, f"{ROUNDS - len(said)} of {ROUNDS} were not noticed"
    for sentence in said:
        assert_says(sentence, ["already in use", *words])


def test_an_address_that_two_hosts_want_at_once(fabric: Fabric) -> None:
    """At most one of them gets it."""
    fabric.create("net1", *SUBNET, *FOREIGN)
    pair = Fabric(fabric.hosts[:2])

    for _ in range(ROUNDS):
        results = pair.each(lambda host: start(host, "--ip", ADDRESS))
        pair.each(lambda host: host.run("podman", "rm", "-f", "-i", "-t0", "c"))

        assert [result.returncode for result in results].count(0) <= 1
        for result in results:
            assert result.returncode == 0 or "already in use" in result.stderr, result.stderr


def test_an_address_is_free_as_soon_as_its_container_is_gone(fabric: Fabric) -> None:
    fabric.create("net1", *SUBNET, *FOREIGN)
    far = run(fabric.hosts[2], "net1", name="far")

    for number in range(ROUNDS):
        for host in fabric.hosts[:2]:
            run(host, "net1", "--ip", ADDRESS, name="c")
            assert far.ping(ADDRESS), f"round {number} of {ROUNDS}, {host.name}"
            host.run("podman", "rm", "-f", "-t0", "c")


def test_without_conflict_detection_both_start(fabric: Fabric) -> None:
    here, there, _ = fabric.hosts
    fabric.create("net1", *SUBNET, *FOREIGN, "--opt", "conflict_detection=false")

    pair = [run(host, "net1", "--ip", ADDRESS, name="c") for host in (here, there)]

    assert [container.address for container in pair] == [ADDRESS, ADDRESS]


def test_in_vlans_of_their_own_two_may_have_the_same_address(fabric: Fabric) -> None:
    here, there, third = fabric.hosts
    fabric.create("net1", *SUBNET, *FOREIGN)

    run(here, "net1:vlan=20", "--ip", ADDRESS, name="c")
    run(there, "net1:vlan=30", "--ip", ADDRESS, name="c")

    for vlan in (20, 30):
        said = refused(third, "--ip", ADDRESS, network=f"net1:vlan={vlan}")
        assert_says(said, [ADDRESS, "already in use", MAC])
    assert run(third, "net1", "--ip", ADDRESS, name="c").address == ADDRESS  # in no VLAN, where it is free


@pytest.mark.parametrize("running", [True, False], ids=["", "that has no container yet"])
def test_the_gateway_of_another_host(fabric: Fabric, running: bool) -> None:
    """Also while it answers nobody, it is known whose it will be: that host takes it with its first container."""
    here, there, _ = fabric.hosts
    fabric.create("net1", *SUBNET, *FOREIGN)
    if running:
        run(there, "net1", name="c")

    assert_says(refused(here, "--ip", "192.168.120.33"), ["192.168.120.33", "choose another --ip"])


def start(host: Host, *options: str) -> subprocess.CompletedProcess[str]:
    """Try to start a container on net1."""
    command = ("podman", "run", "-d", "--name", "c", "--network", "net1", *options, IMAGE, "sleep", "1000")
    return host.run(*command, check=False)


def refused(host: Host, *options: str, network: str = "net1") -> str:
    """What `podman run` says to options that it must refuse."""
    return refusal(host, "podman", "run", "--rm", "--network", network, *options, IMAGE, "true")


def assert_says(sentence: str, words: list[str]) -> None:
    assert [word for word in words if word not in sentence] == [], sentence
    assert len(sentence.splitlines()) == 1, sentence
