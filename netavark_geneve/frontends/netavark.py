# SPDX-License-Identifier: Apache-2.0
"""The netavark plugin protocol, API 1.0.0: JSON to model, model to JSON, and nothing else.

https://github.com/containers/netavark/blob/main/plugin-API.md. Verbs are imported when they are called:
`info` and a bad request cost no library.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import __version__, podman
from ..addresses import SLICE_MIN, Range
from ..addresses import Network as IPNetwork
from ..errors import GeneveError
from ..lean import postpone
from ..log import timed
from ..model import AttachResult, Container, Network, PublishedPort, Route, Subnet
from ..options import gather
from ..rootless import check_root
from .fields import Fields

if TYPE_CHECKING:
    from ..kept import Kept

API_VERSION = "1.0.0"
ROUTE_KINDS = ("unicast", "blackhole", "unreachable", "prohibit")


@dataclass(frozen=True)
class Reply:
    """What the process prints on stdout, and its exit status."""

    status: int
    output: bytes


def handle(arguments: Sequence[str], request: bytes, environ: Mapping[str, str], kept: "Kept | None" = None) -> Reply:
    """Serve one call of netavark or Podman: `arguments` without the program's name, `request` from stdin.

    A process that serves many gives what it has `kept`. Raises GeneveError;
    `failure` renders it.
    """
    verb = arguments[0] if arguments else "info"
    if verb not in VERBS:
        raise GeneveError(f"unknown subcommand {verb!r}; known are {', '.join(VERBS)}")
    count, serve = VERBS[verb]
    if len(arguments[1:]) != count and arguments:
        wanted = "the path of a network namespace" if count else "no argument"
        raise GeneveError(f"{verb} takes {wanted}, not {' '.join(arguments[1:]) or 'nothing'}; netavark calls it")
    answer = serve(arguments[1:], request, environ, kept)
    return Reply(0, b"" if answer is None else json.dumps(answer).encode() + b"\n")


def failure(error: object) -> Reply:
    """The error object has this one key: Podman refuses any other."""
    return Reply(1, json.dumps({"error": str(error)}).encode() + b"\n")


def _info(arguments: Sequence[str], request: bytes, environ: Mapping[str, str], kept: "Kept | None") -> dict[str, Any]:
    return {"version": __version__, "api_version": API_VERSION}


def _create(
    arguments: Sequence[str], request: bytes, environ: Mapping[str, str], kept: "Kept | None"
) -> dict[str, Any]:
    check_root()
    raw = _load(request)
    fields = Fields(raw, "network")
    network = parse_network(fields)
    options, bridge = gather(network.options, fields.mapping("labels"))
    network = dataclasses.replace(network, options=options, bridge=network.bridge or bridge)
    if "slot" in network.options:
        raise GeneveError("option slot is derived from this host's place in hosts; leave it out")

    from ..create import create

    return render_network(raw, create(network, stored_networks(environ), environ))


def _setup(arguments: Sequence[str], request: bytes, environ: Mapping[str, str], kept: "Kept | None") -> dict[str, Any]:
    _check_root(kept)
    network, container = parse_request(request)
    with timed("imports"):
        postpone()
        from ..attach import attach
    with timed("attach"):
        return render_result(attach(network, container, arguments[0], environ, kept))


def _teardown(arguments: Sequence[str], request: bytes, environ: Mapping[str, str], kept: "Kept | None") -> None:
    _check_root(kept)
    network, container = parse_request(request)
    with timed("imports"):
        postpone()
        from ..detach import detach
    with timed("detach"):
        detach(network, container, arguments[0], environ, kept)


def _check_root(kept: "Kept | None") -> None:
    """A process that serves many has looked when it started, and asks the kernel who calls."""
    if kept is None:
        check_root()


Verb = Callable[[Sequence[str], bytes, Mapping[str, str], "Kept | None"], dict[str, Any] | None]
VERBS: dict[str, tuple[int, Verb]] = {  # each with the number of its arguments
    "create": (0, _create),
    "setup": (1, _setup),
    "teardown": (1, _teardown),
    "info": (0, _info),
}


def stored_networks(environ: Mapping[str, str]) -> Iterator[Network]:
    """Podman's networks, of any driver; what cannot be read Podman itself complains about."""
    for definition in podman.find_networks(environ):
        try:
            yield parse_network(Fields(definition, "network"))
        except GeneveError:
            continue


def parse_request(request: bytes) -> tuple[Network, Container]:
    """What netavark sends with setup and teardown."""
    fields = Fields(_load(request), "request")
    return parse_network(fields.object("network")), parse_container(fields)


def parse_network(fields: Fields) -> Network:
    """A network as Podman stores it; null and absent are the same (netavark 1.x sends null, 2.x nothing)."""
    return Network(
        name=fields.text("name"),
        id=fields.text("id"),
        driver=fields.text("driver"),
        bridge=fields.optional_text("network_interface"),
        subnets=tuple(map(_parse_subnet, fields.objects("subnets"))),
        routes=tuple(map(_parse_route, fields.objects("routes"))),
        internal=fields.flag("internal"),
        ipv6_enabled=fields.flag("ipv6_enabled"),
        dns_enabled=fields.flag("dns_enabled"),
        ipam_driver=fields.mapping("ipam_options").get("driver", ""),
        dns_servers=fields.texts("network_dns_servers"),
        options=fields.mapping("options"),
    )


