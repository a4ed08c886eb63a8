# SPDX-License-Identifier: Apache-2.0
"""Look at everything that networks need of this host, in order, and have it judged. One look; nothing is changed."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from . import (
    __version__,
    config,
    dns,
    engine,
    firewall,
    firewalld,
    kernel,
    links,
    nftables,
    podman,
    stale,
    sweep,
    sysctls,
    underlay,
)
from .addresses import Address, Interface
from .checks import host as upkeep
from .checks import openvswitch, packetfilter, peers, software
from .checks.finding import FAULT, Finding, failed, unknown
from .errors import Deadline, GeneveError
from .fabric.mesh import Mesh
from .found import Broken, Found, Way
from .helper.wire import SOCKET, SOCKET_VARIABLE
from .membership import find_mesh
from .model import Gateway, Network
from .naming import OWNER
from .options import DST_PORT_DEFAULT, HOSTS_FILE, NETDEV, Options, parse, with_defaults
from .plan import check_place, plan_gateway
from .survey import Host

DEADLINE = 30.0  # seconds for the whole look
PATIENCE = 5.0  # seconds of that for each server that is asked
START = 10.0  # seconds for Podman and the plugin, which have much to load
FOLLOW = 3.0  # seconds that ovs-vswitchd gets to reach the configuration that was asked for
MOMENT = 1.0  # seconds more for an interface that it cannot set up, which may be one that is just being made
KERNEL_MODULES = ("openvswitch", "geneve")


@dataclass(frozen=True)
class Place:
    """A network of ours, and this host's place in it (None: it is this host's alone)."""

    network: Network
    options: Options
    mesh: Mesh | None

    @property
    def is_of_kernel(self) -> bool:
        return self.options.datapath_type != NETDEV


@dataclass(frozen=True)
class Switch:
    """What Open vSwitch and the kernel have of ours, and what of it serves nobody."""

    found: Found
    stale: tuple[stale.Thing, ...]
    broken: tuple[Broken, ...]
    remotes: Mapping[str, set[str]]  # by the network's id


def examine(networks: Iterable[Network], environ: Mapping[str, str]) -> list[Finding]:
    """All findings. Raises GeneveError when this is not where Open vSwitch is."""
    sweep.check_namespace(environ)
    return _Examination(Host(networks, environ), environ).findings()


class _Examination:
    """What one step has seen, the next ones use; what nobody could see, they leave out."""

    def __init__(self, host: Host, environ: Mapping[str, str]) -> None:
        self._host = host
        self._environ = environ
        self._deadline = Deadline(DEADLINE)
        self._mesh: Mesh | None = None  # of fabric.toml
        self._refused: str | None = None  # the option hosts of networks that take theirs from a file with faults
        self._kernel_users: list[str] = []  # networks of the kernel's datapath
        self._places: list[Place] = []
        self._ways: dict[Address, Way] = {}
        self._switch: Switch | None = None

    def findings(self) -> list[Finding]:
        found: list[Finding] = []
        steps: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
            ("Podman", self._podman),
            ("Open vSwitch", self._open_vswitch),
            ("fabric.toml", self._fabric),
            ("networks", self._networks),
            ("kernel modules", self._modules),
            ("peers", self._peers),
            ("packet filter", self._filter),
            ("bridges", self._bridges),
            ("names", self._names),
            ("helper", self._helper),
            ("leftovers", self._leftovers),
        )
        for name, step in steps:
            try:
                for finding in step():
                    found.append(finding)  # one by one: those before an error stay
            except GeneveError as error:
                found.append(unknown(name, error))
        return found

    def _patience(self, seconds: float = PATIENCE) -> Deadline:
        return Deadline(min(seconds, self._deadline.remaining()))

    @cached_property
    def _interfaces(self) -> tuple[tuple[str, Interface], ...]:
        return underlay.find_interfaces()

    @property
    def _own(self) -> tuple[Address, ...]:
        return tuple(address.ip for _, address in self._interfaces)

    @property
    def _meshes(self) -> list[tuple[Place, Mesh]]:
        return [(place, place.mesh) for place in self._places if place.mesh is not None]

    @property
    def _active(self) -> list[Place]:
        """Where containers are: the network has its bridge, and it is not just left over."""
        if self._switch is None:
            return []
        left = {thing.name for thing in self._switch.stale if thing.kind == stale.BRIDGE}
        there = {bridge.name for bridge in self._switch.found.bridges if bridge.is_ours} - left
        return [place for place in self._places if place.network.bridge in there]

    @property
    def _gateways(self) -> list[tuple[Network, Gateway]]:
        dns_port = dns.port(self._environ)
        planned = [(each.network, plan_gateway(each.network, each.options, dns_port)) for each in self._active]
        return [(network, gateway) for network, gateway in planned if gateway.subnets]

    def _podman(self) -> Iterator[Finding]:
        about = None
        try:
            about = engine.ask_podman(self._patience(START))
        except GeneveError as error:
            yield failed("Podman", error)
        else:
            yield software.check_podman(about)
            yield software.check_netavark(about)
        directories = podman.find_plugin_dirs(self._environ)
        plugin = engine.find_program(OWNER, directories)
        checked = software.check_file(plugin, directories)
        yield checked
        if plugin is None or checked.state == FAULT:
            return
        try:
            yield software.check_answer(plugin, engine.ask_version(plugin, self._patience(START)), __version__)
        except GeneveError as error:
            yield Finding("plugin's version", "no answer", __version__, FAULT, str(error), software.REINSTALL)
        if about is not None:
            yield software.check_driver(about, plugin)

    def _open_vswitch(self) -> Iterator[Finding]:
        try:
            with sweep.connect(self._environ, self._patience()) as ovs:
                cur_cfg, next_cfg, types = ovs.find_state(Deadline(FOLLOW))
                broken, remotes = ovs.find_broken(Deadline(MOMENT)), ovs.find_remotes()
        except GeneveError as error:
            yield failed("database of Open vSwitch", error, wanted="an answer")
            return
        yield Finding("database of Open vSwitch", "an answer", "an answer")
        try:
            yield Finding("ovs-vswitchd", sweep.ask_version(self._patience()), "an answer")
            yield openvswitch.check_configuration(cur_cfg, next_cfg)
        except GeneveError as error:
            yield Finding("ovs-vswitchd", "no answer", "an answer", FAULT, str(error), openvswitch.RESTART)
        yield openvswitch.check_geneve(types)
        self._switch = self._seen(broken, remotes)

    def _seen(self, broken: tuple[Broken, ...], remotes: Mapping[str, set[str]]) -> Switch:
        found = self._host.look()
        things = stale.find_stale(found)
        if things:  # a container that ends has its port for a moment after its interface
            found = self._host.look()
            things = stale.confirmed(things, stale.find_stale(found))
        return Switch(found, tuple(things), broken, remotes)

    def _fabric(self) -> Iterator[Finding]:
        try:
            options = with_defaults(parse({}), config.load(self._environ))
            self._mesh = find_mesh(options, own=self._own, deadline=self._patience())
        except GeneveError as error:
            self._refused = HOSTS_FILE + os.path.abspath(self._environ.get(config.PATH_VARIABLE) or config.DEFAULT_PATH)
            yield failed("fabric.toml", error, wanted="a list of hosts with this one")
            return
        if not self._host.networks and options.datapath_type != NETDEV:
            self._kernel_users = ["new networks"]
        place = f"host {self._mesh.slot} of {self._mesh.size}" if self._mesh else "no hosts"
        yield Finding("fabric.toml", place, "a list of hosts with this one, or none")

    def _networks(self) -> Iterator[Finding]:
        """This host's place in each network. What is wrong with fabric.toml was said already."""
        for network in self._host.networks:
            name = f"network {network.name}"
            try:
                options = parse(network.options)
                if options.datapath_type != NETDEV:
                    self._kernel_users.append(network.name)
                if options.hosts != self._refused:
                    mesh = find_mesh(options, own=self._own, deadline=self._patience())
                    check_place(network, options, mesh)
                    self._places.append(Place(network, options, mesh))
                    place = f"host {mesh.slot} of {mesh.size}" if mesh else "this host alone"
                    yield Finding(name, place, f"slot {options.slot}" if options.slot else "")
            except GeneveError as error:
                yield failed(name, error, wanted="a place of this host")
        vnis = {each.network.name: each.options.vni for each in self._places}
        yield from peers.check_vnis({name: vni for name, vni in vnis.items() if vni is not None})

    def _modules(self) -> Iterator[Finding]:
        for name in KERNEL_MODULES if self._kernel_users else ():
            is_there, users = kernel.has_module(name), self._kernel_users
            yield openvswitch.check_module(name, kernel.release(), is_there=is_there, networks=users)

    def _peers(self) -> Iterator[Finding]:
        needs: dict[Address, list[peers.Need]] = {peer: [] for _, peer in self._mesh.peers} if self._mesh else {}
        for place, mesh in self._meshes:
            for _, peer in mesh.peers:
                needs.setdefault(peer, []).extend(peers.find_needs(place.network, place.options, mesh.local))
        for peer, needed in needs.items():
            try:
                way = underlay.find_way(peer)
            except GeneveError as error:
                yield peers.check_way(peer, error, needed)
            else:
                self._ways[peer] = way
                yield peers.check_way(peer, way, needed)
        for endpoint in {mesh.local: mesh for _, mesh in self._meshes}.values():
            if endpoint.local.version == 4:
                yield self._return_path(endpoint)
        used = {peer for place, mesh in self._meshes if place.is_of_kernel for _, peer in mesh.peers}
        for interface in sorted({way.interface for peer, way in self._ways.items() if peer in used}):
            yield peers.check_offload(interface, underlay.find_offload(interface, peers.OFFLOAD))

    def _return_path(self, mesh: Mesh) -> Finding:
        interface, _ = self._endpoint(mesh)
        ways = {str(peer): self._ways[peer] for _, peer in mesh.peers if peer in self._ways}
        astray = [peer for peer, way in ways.items() if way.interface != interface]
        mode = max(sysctls.read(f"net/ipv4/conf/{each}/rp_filter") for each in ("all", interface))
        return peers.check_return_path(interface, mode, astray)

    def _filter(self) -> Iterator[Finding]:
        """The tunnels' ports, which the userspace datapath takes before the packet filter; and our own rules."""
        gateways = [gateway for _, gateway in self._gateways] if firewall.is_wanted(self._environ) else []
        tunnels = self._tunnels()
        if not gateways and not tunnels:
            return
        objects = nftables.list_ruleset(self._patience())
        for each in tunnels:
            yield packetfilter.check_port(objects, each, has_legacy=kernel.has_legacy_filter())
        if gateways:
            yield packetfilter.check_rules(objects, gateways)
        if gateways and firewalld.is_installed():
            subnets = [subnet for gateway in gateways for subnet, _ in gateway.subnets]
            yield packetfilter.check_trusted(firewalld.find_untrusted(subnets, self._patience()))

    def _tunnels(self) -> list[packetfilter.Tunnels]:
        """Of all networks together, by endpoint and port."""
        found: dict[tuple[Interface, int], dict[Address, str]] = {}
        for place, mesh in self._meshes:
            if place.is_of_kernel:
                interface, local = self._endpoint(mesh)
                ways = {peer: self._ways[peer].interface if peer in self._ways else interface for _, peer in mesh.peers}
                found.setdefault((local, place.options.dst_port or DST_PORT_DEFAULT), {}).update(ways)
        return [packetfilter.Tunnels(port, local, ways) for (local, port), ways in found.items() if ways]

    def _endpoint(self, mesh: Mesh) -> tuple[str, Interface]:
        """Of the tunnels on this host, which `find_mesh` has found among its addresses."""
        return next((name, address) for name, address in self._interfaces if address.ip == mesh.local)

    def _bridges(self) -> Iterator[Finding]:
        """What Open vSwitch and the kernel made of the networks that have containers here."""
        if self._switch is None:
            return
        settings: dict[str, Finding] = {}  # some are those of the whole host
        left = {thing.name for thing in self._switch.stale}
        for interface in self._switch.broken:
            if interface.name not in left:
                yield openvswitch.check_interface(interface)
        for place in self._active:
            name, bridge, mtu = place.network.name, place.network.bridge, place.options.mtu
            if bridge is not None and mtu is not None:
                yield openvswitch.check_mtu(name, bridge, underlay.find_link_mtu(bridge), mtu)
            wanted = {str(peer) for _, peer in place.mesh.peers} if place.mesh else set()
            yield openvswitch.check_tunnels(name, self._switch.remotes.get(place.network.id, set()), wanted)
        for network, gateway in self._gateways:
            found = [str(address.ip) for name, address in self._interfaces if name == gateway.bridge]
            gates = [str(subnet.gateway) for subnet in network.subnets if subnet.is_routed_here]
            is_up = links.is_up(gateway.bridge)
            yield openvswitch.check_gateway(network.name, found, gates, is_up=is_up)
            for key, value, needed in sysctls.find_settings(gateway):
                settings.setdefault(key, upkeep.check_setting(network.name, key, value, needed))
        yield from settings.values()

    def _names(self) -> Iterator[Finding]:
        named = [network.name for network in self._host.networks if network.dns_enabled]
        yield software.check_resolver(dns.find_program(self._environ), named)
        yield upkeep.check_names(len(dns.find_lines()), runs=dns.is_running())

    def _helper(self) -> Iterator[Finding]:
        yield software.check_helper(os.path.exists(self._environ.get(SOCKET_VARIABLE, SOCKET)))

    def _leftovers(self) -> Iterator[Finding]:
        if self._switch is not None:
            yield from map(upkeep.check_stale, self._switch.stale)
