# SPDX-License-Identifier: Apache-2.0
"""Whatever is valid, all hosts agree and share nothing: from the list of hosts to the plan of an attach."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network
from itertools import combinations, pairwise
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from netavark_geneve import naming
from netavark_geneve.addresses import SLICE_MIN, Address, Range, default_slots
from netavark_geneve.addresses import Network as IPNetwork
from netavark_geneve.fabric.mesh import Mesh
from netavark_geneve.model import AttachPlan, Network, Subnet
from netavark_geneve.options import GONE

from .conftest import Calls
from .frontend import ARGUMENTS, each_verb, judged
from .makers import (
    attempt,
    container,
    created,
    encoded,
    facts,
    ids,
    mesh,
    network,
    network_json,
    network_names,
    planned,
    port_json,
    refused,
    request_json,
)

MOST_HOSTS, MOST_SLOTS = 64, 4096
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
SUBNET = {
    "subnet": "192.168.120.0/24",
    "gateway": "192.168.120.1",
    "lease_range": {"start_ip": "192.168.120.1", "end_ip": "192.168.120.126"},
}
NETWORK = network_json(
    subnets=[SUBNET],
    routes=[{"destination": "10.0.0.0/8", "gateway": "192.168.120.9", "metric": 50}],
    network_dns_servers=["9.9.9.9"],
    options={"vni": "7", "mtu": "1450"},
)
REQUEST = request_json(network=NETWORK, port_mappings=[port_json()])
REQUESTS = {"create": NETWORK, "setup": REQUEST, "teardown": REQUEST}
INTACT = 12  # of so many values one is anything


def nearly(document: Any) -> st.SearchStrategy[Any]:
    """The document with some of its values replaced, of any depth."""
    inner: st.SearchStrategy[Any]
    if isinstance(document, dict):
        inner = st.fixed_dictionaries({key: nearly(value) for key, value in document.items()})
    elif isinstance(document, list):
        inner = st.tuples(*map(nearly, document)).map(list)
    else:
        inner = st.just(document)
    return st.integers(1, INTACT).flatmap(lambda number: any_json if number == INTACT else inner)


@dataclass(frozen=True)
class Fabric:
    """A network, the list of hosts and the options: what is the same on all hosts."""

    wanted: Network
    hosts: tuple[str, ...]
    options: Mapping[str, str]

    @property
    def live(self) -> list[str]:
        return [host for host in self.hosts if host != GONE]

    def place(self, host: str) -> Mesh:
        return mesh(",".join(self.hosts), own=host)

    def on(self, host: str) -> Network:
        """What `create` makes of the network there."""
        return created(self.wanted, on=facts(self.place(host)), hosts=",".join(self.hosts), options=self.options)

    def everywhere(self) -> list[Network]:
        return [self.on(host) for host in self.live]


@st.composite
def subnets(draw: st.DrawFn, version: int, least: int) -> IPNetwork:
    """Private, and of so many addresses at least."""
    inside = ip_network({4: "10.0.0.0/8", 6: "fd00::/8"}[version])
    longest = inside.max_prefixlen - (least - 1).bit_length()
    address = draw(st.ip_addresses(network=inside))
    return ip_network((address, draw(st.integers(max(inside.prefixlen, longest - 40), longest))), strict=False)


@st.composite
def fabrics(draw: st.DrawFn) -> Fabric:
    """Of any subnets, by IPv4 or IPv6 between the hosts; slots are chosen, or left to be derived."""
    slots = 2 ** draw(st.integers(0, MOST_SLOTS.bit_length() - 1))
    versions = draw(st.sampled_from([(4,), (6,), (4, 6), (6, 4)]))
    made = [draw(subnets(version, slots * SLICE_MIN)) for version in versions]
    derived = min(map(default_slots, made))
    chosen = draw(st.booleans())
    most = min(slots if chosen else derived, MOST_HOSTS)
    underlay = draw(st.sampled_from(["172.31.0.{}", "fd99::{:x}"]))
    numbers = draw(st.lists(st.integers(1, 250) | st.none(), min_size=1, max_size=most, unique_by=_or_itself))
    return Fabric(
        replace(
            network(),
            name=draw(network_names),
            id=draw(ids),
            subnets=tuple(map(Subnet, made)),
            internal=draw(st.booleans()),
            dns_enabled=draw(st.booleans()),
        ),
        tuple(GONE if number is None else underlay.format(number) for number in numbers),
        {"slots": str(slots)} if chosen else {},
    )


def _or_itself(number: int | None) -> object:
    """Every host once, and as many that are gone as there may be."""
    return object() if number is None else number


def _plans(fabric: Fabric, data: st.DataObject) -> list[AttachPlan]:
    """Of some container on every host, with any address of each subnet that the host gives out."""
    return [
        planned(
            each,
            container(
                *(str(_at(subnet, data.draw(st.integers(1, _size(subnet) - 1)))) for subnet in each.subnets),
                id=f"{number:064x}",
            ),
            place=fabric.place(host),
        )
        for number, (host, each) in enumerate(zip(fabric.live, fabric.everywhere(), strict=True))
    ]


def _size(subnet: Subnet) -> int:
    first, last = _ends(subnet.lease_range)
    return last - first + 1


def _at(subnet: Subnet, number: int) -> Address:
    """The address that is so far behind the first of the range, which is the gateway's."""
    assert subnet.lease_range is not None
    return subnet.lease_range.first + number


