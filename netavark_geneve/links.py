# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of an attach: network namespaces, the veth pair, addresses, routes, sysctls.

The only module that changes links. A namespace is entered by setns(2): pyroute2's `IPRoute(netns=…)` forks a child,
and creates the namespace when it is missing.
"""

import errno
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from . import files, interior
from .addresses import Interface
from .addresses import Network as IPNetwork
from .errors import GeneveError, failing_to
from .model import Bridge, Route, Veth
from .netlink import IFF_NOARP, IFF_PROMISC, IFF_UP, Kernel

if sys.version_info >= (3, 12):
    setns = os.setns
else:
    from pyroute2.netns import setns

CLONE_NEWNET = 0x40000000  # linux/sched.h; said with each setns(2), of which a service may be allowed this kind alone
ROUTE_METRIC = 100  # netavark's default
IFA_F_NODAD = 0x02  # linux/if_addr.h: use the address at once; Podman's IPAM saw to its uniqueness
POLL = 0.0005  # seconds between two looks at whether an interface has vanished


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
            setns(netns, CLONE_NEWNET)
        try:
            yield
        finally:
            _return(home)
    finally:
        os.close(home)


def _return(home: int) -> None:
    """Tried twice: in the container's namespace our thread could undo nothing, and a helper's would serve others."""
    try:
        setns(home, CLONE_NEWNET)
    except OSError:
        with failing_to("return from the container's network namespace"):
            setns(home, CLONE_NEWNET)


def ensure_name_free(veth: Veth) -> None:
    """Remove what an attempt left that was killed half-way; raise GeneveError when the name is somebody else's."""
    index = find_link(veth.name)
    if index is None:
        return
    from . import linklist

    if linklist.find_alias(index, veth.name) != veth.alias:
        raise GeneveError(f"this host already has an interface {veth.name}; choose another host_interface_name")
    remove_link(veth.name)


def create_veth(veth: Veth, netns: int) -> None:
    """Make the pair in one message, the container's end born inside its namespace.

    So the pair goes with the namespace, whatever becomes of us. The host's end says whose it is. Both are down.
    """
    born = _first_name(veth)
    # No ARP: under the userspace datapath the host's own stack sees every frame too, and would
    # answer the container for all of the host's addresses, past the switch. Promiscuous, since that
    # datapath makes it so otherwise, and ovs-vswitchd goes through all of its ports with every change.
    flags = IFF_NOARP | (0 if veth.checksum_offload else IFF_PROMISC)
    with _kernel() as kernel:
        with _netlink(f"create the veth pair {veth.name} and {veth.interface}"):
            try:
                kernel.add_veth(born, veth.mtu, flags, veth.interface, veth.mac, netns)
            except FileExistsError:
                # The container has the interface already: from an attempt that was killed, or somebody else's.
                if not remove_left(veth.alias, veth.stem):
                    raise
                kernel.add_veth(born, veth.mtu, flags, veth.interface, veth.mac, netns)
        with _netlink(f"set up {veth.name}"):
            # The kernel takes no alias when it makes a link. A name that tells nothing comes with the alias.
            name = None if born == veth.name else veth.name
            _quieten(kernel, socket.if_nametoindex(born), name, veth.alias)


def connect_veth(veth: Veth) -> None:
    """Set up the host's end, and so give both a carrier."""
    with _kernel() as kernel, _netlink(f"set up {veth.name}"):
        kernel.set_flags(socket.if_nametoindex(veth.name), IFF_UP)


def address_container(veth: Veth) -> None:
    """Give the container's end its addresses and routes; runs inside the container's namespace."""
    if veth.ipv6:
        interior.enable_ipv6(veth)
    index = socket.if_nametoindex(veth.interface)
    with _kernel() as kernel:
        for address in veth.addresses:
            with _netlink(f"add address {address} to {veth.interface} in the container"):
                _add_address(kernel, index, address)
        networks = [address.network for address in veth.addresses]
        for route in veth.routes:
            way = route.kind if route.gateway is None else f"by {route.gateway}"
            by = index if _is_on_link(route, networks) else None
            with _netlink(f"add the route to {route.destination} {way} in the container"), suppress(FileExistsError):
                # Not "add": a container on two networks has two default routes of one metric; the first is used.
                kernel.append_route(route.destination, route.kind, route.gateway, _metric(route), by)


def remove_routes(routes: Iterable[Route], networks: Sequence[IPNetwork]) -> None:
    """Delete the routes that do not go with an interface on these networks; runs inside the container's namespace."""
    with _kernel() as kernel:
        for route in routes:
            if not _is_on_link(route, networks):
                with _netlink(f"delete the route to {route.destination} in the container"), _ignoring(errno.ESRCH):
                    kernel.delete_route(route.destination, route.kind, route.gateway, _metric(route))


