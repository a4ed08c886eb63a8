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

    @property
    def is_routed_here(self) -> bool:
        """A gateway inside this host's range is on this host; any other is another host's or a router's."""
        return self.gateway is not None and (self.lease_range is None or self.gateway in self.lease_range)


@dataclass(frozen=True)
class Route:
    """A route in the container; without a gateway, of another kind than unicast. Metric None is netavark's, 100."""

    destination: IPNetwork
    gateway: Address | None
    metric: int | None = None
    kind: str = "unicast"  # or blackhole, unreachable, prohibit: ip-route(8)


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
    dns_enabled: bool = False
    ipam_driver: str = ""
    dns_servers: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


PROTOCOLS = ("tcp", "udp", "sctp")
PORT_MAX = 65535


@dataclass(frozen=True)
class PublishedPort:
    """`-p`: `count` ports from `host_port` of this host lead to as many from `container_port`.

    `host_ip` None is any address of this host, of either family; 0.0.0.0 any IPv4, :: any IPv6 address.
    Raises ValueError on what cannot be.
    """

    protocol: str  # tcp, udp or sctp
    host_port: int
    container_port: int
    host_ip: Address | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is not one of {', '.join(PROTOCOLS)}")
        first, last = min(self.host_port, self.container_port), max(self.host_port, self.container_port)
        if not (first > 0 < self.count and last + self.count - 1 <= PORT_MAX):
            raise ValueError(
                f"{self.count} port(s) {self.host_port} as {self.container_port}: ports are 1 to {PORT_MAX}"
            )
        if getattr(self.host_ip, "scope_id", None):
            raise ValueError(f"{self.host_ip} has a zone; leave it out")

    @property
    def is_any(self) -> bool:
        """Whether it is published under all addresses of this host, of its family."""
        return self.host_ip is None or self.host_ip.is_unspecified

    def covers(self, version: int) -> bool:
        """Whether it is published in this family."""
        return self.host_ip is None or self.host_ip.version == version


@dataclass(frozen=True)
class Container:
    """One container's wish to be on a network; `addresses` were allocated by Podman or chosen by the user."""

    id: str
    name: str
    interface: str
    addresses: tuple[Address, ...] = ()
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bridge:
    """An OVS bridge and its internal port of the same name; `addresses` are this host's gateways.

    One that is not `managed` is the user's: it must exist, and nothing of it is changed. `vlan` is that of
    the internal port, `vrf` the one that it belongs to.
    """

    name: str
    datapath_type: str
    hwaddr: str
    mtu: int
    vni: int
    addresses: tuple[Interface, ...]
    tags: Mapping[str, str]
    managed: bool = True
    vlan: int = 0
    vrf: str | None = None


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
    """The pair between the bridge (`name`, on the host) and the container (`interface`, in its netns).

    `vlan` is the access VLAN of its port on the bridge; 0 is untagged. By `stem` a name is known that the pair
    has before it has its `alias`.
    """

    name: str
    stem: str
    interface: str
    mac: str
    mtu: int
    addresses: tuple[Interface, ...]
    routes: tuple[Route, ...]
    alias: str
    ipv6: bool
    checksum_offload: bool
    vlan: int = 0


@dataclass(frozen=True)
class Gateway:
    """This host as the network's router; without `subnets` it is none.

    Each subnet comes with the address under which its packets leave (None: the uplink's). `isolate` is
    "false", "true" (cannot reach other isolated networks) or "strict" (no other network of Podman's). A
    gateway that does not forward only answers for itself, as the resolver of an internal network. The
    resolver `listen`s on these addresses, at `dns_port`.
    """

    bridge: str
    subnets: tuple[tuple[IPNetwork, Address | None], ...]
    isolate: str = "strict"
    forwards: bool = True
    listen: tuple[Address, ...] = ()
    dns_port: int = 53


@dataclass(frozen=True)
class Foreign:
    """The bridges of Podman's other networks, and which of them are isolated."""

    bridges: tuple[str, ...] = ()
    isolated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publication:
    """The published ports of one container on one network, and the first address of each family there."""

    bridge: str
    container_id: str
    comment: str
    ports: tuple[PublishedPort, ...]
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Names:
    """What this host's resolver is told of one container; it answers on `listen`, the network's gateways here."""

    network: str
    internal: bool
    listen: tuple[Address, ...]
    upstreams: tuple[str, ...]  # network_dns_servers; empty: the host's resolv.conf
    container_id: str
    addresses: tuple[Address, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class AttachPlan:
    """All that one attach makes true, decided before anything is changed."""

    bridge: Bridge
    tunnels: tuple[Tunnel, ...]
    veth: Veth
    port_tags: Mapping[str, str]
    gateway: Gateway
    publication: Publication
    names: Names | None  # None: no resolver of ours in this network
    detect_conflicts: bool


@dataclass(frozen=True)
class AttachResult:
    """What the container got. A gateway is reported for each address whose subnet has one."""

    interface: str
    mac: str
    addresses: tuple[tuple[Interface, Address | None], ...]
    dns_servers: tuple[Address, ...] = ()
    dns_search_domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """What the resolver knows of a container. One without a container is a network's file that names none."""

    network: str
    container_id: str = ""
    names: str = ""


@dataclass(frozen=True)
class Settings:
    """A file of sysctl.d, by its path."""

    path: str
    bridge: str