def _ends(share: Range | None) -> tuple[int, int]:
    assert share is not None
    return int(share.first), int(share.last)


@given(fabrics())
@settings(max_examples=200)
def test_hosts_agree_on_all_that_is_common(fabric: Fabric) -> None:
    networks = fabric.everywhere()
    own = ("local_ip", "slot")
    common = {(each.bridge, *((k, v) for k, v in sorted(each.options.items()) if k not in own)) for each in networks}
    assert len(common) <= 1
    assert [int(each.options["slot"]) for each in networks] == [
        number for number, host in enumerate(fabric.hosts, 1) if host != GONE
    ]


@given(fabrics())
@settings(max_examples=200)
def test_ranges_are_apart_and_inside_the_subnet_and_gateways_inside_their_own(fabric: Fabric) -> None:
    networks = fabric.everywhere()
    for index, whole in enumerate(fabric.wanted.subnets):
        parts = [each.subnets[index] for each in networks]
        taken = sorted(_ends(part.lease_range) for part in parts)
        for (first, last), (following, _) in pairwise(taken):
            assert first < last < following
        ends = int(whole.subnet.network_address), int(whole.subnet.broadcast_address)
        assert all(ends[0] < first < last < ends[1] for first, last in taken)
        gateways = [(part.gateway, part.lease_range) for part in parts if part.gateway is not None]
        assert len({gateway for gateway, _ in gateways}) == len(gateways)
        assert all(share is not None and gateway in share for gateway, share in gateways)
        is_router = not fabric.wanted.internal or fabric.wanted.dns_enabled
        assert len(gateways) == (len(parts) if is_router else 0)


@given(fabrics(), st.booleans())
@settings(max_examples=200)
def test_no_host_gives_a_container_the_gateway_of_any(fabric: Fabric, allow_foreign_ip: bool) -> None:
    fabric = replace(fabric, options={**fabric.options, "allow_foreign_ip": str(allow_foreign_ip).lower()})
    networks = dict(zip(fabric.live, fabric.everywhere(), strict=True))
    gateways = [subnet.gateway for each in networks.values() for subnet in each.subnets if subnet.gateway is not None]
    for host in fabric.live[:2]:
        for gateway in gateways:
            with refused(str(gateway)):
                planned(networks[host], container(str(gateway)), place=fabric.place(host))


