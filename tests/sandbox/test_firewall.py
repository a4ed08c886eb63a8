"""firewall.py against the real nftables."""

import ipaddress
import os
import subprocess
from collections.abc import Iterator

import pytest

from netavark_geneve import firewall
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Egress

ONE = Egress(
    "ovs_net1", ((ipaddress.ip_network("192.168.120.0/24"), None), (ipaddress.ip_network("fd00:120::/64"), None))
)
OTHER = Egress("ovs_net2", ((ipaddress.ip_network("192.168.121.0/24"), ipaddress.ip_address("192.168.0.10")),))


@pytest.fixture(autouse=True)
def clean_ruleset() -> Iterator[None]:
    """Somebody else's table stands beside ours, and is never touched."""
    nft("add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; }")
    theirs = nft("list table inet theirs")
    yield
    assert nft("list table inet theirs") == theirs
    nft("flush ruleset")


def nft(command: str) -> str:
    return subprocess.run(("nft", command), check=True, capture_output=True, text=True).stdout


def ensure(egress: Egress) -> None:
    firewall.ensure_egress(egress, {}, Deadline(10))


def remove(egress: Egress, *, needed: bool = False) -> None:
    firewall.remove_egress(egress.bridge, {}, Deadline(10), is_needed=lambda: needed)


def test_ensuring_twice_is_ensuring_once() -> None:
    ensure(ONE)
    once = nft("list ruleset")
    ensure(ONE)

    assert nft("list ruleset") == once
    assert "192.168.120.0/24 : jump network_ovs_net1" in once
    assert "fd00:120::/64 : jump network_ovs_net1" in once
    assert "ip saddr 192.168.120.0/24 masquerade" in once
    assert "iifname @bridges oifname @bridges drop" in once
    assert 'elements = { "ovs_net1" }' in once


def test_a_network_that_goes_leaves_the_other_as_it_was() -> None:
    ensure(OTHER)
    before = nft("list ruleset")
    ensure(ONE)
    assert nft("list ruleset") != before

    remove(ONE)

    assert nft("list ruleset") == before
    assert "snat ip to 192.168.0.10" in before


def test_the_last_network_takes_the_table_along_and_going_twice_is_fine() -> None:
    ensure(ONE)
    ensure(OTHER)
    for egress in (ONE, OTHER, OTHER):
        remove(egress)

    assert "netavark_geneve" not in nft("list tables")


def test_rules_of_a_network_that_somebody_has_just_joined_stay() -> None:
    ensure(ONE)
    before = nft("list ruleset")

    remove(ONE, needed=True)

    assert nft("list ruleset") == before


def test_rules_that_were_edited_are_repaired() -> None:
    ensure(ONE)
    before = nft("list ruleset")
    nft("flush chain inet netavark_geneve postrouting")
    nft("add rule inet netavark_geneve network_ovs_net1 drop")

    ensure(ONE)

    assert nft("list ruleset") == before


def test_without_nft_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    with pytest.raises(GeneveError, match=r'install nftables, or set firewall_driver = "none"'):
        ensure(ONE)
    monkeypatch.undo()


def test_firewall_driver_none_needs_no_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"NETAVARK_FW": "none"}
    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    firewall.ensure_egress(ONE, environ, Deadline(10))
    firewall.remove_egress(ONE.bridge, environ, Deadline(10), is_needed=lambda: False)
    monkeypatch.undo()

    assert "netavark_geneve" not in nft("list tables")
