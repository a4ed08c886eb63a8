"""firewall.py against the real nftables."""

import ipaddress
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netavark_geneve import firewall
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Foreign, Gateway, Publication, PublishedPort

ONE = Gateway(
    "ovs_net1", ((ipaddress.ip_network("192.168.120.0/24"), None), (ipaddress.ip_network("fd00:120::/64"), None))
)
OTHER = Gateway("ovs_net2", ((ipaddress.ip_network("192.168.121.0/24"), ipaddress.ip_address("192.168.0.10")),))
WEB, DATABASE = "1" * 64, "2" * 64
FOREIGN = Foreign(("podman1", "br9"), ("br9",))


def publication(gateway: Gateway, container: str, *ports: PublishedPort) -> Publication:
    """These ports, to the second address of the network's first subnet."""
    subnet, _ = gateway.subnets[0]
    return Publication(gateway.bridge, container, "net web", ports, (subnet.network_address + 2,))


HTTP = PublishedPort("tcp", 8080, 80)
RANGE = PublishedPort("sctp", 9000, 9000, ipaddress.ip_address("192.168.0.10"), count=3)
NOTHING = publication(ONE, WEB)


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


def ensure(gateway: Gateway, published: Publication = NOTHING, *, first: bool = True) -> None:
    firewall.ensure(gateway, published, lambda: FOREIGN, Deadline(10), first=first)


def remove(gateway: Gateway, container: str = WEB, *, needed: bool = False, has_ports: bool = False) -> None:
    firewall.remove(gateway.bridge, container, Deadline(10), is_needed=lambda: needed, has_ports=has_ports)


def ports(name: str = "ports4") -> dict[str, str]:
    """Where the keys of a map of published ports lead."""
    listed = nft(f"list map inet netavark_geneve {name}")
    return dict(re.findall(r"(\w[\w. ]*?) : jump published/(\S+?),?\s", listed))


def test_ensuring_twice_is_ensuring_once() -> None:
    ensure(ONE)
    once = nft("list ruleset")
    ensure(ONE)

    assert nft("list ruleset") == once
    assert "192.168.120.0/24 : jump network/ovs_net1" in once
    assert "fd00:120::/64 : jump network/ovs_net1" in once
    assert "ip saddr 192.168.120.0/24 masquerade" in once
    assert once.count('elements = { "ovs_net1" }') == 3  # of the sets bridges, isolated and strict


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
    for gateway in (ONE, OTHER, OTHER):
        remove(gateway)

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
    nft("add rule inet netavark_geneve network/ovs_net1 drop")

    ensure(ONE)

    assert nft("list ruleset") == before


def test_a_further_container_leaves_alone_what_stands_and_makes_what_is_gone() -> None:
    ensure(ONE)
    before = nft("list ruleset")

    ensure(ONE, first=False)
    assert nft("list ruleset") == before
    nft("delete table inet netavark_geneve")
    ensure(ONE, first=False)
    assert nft("list ruleset") == before
    ensure(ONE, publication(ONE, WEB, HTTP), first=False)
    assert ports() == {"tcp . 8080": "ovs_net1/111111111111"}


def test_without_nft_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    with pytest.raises(GeneveError, match=r'install nftables, or set firewall_driver = "none"'):
        ensure(ONE)
    monkeypatch.undo()


def test_published_ports_come_and_go_with_their_container() -> None:
    ensure(ONE)
    before = nft("list ruleset")

    ensure(ONE, publication(ONE, WEB, HTTP, RANGE))
    ensure(ONE, publication(ONE, WEB, HTTP, RANGE))  # twice is once

    assert ports() == {"tcp . 8080": "ovs_net1/111111111111"}
    assert sorted(ports("hostports4")) == [f"192.168.0.10 . sctp . {port}" for port in (9000, 9001, 9002)]
    rules = nft("list chain inet netavark_geneve published/ovs_net1/111111111111")
    assert 'tcp dport 8080 dnat ip to 192.168.120.2:80 comment "net web"' in rules
    assert 'ip daddr 192.168.0.10 sctp dport 9000-9002 dnat ip to 192.168.120.2 comment "net web"' in rules
    remove(ONE, needed=True, has_ports=True)
    assert nft("list ruleset") == before


