# SPDX-License-Identifier: Apache-2.0
"""What is asked for (Network, Container) and what shall exist (Bridge, Tunnel, Veth, …). Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .addresses import Address, Interface, Range
from .addresses import Network as IPNetwork


@dataclass(frozen=True)
class Subnet:
    subnet: IPNetwork
    gateway: Address | None = None
    lease_range: Range | None = None


@dataclass(frozen=True)
class Route:
    """A route in the container. Metric None is netavark's default, 100."""

    destination: IPNetwork
    gateway: Address
    metric: int | None = None


@dataclass(frozen=True)
class Network:
    """A Podman network; `bridge` is its `network_interface` (None before `create` chose one)."""

    name: str
    id: str
    driver: str
    bridge: str | None = None
    subnets: tuple[Subnet, ...] = ()
    routes: tuple[Route, ...] = ()
    internal: bool = False
    ipv6_enabled: bool = False
    ipam_driver: str = ""
    dns_servers: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """One container's wish to be on a network; `addresses` were allocated by Podman or chosen by the user."""

    id: str
    name: str
    interface: str
    addresses: tuple[Address, ...] = ()
    mac: str | None = None
    published_ports: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bridge:
    """An OVS bridge and its internal port of the same name; `addresses` are this host's gateways."""

    name: str
    datapath_type: str
    hwaddr: str
    mtu: int
    vni: int
    addresses: tuple[Interface, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Tunnel:
    """A GENEVE port to one peer (RFC 8926; Interface options of ovs-vswitchd.conf.db(5))."""

    name: str
    remote: str
    local: str
    vni: int
    dst_port: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Veth:
    """The pair between the bridge (`name`, on the host) and the container (`interface`, in its netns)."""

    name: str
    interface: str
    mac: str
    mtu: int
    addresses: tuple[Interface, ...]
    routes: tuple[Route, ...]
    alias: str
    ipv6: bool
    checksum_offload: bool


@dataclass(frozen=True)
class Egress:
    """The way out of a network on this host: its subnets, and the address each leaves under (None: the uplink's).

    No subnets: there is no way out.
    """

    bridge: str
    subnets: tuple[tuple[IPNetwork, Address | None], ...]


@dataclass(frozen=True)
class AttachPlan:
    """All that one attach makes true, decided before anything is changed."""

    bridge: Bridge
    tunnels: tuple[Tunnel, ...]
    veth: Veth
    port_tags: Mapping[str, str]
    egress: Egress


@dataclass(frozen=True)
class AttachResult:
    """What the container got. A gateway is reported for each address whose subnet has one."""

    interface: str
    mac: str
    addresses: tuple[tuple[Interface, Address | None], ...]
