# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of an attach: network namespaces, the veth pair, addresses, routes, sysctls.

The only module that changes links. pyroute2's own `IPRoute(netns=…)` is not used: it forks a child, and
creates the namespace when it is missing.
"""

import errno
import ipaddress
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netns import setns

from . import files, interior, naming
from .addresses import Interface
from .addresses import Network as IPNetwork
from .errors import GeneveError, failing_to
from .found import Link, Owner
from .model import Bridge, Route, Veth

ROUTE_METRIC = 100  # netavark's default
IFA_F_NODAD = 0x02  # linux/if_addr.h: use the address at once; Podman's IPAM saw to its uniqueness
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}

# IN6_ADDR_GEN_MODE_NONE (linux/if_link.h). A link-local address on a switch port serves nobody, and its
# routes, router solicitations and MLD reports cost the switch more than the container's own traffic.
_NO_IPV6_ADDRESS = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}

POLL = 0.0005  # seconds between two looks at whether an interface has vanished
DUMPS = 50  # attempts to list all links of a host where they come and go; each takes a millisecond for ten of them
TAP = "tun"  # what the kernel calls them
IFF_UP, IFF_NOARP, IFF_PROMISC = 0x01, 0x80, 0x100  # linux/if.h


@contextmanager
def namespace(path: str) -> Iterator[int]:
    """The network namespace at `path`, as a file descriptor."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise GeneveError(
            f"cannot open the container's network namespace {path}: {error.strerror}; is the container still running?"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def inside(netns: int) -> Iterator[None]:
    """Run the block, in this thread alone, inside the namespace; sockets opened there stay there."""
    with failing_to("open the host's network namespace"):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with failing_to("enter the container's network namespace"):
            setns(netns)
        try:
            yield
        finally:
            _return(home)
    finally:
        os.close(home)


def _return(home: int) -> None:
    """Tried twice: in the container's namespace our thread could undo nothing, and a helper's would serve others."""
    try:
        setns(home)
    except OSError:
        with failing_to("return from the container's network namespace"):
            setns(home)


def ensure_name_free(veth: Veth) -> None:
    """Remove what an attempt left that was killed half-way; raise GeneveError when the name is somebody else's."""
    index = find_link(veth.name)
    if index is None:
        return
    with _kernel() as ipr, _netlink(f"look at {veth.name}"):
        alias = ipr.get_links(index)[0].get_attr("IFLA_IFALIAS")
    if alias != veth.alias:
        raise GeneveError(f"this host already has an interface {veth.name}; choose another host_interface_name")
    remove_link(veth.name)


def create_veth(veth: Veth, netns: int) -> None:
    """Make the pair in one message, the container's end born inside its namespace, and up.

    So the pair goes with the namespace, whatever becomes of us. The host's end says whose it is, and is down: the
    pair has no carrier.
    """
    with _kernel() as ipr:
        with _netlink(f"create the veth pair {veth.name} and {veth.interface}"):
            try:
                _add_pair(ipr, veth, netns)
            except NetlinkError as error:
                # The container has the interface already: from an attempt that was killed, or somebody else's.
                if error.code != errno.EEXIST or not remove_left(veth.alias, veth.stem):
                    raise
                _add_pair(ipr, veth, netns)
        with _netlink(f"set up {veth.name}"):
            born = _first_name(veth)
            # The kernel takes no alias when it makes a link. A name that tells nothing comes with the alias.
            rename = {} if born == veth.name else {"ifname": veth.name}
            _quieten(ipr, socket.if_nametoindex(born), {"IFLA_IFALIAS": veth.alias, **rename})


def connect_veth(veth: Veth) -> None:
    """Set up the host's end, and so give both a carrier."""
    # No ARP: under the userspace datapath the host's own stack sees every frame too, and would
    # answer the container for all of the host's addresses, past the switch. Promiscuous, since that
    # datapath makes it so otherwise, and ovs-vswitchd goes through all of its ports with every change.
    userspace = 0 if veth.checksum_offload else IFF_PROMISC
    with _kernel() as ipr, _netlink(f"set up {veth.name}"):
        _set_flags(ipr, socket.if_nametoindex(veth.name), IFF_UP | IFF_NOARP | userspace)


def address_container(veth: Veth) -> None:
    """Give the container's end its addresses and routes; runs inside the container's namespace."""
    if veth.ipv6:
        interior.enable_ipv6(veth)
    index = socket.if_nametoindex(veth.interface)
    with _kernel() as ipr:
        for address in veth.addresses:
            with _netlink(f"add address {address} to {veth.interface} in the container"):
                _add_address(ipr, index, address)
        networks = [address.network for address in veth.addresses]
        for route in veth.routes:
            way = route.kind if route.gateway is None else f"by {route.gateway}"
            with _netlink(f"add the route to {route.destination} {way} in the container"), _ignoring(errno.EEXIST):
                _change_route(ipr, "append", route, index if _is_on_link(route, networks) else None)