def configure_bridge(bridge: Bridge) -> None:
    """Give the bridge's internal port this host's gateway addresses; without any it stays down."""
    if not bridge.addresses:
        return
    index = find_link(bridge.name)
    if index is None:
        raise GeneveError(f"ovs-vswitchd made no interface {bridge.name}; see its log")
    with _kernel() as kernel:
        # ovs-vswitchd goes through all of its ports whenever a link of the host changes, if only in name.
        if not is_up(bridge.name):
            with _netlink(f"set up bridge {bridge.name}"):
                _quieten(kernel, index)
                kernel.set_flags(index, IFF_UP)
        if bridge.vrf is not None:
            with _netlink(f"put bridge {bridge.name} into VRF {bridge.vrf}"):
                kernel.set_master(index, _find_vrf(bridge.vrf))
        for address in _with_link_local(bridge):
            if address.version == 6 and _has_ipv6(bridge.name, address):
                continue  # to be asked for it once more has the kernel report its multicast groups to every port
            with _netlink(f"add gateway {address} to bridge {bridge.name}"), suppress(FileExistsError):
                _add_address(kernel, index, address)


def remove_link(name: str) -> None:
    """Delete an interface, a veth pair by its host end; gone is fine."""
    index = find_link(name)
    if index is not None:
        remove_found(index, name)


def remove_found(index: int, name: str) -> None:
    """Delete this very interface: one that came after it under its `name` has another index. Gone is fine."""
    with _kernel() as kernel, _netlink(f"delete {name}"), _ignoring(errno.ENODEV):
        kernel.delete_link(index)


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


def _has_ipv6(name: str, address: Interface) -> bool:
    """Whether the interface has the address, as the kernel sees it: whatever the prefix length."""
    try:
        rows = [line.split() for line in files.read("/proc/thread-self/net/if_inet6").splitlines()]
    except OSError:  # the kernel has no IPv6
        return False
    return any((row[0], row[-1]) == (address.ip.packed.hex(), name) for row in rows)


def _find_vrf(name: str) -> int:
    from . import linklist

    index = find_link(name)
    if index is None or linklist.find_kind(index, name) != "vrf":
        raise GeneveError(f"{name} is no VRF of this host; make it first (ip link add {name} type vrf table NUMBER)")
    return index


def remove_tap(name: str) -> bool:
    """Delete what ovs-vswitchd left of a bridge's interface under the userspace datapath; nothing of another kind.

    Whether there was one.
    """
    from . import linklist

    index = find_link(name)
    if index is None or linklist.find_kind(index, name) != linklist.TAP:
        return False
    remove_found(index, name)
    return True


def remove_veth(veth: Veth) -> None:
    """Delete the pair that `create_veth` made, however far it came; gone is fine."""
    for name in {veth.name, _first_name(veth)}:
        remove_link(name)


def remove_left(alias: str, stem: str) -> bool:
    """Delete the veth that an attempt left before OVSDB knew of it; whether there was one. Looks at every link.

    It has the alias or, when the attempt was killed before it could say so, none and a name with this stem.
    """
    from . import linklist

    known = linklist.find_aliases()
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


def _first_name(veth: Veth) -> str:
    """Under which it is made: one by which it is found, also when the name that it is to have says nothing."""
    return veth.name if veth.name.startswith(veth.stem) else veth.stem


def _quieten(kernel: Kernel, index: int, name: str | None = None, alias: str | None = None) -> None:
    """Tell the kernel to give the interface, which is still down, no IPv6 address; and what it is called.

    A link-local address on a switch port serves nobody, and its routes, router solicitations and MLD reports cost
    the switch more than the container's own traffic.
    """
    try:
        kernel.describe(index, name=name, alias=alias, has_ipv6=False)
    except OSError as error:
        # Refused where there is no IPv6: quiet anyway.
        if error.errno != errno.EAFNOSUPPORT:
            raise
        kernel.describe(index, name=name, alias=alias, has_ipv6=True)


def _add_address(kernel: Kernel, index: int, address: Interface) -> None:
    kernel.add_address(index, address, IFA_F_NODAD if address.version == 6 else 0)


def _is_on_link(route: Route, networks: Sequence[IPNetwork]) -> bool:
    """Whether the route's gateway is a neighbour; otherwise it is one by another interface, or there is none."""
    return route.gateway is not None and any(route.gateway in network for network in networks)


def _metric(route: Route) -> int:
    return ROUTE_METRIC if route.metric is None else route.metric


@contextmanager
def _kernel() -> Iterator[Kernel]:
    """A connection to the kernel of the current namespace."""
    with failing_to("open a netlink socket"):
        kernel = Kernel()
    with kernel:
        yield kernel


@contextmanager
def _netlink(step: str) -> Iterator[None]:
    """Turn what the kernel says into a sentence that names the step."""
    try:
        yield
    except FileExistsError as error:
        raise GeneveError(f"cannot {step}: that name or address is already taken there; choose another") from error
    except OSError as error:
        hint = "; is IPv6 enabled on this interface and in the kernel?" if error.errno == errno.EACCES else ""
        raise GeneveError(f"cannot {step}: {error.strerror or error}{hint}") from error


@contextmanager
def _ignoring(code: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != code:
            raise
