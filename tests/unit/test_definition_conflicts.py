# SPDX-License-Identifier: Apache-2.0
"""What a new network may not share with others and with the host; and the subnet that it gets from the pool."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.definition import HostFacts
from netavark_geneve.model import Network

from .makers import created, facts, interfaces, mesh, network, network_names, on_host, refused, subnet

OTHER = Network(
    name="other",
    id="99" * 32,
    driver="geneve-ovs",
    bridge="ovs_other",
    subnets=(subnet("10.1.0.0/24"),),
    options={"vni": "99"},
)


def with_other(**changes: object) -> HostFacts:
    return facts(mesh(), networks=(replace(OTHER, **changes),))  # type: ignore[arg-type]


def test_other_network_that_shares_nothing_is_no_conflict() -> None:
    assert created(on=with_other(), vni="7").options["vni"] == "7"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bridge": "ovs_net1"}, ("ovs_net1", "--interface-name")),
        ({"options": {"vni": "7"}}, ("VNI 7", "--opt vni=")),
        (
            {"subnets": (subnet("192.168.0.0/16", gateway="192.168.0.1"),)},
            ("192.168.120.0/24", "192.168.0.0/16", "--subnet"),
        ),
        ({"subnets": (subnet("192.168.120.128/30"),), "driver": "bridge"}, ("192.168.120.128/30", "--subnet")),
        (
            {"subnets": (subnet("192.168.120.0/24", gateway="192.168.120.9"),), "internal": True},
            ("192.168.120.0/24", "--subnet"),
        ),
        (
            {"subnets": (subnet("192.168.120.0/24"),), "driver": "bridge", "internal": True},
            ("192.168.120.0/24", "--subnet"),
        ),
    ],
    ids=[
        "bridge",
        "vni",
        "wider subnet",
        "subnet of another driver",
        "internal subnet with names",
        "internal subnet of another driver",
    ],
)
def test_conflict_with_another_network_is_refused_by_its_name(
    changes: dict[str, object], words: tuple[str, ...]
) -> None:
    with refused("network other", *words):
        created(on=with_other(**changes), vni="7")


def test_internal_networks_may_share_a_subnet_since_it_is_on_no_interface_of_the_host() -> None:
    same = (subnet("192.168.120.0/24"),)
    assert created(on=with_other(subnets=same, internal=True)).bridge == "ovs_net1"
    assert created(network(internal=True), on=with_other(subnets=same)).bridge == "ovs_net1"


def test_internal_network_with_names_may_not_share_its_subnet_since_the_resolver_has_an_address_there() -> None:
    same = (subnet("192.168.120.0/24", gateway="192.168.120.1"),)
    with refused("192.168.120.0/24", "network other"):
        created(network(internal=True, dns_enabled=True), on=with_other(subnets=same))


def test_vni_is_no_conflict_with_a_network_of_another_driver() -> None:
    assert created(on=with_other(driver="vxlan", options={"vni": "7"}), vni="7").options["vni"] == "7"


def test_two_networks_on_one_bridge_of_the_users_are_no_conflict() -> None:
    """Nor is the bridge itself, nor the user's own address on it, in that subnet."""
    other = with_other(
        bridge="br-ex", options={"mode": "unmanaged"}, subnets=(subnet("192.168.120.0/24", gateway="192.168.120.1"),)
    )
    host = replace(other, links=frozenset({"br-ex"}), interfaces=interfaces(("br-ex", "192.168.120.1/24")))
    assert created(network(bridge="br-ex"), on=host, mode="unmanaged").bridge == "br-ex"


def test_network_is_no_conflict_with_itself() -> None:
    first = created()
    assert created(on=facts(mesh(), networks=(first,))) == first


def test_subnet_of_the_hosts_own_network_is_refused_by_interface() -> None:
    with refused("192.168.0.0/23", "192.168.0.10/24", "eth0", "--subnet"):
        created(network("192.168.0.0/23"), on=facts(mesh(), interfaces=interfaces(("eth0", "192.168.0.10/24"))))