def parse_container(fields: Fields) -> Container:
    """The container's part of a setup or teardown request."""
    options = fields.object("network_options")
    return Container(
        id=fields.text("container_id"),
        name=fields.text("container_name"),
        interface=options.text("interface_name"),
        addresses=tuple(dict.fromkeys(options.addresses("static_ips"))),
        mac=options.optional_text("static_mac"),
        aliases=options.texts("aliases"),
        ports=tuple(map(_parse_port, fields.objects("port_mappings"))),
        options=options.mapping("options"),
    )


def render_network(raw: dict[str, Any], network: Network) -> dict[str, Any]:
    """The definition as it came, with what was derived; every field that we do not know is echoed."""
    known = raw.get("subnets") or [{}] * len(network.subnets)
    subnets = []
    for before, subnet in zip(known, network.subnets, strict=True):
        lease_range = subnet.lease_range
        after = {"subnet": str(subnet.subnet)}
        if subnet.gateway is not None:
            after["gateway"] = str(subnet.gateway)
        elif "gateway" in before:
            before = {key: value for key, value in before.items() if key != "gateway"}
        subnets.append(
            {**before, **after}
            | (
                {"lease_range": {"start_ip": str(lease_range.first), "end_ip": str(lease_range.last)}}
                if lease_range
                else {}
            )
        )
    return {
        **raw,
        "network_interface": network.bridge,
        "subnets": subnets or raw.get("subnets"),
        "ipv6_enabled": network.ipv6_enabled or any(subnet.subnet.version == 6 for subnet in network.subnets),
        "dns_enabled": network.dns_enabled,
        "options": dict(network.options),
    }


def render_result(result: AttachResult) -> dict[str, Any]:
    """netavark's status block."""
    subnets = [
        {"ipnet": str(address)} | ({"gateway": str(gateway)} if gateway else {})
        for address, gateway in result.addresses
    ]
    return {
        "dns_search_domains": list(result.dns_search_domains),
        "dns_server_ips": list(map(str, result.dns_servers)),
        "interfaces": {result.interface: {"mac_address": result.mac, "subnets": subnets}},
    }


def _parse_subnet(fields: Fields) -> Subnet:
    subnet = fields.network("subnet")
    lease = fields.optional_object("lease_range")
    return Subnet(
        subnet=subnet,
        gateway=fields.optional_address("gateway"),
        lease_range=None if lease is None else _parse_range(lease, subnet),
    )


def _parse_range(fields: Fields, subnet: IPNetwork) -> Range:
    """Podman lets either end open; it then reaches to that end of the subnet."""
    if subnet.num_addresses < SLICE_MIN:
        raise GeneveError(f"subnet {subnet} is too small for a lease range; use a larger --subnet")
    first, last = fields.optional_address("start_ip"), fields.optional_address("end_ip")
    return Range(first or subnet.network_address + 1, last or subnet.broadcast_address - 1)


def _parse_route(fields: Fields) -> Route:
    """netavark's checks, which Podman's own command line makes too."""
    destination, gateway = fields.network("destination"), fields.optional_address("gateway")
    kind = fields.optional_text("route_type") or "unicast"
    if kind not in ROUTE_KINDS:
        raise GeneveError(f"route type {kind!r} is not known; use {', '.join(ROUTE_KINDS)}")
    if (kind == "unicast") != (gateway is not None):
        wanted = "needs a gateway" if gateway is None else f"is of type {kind} and has no gateway"
        raise GeneveError(f"the route to {destination} {wanted}; see --route in podman-network-create(1)")
    if gateway is not None and gateway.version != destination.version:
        raise GeneveError(f"the route to {destination} by {gateway} mixes IPv4 and IPv6; use a gateway of one family")
    return Route(destination=destination, gateway=gateway, metric=fields.optional_number("metric"), kind=kind)


def _parse_port(fields: Fields) -> PublishedPort:
    """One `-p`; a host_ip of "" is any address, a range of 0 or 1 a single port."""
    try:
        return PublishedPort(
            protocol=fields.text("protocol"),
            host_port=fields.optional_number("host_port") or 0,
            container_port=fields.optional_number("container_port") or 0,
            host_ip=fields.optional_address("host_ip"),
            count=fields.optional_number("range") or 1,
        )
    except ValueError as error:
        raise GeneveError(f"cannot publish a port: {error}; see -p in podman-run(1)") from error


def _load(request: bytes) -> dict[str, Any]:
    if not request.strip():
        raise GeneveError("nothing on standard input, where the request's JSON belongs; netavark and podman send it")
    try:
        document = json.loads(request)
    except (ValueError, RecursionError) as error:
        raise GeneveError(f"the request on standard input is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise GeneveError("the request on standard input is not a JSON object")
    return document
