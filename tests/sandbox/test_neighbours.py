"""neighbours.py against another kernel: the container's in one namespace, its neighbour's in another."""

import ipaddress
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from netavark_geneve import links
from netavark_geneve.errors import GeneveError
from netavark_geneve.model import Veth
from netavark_geneve.neighbours import Neighbours, open_socket

from .conftest import ip, make_plan, vsctl

NEAR, FAR = "sandbox", "neighbour"
IPV4 = ipaddress.ip_interface("192.168.120.2/24")
IPV6 = ipaddress.ip_interface("fd00:120::2/64")
OTHER = ipaddress.ip_interface("192.168.120.3/24")
OTHER6 = ipaddress.ip_interface("fd00:120::3/64")
VETH: Veth = replace(make_plan().veth, interface="eth1", addresses=(IPV4, IPV6), ipv6=True)
OURS = bytes.fromhex(VETH.mac.replace(":", ""))
THEIRS = bytes.fromhex("0a58c0a87803")
SOMEBODY = bytes.fromhex("026e6f626f64")

BOUND = 0.025  # seconds, as an attach waits
PATIENCE = 5.0  # where something must be heard, which ends the wait


@pytest.fixture
def neighbour() -> Iterator[None]:
    ip("netns", "add", FAR)
    yield
    ip("netns", "delete", FAR)


@pytest.fixture
def cable(neighbour: None) -> None:
    """The two namespaces back to back."""
    peer = ("type", "veth", "peer", "name", "eth1", "netns", FAR)
    ip("link", "add", "eth1", "netns", NEAR, "address", VETH.mac, *peer, "address", THEIRS.hex(":"))
    for namespace in (NEAR, FAR):
        ip("-n", namespace, "link", "set", "eth1", "up")
    wait_until(lambda: is_up(NEAR) and is_up(FAR))


@pytest.fixture
def switches(neighbour: None) -> Iterator[None]:
    """The two namespaces on two bridges of the userspace datapath; both have the MAC of our address."""
    for namespace, bridge, peer in ((NEAR, "ovs_net1", "ovs_net2"), (FAR, "ovs_net2", "ovs_net1")):
        port = f"veth-{namespace}"
        ip("link", "add", port, "type", "veth", "peer", "name", "eth1", "netns", namespace, "address", VETH.mac)
        ip("link", "set", port, "arp", "off", "up")
        ip("-n", namespace, "link", "set", "eth1", "up")
        vsctl("add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev")
        vsctl("add-port", bridge, port)
        patch = ("type=patch", f"options:peer=to-{bridge}")
        vsctl("add-port", bridge, f"to-{peer}", "--", "set", "Interface", f"to-{peer}", *patch)
    wait_until(lambda: is_up(NEAR) and is_up(FAR))
    yield
    for namespace in (NEAR, FAR):
        links.remove_link(f"veth-{namespace}")  # else they go with the namespaces, but nobody knows when


def is_up(namespace: str) -> bool:
    """Without its queue, which the kernel sets up a moment after the cable is plugged, all frames are lost."""
    (link,) = ip("-n", namespace, "link", "show", "eth1")
    return bool(link["operstate"] == "UP" and link["qdisc"] != "noop")


