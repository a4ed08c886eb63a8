# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.addresses import SLOTS_MAX
from netavark_geneve.config import Fabric
from netavark_geneve.naming import VNI_MAX
from netavark_geneve.options import KNOWN, Options, parse, record, with_defaults

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
    egress = {"metric", "no_default_route", "outbound_addr4", "outbound_addr6"}
    assert mesh | egress == set(KNOWN)


@given(any_options)
def test_options_survive_being_recorded(options: Options) -> None:
    assert parse(record(options)) == options


@given(any_options)
def test_what_is_recorded_is_text_as_podman_wants_it(options: Options) -> None:
    recorded = record(options)
    assert all(isinstance(value, str) for value in recorded.values())
    assert "None" not in recorded.values() or options.hosts == "None"


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