def remove_routes(routes: Iterable[Route], networks: Sequence[IPNetwork]) -> None:
    """Delete the routes that do not go with an interface on these networks; runs inside the container's namespace."""
    with _kernel() as ipr:
        for route in routes:
            if not _is_on_link(route, networks):
                with _netlink(f"delete the route to {route.destination} in the container"), _ignoring(errno.ESRCH):
                    _change_route(ipr, "del", route, None)


def configure_bridge(bridge: Bridge) -> None:
    """Give the bridge's internal port this host's gateway addresses; without any it stays down."""
    if not bridge.addresses:
        return
    index = find_link(bridge.name)
    if index is None:
        raise GeneveError(f"ovs-vswitchd made no interface {bridge.name}; see its log")
    with _kernel() as ipr:
        # ovs-vswitchd goes through all of its ports whenever a link of the host changes, if only in name.
        if not is_up(bridge.name):
            with _netlink(f"set up bridge {bridge.name}"):
                _quieten(ipr, index, {})
                _set_flags(ipr, index, IFF_UP)
        if bridge.vrf is not None:
            with _netlink(f"put bridge {bridge.name} into VRF {bridge.vrf}"):
                ipr.link("set", index=index, master=_find_vrf(ipr, bridge.vrf))
        for address in _with_link_local(bridge):
            with _netlink(f"add gateway {address} to bridge {bridge.name}"), _ignoring(errno.EEXIST):
                _add_address(ipr, index, address)


def remove_link(name: str) -> None:
    """Delete an interface, a veth pair by its host end; gone is fine."""
    index = find_link(name)
    if index is not None:
        remove_found(index, name)


def remove_found(index: int, name: str) -> None:
    """Delete this very interface: one that came after it under its `name` has another index. Gone is fine."""
    with _kernel() as ipr, _netlink(f"delete {name}"), _ignoring(errno.ENODEV):
        ipr.link("del", index=index)


def make_vanish(name: str) -> None:
    """As remove_link, but done as soon as nobody can see the interface any more, and both its names are free.

    The kernel then still waits an RCU period before it forgets the rest: in a thread, which a helper does
    not wait for.
    """
    errors: list[GeneveError] = []

    def remove() -> None:
        try:
            remove_link(name)
        except GeneveError as error:
            errors.append(error)

    remover = threading.Thread(target=remove)
    try:
        remover.start()
    except RuntimeError:  # no more threads: then it takes as long as it takes
        remove()
    while remover.is_alive() and find_link(name) is not None:
        remover.join(POLL)
    if errors:
        raise errors[0]


