# SPDX-License-Identifier: Apache-2.0
"""The host's packet filter: the way out, the way in and isolation, in one nftables table, never netavark's.

Rules are never looked up and edited. A network's first container here writes the table's skeleton anew, its
others leave alone what stands, and `restore` makes all of it again. What belongs to a network is the chain
`network/BRIDGE`, what belongs to a container's published ports the chain `published/BRIDGE/CONTAINER`;
elements of verdict maps jump there, so a packet's way does not get longer with the number of either.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from .addresses import Address
from .addresses import Network as IPNetwork
from .errors import Deadline, GeneveError
from .model import Foreign, Gateway, Publication, PublishedPort
from .nfnetlink import delete_chain, delete_table, has_chain, has_table, list_chains
from .nftables import (
    FAMILY,
    Command,
    Expression,
    add,
    concat,
    conntrack,
    delete,
    elements,
    equals,
    field,
    flush,
    interface,
    jump,
    list_table,
    lock,
    lookup,
    prefix,
    rule,
    run,
    table,
)

SOURCES = {4: "sources4", 6: "sources6"}  # subnet of a network -> network/BRIDGE
PORTS = {4: "ports4", 6: "ports6"}  # protocol, port -> published/BRIDGE/CONTAINER
HOST_PORTS = {4: "hostports4", 6: "hostports6"}  # address of this host, protocol, port -> the same
BRIDGES, ISOLATED, STRICT = "bridges", "isolated", "strict"  # of our networks; the latter by their option isolate
INTERNAL = "internal"  # those of our bridges that forward nothing
FOREIGN, FOREIGN_ISOLATED = "foreign", "foreign_isolated"  # of networks that netavark's bridge driver made
SETS = (BRIDGES, ISOLATED, STRICT, INTERNAL, FOREIGN, FOREIGN_ISOLATED)
APART = (  # from, to: what forwarding must not join
    *((ISOLATED, ISOLATED), (STRICT, BRIDGES), (BRIDGES, STRICT)),
    *((STRICT, FOREIGN), (FOREIGN, STRICT), (ISOLATED, FOREIGN_ISOLATED), (FOREIGN_ISOLATED, ISOLATED)),
)
PODMAN = "podman*"  # the names that Podman gives to bridges, also to those that it makes after us
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
MULTICAST = {4: ipaddress.ip_network("224.0.0.0/4"), 6: ipaddress.ip_network("ff00::/8")}
DNS_PORT = 53
DRIVER_VARIABLE = "NETAVARK_FW"  # firewall_driver of containers.conf(5)

Key = tuple[str, str]  # map, and its key as text


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the administrator leaves the packet filter to us."""
    return environ.get(DRIVER_VARIABLE) != "none"


def ensure(
    gateway: Gateway, publication: Publication, find_foreign: Callable[[], Foreign], deadline: Deadline, *, first: bool
) -> None:
    """Let the network's packets out, under an address of this host, and in to the published ports.

    Unless this is the `first` container of the network here, what is there already is left alone. Raises
    GeneveError, also when another container has one of the ports.
    """
    if not gateway.subnets:
        return
    with lock():  # whoever leaves last decides under it whether the network's chain goes
        known = not first and has_chain(_network_chain(gateway.bridge))
        if known and not publication.ports:
            return
        network = [] if known else [*_skeleton([gateway], find_foreign()), *_network(gateway)]
        try:
            run([*network, *_published(publication)], deadline)
        except GeneveError:
            # An element that is there already with another target: the one reason that can be mended.
            taken = _taken(publication, list_table(deadline))
            if not taken:
                raise
            run([*network, *_published(publication, leave_out=taken)], deadline)


def restore(
    gateways: Sequence[Gateway], publications: Sequence[Publication], foreign: Foreign, deadline: Deadline
) -> None:
    """Make the table hold exactly this, whatever it held before; in one batch, so that nothing is interrupted."""
    commands = [table("add"), table("delete")]
    if gateways:
        commands += _skeleton(gateways, foreign)
        for gateway in gateways:
            commands += _network(gateway)
        seen: set[Key] = set()
        for publication in publications:  # of a container's two networks the first publishes
            commands += _published(publication, leave_out=seen)
            seen |= {(name, str(key)) for name, key in _keys(publication)}
    with lock():
        run(commands, deadline)


