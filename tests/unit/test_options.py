# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.addresses import SLOTS_MAX
from netavark_geneve.config import Fabric
from netavark_geneve.naming import VNI_MAX, is_interface_name
from netavark_geneve.options import (
    KNOWN,
    KNOWN_TO_CONTAINERS,
    ContainerOptions,
    Options,
    gather,
    parse,
    parse_container,
    record,
    with_defaults,
)

from .makers import addresses, refused

any_options = st.builds(
    Options,
    hosts=st.none() | st.text(),
    local_ip=st.none() | addresses,
    slots=st.none() | st.integers(0, 12).map(lambda power: 2**power),
    slot=st.none() | st.integers(1, SLOTS_MAX),
    vni=st.none() | st.integers(1, VNI_MAX),
    mtu=st.none() | st.integers(1, 65535),
    dst_port=st.none() | st.integers(1, 65535),
    datapath_type=st.sampled_from([None, "", "netdev"]),
    metric=st.none() | st.integers(0, 2**32 - 1),
    no_default_route=st.none() | st.booleans(),
    outbound_addr4=st.none() | st.ip_addresses(v=4),
    outbound_addr6=st.none() | st.ip_addresses(v=6),
    isolate=st.sampled_from([None, "true", "false", "strict"]),
    vlan=st.none() | st.integers(0, 4094),
    vrf=st.none() | st.from_regex(r"[A-Za-z0-9_.-]{1,15}", fullmatch=True).filter(is_interface_name),
    mode=st.sampled_from([None, "managed", "unmanaged"]),
    allow_foreign_ip=st.none() | st.booleans(),
    conflict_detection=st.none() | st.booleans(),
)


def test_no_option_says_nothing() -> None:
    assert parse({}) == Options()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("hosts", "192.168.0.10,-", "192.168.0.10,-"),
        ("local_ip", "192.168.0.10", ip_address("192.168.0.10")),
        ("local_ip", "FD00::0010", ip_address("fd00::10")),
        ("slots", "1", 1),
        ("slots", "4096", 4096),
        ("slot", "3", 3),
        ("vni", "1", 1),
        ("vni", "16777215", 2**24 - 1),
        ("mtu", "1450", 1450),
        ("dst_port", "65535", 65535),
        ("datapath_type", "netdev", "netdev"),
        ("datapath_type", "system", ""),
        ("datapath_type", "", ""),
        ("metric", "0", 0),
        ("metric", "4294967295", 2**32 - 1),
        ("no_default_route", "1", True),
        ("outbound_addr4", "192.168.0.10", ip_address("192.168.0.10")),
        ("outbound_addr6", "FD00::1", ip_address("fd00::1")),
        ("isolate", "true", "true"),
        ("isolate", "1", "true"),
        ("isolate", "false", "false"),
        ("isolate", "0", "false"),
        ("isolate", "strict", "strict"),
        ("vlan", "0", 0),
        ("vlan", "4094", 4094),
        ("vrf", "red", "red"),
        ("mode", "managed", "managed"),
        ("mode", "unmanaged", "unmanaged"),
        ("mode", "", None),
        ("allow_foreign_ip", "true", True),
        ("allow_foreign_ip", "0", False),
        ("conflict_detection", "false", False),
        ("conflict_detection", "1", True),
    ],
)
def test_option_is_read(key: str, text: str, value: Any) -> None:
    assert parse({key: text}) == replace(Options(), **{key: value})