def give(namespace: str, *addresses: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
    for address in addresses:
        dad = ("nodad",) if address.version == 6 else ()
        ip("-n", namespace, "address", "add", str(address), "dev", "eth1", *dad)


@contextmanager
def opened(namespace: str = NEAR, veth: Veth = VETH) -> Iterator[Neighbours]:
    """As an attach does it: the socket comes out of the namespace in which it was opened."""
    with ExitStack() as stack:
        netns = stack.enter_context(links.namespace(f"/run/netns/{namespace}"))
        with links.inside(netns):
            neighbours = stack.enter_context(open_socket(veth))
        yield neighbours


@contextmanager
def wire() -> Iterator[socket.socket]:
    """The neighbour's end of the cable: what the container sends, and what one wants to send it."""
    with links.namespace(f"/run/netns/{FAR}") as netns, links.inside(netns):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind(("eth1", 3))  # ETH_P_ALL
        raw.settimeout(PATIENCE)
        yield raw


def collect(raw: socket.socket, wanted: Callable[[bytes], bool], count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        frame, (_, _, kind, *_) = raw.recvfrom(2048)
        if kind != socket.PACKET_OUTGOING and wanted(frame):
            found.append(frame)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def forwarding() -> str:
    """The MAC table of the near switch."""
    command = ("ovs-appctl", "fdb/show", "ovs_net1")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_taken(neighbours: Neighbours, wait: float = PATIENCE) -> bool:
    try:
        neighbours.check_free(wait)
    except GeneveError:
        return True
    return False


# What is on the wire, written down here once more.


def arp(mac: bytes, sender: str, target: str, operation: int = 1, header: str = "0001080006 04") -> bytes:
    body = struct.pack("!H", operation) + mac + packed(sender) + bytes(6) + packed(target)
    return b"\xff" * 6 + mac + b"\x08\x06" + bytes.fromhex(header) + body


def icmpv6(
    mac: bytes, source: str, target: str, kind: int, hop_limit: int = 255, header: int = 58, code: int = 0
) -> bytes:
    message = struct.pack("!BBHI", kind, code, 0, 0) + packed(target)
    addresses = packed(source) + packed("ff02::1")
    head = struct.pack("!IHBB", 6 << 28, len(message), header, hop_limit)
    return bytes.fromhex("333300000001") + mac + b"\x86\xdd" + head + addresses + message


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ones_sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return total % 0xFFFF


MINE, MINE6 = str(IPV4.ip), str(IPV6.ip)
ANNOUNCEMENT = arp(SOMEBODY, MINE, MINE)
ADVERTISEMENT = icmpv6(SOMEBODY, MINE6, MINE6, 136)

CLAIMS = {
    "ARP announcement": ANNOUNCEMENT,
    "ARP reply": arp(SOMEBODY, MINE, "0.0.0.0", operation=2),
    "ARP request for another address": arp(SOMEBODY, MINE, str(OTHER.ip)),
    "ARP probe": arp(SOMEBODY, "0.0.0.0", MINE),
    "of our own MAC": arp(OURS, MINE, MINE),
    "in a frame without a VLAN": tagged(ANNOUNCEMENT, 0),
    "neighbour advertisement": ADVERTISEMENT,
    "duplicate address detection": icmpv6(SOMEBODY, "::", MINE6, 135),
}
NO_CLAIMS = {
    "who has our address?": arp(SOMEBODY, str(OTHER.ip), MINE),
    "another's announcement": arp(SOMEBODY, str(OTHER.ip), str(OTHER.ip)),
    "another's probe": arp(SOMEBODY, "0.0.0.0", str(OTHER.ip)),
    "reply of nobody": arp(SOMEBODY, "0.0.0.0", MINE, operation=2),
    "reverse ARP": arp(SOMEBODY, MINE, MINE, operation=3),
    "ARP of another hardware": arp(SOMEBODY, MINE, MINE, header="0006080006 04"),
    "ARP of another protocol": arp(SOMEBODY, MINE, MINE, header="000186dd06 10"),
    "another VLAN": tagged(ANNOUNCEMENT, 7),
    "another VLAN's advertisement": tagged(ADVERTISEMENT, 7),
    "solicitation for our address": icmpv6(SOMEBODY, str(OTHER6.ip), MINE6, 135),
    "another's advertisement": icmpv6(SOMEBODY, str(OTHER6.ip), str(OTHER6.ip), 136),
    "another's detection": icmpv6(SOMEBODY, "::", str(OTHER6.ip), 135),
    "from beyond a router": icmpv6(SOMEBODY, MINE6, MINE6, 136, hop_limit=254),
    "of an unknown code": icmpv6(SOMEBODY, MINE6, MINE6, 136, code=1),
    "echo request": icmpv6(SOMEBODY, MINE6, MINE6, 128),
    "not ICMPv6": icmpv6(SOMEBODY, MINE6, MINE6, 136, header=17),
    "truncated ARP": ANNOUNCEMENT[:41],
    "truncated advertisement": ADVERTISEMENT[:77],
}


@pytest.mark.usefixtures("cable")
def test_free_addresses_pass() -> None:
    give(FAR, OTHER, OTHER6)
    with opened() as neighbours:
        neighbours.probe()
        neighbours.check_free(BOUND)


@pytest.mark.usefixtures("cable")
@pytest.mark.parametrize(("address", "option"), [(IPV4, "--ip "), (IPV6, "--ip6 ")])
def test_the_holder_of_an_address_is_named(
    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface, option: str
) -> None:
    give(FAR, address)
    with opened() as neighbours:
        neighbours.probe()
        with pytest.raises(GeneveError) as caught:
            neighbours.check_free(PATIENCE)

    assert str(caught.value).startswith(f"address {address.ip} is already in use in the network by 0a:58:c0:a8:78:03; ")
    assert option in str(caught.value)
    assert "--opt conflict_detection=false" in str(caught.value)


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("address", [IPV4, IPV6])
@pytest.mark.parametrize("known", [False, True], ids=["silent holder", "holder known to the switches"])
def test_a_holder_with_our_own_mac_is_found_across_switches(
    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface, known: bool
) -> None:
    """The MAC is derived from the address. An answer to it would be for the port that it comes from."""
    give(FAR, address)
    if known:
        with opened(FAR, replace(VETH, addresses=(address,))) as holder:
            holder.announce(was_here=False)
        wait_until(lambda: VETH.mac in forwarding())
    with opened() as neighbours:
        neighbours.probe()
        with pytest.raises(GeneveError, match=f"address {address.ip} is already in use in the network by {VETH.mac};"):
            neighbours.check_free(PATIENCE)


@pytest.mark.usefixtures("switches")
def test_free_addresses_pass_across_switches() -> None:
    give(FAR, OTHER, OTHER6)
    with opened() as neighbours:
        neighbours.probe()
        neighbours.check_free(BOUND)


@pytest.mark.usefixtures("cable")
def test_of_two_that_probe_at_once_one_at_least_notices() -> None:
    with opened(NEAR) as one, opened(FAR) as other:
        one.probe()
        other.probe()
        assert any([is_taken(one), is_taken(other)])


@pytest.mark.usefixtures("cable")
def test_a_probe_that_nobody_heard_is_repeated() -> None:
    with opened() as neighbours:
        neighbours.probe()
        give(FAR, IPV4)
        assert is_taken(neighbours, 1)


@pytest.mark.usefixtures("cable")
def test_an_answer_is_read_however_late() -> None:
    give(FAR, IPV4)
    with opened() as neighbours:
        neighbours.probe()
        time.sleep(2 * BOUND)
        assert is_taken(neighbours, BOUND)


@pytest.mark.usefixtures("cable")
def test_our_own_kernel_is_no_conflict() -> None:
    """Neither when it answers others, nor with what it sends of itself."""
    give(NEAR, IPV4, IPV6)
    give(FAR, OTHER, OTHER6)
    with wire() as raw, opened() as neighbours:
        neighbours.probe()
        neighbours.announce(was_here=True)
        raw.send(arp(THEIRS, str(OTHER.ip), MINE))
        collect(raw, lambda frame: frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2", 1)
        neighbours.check_free(BOUND)


@pytest.mark.usefixtures("cable")
def test_our_own_probe_that_comes_back_is_no_conflict() -> None:
    with wire() as raw, opened() as neighbours:
        neighbours.probe()
        for frame in collect(raw, is_probe, 2):
            raw.send(frame)
        neighbours.check_free(BOUND)
        for frame in collect(raw, is_probe, 2):  # one of those that were sent again
            raw.send(frame)
        neighbours.check_free(0)


@pytest.mark.usefixtures("cable")
@pytest.mark.parametrize("frame", CLAIMS.values(), ids=CLAIMS.keys())
def test_whoever_claims_our_address_is_noticed(frame: bytes) -> None:
    with wire() as raw, opened() as neighbours:
        raw.send(frame)
        with pytest.raises(GeneveError, match=f"in use in the network by {frame[6:12].hex(':')};"):
            neighbours.check_free(PATIENCE)


@pytest.mark.usefixtures("cable")
def test_everything_else_is_ignored() -> None:
    garbage = [frame[:length] for frame in (ANNOUNCEMENT, ADVERTISEMENT) for length in range(14, len(frame))]
    with wire() as raw, opened() as neighbours:
        neighbours.probe()
        for frame in (*NO_CLAIMS.values(), *garbage):
            raw.send(frame)
        neighbours.check_free(BOUND)
        raw.send(ANNOUNCEMENT)
        assert is_taken(neighbours)


@pytest.mark.usefixtures("cable")
def test_probes_are_anonymous_and_repeated_from_elsewhere() -> None:
    """A switch that has dropped one on its way knows what to do with its like, for a while."""
    with wire() as raw, opened() as neighbours:
        neighbours.probe()
        neighbours.check_free(BOUND)
        frames = collect(raw, is_probe, 5)
        first, same, second, *others = (frame[6:12] for frame in frames)

    assert first == same != second
    assert others == [second] * 2
    assert first[0] & 3 == second[0] & 3 == 2  # locally administered, unicast
    probe, solicitation = frames[:2]
    assert probe == arp(first, "0.0.0.0", MINE)
    assert solicitation[:6] == bytes.fromhex("3333ff000002")
    assert solicitation[14:22] == struct.pack("!IHBB", 6 << 28, 24, 58, 255)
    assert solicitation[22:54] == bytes(16) + packed("ff02::1:ff00:2")
    assert solicitation[54:56] + solicitation[58:] == struct.pack("!BBI", 135, 0, 0) + packed(MINE6)
    assert ones_sum(solicitation[22:] + struct.pack("!II", 24, 58)) == 0
    lookup = frames[4]  # whose answer goes to the asker alone
    assert lookup[14:22] == struct.pack("!IHBB", 6 << 28, 32, 58, 255)
    assert ipaddress.ip_address(lookup[22:38]).is_link_local
    assert lookup[38:54] + lookup[58:] == packed("ff02::1:ff00:2") + bytes(4) + packed(MINE6) + b"\1\1" + second
    assert ones_sum(lookup[22:] + struct.pack("!II", 32, 58)) == 0


@pytest.mark.usefixtures("cable")
def test_a_question_from_who_has_asked_before_is_repeated_from_elsewhere() -> None:
    with wire() as raw, opened() as neighbours:
        neighbours.probe(SOMEBODY)
        neighbours.check_free(BOUND)
        first, same, *others = (frame[6:12] for frame in collect(raw, is_probe, 5))

    assert first == same == SOMEBODY
    assert SOMEBODY not in others


def is_probe(frame: bytes) -> bool:
    return frame[6:12] not in (OURS, THEIRS)


@pytest.mark.usefixtures("cable")
def test_without_an_address_nothing_is_asked_and_the_mac_is_taught() -> None:
    with wire() as raw, opened(veth=replace(VETH, addresses=())) as neighbours:
        neighbours.probe()
        raw.send(ANNOUNCEMENT)
        neighbours.check_free(BOUND)
        neighbours.announce(was_here=False)
        (lesson,) = collect(raw, lambda frame: True, 1)

    assert not is_probe(lesson)
    assert lesson[6:12] == OURS


@pytest.mark.usefixtures("cable")
def test_announcing_after_the_check_is_of_our_own_mac() -> None:
    with wire() as raw, opened() as neighbours:
        neighbours.probe()
        neighbours.check_free(BOUND)
        neighbours.announce(was_here=True)
        lesson, announcement, advertisement = collect(raw, is_told, 3)

    assert (lesson[0], lesson[6:12], lesson[12:14]) == (0x03, OURS, b"\x88\xb5")
    assert announcement == arp(OURS, MINE, MINE)
    assert advertisement[:14] == bytes.fromhex("333300000001") + OURS + b"\x86\xdd"
    assert advertisement[14:22] == struct.pack("!IHBB", 6 << 28, 32, 58, 255)
    assert advertisement[22:54] == packed(MINE6) + packed("ff02::1")
    told = struct.pack("!BBI", 136, 0, 0x20000000) + packed(MINE6) + b"\2\1" + OURS
    assert advertisement[54:56] + advertisement[58:] == told
    assert ones_sum(advertisement[22:] + struct.pack("!II", 32, 58)) == 0


@pytest.mark.usefixtures("cable")
def test_an_address_that_is_new_costs_the_switches_no_frame_more_than_its_announcement() -> None:
    with wire() as raw, opened() as neighbours:
        neighbours.announce(was_here=False)
        neighbours.announce(was_here=True)
        frames = collect(raw, is_told, 5)

    assert [frame[12:14].hex() for frame in frames] == ["0806", "86dd", "88b5", "0806", "86dd"]


def is_told(frame: bytes) -> bool:
    """Ours, and none of the kernel's own reports of the groups that it is in."""
    return frame[6:12] == OURS and (frame[12:14] != b"\x86\xdd" or frame[54] == 136)


@pytest.mark.usefixtures("cable")
def test_an_announcement_corrects_the_neighbours_caches() -> None:
    give(FAR, OTHER, OTHER6)
    for address in (MINE, MINE6):
        ip("-n", FAR, "neigh", "add", address, "dev", "eth1", "lladdr", SOMEBODY.hex(":"), "nud", "stale")
    with opened() as neighbours:
        neighbours.announce(was_here=True)

    wait_until(lambda: cache() == {MINE: VETH.mac, MINE6: VETH.mac})


def cache() -> dict[str, str]:
    entries = ip("-n", FAR, "neigh", "show", "dev", "eth1")
    return {entry["dst"]: entry["lladdr"] for entry in entries if entry["dst"] in (MINE, MINE6)}


@pytest.mark.usefixtures("cable")
def test_an_interface_that_is_not_there_or_goes_down_is_an_error() -> None:
    message = r"cannot open a packet socket on eth7: No such device"
    with pytest.raises(GeneveError, match=message), opened(veth=replace(VETH, interface="eth7")):
        pass
    with opened() as neighbours:
        ip("-n", NEAR, "link", "set", "eth1", "down")
        with pytest.raises(GeneveError, match=r"cannot ask the neighbours of eth1 for its addresses: Network is down"):
            neighbours.probe()


@pytest.mark.usefixtures("cable")
def test_one_whose_interface_has_gone_is_cut_off_also_when_another_one_has_its_name() -> None:
    """As the bridge's goes with its last container, and comes back with the next."""
    with opened() as neighbours:
        assert not neighbours.is_cut_off()
        ip("-n", NEAR, "link", "del", "eth1")
        ip("-n", NEAR, "link", "add", "eth1", "type", "bridge")
        ip("-n", NEAR, "link", "set", "eth1", "up")
        assert neighbours.is_cut_off()