def remove(
    bridge: str, container_id: str, deadline: Deadline, *, is_needed: Callable[[], bool], has_ports: bool
) -> None:
    """Forget a container's ports, without its last container the network, and with the last network the table.

    Gone is fine. `is_needed` is asked under the lock: whoever joins the network right now comes after us.
    """
    with lock():
        needed = is_needed()
        if needed and not has_ports:
            return
        chains = list_chains(_suffix(container_id) if needed else "")  # of the container on all of its networks, or all
        going = {name for name in chains if _belongs(name, bridge, container_id if needed else None)}
        if not going:
            return
        if going == chains and needed:
            delete_chain(_published_chain(bridge, container_id), (*PORTS.values(), *HOST_PORTS.values()))
        elif going == chains:
            delete_table()
        else:
            run(_removal(list_table(deadline), going, [] if needed else [bridge]), deadline)


def find_chains() -> tuple[str, ...] | None:
    """The chains of all networks and of their containers; None when there is no table."""
    return tuple(sorted(list_chains())) if has_table() else None


def remove_chains(find_stale: Callable[[Collection[str]], Collection[str]], deadline: Deadline) -> None:
    """Remove the chains that `find_stale` names of all that there are; with the last one the table.

    It is asked under the lock: whoever starts a container right now comes after us.
    """
    with lock():
        objects = list_table(deadline)
        chains = _chains(objects)
        going = chains & set(find_stale(sorted(chains)))
        bridges = {name.partition("/")[2] for name in going if not _is_published(name)}
        if objects and going == chains:
            run([table("delete")], deadline)
        elif going:
            run(_removal(objects, going, bridges), deadline)


def _chains(objects: list[dict[str, Any]]) -> set[str]:
    """Those of networks and containers; the hooks' are everybody's."""
    return {item["chain"]["name"] for item in objects if "chain" in item and "hook" not in item["chain"]}


def _removal(objects: list[dict[str, Any]], going: set[str], bridges: Collection[str]) -> list[Command]:
    """The chains, and what leads there; the names of bridges that go too."""
    commands = []
    staying = _chains(objects) - going
    for verdicts in (item["map"] for item in objects if "map" in item):
        gone = [element for element in verdicts.get("elem", []) if _target(element) in going]
        commands += elements("delete", verdicts["name"], gone)
        commands += elements("add", verdicts["name"], _inherited(gone, staying))
    for members in (item["set"] for item in objects if "set" in item):
        gone = [member for member in members.get("elem", []) if member in bridges]
        commands += elements("delete", members["name"], gone)
    return [*commands, *(delete("chain", name) for name in sorted(going))]


def _skeleton(gateways: Sequence[Gateway], foreign: Foreign) -> list[Command]:
    """Maps, sets and hooks: what is there already stays, the hooks' rules are written anew."""
    commands = [
        table("add"),
        # First: nft refuses an element that jumps to a chain which stands behind its interval map in the batch.
        *(add("chain", name=_network_chain(gateway.bridge)) for gateway in gateways),
        *(_verdicts(name, f"ipv{version}_addr", flags=["interval"]) for version, name in SOURCES.items()),
        *(_verdicts(name, ["inet_proto", "inet_service"]) for name in PORTS.values()),
        *(
            _verdicts(name, [f"ipv{version}_addr", "inet_proto", "inet_service"])
            for version, name in HOST_PORTS.items()
        ),
        *(add("set", name=name, type="ifname") for name in SETS),
        *(flush("set", name) for name in (FOREIGN, FOREIGN_ISOLATED)),
        *elements("add", FOREIGN, foreign.bridges),
        *elements("add", FOREIGN_ISOLATED, foreign.isolated),
    ]
    for name, kind, hook, priority, rules in _hooks():
        commands += [
            add("chain", name=name, type=kind, hook=hook, prio=priority, policy="accept"),
            flush("chain", name),
            *(rule(name, *expressions) for expressions in rules),
        ]
    return commands


