# SPDX-License-Identifier: Apache-2.0
"""Values that tests start from, and the one way in which they expect a refusal."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import strategies as st

from netavark_geneve.addresses import Address, Interface, Range
from netavark_geneve.config import Fabric
from netavark_geneve.definition import HostFacts, complete
from netavark_geneve.errors import GeneveError
from netavark_geneve.fabric.mesh import Mesh, join, split_hosts
from netavark_geneve.model import AttachPlan, Container, Network, PublishedPort, Subnet
from netavark_geneve.options import parse, with_defaults
from netavark_geneve.plan import plan_attach

HOST_1 = "192.168.0.10"
HOST_2 = "192.168.0.11"
HOSTS = f"{HOST_1},{HOST_2}"
NETWORK_ID = "ab" * 32
CONTAINER_ID = "cd" * 32

# What a network may be called: containers/common, network/internal/util and define.NameRegex.
network_names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,80}", fullmatch=True)
ids = st.text("0123456789abcdef", min_size=64, max_size=64)
addresses = st.ip_addresses()
numbers = st.integers(1, 60000)
published_ports = st.builds(
    PublishedPort,
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
    host_port=numbers,
    container_port=numbers,
    host_ip=st.none() | addresses,
    count=st.integers(1, 20),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """The block raises GeneveError with all of `words` in it, in the style that every message has."""
    with pytest.raises(GeneveError) as caught:
        yield
    message = str(caught.value)
    check_style(message)
    for word in words:
        assert word in message


def check_style(message: str) -> None:
    """One sentence on one line; Podman and netavark print their own "Error:" in front of it."""
    assert message
    assert message.isprintable()
    assert message == message.strip()
    assert not re.match(r"error\b|geneve-ovs:", message, re.IGNORECASE)
    assert not re.search(r"(?<!\.)\.( [A-Z]|$)", message)


def attempt(call: Callable[[], Any]) -> Any:
    """What `call` returns, or the GeneveError that it raises; any other exception passes."""
    try:
        return call()
    except GeneveError as error:
        return error


def subnet(text: str, *, gateway: str | None = None, leases: str | None = None) -> Subnet:
    """`leases` is FIRST-LAST."""
    first, _, last = (leases or "").partition("-")
    return Subnet(
        ip_network(text),
        None if gateway is None else ip_address(gateway),
        None if leases is None else Range(ip_address(first), ip_address(last)),
    )


def network(*subnets: str | Subnet, **fields: Any) -> Network:
    """A network as it comes to `create`; on 192.168.120.0/24 unless told."""
    made = tuple(subnet(entry) if isinstance(entry, str) else entry for entry in subnets or ("192.168.120.0/24",))
    return replace(Network(name="net1", id=NETWORK_ID, driver="geneve-ovs", subnets=made), **fields)


def container(*own: str, **fields: Any) -> Container:
    """A container with these addresses; 192.168.120.2 unless told."""
    made = tuple(map(ip_address, own or ("192.168.120.2",)))
    return replace(Container(id=CONTAINER_ID, name="web", interface="eth0", addresses=made), **fields)


def port(host_port: int = 8080, container_port: int = 80, *, on: str | None = None, **fields: Any) -> PublishedPort:
    """`-p`, of TCP and on any address of the host unless told."""
    host_ip = None if on is None else ip_address(on)
    return replace(PublishedPort("tcp", host_port, container_port, host_ip), **fields)


def no_dns(name: str) -> Address:
    raise AssertionError(f"{name} was looked up")


def mesh(hosts: str = HOSTS, own: str = HOST_1) -> Mesh:
    """The place among `hosts` of the host that has the address `own`."""
    return join(split_hosts(hosts), resolve=no_dns, local_ip=None, own=(ip_address(own),))


def interfaces(*pairs: tuple[str, str]) -> tuple[tuple[str, Interface], ...]:
    return tuple((name, ip_interface(address)) for name, address in pairs)


def facts(place: Mesh | None = None, **fields: Any) -> HostFacts:
    """A host alone, or at `place` in a mesh over a 1500-byte underlay; nothing else on it."""
    return replace(HostFacts(place, None if place is None else 1500, (), ()), **fields)


def on_host(number: int, *, of: int) -> HostFacts:
    """The host that has this number in a mesh of so many."""
    hosts = [f"192.168.0.{9 + each}" for each in range(1, of + 1)]
    return facts(mesh(",".join(hosts), own=hosts[number - 1]))


def summary(found: Subnet) -> tuple[str, str, str | None]:
    """Subnet, range of this host, gateway."""
    return str(found.subnet), str(found.lease_range), None if found.gateway is None else str(found.gateway)


def created(
    wanted: Network | None = None,
    *,
    on: HostFacts | None = None,
    hosts: str = HOSTS,
    subnet_pool: str | None = None,
    options: Mapping[str, str] | None = None,
    **more_options: str,
) -> Network:
    """What `create` makes of a network; on the first of two hosts unless told."""
    on = on or facts(mesh())
    hosts = "none" if on.mesh is None else hosts
    raw = {"hosts": hosts, **(options or {}), **more_options}
    return complete(
        wanted or network(), with_defaults(parse(raw), Fabric(path="fabric.toml")), on, subnet_pool=subnet_pool
    )


def with_router() -> Network:
    """A network whose gateway is a router outside every host's range."""
    return created(network(subnet("192.168.120.0/24", gateway="192.168.120.254")))


def dual_stack() -> Network:
    return created(network("192.168.120.0/24", "fd00:120::/64"))


def planned(
    on: Network | None = None, who: Container | None = None, *, place: Mesh | None = None, dns_port: int = 53
) -> AttachPlan:
    """The plan of an attach, on the first of two hosts unless told, or on one of no mesh."""
    on = on or created()
    if place is None and on.options.get("hosts") != "none":
        place = mesh()
    return plan_attach(on, parse(on.options), place, who or container(), boot_id="boot", attempt="1", dns_port=dns_port)


def network_json(**fields: Any) -> dict[str, Any]:
    """A network as Podman 5 sends it to `create`."""
    return {
        "name": "net1",
        "id": NETWORK_ID,
        "driver": "geneve-ovs",
        "network_interface": None,
        "created": "2025-01-02T03:04:05.678901234Z",
        "subnets": [{"subnet": "192.168.120.0/24"}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": True,
        "labels": {"owner": "ops"},
        "options": {},
        "ipam_options": {"driver": "host-local"},
        **fields,
    }


def request_json(**fields: Any) -> dict[str, Any]:
    """A request as netavark sends it to `setup` and `teardown`."""
    return {
        "container_id": CONTAINER_ID,
        "container_name": "web",
        "port_mappings": [],
        "network": network_json(network_interface="ovs_net1", options={"vni": "7", "mtu": "1450"}),
        "network_options": {
            "interface_name": "eth0",
            "static_ips": ["192.168.120.2"],
            "static_mac": None,
            "aliases": ["web"],
        },
        **fields,
    }


def port_json(**fields: Any) -> dict[str, Any]:
    """`-p 8080:80` as netavark sends it."""
    return {"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1, **fields}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