@given(fabrics(), st.data())
@settings(max_examples=200)
def test_containers_of_all_hosts_have_addresses_and_macs_of_their_own(fabric: Fabric, data: st.DataObject) -> None:
    plans = _plans(fabric, data)
    macs = [mac for plan in plans for mac in (plan.veth.mac, plan.bridge.hwaddr)]
    assert len(set(macs)) == len(macs)
    assert {int(mac[:2], 16) & 0b11 for mac in macs} <= {0b10}  # unicast and locally administered
    owned = [address.ip for plan in plans for address in (*plan.veth.addresses, *plan.bridge.addresses)]
    assert len(set(owned)) == len(owned)
    assert len({plan.veth.mtu for plan in plans} | {plan.bridge.mtu for plan in plans}) <= 1


@given(fabrics(), st.data())
@settings(max_examples=200)
def test_every_two_hosts_have_one_tunnel_to_each_other_with_the_same_key(fabric: Fabric, data: st.DataObject) -> None:
    plans = _plans(fabric, data)
    ends = [(tunnel.local, tunnel.remote) for plan in plans for tunnel in plan.tunnels]
    assert sorted(ends) == sorted(
        pair for one, other in combinations(fabric.live, 2) for pair in ((one, other), (other, one))
    )
    assert len({(tunnel.vni, tunnel.dst_port) for plan in plans for tunnel in plan.tunnels}) <= 1


@given(st.lists(network_names, min_size=2, max_size=40, unique=True), st.integers(1, MOST_HOSTS))
def test_many_networks_with_many_peers_share_no_name_on_a_host(names: list[str], count: int) -> None:
    hosts = tuple(f"172.31.0.{number}" for number in range(1, count + 1))
    place = mesh(",".join(hosts), own=hosts[0])
    there: list[Network] = []
    for number, name in enumerate(names):
        wanted = network(f"10.{number}.0.0/16", name=name, id=f"{number:064x}")
        on = facts(place, networks=tuple(there))
        found = attempt(partial(created, wanted, on=on, hosts=",".join(hosts), slots=str(MOST_HOSTS)))
        there += [found] if isinstance(found, Network) else []  # else what it derives is that of one before
    plans = [planned(each, container(str(_at(each.subnets[0], 1))), place=place) for each in there]
    used = [name for plan in plans for name in (plan.bridge.name, plan.veth.name, *(one.name for one in plan.tunnels))]
    assert len(set(used)) == len(used) == len(there) * (1 + 1 + len(hosts) - 1)
    assert all(naming.is_interface_name(name) and len(name.encode()) <= 15 for name in used)
    assert len({plan.bridge.vni for plan in plans}) == len(there)


@given(fabrics(), st.data())
@settings(max_examples=200)
def test_hosts_that_join_or_leave_move_nobody(fabric: Fabric, data: st.DataObject) -> None:
    assume(fabric.live)
    stays = data.draw(st.sampled_from(fabric.live))
    before = fabric.on(stays)
    kept = [host if host == stays or data.draw(st.booleans()) else GONE for host in fabric.hosts]
    room = min(int(before.options["slots"]), MOST_HOSTS) - len(kept)
    new = "172.30.0.{}" if "." in stays else "fd98::{:x}"
    joined = [new.format(number + 1) for number in range(data.draw(st.integers(0, room)))]
    later = replace(fabric, hosts=(*kept, *joined))

    assert later.on(stays).subnets == before.subnets
    who = container(*(str(_at(subnet, 1)) for subnet in before.subnets))
    after = planned(before, who, place=later.place(stays))  # the network stays as it was created
    was = planned(before, who, place=fabric.place(stays))
    assert (after.veth, after.bridge, after.gateway) == (was.veth, was.bridge, was.gateway)
    assert [tunnel for tunnel in after.tunnels if tunnel.remote not in joined] == [
        tunnel for tunnel in was.tunnels if tunnel.remote in kept
    ]
    assert {tunnel.remote for tunnel in after.tunnels} >= set(joined)


@each_verb
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_json_is_answered_with_a_result_or_a_sentence(verbs: Calls, verb: str, data: st.DataObject) -> None:
    judged(ARGUMENTS[verb], encoded(data.draw(any_json | nearly(REQUESTS[verb]))))