def _hooks() -> Iterator[tuple[str, str, str, int, list[list[Expression]]]]:
    """Chain, type, hook, priority, rules."""
    ours_in, ours_out = interface("iif", f"@{BRIDGES}"), interface("oif", f"@{BRIDGES}")
    published = [
        [equals({"fib": {"result": "type", "flags": ["daddr"]}}, "local"), *condition]
        for version in FAMILY
        for condition in (
            [lookup(concat(_address(version, "daddr"), *_PORT), HOST_PORTS[version])],
            [equals({"meta": {"key": "nfproto"}}, f"ipv{version}"), lookup(concat(*_PORT), PORTS[version])],
        )
    ]
    # route_localnet opens 127.0.0.0/8 to whoever is on the bridge, also from other hosts. Here, where only what begins
    # a connection comes by: a chain for all packets takes three of a hundred small ones out of a tunnel.
    guard = [_daddr(LOOPBACK), ours_in, {"drop": None}]
    yield "prerouting", "nat", "prerouting", -100, [guard, *published]
    yield "output", "nat", "output", -100, published
    localhost = [_saddr(LOOPBACK), ours_out, {"masquerade": None}]
    sources = [[lookup(_address(version, "saddr"), name)] for version, name in SOURCES.items()]
    yield "postrouting", "nat", "postrouting", 100, [localhost, *sources]
    apart = [[interface("iif", f"@{one}"), interface("oif", f"@{other}"), {"drop": None}] for one, other in APART]
    podman = [
        [interface("iif", one), interface("oif", other), {"drop": None}]
        for one, other in ((f"@{STRICT}", PODMAN), (PODMAN, f"@{STRICT}"))
    ]
    passing = [
        # The kernel forgets that an interface does not forward when forwarding is switched on for all.
        *([interface(direction, f"@{INTERNAL}"), {"drop": None}] for direction in ("iif", "oif")),
        # What conntrack cannot place would leave untranslated; what is published is reached from anywhere.
        [ours_in, conntrack("state", "invalid"), {"drop": None}],
        [conntrack("status", "dnat"), {"accept": None}],
    ]
    yield "forward", "filter", "forward", 0, [*passing, *apart, *podman]


def _network(gateway: Gateway) -> list[Command]:
    """One network's chain, and all that leads there."""
    chain = _network_chain(gateway.bridge)
    commands = [flush("chain", chain)]
    levels = {"false": [BRIDGES], "true": [BRIDGES, ISOLATED], "strict": [BRIDGES, ISOLATED, STRICT]}[gateway.isolate]
    for name in levels if gateway.forwards else [*levels, INTERNAL]:
        commands += elements("add", name, [gateway.bridge])
    commands += _resolver(gateway)
    if not gateway.forwards:
        return commands
    for subnet, source in gateway.subnets:
        version = subnet.version
        snat = {"masquerade": None} if source is None else {"snat": {"addr": str(source), "family": FAMILY[version]}}
        commands += [
            # To a published port of the same network: the answer has to come back through us.
            rule(chain, _daddr(subnet), conntrack("status", "dnat"), {"masquerade": None}),
            rule(chain, _daddr(subnet), {"return": None}),
            rule(chain, _daddr(MULTICAST[version]), {"return": None}),
            rule(chain, _saddr(subnet), snat),
            *elements("add", SOURCES[version], [[prefix(subnet), jump(chain)]]),
        ]
    return commands


def _resolver(gateway: Gateway) -> list[Command]:
    """The way to a resolver that does not listen on the port that everybody asks."""
    if gateway.dns_port == DNS_PORT or not gateway.listen:
        return []
    chain = _resolver_chain(gateway.bridge)
    queries = equals({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]})
    commands = [
        add("chain", name=chain),
        flush("chain", chain),
        rule(chain, queries, {"redirect": {"port": gateway.dns_port}}),
    ]
    for address in gateway.listen:
        keys = [concat(str(address), protocol, DNS_PORT) for protocol in ("tcp", "udp")]
        commands += elements("add", HOST_PORTS[address.version], [[key, jump(chain)] for key in keys])
    return commands


def _published(publication: Publication, leave_out: Collection[Key] = ()) -> list[Command]:
    """One container's chain of translations, and the keys that lead there but for those to `leave_out`."""
    if not publication.ports:
        return []
    chain = _published_chain(publication.bridge, publication.container_id)
    commands = [add("chain", name=chain), flush("chain", chain)]
    for port in publication.ports:
        for address in publication.addresses:
            if port.covers(address.version):
                commands += [rule(chain, *one, comment=publication.comment) for one in _translations(port, address)]
    for name in (*PORTS.values(), *HOST_PORTS.values()):
        keys = [key for map_name, key in _keys(publication) if map_name == name]
        wanted = [[key, jump(chain)] for key in keys if (name, str(key)) not in leave_out]
        commands += elements("add", name, wanted)
    return commands


