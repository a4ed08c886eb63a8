# SPDX-License-Identifier: Apache-2.0
"""What interfaces the host has, and whose they are; by pyroute2, which is imported by whoever needs to know."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from . import naming
from .errors import GeneveError, failing_to
from .found import Link, Owner

DUMPS = 50  # attempts to list all links of a host where they come and go; each takes a millisecond for ten of them
TAP = "tun"  # what the kernel calls them


def find_all(names: Iterable[str]) -> tuple[Link, ...]:
    """The veths of all containers, those of these `names` for sure, and every tap, whosever it is."""
    with _connected("list the host's interfaces") as ipr:
        found = {link.get_attr("IFLA_IFNAME"): link for link in _all(ipr)}
        # Before Linux 6.9 the list lacks an interface when another one goes just then.
        for name in names:
            link = None if name in found else _find(ipr, _index(name))
            if link is not None:
                found[name] = link
    links = [Link(link["index"], name, _kind(link) or "", _owner(link)) for name, link in found.items()]
    return tuple(link for link in links if link.kind == TAP or (link.kind == "veth" and link.owner))


def find_aliases() -> dict[str, str | None]:
    """The alias of each interface of the host, by its name."""
    with _connected("list the host's interfaces") as ipr:
        return {link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_IFALIAS") for link in _all(ipr)}


def find_alias(index: int, name: str) -> str | None:
    """Of the interface with this index, whose `name` an error tells; None of one that has none, or is gone."""
    with _connected(f"look at {name}") as ipr:
        link = _find(ipr, index)
        return None if link is None else link.get_attr("IFLA_IFALIAS")


def find_kind(index: int, name: str) -> str | None:
    """As find_alias: what `ip -details link` shows."""
    with _connected(f"look at {name}") as ipr:
        link = _find(ipr, index)
        return None if link is None else _kind(link)


def _all(ipr: IPRoute) -> list[Any]:
    """Every link of the host. One that comes or goes meanwhile interrupts the list, which is then asked for again."""
    for _ in range(DUMPS):
        with suppress(NetlinkDumpInterrupted):
            return list(ipr.get_links())
    return list(ipr.get_links())


def _find(ipr: IPRoute, index: int | None) -> Any:
    if index is None:
        return None
    try:
        return ipr.get_links(index)[0]
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return None


def _index(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def _owner(link: Any) -> Owner | None:
    parts = naming.alias_parts(link.get_attr("IFLA_IFALIAS") or "")
    return parts and Owner(*parts)


def _kind(link: Any) -> str | None:
    info = link.get_attr("IFLA_LINKINFO")
    return None if info is None else str(info.get_attr("IFLA_INFO_KIND"))


@contextmanager
def _connected(step: str) -> Iterator[IPRoute]:
    """pyroute2's connection; what the kernel says becomes a sentence that names the step."""
    try:
        with failing_to(step), IPRoute() as ipr:
            yield ipr
    except NetlinkError as error:
        raise GeneveError(f"cannot {step}: {os.strerror(error.code)}") from error
