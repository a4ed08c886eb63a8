"""Bad input to `podman network create -d geneve-ovs`: one sentence says what is wrong, and nothing is made."""

import ipaddress
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import CONFIG, Fabric, create, inspect, plugin, plugin_error, refusal, run

SUBNET = "--subnet 192.168.121.0/24"
OPTIONS = ("hosts", "local_ip", "slots", "vni", "mtu", "dst_port", "datapath_type")
PREFIX = "Error: plugin /usr/libexec/netavark/geneve-ovs failed: netavark: "

# What is typed behind `podman network create -d geneve-ovs`, and the words that the sentence cannot do without.
HOSTS = {
    "half an address": (f"{SUBNET} --opt hosts=192.168.0.10,192.168.0", ["'192.168.0'", "address", "DNS name"]),
    "an empty entry": (f"{SUBNET} --opt hosts=192.168.0.10,,192.168.0.11", ["''", "address", "DNS name", "'-'"]),
    "no entry": (f"{SUBNET} --opt hosts=", ["''", "address", "DNS name"]),
    "no DNS name": (f"{SUBNET} --opt hosts=192.168.0.10,host_1!", ["'host_1!'", "address", "DNS name"]),
    "a peer twice": (f"{SUBNET} --opt hosts=192.168.0.10,192.168.0.11,192.168.0.11", ["192.168.0.11", "one entry"]),
    "this host twice": (f"{SUBNET} --opt hosts=192.168.0.10,192.168.0.10", ["192.168.0.10", "one entry"]),
    "this host by both addresses": (
        f"{SUBNET} --opt hosts=192.168.0.10,fd00:192:168::10",
        ["192.168.0.10", "fd00:192:168::10", "one entry"],
    ),
    "not this host": (
        f"{SUBNET} --opt hosts=192.168.0.11,192.168.0.12",
        ["192.168.0.11,192.168.0.12", "192.168.0.10", "must name every host, this one too"],
    ),
    "two families": (f"{SUBNET} --opt hosts=192.168.0.10,fd00:192:168::11", ["IPv4 and IPv6", "one family"]),
    "loopback": (f"{SUBNET} --opt hosts=192.168.0.10,127.0.0.1", ["127.0.0.1", "underlay addresses"]),
    "a name that does not resolve": (
        f"{SUBNET} --opt hosts=192.168.0.10,nobody.invalid",
        ["cannot resolve nobody.invalid", "check DNS, or use addresses"],
    ),
    "a name of two addresses": (
        f"{SUBNET} --opt hosts=192.168.0.10,host1",
        ["host1", "192.168.0.11", "fd00:192:168::11", "use the one of the underlay"],
    ),
    "no route": (f"{SUBNET} --opt hosts=192.168.0.10,10.99.0.1", ["no route", "10.99.0.1", "ip route get 10.99.0.1"]),
    "more than slots": (
        f"{SUBNET} --opt slots=2 --opt hosts=192.168.0.10,192.168.0.11,192.168.0.12",
        ["3 hosts", "2 slots", "larger --subnet", "slots=", "same on every host"],
    ),
    "no such file": (f"{SUBNET} --opt hosts=@/etc/nowhere.toml", ["/etc/nowhere.toml", "No such file"]),
    "another host's local_ip": (f"{SUBNET} --opt local_ip=192.168.0.11", ["192.168.0.11", "not an address of this"]),
    "nobody's local_ip": (f"{SUBNET} --opt local_ip=192.168.0.99", ["192.168.0.99", "not among hosts"]),
    "a name as local_ip": (f"{SUBNET} --opt local_ip=host0", ["local_ip=host0", "must be an IPv4 or IPv6 address"]),
}
NUMBERS = {
    "an unknown option": (f"{SUBNET} --opt colour=red", ["unknown option 'colour'", "known options are", *OPTIONS]),
    "slot": (f"{SUBNET} --opt slot=2", ["option slot", "leave it out"]),
    "3 slots": (f"{SUBNET} --opt slots=3", ["slots=3", "power of two", "same on every host"]),
    "0 slots": (f"{SUBNET} --opt slots=0", ["slots=0", "from 1 to 4096"]),
    "VNI 0": (f"{SUBNET} --opt vni=0", ["vni=0", "from 1 to 16777215"]),
    "VNI 2^24": (f"{SUBNET} --opt vni=16777216", ["vni=16777216", "from 1 to 16777215"]),
    "VNI text": (f"{SUBNET} --opt vni=blue", ["vni=blue", "must be a number from 1 to 16777215"]),
    "VNI empty": (f"{SUBNET} --opt vni=", ["vni=", "must be a number from 1 to 16777215"]),
    "MTU above the underlay": (
        f"{SUBNET} --opt mtu=1451",
        ["mtu=1451", "1500", "1450", "use at most that, or raise the underlay's MTU"],
    ),
    "MTU below 576": (f"{SUBNET} --opt mtu=575", ["575", "576 is the least"]),
    "MTU below 1280 with IPv6": (
        f"{SUBNET} --subnet fd00:1::/64 --opt mtu=1279",
        ["1279", "1280 is the least"],
    ),
    "MTU text": (f"{SUBNET} --opt mtu=1.4k", ["mtu=1.4k", "must be a number from"]),
    "port 0": (f"{SUBNET} --opt dst_port=0", ["dst_port=0", "from 1 to 65535"]),
    "port 65536": (f"{SUBNET} --opt dst_port=65536", ["dst_port=65536", "from 1 to 65535"]),
    "a datapath of the user's own": (f"{SUBNET} --opt datapath_type=fast", ["datapath_type=fast", "system", "netdev"]),
}
PODMANS = {
    "no subnet": ("", ["--subnet", "same on every host", "subnet_pool in fabric.toml"]),
    "a subnet too small": (
        "--subnet 192.168.121.0/29 --opt slots=4",
        ["192.168.121.0/29", "4 slots", "larger --subnet", "fewer --opt slots="],
    ),
    "a subnet too small for the hosts": (
        "--subnet 192.168.121.0/30",
        ["2 hosts", "192.168.121.0/30", "larger --subnet"],
    ),
    "two subnets that overlap": (
        f"{SUBNET} --subnet 192.168.121.128/25",
        ["192.168.121.0/24", "192.168.121.128/25", "overlap"],
    ),
    "a subnet of the host": (
        "--subnet 192.168.0.0/16",
        ["192.168.0.0/16", "192.168.0.10/24", "br-phy", "choose another --subnet, the same on every host"],
    ),
    "a range outside": (
        f"{SUBNET} --ip-range 192.168.122.0/28",
        ["--ip-range 192.168.122.", "--subnet 192.168.121.0/24"],
    ),
    "a gateway outside": (
        f"{SUBNET} --gateway 192.168.122.1",
        ["--gateway 192.168.122.1", "--subnet 192.168.121.0/24"],
    ),
    "a gateway of nobody": (
        f"{SUBNET} --internal --disable-dns --gateway 192.168.121.1",
        ["--internal", "without DNS has no gateway", "leave out --gateway or --disable-dns"],
    ),
    "an interface name too long": (
        f"{SUBNET} --interface-name sixteen-letters-",
        ["'sixteen-letters-'", "--interface-name", "1 to 15 letters"],
    ),
    "an interface name with a slash": (f"{SUBNET} --interface-name ovs/1", ["'ovs/1'", "1 to 15 letters"]),
    "an interface of the host": (
        f"{SUBNET} --interface-name underlay",
        ["underlay", "choose another", "--interface-name"],
    ),
    "a bridge of the host": (f"{SUBNET} --interface-name br-phy", ["br-phy", "choose another", "--interface-name"]),
    "addresses by DHCP": (f"{SUBNET} --ipam-driver dhcp", ["'dhcp'", "use host-local", "or none"]),
    "a DNS server without a resolver": (
        f"{SUBNET} --gateway 192.168.121.250 --dns 192.168.0.1",
        ["--dns has no effect", "no gateway in the network", "leave it out"],
    ),
}
FILES = {
    "syntax": ('hosts = ["192.168.0.10"', ["not valid TOML", "Unclosed array"]),
    "unknown key": (
        'peers = ["192.168.0.10"]',
        ["unknown key 'peers'", "known keys are", *(option for option in OPTIONS if option != "vni"), "subnet_pool"],
    ),
    "hosts of text": ('hosts = "192.168.0.10"', ["hosts must be a list of strings, like ["]),
    "hosts of numbers": ("hosts = [10, 11]", ["hosts must be a list of strings, like ["]),
    "slots of text": ('hosts = ["192.168.0.10"]\nslots = "8"', ["slots must be an integer, not '8'"]),
    "slots of seven": ('hosts = ["192.168.0.10"]\nslots = 7', ["slots", "7", "power of two"]),
    "mtu of truth": ('hosts = ["192.168.0.10"]\nmtu = true', ["mtu must be an integer"]),
}
# Arguments and standard input of the executable, which a user never calls but netavark and Podman do.
NETWORK = {"name": "net1", "id": "1" * 64, "driver": "geneve-ovs", "options": {"colour": "red"}}
CALLS = {
    "malformed JSON": (["create"], "{", ["standard input", "not valid JSON"]),
    "nothing to read": (["create"], "", ["nothing on standard input", "netavark and podman send it"]),
    "a list": (["setup", "/run/netns/c1"], "[]", ["standard input", "not a JSON object"]),
    "half a request": (["teardown", "/run/netns/c1"], "{}", ["request.network"]),
    "an unknown subcommand": (["remove"], "{}", ["'remove'", "known are create, setup, teardown, info"]),
    "setup without a namespace": (
        ["setup"],
        "{}",
        ["setup takes the path of a network namespace", "netavark calls it"],
    ),
    "teardown without a namespace": (
        ["teardown"],
        "{}",
        ["teardown takes the path of a network namespace", "netavark calls it"],
    ),
    "create with a namespace": (["create", "/run/netns/c1"], "{}", ["create takes no argument", "/run/netns/c1"]),
    "an unknown option": (["create"], json.dumps(NETWORK), ["network net1", "unknown option 'colour'", *OPTIONS]),
}


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    """One of two hosts that know each other by fabric.toml."""
    fabric = make_fabric(1)
    fabric.configure(hosts=["192.168.0.10", "192.168.0.11"])
    return fabric.hosts[0]