def _translations(port: PublishedPort, address: Address) -> Iterator[list[Expression]]:
    """The container's port for each of the host's; all in one rule where they are the same."""
    host = [] if port.is_any else [equals(_address(address.version, "daddr"), str(port.host_ip))]
    target = {"addr": str(address), "family": FAMILY[address.version]}
    if port.host_port == port.container_port:
        ports = {"range": [port.host_port, port.host_port + port.count - 1]} if port.count > 1 else port.host_port
        yield [*host, equals(field(port.protocol, "dport"), ports), {"dnat": target}]
        return
    for offset in range(port.count):
        matches = equals(field(port.protocol, "dport"), port.host_port + offset)
        yield [*host, matches, {"dnat": {**target, "port": port.container_port + offset}}]


def _keys(publication: Publication) -> Iterator[tuple[str, Expression]]:
    """Map and key of each published port."""
    for version in (address.version for address in publication.addresses):
        for port in publication.ports:
            if not port.covers(version):
                continue
            for number in range(port.host_port, port.host_port + port.count):
                if port.is_any:
                    yield PORTS[version], concat(port.protocol, number)
                else:
                    yield HOST_PORTS[version], concat(str(port.host_ip), port.protocol, number)


def _taken(publication: Publication, objects: list[dict[str, Any]]) -> set[Key]:
    """Our keys that lead elsewhere: to the same container's other network, which then publishes, or else an error."""
    wanted = {(name, str(key)) for name, key in _keys(publication)}
    chain = _published_chain(publication.bridge, publication.container_id)
    taken = set()
    for verdicts in (item["map"] for item in objects if "map" in item):
        for element in verdicts.get("elem", []):
            if (verdicts["name"], str(element[0])) in wanted and _target(element) != chain:
                kind, _, other = _target(element).partition("/")
                if kind == "resolver":
                    raise GeneveError(f"port {DNS_PORT} of {other} is that of the resolver; choose another -p")
                if other.rpartition("/")[2] != chain.rpartition("/")[2]:
                    port = "/".join(map(str, reversed(element[0]["concat"])))
                    raise GeneveError(
                        f"port {port} is already published by container {other.rpartition('/')[2]}; choose another -p"
                        " ('netavark-geneve reload' forgets the ports of containers that are gone)"
                    )
                taken.add((verdicts["name"], str(element[0])))
    return taken


def _inherited(gone: list[Any], staying: set[str]) -> Iterator[Any]:
    """A container that leaves one network keeps its ports on another."""
    for element in gone:
        container = _target(element).rpartition("/")[2]
        heir = next((name for name in sorted(staying) if _is_published(name) and name.endswith(f"/{container}")), None)
        if heir:
            yield [element[0], jump(heir)]


def _network_chain(bridge: str) -> str:
    return f"network/{bridge}"


def _resolver_chain(bridge: str) -> str:
    return f"resolver/{bridge}"


def _published_chain(bridge: str, container_id: str) -> str:
    return f"published/{bridge}{_suffix(container_id)}"


def _suffix(container_id: str) -> str:
    return f"/{container_id[:12]}"


def _is_published(chain: str) -> bool:
    return chain.startswith("published/")


def _belongs(chain: str, bridge: str, container_id: str | None) -> bool:
    """Whether a chain is this container's on this network; with None, whether it is the network's at all."""
    if container_id is not None:
        return chain == _published_chain(bridge, container_id)
    return chain in (_network_chain(bridge), _resolver_chain(bridge)) or chain.startswith(f"published/{bridge}/")


def _target(element: Any) -> str:
    return str(element[1].get("jump", {}).get("target", ""))


def _verdicts(name: str, key: Any, **attributes: Any) -> Command:
    return add("map", name=name, type=key, map="verdict", **attributes)


def _address(version: int, side: str) -> Expression:
    return field(FAMILY[version], side)


def _daddr(network: IPNetwork) -> Expression:
    return equals(_address(network.version, "daddr"), prefix(network))


def _saddr(network: IPNetwork) -> Expression:
    return equals(_address(network.version, "saddr"), prefix(network))


_PORT = ({"meta": {"key": "l4proto"}}, field("th", "dport"))