@pytest.mark.parametrize(
    "interface",
    [("eth0", "192.168.0.10/24"), ("eth0", "fd00::1/8")],
    ids=["elsewhere", "other family"],
)
def test_address_of_the_host_that_is_no_conflict(interface: tuple[str, str]) -> None:
    assert created(on=facts(mesh(), interfaces=interfaces(interface))).bridge == "ovs_net1"


@pytest.mark.parametrize("internal", [False, True])
def test_bridge_name_of_an_interface_that_the_host_has_already_is_refused(internal: bool) -> None:
    with refused("ovs_net1", "--interface-name", "mode=unmanaged", "ovs-vsctl del-br ovs_net1"):
        created(network(internal=internal), on=facts(mesh(), links=frozenset({"eth0", "ovs_net1"})))


def test_subnets_of_one_network_that_overlap_are_refused() -> None:
    with refused("192.168.120.0/24", "192.168.120.64/26", "overlap"):
        created(network("192.168.120.0/24", "fd00::/64", "192.168.120.64/26"))


def test_subnet_from_the_pool_is_the_same_on_every_host() -> None:
    found = [created(replace(network(), subnets=()), on=on_host(n, of=2), subnet_pool="10.128.0.0/9") for n in (1, 2)]
    assert found[0].subnets[0].subnet == found[1].subnets[0].subnet
    assert found[0].subnets[0].lease_range != found[1].subnets[0].lease_range


@given(network_names, st.sampled_from([("10.128.0.0/9", 24), ("10.0.0.0/24", 24), ("fd00::/8", 64), ("fd00::/64", 64)]))
def test_subnet_from_the_pool_is_inside_it(name: str, pool: tuple[str, int]) -> None:
    inside, prefix = ip_network(pool[0]), pool[1]
    found = created(replace(network(), name=name, subnets=()), subnet_pool=pool[0]).subnets[0].subnet
    assert found.subnet_of(inside)  # type: ignore[arg-type]
    assert found.prefixlen == prefix


def test_subnet_of_the_user_wins_over_the_pool() -> None:
    assert created(subnet_pool="10.128.0.0/9").subnets[0].subnet == ip_network("192.168.120.0/24")


def test_subnets_from_the_pool_are_spread() -> None:
    nets = [replace(network(), name=f"net{number}", subnets=()) for number in range(20)]
    assert len({created(each, subnet_pool="10.0.0.0/8").subnets for each in nets}) == 20


def test_subnet_from_the_pool_that_is_taken_asks_for_a_subnet() -> None:
    wanted = replace(network(), subnets=())
    taken = created(wanted, subnet_pool="10.128.0.0/9").subnets
    with refused(str(taken[0].subnet), "network other", "--subnet"):
        created(wanted, on=with_other(subnets=taken), subnet_pool="10.128.0.0/9")


@pytest.mark.parametrize(
    ("pool", "ipv6_enabled", "words"),
    [
        (None, False, ("--subnet", "subnet_pool")),
        ("10.128.0.0/33", False, ("'10.128.0.0/33'", "subnet_pool")),
        ("10.128.0.1/9", False, ("10.128.0.1/9", "subnet_pool")),
        ("everything", False, ("'everything'", "subnet_pool")),
        ("10.0.0.0/25", False, ("10.0.0.0/25", "--subnet")),
        ("10.0.0.0/8", True, ("10.0.0.0/8", "--subnet")),
    ],
    ids=["no pool", "bad prefix", "host bits", "words", "too small", "IPv4 only but --ipv6"],
)
def test_pool_that_has_no_subnet_to_give_is_refused(
    pool: str | None, ipv6_enabled: bool, words: tuple[str, ...]
) -> None:
    with refused(*words):
        created(replace(network(), subnets=(), ipv6_enabled=ipv6_enabled), subnet_pool=pool)
