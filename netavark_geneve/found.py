# SPDX-License-Identifier: Apache-2.0
"""What a look at this host finds of ours, whoever may still need it. Data only."""

from dataclasses import dataclass
from uuid import UUID

from .model import Line, Settings


@dataclass(frozen=True)
class Port:
    """A container's port in OVSDB, as its external_ids have it; what somebody took out of them is ""."""

    row: UUID
    name: str
    bridge: str
    network: str
    container_id: str
    container: str
    interface: str
    boot_id: str


@dataclass(frozen=True)
class Bridge:
    """An OVS bridge; of somebody else's (`is_ours` not set) only the name is of interest.

    `has_others`: ports that are neither a container's of ours, nor a tunnel's, nor its own.
    """

    row: UUID
    name: str
    network: str = ""
    is_ours: bool = False
    has_others: bool = False


@dataclass(frozen=True)
class Owner:
    """Whose veth it is, as its alias says; of the container's id the first twelve digits."""

    network: str
    container: str
    container_id: str
    interface: str


@dataclass(frozen=True)
class Link:
    """An interface of the host: a veth that has an owner, or a "tun" (tap) of whomever, which has none."""

    index: int
    name: str
    kind: str
    owner: Owner | None = None


@dataclass(frozen=True)
class Found:
    """Everything of ours on this host, and the interfaces that could be."""

    boot_id: str
    ports: tuple[Port, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    links: tuple[Link, ...] = ()
    chains: tuple[str, ...] = ()  # of the packet filter, without those that hooks call
    has_table: bool = False
    lines: tuple[Line, ...] = ()
    has_resolver: bool = False  # it, or the directory that it reads
    settings: tuple[Settings, ...] = ()
    unfinished: tuple[str, ...] = ()  # files that were never renamed to what they were to be
    networks: tuple[tuple[str, str], ...] = ()  # bridge and name of Podman's networks of ours


@dataclass(frozen=True)
class Broken:
    """An interface of ours that ovs-vswitchd could not set up; `role` is a port's: container, tunnel or bridge."""

    name: str
    role: str
    error: str


@dataclass(frozen=True)
class Engine:
    """What Podman says of itself; "" where it says nothing."""

    version: str
    backend: str
    netavark: str
    drivers: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A file in a directory of programs."""

    path: str
    is_file: bool
    mode: int


@dataclass(frozen=True)
class Way:
    """How packets leave for a destination: by which interface, and how many bytes one may have.

    `is_of_route`: it is the route that has this MTU, not the interface.
    """

    interface: str
    mtu: int
    is_of_route: bool = False


@dataclass(frozen=True)
class Offload:
    """A feature of a network card; what is fixed nobody can change."""

    is_on: bool
    is_fixed: bool
