"""Something fails while a container is attached: Podman says what to do, and the host is as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import CONFIG, IMAGE, Fabric, create, refusal, run
from .faults import BOUND, DAEMONS, HOSTS, Act, assert_says, fault, host_with_network, wait_for

RUN = ("podman", "run", "--rm", "--network", "net1", IMAGE, "true")

# What somebody else has made, how it is removed again, and the words of the sentence. The VNI is 77.
FOREIGN = {
    "a bridge of the bridge's name": (
        "ovs-vsctl add-br ovs_net1 -- set Bridge ovs_net1 datapath_type=netdev",
        "ovs-vsctl del-br ovs_net1",
        ["ovs_net1 exists", "not this network's", "--interface-name"],
    ),
    "a link of the bridge's name": (
        "ip link add ovs_net1 type bridge",
        "ip link del ovs_net1",
        ["ovs-vswitchd could not set up ovs_net1", "--interface-name"],
    ),
    "a port of the tunnel's name": (
        "ovs-vsctl add-port br-phy gv77-2 -- set Interface gv77-2 type=internal",
        "ovs-vsctl del-port gv77-2",
        ["gv77-2", "ovs-vsctl"],
    ),
    "a tunnel with the same VNI": (
        "ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=netdev -- add-port br0 gnv0 -- set Interface gnv0"
        " type=geneve options:remote_ip=192.168.0.11 options:local_ip=192.168.0.10 options:key=77",
        "ovs-vsctl del-br br0",
        ["ovs-vswitchd could not set up gv77-2", "another tunnel", "--opt vni=", "every host"],
    ),
}
FILES = {
    "removed": (None, [CONFIG, "No such file"]),
    "broken": ('hosts = ["192.168.0.10",', [CONFIG, "not valid TOML"]),
    "without hosts": ('datapath_type = "netdev"', [CONFIG, "has no hosts", "add them"]),
    "without this host": ('hosts = ["192.168.0.11"]', ["192.168.0.10", "must name every host, this one too"]),
    "in another order": (
        'hosts = ["192.168.0.11", "192.168.0.10"]',
        ["192.168.0.10", "number 2", "number 1", "restore the order"],
    ),
    "with more hosts than slots": (
        f"hosts = {[f'192.168.0.{10 + index}' for index in range(9)]}",
        ["9 hosts", "8 slots", "larger subnet"],
    ),
}


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    return host_with_network(make_fabric)


@pytest.mark.parametrize(("fail", "mend", "words"), DAEMONS.values(), ids=DAEMONS)
def test_open_vswitch_fails(host: Host, fail: Act, mend: Act, words: list[str]) -> None:
    with fault(host, lambda: fail(host), lambda: mend(host)):
        assert_says(refusal(host, *RUN, timeout=BOUND), words)

    host.run(*RUN)


@pytest.mark.parametrize(("make", "remove", "words"), FOREIGN.values(), ids=FOREIGN)
def test_somebody_else_has_the_name_or_number(host: Host, make: str, remove: str, words: list[str]) -> None:
    with fault(host, lambda: host.sh(make), lambda: host.sh(remove)):
        there = host.snapshot()

        assert_says(refusal(host, *RUN, timeout=BOUND), words)

        wait_for(host, there)

    host.run(*RUN)


def test_two_networks_with_one_vni(host: Host) -> None:
    """`create` refuses it; a definition that came another way has it."""
    create(host, "net2", "--subnet", "192.168.122.0/24", "--opt", "vni=78")
    run(host, "net1", name="c1")
    command = ("podman", "run", "--rm", "--network", "net2", IMAGE, "true")

    with fault(host, lambda: replace_in_definition(host, "78", "77"), lambda: replace_in_definition(host, "77", "78")):
        assert_says(refusal(host, *command, timeout=BOUND), ["VNI 77", "network net1", "--opt vni=", "every host"])

    host.run(*command)


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_fabric_toml_is_no_longer_what_it_was(host: Host, text: str | None, words: list[str]) -> None:
    with fault(
        host,
        lambda: host.run("rm", CONFIG) if text is None else host.write(CONFIG, text),
        lambda: Fabric([host]).configure(hosts=HOSTS),
    ):
        assert_says(refusal(host, *RUN, timeout=BOUND), words)

    host.run(*RUN)


def test_a_name_stops_resolving(host: Host) -> None:
    with name_of_peer(host, "peer.example"):
        Fabric([host]).configure(hosts=["192.168.0.10", "peer.example"])
        host.run(*RUN)
        before = host.snapshot()

    sentence = refusal(host, *RUN, timeout=BOUND)

    assert_says(sentence, ["cannot resolve peer.example", "check DNS, or use addresses"])
    wait_for(host, before)
    with name_of_peer(host, "peer.example"):
        host.run(*RUN)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param("192.168.120.1", ["192.168.120.1", "gateway"], id="this host's gateway"),
        pytest.param("192.168.120.0", ["192.168.120.0", "192.168.120.0/24"], id="the subnet's own address"),
        pytest.param("192.168.120.255", ["192.168.120.255", "192.168.120.0/24"], id="the broadcast address"),
    ],
)
def test_an_address_that_no_container_can_have(host: Host, address: str, words: list[str]) -> None:
    before = host.snapshot()

    sentence = refusal(host, "podman", "run", "--rm", "--network", "net1", "--ip", address, IMAGE, "true")

    assert_says(sentence, words)
    wait_for(host, before)


def replace_in_definition(host: Host, old: str, new: str) -> None:
    """Another VNI for net2, behind the plugin's back."""
    host.sh('sed -i "s/\\"vni\\": \\"$1\\"/\\"vni\\": \\"$2\\"/" /etc/containers/networks/net2.json', old, new)
    said = host.run("podman", "network", "inspect", "--format={{.Options.vni}}", "net2").stdout.strip()
    assert said == new


@contextmanager
def name_of_peer(host: Host, name: str) -> Iterator[None]:
    host.sh('echo "192.168.0.11 $1" >>/etc/hosts', name)
    try:
        yield
    finally:
        host.sh('sed -i "/ $1\\$/d" /etc/hosts', name)