def test_ports_are_closed_without_nft_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message to the kernel holds a thousand of them."""
    ensure(ONE)
    ensure(ONE, publication(ONE, DATABASE, HTTP))
    before = nft("list ruleset")
    ensure(ONE, publication(ONE, WEB, PublishedPort("udp", 20000, 20000, count=2500)))
    assert len(ports()) == 2501

    with monkeypatch.context() as without:
        without.setitem(os.environ, "PATH", "/nowhere")
        remove(ONE, needed=True, has_ports=True)

    assert nft("list ruleset") == before


def test_chains_are_found_while_somebody_else_changes_rules() -> None:
    """The kernel then says that a list is of two states."""
    names = {f"published/ovs_net1/{number:012x}" for number in range(2000)}
    nft("add table inet netavark_geneve")
    nft("".join(f"add chain inet netavark_geneve {name};" for name in names))
    loop = "for _ in $(seq 10000); do nft 'add chain inet theirs one'; nft 'delete chain inet theirs one'; done"
    with subprocess.Popen(("sh", "-c", loop)) as somebody:
        try:
            for _ in range(20):
                assert set(firewall.find_chains() or ()) == names
        finally:
            somebody.kill()
    nft("add table inet theirs; delete table inet theirs")
    nft("add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; }")


def test_a_container_takes_none_of_another_ones_ports_along() -> None:
    ensure(ONE, publication(ONE, WEB, HTTP))
    ensure(ONE, publication(ONE, DATABASE, RANGE))

    remove(ONE, WEB, needed=True, has_ports=True)
    remove(ONE, WEB, needed=True, has_ports=True)

    assert ports() == {}
    assert set(ports("hostports4").values()) == {"ovs_net1/222222222222"}


def test_a_port_that_another_container_has_is_refused_and_stays_there() -> None:
    ensure(ONE, publication(ONE, WEB, HTTP))
    before = nft("list ruleset")

    with pytest.raises(GeneveError, match="port 8080/tcp is already published by container 111111111111"):
        ensure(OTHER, publication(OTHER, DATABASE, HTTP))

    assert nft("list ruleset") == before


def test_of_a_containers_two_networks_the_second_takes_over_when_the_first_goes() -> None:
    ensure(ONE, publication(ONE, WEB, HTTP))
    ensure(OTHER, publication(OTHER, WEB, HTTP))
    assert ports() == {"tcp . 8080": "ovs_net1/111111111111"}

    remove(ONE)

    assert ports() == {"tcp . 8080": "ovs_net2/111111111111"}
    remove(OTHER)
    assert "netavark_geneve" not in nft("list tables")


def test_everything_is_restored_in_one_go_and_what_is_left_over_is_forgotten() -> None:
    for gateway in (ONE, OTHER):
        ensure(gateway, publication(gateway, WEB, HTTP))
    before = nft("list ruleset")
    ensure(ONE, publication(ONE, DATABASE, RANGE))
    nft("flush chain inet netavark_geneve prerouting")

    wanted = [publication(ONE, WEB, HTTP), publication(OTHER, WEB, HTTP)]
    firewall.restore([ONE, OTHER], wanted, FOREIGN, Deadline(10))
    assert normal(nft("list ruleset")) == normal(before)

    nft("delete table inet netavark_geneve")
    firewall.restore([ONE, OTHER], wanted, FOREIGN, Deadline(10))
    assert normal(nft("list ruleset")) == normal(before)

    firewall.restore([], [], FOREIGN, Deadline(10))
    assert "netavark_geneve" not in nft("list tables")


def normal(ruleset: str) -> list[str]:
    """Chains stand in the order in which they were made; that says nothing."""
    return sorted(ruleset.splitlines())


def test_a_resolver_on_another_port_is_found_on_the_usual_one() -> None:
    ensure(replace(ONE, listen=(ipaddress.ip_address("192.168.120.1"),), dns_port=1053))

    assert "192.168.120.1 . udp . 53 : jump resolver/ovs_net1" in nft("list map inet netavark_geneve hostports4")
    assert "redirect to :1053" in nft("list chain inet netavark_geneve resolver/ovs_net1")
    remove(ONE)
    assert "netavark_geneve" not in nft("list tables")