@pytest.mark.parametrize(("line", "words"), HOSTS.values(), ids=HOSTS)
def test_a_wrong_list_of_hosts(host: Host, line: str, words: list[str]) -> None:
    assert_names(refused(host, line), words)


@pytest.mark.parametrize(("line", "words"), NUMBERS.values(), ids=NUMBERS)
def test_a_wrong_option(host: Host, line: str, words: list[str]) -> None:
    assert_names(refused(host, line), words)


@pytest.mark.parametrize(("line", "words"), PODMANS.values(), ids=PODMANS)
def test_a_wrong_option_of_podmans_own(host: Host, line: str, words: list[str]) -> None:
    assert_names(refused(host, line), words)


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_a_wrong_fabric_toml(host: Host, text: str, words: list[str]) -> None:
    host.write(CONFIG, text)

    assert_names(refused(host, SUBNET), [CONFIG, *words])


@pytest.mark.parametrize(("arguments", "request_", "words"), CALLS.values(), ids=CALLS)
def test_a_wrong_call_of_the_executable(host: Host, arguments: list[str], request_: str, words: list[str]) -> None:
    before = host.snapshot()

    assert_names(plugin_error(plugin(host, *arguments, request=request_)), words)

    assert host.snapshot() == before


def test_a_vni_that_another_network_has(host: Host) -> None:
    create(host, "first", "--subnet", "192.168.120.0/24", "--opt", "vni=77")

    assert_names(refused(host, f"{SUBNET} --opt vni=77"), ["VNI 77", "network first", "--opt vni=", "every host"])


