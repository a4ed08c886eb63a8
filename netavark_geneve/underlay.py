# SPDX-License-Identifier: Apache-2.0
"""Observe the host's own network: its addresses, the ways to the peers, their names. Changes nothing."""

import ipaddress
import socket
import threading
from pathlib import Path
from typing import Any

from pyroute2.ethtool.ioctl import IoctlEthtool, NotSupportedError
from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from .addresses import Address, Interface
from .errors import Deadline, GeneveError
from .found import Offload, Way

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def find_interfaces() -> tuple[tuple[str, Interface], ...]:
    """The host's addresses, each with the name of its interface; without loopback and link-local ones."""
    with IPRoute() as ipr:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ipr.get_links()}
        found = [
            (names.get(entry["index"], "?"), ipaddress.ip_interface((_local(entry), entry["prefixlen"])))
            for entry in ipr.get_addr()
        ]
    return tuple((name, address) for name, address in found if not (address.is_loopback or address.is_link_local))


def find_links() -> frozenset[str]:
    """The names of all interfaces of the host."""
    return frozenset(name for _, name in socket.if_nameindex())


def find_path_mtu(destination: Address) -> int:
    """Bytes that an IP packet to `destination` may have: the route's MTU, or its interface's."""
    return find_way(destination).mtu


def find_way(destination: Address) -> Way:
    """By which interface packets go to the peer. Raises GeneveError when there is no route."""
    with IPRoute() as ipr:
        try:
            route = ipr.route("get", dst=str(destination), family=_FAMILY[destination.version])[0]
        except NetlinkError as error:
            raise GeneveError(
                f"no route to the peer {destination}: {error.args[-1]};"
                f" check the underlay with 'ip route get {destination}'"
            ) from error
        link = ipr.get_links(route.get_attr("RTA_OIF"))[0]
        mtu: int = link.get_attr("IFLA_MTU")
        metrics = route.get_attr("RTA_METRICS")
        route_mtu: int | None = metrics.get_attr("RTAX_MTU") if metrics else None
    return Way(link.get_attr("IFLA_IFNAME"), min(mtu, route_mtu or mtu), is_of_route=(route_mtu or mtu) < mtu)


def find_link_mtu(name: str) -> int | None:
    """The MTU of an interface; None when there is none of that name."""
    try:
        return int(Path("/sys/class/net", name, "mtu").read_text(encoding="utf-8"))
    except OSError:
        return None


def find_offload(interface: str, feature: str) -> Offload | None:
    """A feature of the interface as `ethtool -k` shows it; None of one that has no such feature."""
    try:
        tool = IoctlEthtool(interface)
        try:
            features = {name: (is_on, can_change) for name, is_on, can_change, _, _ in tool.get_features()}
        finally:
            tool.close()
    except (OSError, NotSupportedError):
        return None
    return Offload(features[feature][0], not features[feature][1]) if feature in features else None


def find_interface_mtu(address: Address) -> int:
    """Bytes that an IP packet may have on the interface that owns `address`."""
    with IPRoute() as ipr:
        owner = next(entry["index"] for entry in ipr.get_addr() if _local(entry) == str(address))
        mtu: int = ipr.get_links(owner)[0].get_attr("IFLA_MTU")
    return mtu


def resolve(name: str, deadline: Deadline) -> Address:
    """The one address of a DNS name. Raises GeneveError when it has none, several, or not in time."""
    answers: list[Address] = []
    failures: list[str] = []

    def ask() -> None:
        try:
            for _, _, _, _, address in socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM):
                answers.append(ipaddress.ip_address(address[0]))
        except OSError as error:
            failures.append(error.strerror or str(error))
        except UnicodeError:  # by the codec "idna"
            failures.append("no DNS name, whose labels have 1 to 63 characters")

    # getaddrinfo() knows no deadline; a thread that is still waiting dies with the process.
    thread = threading.Thread(target=ask, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise GeneveError(f"hosts: cannot resolve {name}: {error}; is there a limit of processes?") from error
    thread.join(deadline.remaining())
    found = set(answers)
    if thread.is_alive():
        raise GeneveError(f"hosts: the name {name} was not resolved in time; check DNS, or use addresses")
    if not found:
        raise GeneveError(f"hosts: cannot resolve {name}: {', '.join(failures)}; check DNS, or use addresses")
    if len(found) > 1:
        raise GeneveError(
            f"hosts: {name} has several addresses ({', '.join(sorted(map(str, found)))}); use the one of the underlay"
        )
    return found.pop()


def _local(entry: Any) -> str:
    """IFA_LOCAL where there is one (IPv4, and IPv6 with a peer), else IFA_ADDRESS."""
    local: str = entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")
    return local