def _with_link_local(bridge: Bridge) -> tuple[Interface, ...]:
    """The gateways, and with IPv6 a link-local address (RFC 4291 appendix A).

    From that the kernel asks for the neighbours to which it forwards other hosts' packets; without, it does not ask.
    """
    if all(address.version == 4 for address in bridge.addresses):
        return bridge.addresses
    mac = bytes.fromhex(bridge.hwaddr.replace(":", ""))
    identifier = bytes([mac[0] ^ 0x02]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return (*bridge.addresses, ipaddress.IPv6Interface((b"\xfe\x80" + bytes(6) + identifier, 64)))


def _find_vrf(ipr: IPRoute, name: str) -> int:
    index = find_link(name)
    if index is None or _kind_of(ipr.get_links(index)[0]) != "vrf":
        raise GeneveError(f"{name} is no VRF of this host; make it first (ip link add {name} type vrf table NUMBER)")
    return index


def find_all(names: Iterable[str]) -> tuple[Link, ...]:
    """The veths of all containers, those of these `names` for sure, and every tap, whosever it is."""
    with _kernel() as ipr, _netlink("list the host's interfaces"):
        found = {link.get_attr("IFLA_IFNAME"): link for link in _all(ipr)}
        # Before Linux 6.9 the list lacks an interface when another one goes just then.
        for name, index in [(name, find_link(name)) for name in names if name not in found]:
            if index is not None:
                with _ignoring(errno.ENODEV):
                    found[name] = ipr.get_links(index)[0]
    links = [Link(link["index"], name, _kind_of(link) or "", _owner(link)) for name, link in found.items()]
    return tuple(link for link in links if link.kind == TAP or (link.kind == "veth" and link.owner))


def _all(ipr: IPRoute) -> list[Any]:
    """Every link of the host. One that comes or goes meanwhile interrupts the list, which is then asked for again."""
    for _ in range(DUMPS):
        with suppress(NetlinkDumpInterrupted):
            return list(ipr.get_links())
    return list(ipr.get_links())


def _owner(link: Any) -> Owner | None:
    parts = naming.alias_parts(link.get_attr("IFLA_IFALIAS") or "")
    return parts and Owner(*parts)


def _kind_of(link: Any) -> str | None:
    """As `ip -details link` shows it."""
    info = link.get_attr("IFLA_LINKINFO")
    return None if info is None else str(info.get_attr("IFLA_INFO_KIND"))


def remove_tap(name: str) -> None:
    """Delete what ovs-vswitchd left of a bridge's interface under the userspace datapath; nothing of another kind."""
    index = find_link(name)
    if index is None:
        return
    with _kernel() as ipr, _netlink(f"delete {name}"), _ignoring(errno.ENODEV):
        if _kind_of(ipr.get_links(index)[0]) == TAP:
            ipr.link("del", index=index)


def remove_veth(veth: Veth) -> None:
    """Delete the pair that `create_veth` made, however far it came; gone is fine."""
    for name in {veth.name, _first_name(veth)}:
        remove_link(name)


def remove_left(alias: str, stem: str) -> bool:
    """Delete the veth that an attempt left before OVSDB knew of it; whether there was one. Looks at every link.

    It has the alias or, when the attempt was killed before it could say so, none and a name with this stem.
    """
    with _kernel() as ipr, _netlink("list the host's interfaces"):
        known = {link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_IFALIAS") for link in _all(ipr)}
    left = [name for name, own in known.items() if own == alias or (own is None and name.startswith(stem))]
    for name in left:
        remove_link(name)
    return bool(left)


def find_link(name: str) -> int | None:
    """The interface's index in the current namespace."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def is_up(name: str) -> bool:
    """Whether the interface is there and up."""
    try:
        return bool(int(files.read(f"/sys/class/net/{name}/flags"), 16) & IFF_UP)
    except OSError:
        return False


def _add_pair(ipr: IPRoute, veth: Veth, netns: int) -> None:
    peer = {"ifname": _first_name(veth), "mtu": veth.mtu}
    own = {"ifname": veth.interface, "net_ns_fd": netns, "address": veth.mac, "mtu": veth.mtu}
    ipr.link("add", kind="veth", peer=peer, state="up", **own)


def _first_name(veth: Veth) -> str:
    """Under which it is made: one by which it is found, also when the name that it is to have says nothing."""
    return veth.name if veth.name.startswith(veth.stem) else veth.stem


def _quieten(ipr: IPRoute, index: int, changes: Mapping[str, object]) -> None:
    """Tell the kernel to give the interface, which is still down, no IPv6 address; and make these `changes`."""
    try:
        ipr.link("set", index=index, IFLA_AF_SPEC=_NO_IPV6_ADDRESS, **changes)
    except NetlinkError as error:
        # Refused where there is no IPv6, because the MTU is under 1280 or the kernel has none: quiet anyway.
        if error.code != errno.EAFNOSUPPORT:
            raise
        ipr.link("set", index=index, **changes)


def _set_flags(ipr: IPRoute, index: int, flags: int) -> None:
    ipr.link("set", index=index, flags=flags, change=flags)


def _add_address(ipr: IPRoute, index: int, address: Interface) -> None:
    if address.version == 4:
        broadcast = str(address.network.broadcast_address)
        ipr.addr(
            "add",
            index=index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            broadcast=broadcast,
        )
    else:
        ipr.addr(
            "add",
            index=index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            family=socket.AF_INET6,
            flags=IFA_F_NODAD,
        )


def _is_on_link(route: Route, networks: Sequence[IPNetwork]) -> bool:
    """Whether the route's gateway is a neighbour; otherwise it is one by another interface, or there is none."""
    return route.gateway is not None and any(route.gateway in network for network in networks)


def _change_route(ipr: IPRoute, verb: str, route: Route, index: int | None) -> None:
    way = {"type": route.kind} if route.gateway is None else {"gateway": str(route.gateway)}
    ipr.route(
        # Not "add" for a new one: a container on two networks has two default routes of one metric; the first is used.
        verb,
        dst=str(route.destination),
        priority=ROUTE_METRIC if route.metric is None else route.metric,
        family=_FAMILY[route.destination.version],
        **way,
        **({} if index is None else {"oif": index}),
    )


@contextmanager
def _kernel() -> Iterator[IPRoute]:
    """A connection to the kernel of the current namespace."""
    with failing_to("open a netlink socket"):
        ipr = IPRoute()
    with ipr:
        yield ipr


@contextmanager
def _netlink(step: str) -> Iterator[None]:
    """Turn what the kernel says into a sentence that names the step."""
    try:
        with failing_to(step):
            yield
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            raise GeneveError(f"cannot {step}: that name or address is already taken there; choose another") from error
        hint = "; is IPv6 enabled on this interface and in the kernel?" if error.code == errno.EACCES else ""
        raise GeneveError(f"cannot {step}: {os.strerror(error.code)}{hint}") from error


@contextmanager
def _ignoring(code: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise
