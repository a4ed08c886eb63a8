# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.addresses import SLICE_MIN, SLICE_ROOMY, SLOTS_DEFAULT, Network, Range, default_slots, slice_range

from .makers import refused


@st.composite
def subnets(draw: st.DrawFn) -> Network:
    """Any IPv4 or IPv6 subnet with at least one address besides its own."""
    address = draw(st.ip_addresses())
    return ip_network((address, draw(st.integers(8, address.max_prefixlen - 1))), strict=False)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Network, int]:
    """A subnet and a number of slots that leaves enough for each."""
    subnet = draw(subnets().filter(lambda subnet: subnet.num_addresses >= SLICE_MIN))
    most = min(12, (subnet.num_addresses // SLICE_MIN).bit_length() - 1)
    return subnet, 2 ** draw(st.integers(0, most))


@pytest.mark.parametrize(
    ("subnet", "slots", "slot", "expected"),
    [
        ("192.168.120.0/24", 2, 1, "192.168.120.1-192.168.120.126"),
        ("192.168.120.0/24", 2, 2, "192.168.120.129-192.168.120.254"),
        ("192.168.120.0/24", 8, 1, "192.168.120.1-192.168.120.30"),
        ("192.168.120.0/24", 8, 8, "192.168.120.225-192.168.120.254"),
        ("192.168.120.0/24", 1, 1, "192.168.120.1-192.168.120.254"),
        ("10.0.0.0/30", 1, 1, "10.0.0.1-10.0.0.2"),
        ("10.89.0.0/16", 16, 3, "10.89.32.1-10.89.47.254"),
        ("255.255.255.0/24", 2, 2, "255.255.255.129-255.255.255.254"),
        ("ffff:ffff:ffff:ffff::/64", 1, 1, "ffff:ffff:ffff:ffff::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
        ("fd00::/64", 2, 1, "fd00::1-fd00::7fff:ffff:ffff:fffe"),
        ("fd00::/64", 2, 2, "fd00::8000:0:0:1-fd00::ffff:ffff:ffff:fffe"),
    ],
)
def test_slice_of_a_subnet(subnet: str, slots: int, slot: int, expected: str) -> None:
    assert str(slice_range(ip_network(subnet), slots, slot)) == expected


@given(cuts(), st.data())
def test_slices_are_disjoint_and_inside_the_subnet(cut: tuple[Network, int], data: st.DataObject) -> None:
    subnet, slots = cut
    numbers = data.draw(st.lists(st.integers(1, slots), unique=True, min_size=1, max_size=20).map(sorted))
    ranges = [slice_range(subnet, slots, number) for number in numbers]
    for one, other in pairwise(ranges):
        assert one.last < other.first  # type: ignore[operator]
    for found in ranges:
        assert found.first < found.last  # type: ignore[operator]
        assert found.first > subnet.network_address  # type: ignore[operator]
        assert found.last < subnet.broadcast_address  # type: ignore[operator]


@given(cuts())
def test_slices_leave_out_two_addresses_each_and_no_more(cut: tuple[Network, int]) -> None:
    subnet, slots = cut
    first, last = slice_range(subnet, slots, 1), slice_range(subnet, slots, slots)
    size = int(first.last) - int(first.first) + 1
    assert slots * (size + 2) == subnet.num_addresses
    assert int(last.last) + 1 == int(subnet.broadcast_address)


@pytest.mark.parametrize(
    ("subnet", "slots"), [("10.0.0.0/31", 1), ("10.0.0.0/32", 1), ("10.0.0.0/29", 4), ("fd00::/126", 2)]
)
def test_slice_that_would_hold_no_container_is_refused(subnet: str, slots: int) -> None:
    with refused(subnet, f"{slots} slots", "--subnet", "slots="):
        slice_range(ip_network(subnet), slots, 1)


@pytest.mark.parametrize(
    ("subnet", "slots"),
    [
        ("10.89.0.0/16", 16),
        ("10.89.0.0/23", 16),
        ("192.168.120.0/24", 8),
        ("192.168.120.0/25", 4),
        ("192.168.120.0/26", 2),
        ("192.168.120.0/27", 1),
        ("192.168.120.0/30", 1),
        ("10.0.0.0/8", 16),
        ("fd00::/64", 16),
        ("fd00::/121", 4),
    ],
)
def test_default_slots_of_a_subnet(subnet: str, slots: int) -> None:
    assert default_slots(ip_network(subnet)) == slots


@given(subnets())
def test_default_slots_are_as_many_as_leave_roomy_slices(subnet: Network) -> None:
    slots = default_slots(subnet)
    assert slots in (1, 2, 4, 8, 16)
    assert slots == 1 or subnet.num_addresses // slots >= SLICE_ROOMY
    assert slots == SLOTS_DEFAULT or subnet.num_addresses // (2 * slots) < SLICE_ROOMY


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.0.0.4", False),
        ("10.0.0.5", True),
        ("10.0.0.7", True),
        ("10.0.0.9", True),
        ("10.0.0.10", False),
        ("::a00:7", False),
    ],
    ids=["before", "first", "between", "last", "after", "same number in the other family"],
)
def test_range_holds_both_of_its_ends(address: str, inside: bool) -> None:
    assert (ip_address(address) in Range(ip_address("10.0.0.5"), ip_address("10.0.0.9"))) is inside