def test_an_interface_name_that_another_network_has(host: Host) -> None:
    create(host, "first", "--subnet", "192.168.120.0/24")

    sentence = refused(host, f"{SUBNET} --interface-name ovs_first")

    assert_names(sentence, ["ovs_first", "network first", "choose another with --interface-name"])


@pytest.mark.parametrize("driver", ["bridge", "macvlan", "ipvlan", "geneve-ovs"])
def test_a_subnet_that_another_network_has(host: Host, driver: str) -> None:
    with network(host, "first", driver, "192.168.121.128/25"):
        sentence = refused(host, SUBNET)

    assert_names(sentence, ["192.168.121.0/24", "192.168.121.128/25", "network first", "choose another --subnet"])


def test_internal_networks_may_have_the_same_subnet(host: Host) -> None:
    """They have no address on the host, so they never meet."""
    for name in ("first", "second"):
        create(host, name, "--internal", "--disable-dns", "--subnet", "192.168.121.0/24")

    first, second = run(host, "first", name="c1"), run(host, "second", name="c2")
    third = run(host, "second", name="c3")

    assert first.address == second.address
    assert third.ping(second.address)
    assert not first.ping(third.address)


def test_without_subnet_every_host_takes_the_same_from_the_pool(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    fabric.configure(subnet_pool="10.128.0.0/9")

    first, second = (network["subnets"][0]["subnet"] for network in fabric.create("net1"))
    other, _ = (network["subnets"][0]["subnet"] for network in fabric.create("net2"))

    assert first == second != other
    derived = ipaddress.IPv4Network(first)
    assert derived.prefixlen == 24
    assert derived.subnet_of(ipaddress.IPv4Network("10.128.0.0/9"))


def test_a_subnet_of_the_pool_that_is_taken(host: Host) -> None:
    Fabric([host]).configure(subnet_pool="10.128.0.0/9")
    derived = create(host, "net1")["subnets"][0]["subnet"]
    host.run("podman", "network", "rm", "net1")

    with network(host, "first", "bridge", derived):
        sentence = refused(host, "")

    assert_names(sentence, [derived, "network first", "--subnet", "same on every host"])


def refused(host: Host, line: str) -> str:
    """What the plugin says to a line that it must refuse, in one line; the host is as before."""
    before = networks(host), host.snapshot()

    said = refusal(host, "podman", "network", "create", "-d", "geneve-ovs", *shlex.split(line), "net1")

    assert (networks(host), host.snapshot()) == before
    assert "\n" not in said
    assert said.startswith(PREFIX)
    return said.removeprefix(PREFIX)


def assert_names(sentence: str, words: list[str]) -> None:
    assert [word for word in words if word not in sentence] == [], sentence


def networks(host: Host) -> str:
    return host.run("podman", "network", "ls", "--no-trunc").stdout


@contextmanager
def network(host: Host, name: str, driver: str, subnet: str) -> Iterator[None]:
    """A network of any driver, for a while."""
    host.run("podman", "network", "create", "-d", driver, "--subnet", subnet, name)
    try:
        assert inspect(host, name)["driver"] == driver
        yield
    finally:
        host.run("podman", "network", "rm", name)
