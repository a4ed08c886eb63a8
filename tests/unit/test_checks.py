# SPDX-License-Identifier: Apache-2.0
"""What doctor makes of what it saw. The packet filter is in test_ruleset.py."""

import configparser
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netavark_geneve.checks.finding import FAULT, OK, WARNING, Finding, failed
from netavark_geneve.checks.host import check_names, check_setting, check_stale
from netavark_geneve.checks.openvswitch import (
    check_configuration,
    check_gateway,
    check_geneve,
    check_interface,
    check_module,
    check_mtu,
    check_tunnels,
)
from netavark_geneve.checks.peers import Need, check_offload, check_return_path, check_vnis, check_way, find_needs
from netavark_geneve.checks.software import (
    LIBRARIES,
    PYTHON,
    check_answer,
    check_driver,
    check_file,
    check_helper,
    check_library,
    check_netavark,
    check_podman,
    check_python,
    check_resolver,
)
from netavark_geneve.errors import GeneveError
from netavark_geneve.found import Broken, Engine, Offload, Program, Way
from netavark_geneve.options import parse
from netavark_geneve.stale import BRIDGE, CHAIN, Thing

from .conftest import PROJECT
from .makers import HOST_2, created

ENGINE = Engine("5.4.2", "netavark", "netavark 1.14.0", ("bridge", "geneve-ovs"))
PLUGIN = Program("/usr/libexec/netavark/geneve-ovs", is_file=True, mode=0o755)
PEER = ip_address(HOST_2)
PATH = Way("eth0", 1500)
NEEDS = (Need("net1", 1500), Need("net2", 1400))
NO_ROUTE = GeneveError(f"no route to the peer {PEER}: Network is unreachable; check the underlay")
BRIDGE_LEFT = Thing(BRIDGE, "ovs_net1", "ovs_net1", "no container is on it")
CHAIN_LEFT = Thing(CHAIN, "network/ovs_net9", "network/ovs_net9", "its network has no container here")

# What was found, and how bad that is; words of the reason or the remedy.
JUDGEMENTS: dict[str, tuple[Finding, str, str]] = {
    "Python": (check_python((3, 13, 5)), OK, ""),
    "Python of the least version": (check_python((3, 11)), OK, ""),
    "old Python": (check_python((3, 9, 18)), FAULT, "install netavark-geneve again"),
    "library": (check_library("pyroute2", "0.9.7"), OK, ""),
    "library of the least version": (check_library("ovsdbapp", "2.11.0"), OK, ""),
    "library of a later major version": (check_library("pyroute2", "1.0"), OK, ""),
    "library that is bundled": (check_library("ovsdbapp", ""), OK, ""),
    "old library": (check_library("pyroute2", "0.7.3"), FAULT, "install"),
    "missing library": (check_library("jeepney", None), FAULT, "install"),
    "Podman": (check_podman(ENGINE), OK, ""),
    "Podman with a suffix": (check_podman(replace(ENGINE, version="4.9.4-rhel")), OK, ""),
    "old Podman": (check_podman(replace(ENGINE, version="4.3.1")), FAULT, "upgrade Podman"),
    "Podman of no version": (check_podman(replace(ENGINE, version="")), FAULT, "upgrade Podman"),
    "netavark": (check_netavark(ENGINE), OK, ""),
    "old netavark": (check_netavark(replace(ENGINE, netavark="netavark 1.4.0")), FAULT, "upgrade netavark"),
    "CNI": (check_netavark(replace(ENGINE, backend="cni")), FAULT, "network_backend"),
    "plugin": (check_file(PLUGIN, ()), OK, ""),
    "no plugin": (check_file(None, ("/a", "/b")), FAULT, "there is no geneve-ovs in /a, /b"),
    "plugin that is a directory": (check_file(replace(PLUGIN, is_file=False), ()), FAULT, "install"),
    "plugin that cannot be run": (check_file(replace(PLUGIN, mode=0o744), ()), FAULT, f"chmod 755 {PLUGIN.path}"),
    "plugin's version": (check_answer(PLUGIN, "1", "1"), OK, ""),
    "plugin of another version": (check_answer(PLUGIN, "1", "2"), WARNING, "install"),
    "driver": (check_driver(ENGINE, PLUGIN), OK, ""),
    "no driver": (check_driver(replace(ENGINE, drivers=("bridge",)), PLUGIN), FAULT, "netavark_plugin_dirs"),
    "resolver": (check_resolver("/usr/libexec/podman/aardvark-dns", ["net1"]), OK, ""),
    "no resolver": (check_resolver(None, ["net1"]), WARNING, "install aardvark-dns"),
    "no resolver and no names": (check_resolver(None, []), OK, ""),
    "helper": (check_helper(True), OK, ""),
    "no helper": (check_helper(False), OK, ""),
    "configuration": (check_configuration(7, 7), OK, ""),
    "old configuration": (check_configuration(6, 7), FAULT, "systemctl restart openvswitch"),
    "GENEVE": (check_geneve({"geneve", "vxlan"}), OK, ""),
    "no GENEVE": (check_geneve({"vxlan"}), FAULT, "install an Open vSwitch"),
    "module": (check_module("geneve", "6.12", is_there=True, networks=["net1"]), OK, ""),
    "no module": (check_module("geneve", "6.12", is_there=False, networks=["net1"]), FAULT, "datapath_type=netdev"),
    "interface": (check_interface(Broken("gv7-2", "tunnel", "File exists")), FAULT, "gv7-2: File exists"),
    "bridge's MTU": (check_mtu("net1", "ovs_net1", 1450, 1450), OK, ""),
    "bridge's MTU changed": (check_mtu("net1", "ovs_net1", 1500, 1450), FAULT, "Interface ovs_net1 mtu_request=1450"),
    "bridge without an interface": (check_mtu("net1", "ovs_net1", None, 1450), FAULT, "podman network reload --all"),
    "gateway": (check_gateway("net1", {"fd00::1", "10.0.0.1"}, {"10.0.0.1"}, is_up=True), OK, ""),
    "gateway that is down": (check_gateway("net1", {"a"}, {"a"}, is_up=False), FAULT, "network reload"),
    "gateway without its address": (check_gateway("net1", (), {"a"}, is_up=True), FAULT, "network reload"),
    "tunnels": (check_tunnels("net1", {"a", "b"}, {"b", "a"}), OK, ""),
    "missing tunnel": (check_tunnels("net1", {"a"}, {"a", "b"}), FAULT, "podman network reload --all"),
    "tunnel to one that has left": (check_tunnels("net1", {"a", "b"}, {"a"}), FAULT, "podman network reload --all"),
    "way": (check_way(PEER, PATH, NEEDS), OK, ""),
    "way that nobody needs yet": (check_way(PEER, PATH, ()), OK, ""),
    "way that is narrow": (check_way(PEER, replace(PATH, mtu=1450), NEEDS), FAULT, "ip link set eth0 mtu 1500"),
    "way that is narrow for a reason": (
        check_way(PEER, replace(PATH, mtu=1450, is_of_route=True), NEEDS),
        FAULT,
        "take 'mtu 1450' out of the route",
    ),
    "no way": (check_way(PEER, NO_ROUTE, NEEDS), FAULT, "check the underlay"),
    "reverse path": (check_return_path("eth0", "0", [HOST_2]), OK, ""),
    "loose reverse path": (check_return_path("eth0", "2", [HOST_2]), OK, ""),
    "strict reverse path, straight": (check_return_path("eth0", "1", []), OK, ""),
    "strict reverse path": (check_return_path("eth0", "1", [HOST_2]), FAULT, "conf.eth0.rp_filter=2"),
    "offload": (check_offload("eth0", Offload(is_on=True, is_fixed=False)), OK, ""),
    "offload that cannot be": (check_offload("eth0", Offload(is_on=False, is_fixed=True)), OK, ""),
    "offload that the card has not": (check_offload("eth0", None), OK, ""),
    "offload that is off": (
        check_offload("eth0", Offload(is_on=False, is_fixed=False)),
        WARNING,
        "ethtool -K eth0 tx-udp_tnl-segmentation on",
    ),
    "setting": (check_setting("net1", "net/ipv4/ip_forward", "1", "1"), OK, ""),
    "setting that was set back": (check_setting("net1", "net/ipv4/ip_forward", "0", "1"), FAULT, "geneve reload"),
    "names": (check_names(2, runs=True), OK, ""),
    "no names": (check_names(0, runs=False), OK, ""),
    "names that nobody tells": (check_names(2, runs=False), FAULT, "netavark-geneve reload"),
    "stale bridge": (check_stale(BRIDGE_LEFT), FAULT, "netavark-geneve gc --apply"),
    "stale chain": (check_stale(CHAIN_LEFT), WARNING, "netavark-geneve gc --apply"),
}


