# SPDX-License-Identifier: Apache-2.0
"""What OVSDB remembers of a container, so that everything about it can be made again: external_ids of its port."""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from . import naming
from .model import Container, PublishedPort

_PUBLISHED = re.compile(
    r"(?:\[?(?P<host_ip>[0-9a-f.:]+?)\]?:)?(?P<host_port>\d+)(?:-(?P<last>\d+))?:(?P<container_port>\d+)/(?P<protocol>\w+)"
)


def of_container(network_id: str, network_name: str, container: Container, boot_id: str) -> dict[str, str]:
    """The tags of one attachment's port; `container` with the addresses that it has."""
    tags = naming.container_tags(network_id, container.id, container.interface) | {
        "network-name": network_name,
        "container-name": container.name,
        "addresses": ",".join(map(str, container.addresses)),
        "boot-id": boot_id,
    }
    aliases = [alias for alias in container.aliases if "," not in alias]  # the resolver takes no others either
    if aliases:
        tags["aliases"] = ",".join(aliases)
    if container.ports:
        tags["published"] = ",".join(map(_published, container.ports))
    return tags


def container(tags: Mapping[str, str]) -> Container:
    """The container of a port that `of_container` tagged. Raises ValueError on tags that somebody changed."""
    missing = {"container-id", "container-interface"} - tags.keys()
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} is missing")
    return Container(
        id=tags["container-id"],
        name=tags.get("container-name", ""),
        interface=tags["container-interface"],
        addresses=tuple(map(ipaddress.ip_address, _split(tags.get("addresses")))),
        aliases=tuple(_split(tags.get("aliases"))),
        ports=tuple(map(_port, _split(tags.get("published")))),
    )


def _split(text: str | None) -> Iterable[str]:
    return text.split(",") if text else ()


def _published(port: PublishedPort) -> str:
    """As `podman run -p` takes it: 127.0.0.1:8080-8082:80/tcp."""
    host_ip = "" if port.host_ip is None else f"{port.host_ip}:" if port.host_ip.version == 4 else f"[{port.host_ip}]:"
    host_ports = f"{port.host_port}-{port.host_port + port.count - 1}" if port.count > 1 else f"{port.host_port}"
    return f"{host_ip}{host_ports}:{port.container_port}/{port.protocol}"


def _port(text: str) -> PublishedPort:
    found = _PUBLISHED.fullmatch(text)
    if found is None:
        raise ValueError(f"published={text}")
    first, last = int(found["host_port"]), int(found["last"] or found["host_port"])
    return PublishedPort(
        protocol=found["protocol"],
        host_port=first,
        container_port=int(found["container_port"]),
        host_ip=ipaddress.ip_address(found["host_ip"]) if found["host_ip"] else None,
        count=last - first + 1,
    )