@pytest.mark.parametrize(
    ("key", "text", "valid"),
    [
        ("vni", "0", "from 1 to 16777215"),
        ("vni", "16777216", "from 1 to 16777215"),
        ("vni", "-1", "from 1 to"),
        ("vni", "", "a number"),
        ("vni", "0x10", "a number"),
        ("vni", "1_000", "a number"),
        ("vni", "1.0", "a number"),
        ("vni", "١", "a number"),
        ("vni", "²", "a number"),
        ("vni", "9" * 5000, "a number"),
        ("mtu", "0", "from 1 to 65535"),
        ("mtu", "65536", "from 1 to 65535"),
        ("mtu", "big", "a number"),
        ("dst_port", "65536", "from 1 to 65535"),
        ("slots", "0", "from 1 to 4096"),
        ("slots", "3", "power of two"),
        ("slots", "6", "power of two"),
        ("slots", "8192", "from 1 to 4096"),
        ("slot", "0", "from 1 to 4096"),
        ("local_ip", "host-a", "IPv4 or IPv6 address"),
        ("local_ip", "192.168.0.10/24", "IPv4 or IPv6 address"),
        ("local_ip", "", "IPv4 or IPv6 address"),
        ("datapath_type", "dpdk", "netdev"),
        ("metric", "-1", "from 0 to 4294967295"),
        ("metric", "4294967296", "from 0 to 4294967295"),
        ("no_default_route", "yes", "true or false"),
        ("outbound_addr4", "fd00::1", "IPv4 address"),
        ("outbound_addr6", "192.168.0.10", "IPv6 address"),
        ("isolate", "yes", "true, strict or false"),
        ("isolate", "", "true, strict or false"),
        ("vlan", "-1", "from 0 to 4094"),
        ("vlan", "4095", "from 0 to 4094"),
        ("vlan", "trunk", "a number"),
        ("vrf", "", "an interface name"),
        ("vrf", "a/b", "an interface name"),
        ("vrf", "x" * 16, "an interface name"),
        ("mode", "bridge", "managed or unmanaged"),
        ("allow_foreign_ip", "maybe", "true or false"),
        ("conflict_detection", "", "true or false"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_option_out_of_range_is_refused_by_name_value_and_what_is_valid(key: str, text: str, valid: str) -> None:
    with refused(f"option {key}={text}", valid):
        parse({key: text})


@pytest.mark.parametrize("key", ["vnl", "VNI", "peers", ""])
def test_unknown_option_is_refused_with_the_list_of_known_ones(key: str) -> None:
    with refused(f"unknown option {key!r}", *KNOWN):
        parse({"vni": "1", key: "1"})


def test_slot_is_not_among_the_options_that_users_are_told() -> None:
    assert "slot" not in KNOWN
    mesh = {"hosts", "local_ip", "slots", "vni", "mtu", "dst_port", "datapath_type"}
    egress = {"metric", "no_default_route", "outbound_addr4", "outbound_addr6", "isolate"}
    bridge = {"mode", "vlan", "vrf"}
    addresses = {"allow_foreign_ip", "conflict_detection", "dns"}
    assert mesh | egress | bridge | addresses == set(KNOWN)


@given(any_options)
def test_options_survive_being_recorded(options: Options) -> None:
    assert parse(record(options)) == options


@given(any_options)
def test_what_is_recorded_is_text_as_podman_wants_it(options: Options) -> None:
    recorded = record(options)
    assert all(isinstance(value, str) for value in recorded.values())
    assert "None" not in recorded.values() or options.hosts == "None"


@pytest.mark.parametrize("flag", [True, False])
def test_flag_is_recorded_as_podmans_bridge_driver_takes_it(flag: bool) -> None:
    assert record(Options(no_default_route=flag)) == {"no_default_route": "true" if flag else "false"}


class TestGather:
    """Options by way of labels, which are all that Podman's Docker-compatible API hands over, and Docker's names."""

    def test_labels_of_others_are_left_alone(self) -> None:
        assert gather({"vni": "7"}, {"owner": "ops", "vni": "8", "com.docker.compose.project": "x"}) == (
            {"vni": "7"},
            None,
        )

    def test_label_is_an_option(self) -> None:
        assert gather({}, {"geneve-ovs.vni": "7", "geneve-ovs.hosts": "none"}) == ({"vni": "7", "hosts": "none"}, None)

    def test_option_wins_over_the_label_of_its_name(self) -> None:
        assert gather({"vni": "7"}, {"geneve-ovs.vni": "8", "geneve-ovs.mtu": "1400"}) == (
            {"vni": "7", "mtu": "1400"},
            None,
        )

    def test_label_of_an_unknown_option_is_refused_like_the_option(self) -> None:
        options, _ = gather({}, {"geneve-ovs.vnl": "7"})
        with refused("unknown option 'vnl'"):
            parse(options)

    @pytest.mark.parametrize(
        ("options", "labels", "mtu"),
        [
            ({"com.docker.network.driver.mtu": "1400"}, {}, "1400"),
            ({"com.docker.network.driver.mtu": "1400", "mtu": "1300"}, {}, "1300"),
            ({"com.docker.network.driver.mtu": "1400"}, {"geneve-ovs.mtu": "1300"}, "1300"),
            ({}, {"geneve-ovs.com.docker.network.driver.mtu": "1400"}, "1400"),
        ],
        ids=["Docker's", "ours wins", "our label wins", "Docker's in a label"],
    )
    def test_dockers_mtu_is_ours(self, options: dict[str, str], labels: dict[str, str], mtu: str) -> None:
        assert gather(options, labels) == ({"mtu": mtu}, None)

    def test_dockers_empty_mtu_says_nothing(self) -> None:
        assert gather({"com.docker.network.driver.mtu": ""}, {}) == ({}, None)

    def test_dockers_name_of_the_bridge_is_no_option_of_ours(self) -> None:
        assert gather({"com.docker.network.bridge.name": "br0", "vni": "7"}, {}) == ({"vni": "7"}, "br0")

    def test_what_was_given_is_not_changed(self) -> None:
        options = {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.name": "br0"}
        before = dict(options)
        gather(options, {})
        assert options == before


class TestContainer:
    """Options of one container on one network: `--network NAME:KEY=VALUE`."""

    def test_no_option_says_nothing(self) -> None:
        assert parse_container({}, "net1") == ContainerOptions()

    def test_options_are_read(self) -> None:
        own = parse_container({"host_interface_name": "web0", "vlan": "7"}, "net1")
        assert own == ContainerOptions(host_interface_name="web0", vlan=7)

    @pytest.mark.parametrize("key", ["mode", "VLAN", "mtu", ""])
    def test_unknown_option_is_refused_with_the_known_ones(self, key: str) -> None:
        with refused(
            f"unknown option {key!r}", "--network net1:", "ip, ip6, mac, interface_name", *KNOWN_TO_CONTAINERS
        ):
            parse_container({key: "1"}, "net1")

    @pytest.mark.parametrize(
        ("key", "text", "valid"),
        [
            ("vlan", "4095", "from 0 to 4094"),
            ("vlan", "", "a number"),
            ("host_interface_name", "x" * 16, "an interface name"),
            ("host_interface_name", "a/b", "an interface name"),
            ("host_interface_name", "", "an interface name"),
        ],
        ids=lambda value: value[:20] or "empty",
    )
    def test_option_out_of_range_is_refused(self, key: str, text: str, valid: str) -> None:
        with refused(f"option {key}={text}", valid):
            parse_container({key: text}, "net1")


def test_hosts_of_fabric_toml_are_recorded_as_its_path() -> None:
    fabric = Fabric(path="/etc/netavark-geneve/fabric.toml", hosts=("192.168.0.10", "192.168.0.11"))
    assert with_defaults(Options(), fabric).hosts == "@/etc/netavark-geneve/fabric.toml"


def test_hosts_of_the_command_line_win_over_fabric_toml() -> None:
    assert with_defaults(Options(hosts="10.0.0.1"), Fabric(hosts=("192.168.0.10",))).hosts == "10.0.0.1"


def test_without_any_hosts_the_network_is_this_hosts_alone() -> None:
    assert with_defaults(Options(), Fabric()).hosts == "none"


def test_without_fabric_toml_only_the_port_has_a_default() -> None:
    assert with_defaults(Options(), Fabric()) == Options(hosts="none", dst_port=6081, datapath_type="")


FABRIC = Fabric(hosts=("10.0.0.1",), local_ip="10.0.0.1", slots=4, mtu=1400, dst_port=7000, datapath_type="netdev")


def test_fabric_toml_fills_in_what_the_user_left_open() -> None:
    options = with_defaults(Options(), FABRIC)
    assert options.local_ip == ip_address("10.0.0.1")
    assert (options.slots, options.mtu, options.dst_port, options.datapath_type) == (4, 1400, 7000, "netdev")


def test_options_of_the_user_win_over_fabric_toml() -> None:
    own = Options("10.0.0.2", ip_address("10.0.0.2"), slots=2, vni=5, mtu=1300, dst_port=6082, datapath_type="")
    assert with_defaults(own, FABRIC) == own


@pytest.mark.parametrize(
    ("fabric", "words"),
    [
        (Fabric(slots=3), ("slots=3", "power of two")),
        (Fabric(mtu=-5), ("mtu=-5", "from 1 to 65535")),
        (Fabric(dst_port=0), ("dst_port=0", "from 1 to 65535")),
        (Fabric(local_ip="host-a"), ("local_ip=host-a", "address")),
        (Fabric(datapath_type="dpdk"), ("datapath_type=dpdk", "netdev")),
    ],
    ids=["slots", "mtu", "dst_port", "local_ip", "datapath_type"],
)
def test_values_of_fabric_toml_pass_the_same_checks(fabric: Fabric, words: tuple[str, ...]) -> None:
    with refused(*words):
        with_defaults(Options(), fabric)


def test_bad_value_of_fabric_toml_is_refused_by_the_name_of_the_file() -> None:
    with refused("/srv/fabric.toml", "slots", "3"):
        with_defaults(Options(), Fabric(path="/srv/fabric.toml", slots=3))