@pytest.mark.parametrize(("finding", "state", "words"), JUDGEMENTS.values(), ids=JUDGEMENTS)
def test_judgement(finding: Finding, state: str, words: str) -> None:
    assert finding.state == state
    assert words in f"{finding.reason}; {finding.remedy}"
    assert finding.found
    assert (state == OK) is (not finding.reason) is (not finding.remedy)
    assert str(finding).isprintable()


def test_error_tells_its_remedy_behind_the_last_semicolon() -> None:
    finding = failed("way", GeneveError("no route; none at all; check the underlay"))
    assert (finding.reason, finding.remedy) == ("no route; none at all", "check the underlay")
    assert failed("way", GeneveError("no route")).reason == "no route"


def test_line_tells_all() -> None:
    finding = check_way(PEER, replace(PATH, mtu=1450), NEEDS)
    assert str(finding) == (
        "way to 192.168.0.11: found eth0 for 1450 bytes; wanted a route for 1500 bytes; full-size packets of network"
        " net1 do not fit into the tunnel; remedy: ip link set eth0 mtu 1500"
    )


@pytest.mark.parametrize(
    ("local", "options", "wanted"),
    [("192.168.0.10", {}, 1500), ("fd00::10", {}, 1520), ("192.168.0.10", {"vlan": "7"}, 1504)],
    ids=["IPv4", "IPv6", "VLAN"],
)
def test_need_is_what_a_full_packet_has_outside(local: str, options: dict[str, str], wanted: int) -> None:
    recorded = parse({"mtu": "1450", **options})
    assert find_needs(created(), recorded, ip_address(local)) == [Need("net1", wanted)]
    assert find_needs(created(), replace(recorded, mtu=None), ip_address(local)) == []


def test_networks_of_one_vni_are_named() -> None:
    one, two = check_vnis({"net1": 7, "net2": 8, "net3": 7})
    assert (one.state, one.found) == (FAULT, "net1, net3")
    assert "net3 again with another --opt vni=" in one.remedy
    assert two.state == OK


def test_versions_are_those_that_are_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    wanted = [f"{name}>={version}" for name, version in sorted(LIBRARIES.items())]
    assert setup["options"]["install_requires"].split() == wanted
    assert setup["options"]["python_requires"] == f">={'.'.join(map(str, PYTHON))}"
