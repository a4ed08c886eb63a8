# SPDX-License-Identifier: Apache-2.0
"""What users set: `podman network create --opt KEY=VALUE`, and `--network NAME:KEY=VALUE` for one container."""

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields

from .addresses import SLOTS_MAX, Address
from .config import Fabric
from .errors import GeneveError, during
from .naming import VNI_MAX, is_interface_name

DST_PORT_DEFAULT = 6081  # RFC 8926 §3.3: the port that IANA assigned
HOSTS_NONE = "none"  # a network of this host alone
HOSTS_FILE = "@"  # prefix: read the list from that fabric.toml, anew at every attach
GONE = "-"  # a list entry that keeps the slot of a host that is gone
ISOLATE_DEFAULT = "strict"  # as netavark 2
UNMANAGED = "unmanaged"
NETDEV = "netdev"  # Open vSwitch's userspace datapath
VLAN_MAX = 4094  # IEEE 802.1Q; 0 is untagged
LABEL = "geneve-ovs."  # prefix: Podman's Docker-compatible API hands over labels, but no options
DOCKER_MTU, DOCKER_BRIDGE = "com.docker.network.driver.mtu", "com.docker.network.bridge.name"


@dataclass(frozen=True)
class Options:
    """The options of one network, validated; None where neither the user nor `create` said anything.

    `slot` is never typed by a user: `create` records this host's number in `hosts` (from 1) there.
    """

    hosts: str | None = None
    local_ip: Address | None = None
    slots: int | None = None
    slot: int | None = None
    vni: int | None = None
    mtu: int | None = None
    dst_port: int | None = None
    datapath_type: str | None = None
    metric: int | None = None
    no_default_route: bool | None = None
    outbound_addr4: Address | None = None
    outbound_addr6: Address | None = None
    isolate: str | None = None
    vlan: int | None = None
    vrf: str | None = None
    mode: str | None = None
    allow_foreign_ip: bool | None = None
    conflict_detection: bool | None = None
    dns: bool | None = None


@dataclass(frozen=True)
class ContainerOptions:
    """The options of one container on a network."""

    host_interface_name: str | None = None
    vlan: int | None = None


KNOWN = tuple(field.name for field in fields(Options) if field.name != "slot")


KNOWN_TO_CONTAINERS = tuple(field.name for field in fields(ContainerOptions))


def gather(options: Mapping[str, str], labels: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """A new network's options under our names, and the bridge's name if Docker's option gives one.

    An option wins over the label of its name, and our own spelling over Docker's.
    """
    raw = {key.removeprefix(LABEL): value for key, value in labels.items() if key.startswith(LABEL)} | dict(options)
    bridge, mtu = raw.pop(DOCKER_BRIDGE, None), raw.pop(DOCKER_MTU, None)
    return ({"mtu": mtu} if mtu else {}) | raw, bridge


def parse(raw: Mapping[str, str]) -> Options:
    """Validate each option on its own. Raises GeneveError naming the option, its value and what is valid."""
    for key in raw:
        if key not in KNOWN and key != "slot":
            raise GeneveError(f"unknown option {key!r}; known options are {', '.join(KNOWN)}")
    return Options(
        hosts=raw.get("hosts"),
        local_ip=_address("local_ip", raw.get("local_ip")),
        slots=_slots(raw.get("slots")),
        slot=_integer("slot", raw.get("slot"), 1, SLOTS_MAX),
        vni=_integer("vni", raw.get("vni"), 1, VNI_MAX),
        mtu=_integer("mtu", raw.get("mtu"), 1, 65535),
        dst_port=_integer("dst_port", raw.get("dst_port"), 1, 65535),
        datapath_type=_datapath_type(raw.get("datapath_type")),
        metric=_integer("metric", raw.get("metric"), 0, 2**32 - 1),
        no_default_route=_flag("no_default_route", raw.get("no_default_route")),
        outbound_addr4=_address("outbound_addr4", raw.get("outbound_addr4"), 4),
        outbound_addr6=_address("outbound_addr6", raw.get("outbound_addr6"), 6),
        isolate=_isolate(raw.get("isolate")),
        vlan=_integer("vlan", raw.get("vlan"), 0, VLAN_MAX),
        vrf=_interface("vrf", raw.get("vrf")),
        mode=_mode(raw.get("mode")),
        allow_foreign_ip=_flag("allow_foreign_ip", raw.get("allow_foreign_ip")),
        conflict_detection=_flag("conflict_detection", raw.get("conflict_detection")),
        dns=_flag("dns", raw.get("dns")),
    )


def parse_container(raw: Mapping[str, str], network: str) -> ContainerOptions:
    """The same for one container on `network`. Raises GeneveError."""
    for key in raw:
        if key not in KNOWN_TO_CONTAINERS:
            raise GeneveError(
                f"unknown option {key!r} in --network {network}:…; known there are alias, ip, ip6, mac, interface_name,"
                f" {', '.join(KNOWN_TO_CONTAINERS)}"
            )
    return ContainerOptions(
        host_interface_name=_interface("host_interface_name", raw.get("host_interface_name")),
        vlan=_integer("vlan", raw.get("vlan"), 0, VLAN_MAX),
    )


def with_defaults(options: Options, fabric: Fabric) -> Options:
    """Fill in from fabric.toml what the user left open; its values pass the same checks."""
    with during(fabric.path):
        file = parse(
            {
                key: str(value)
                for key in ("local_ip", "slots", "mtu", "dst_port", "datapath_type")
                if (value := getattr(fabric, key)) is not None
            }
        )
    hosts = options.hosts
    if hosts is None:
        hosts = f"{HOSTS_FILE}{fabric.path}" if fabric.hosts else HOSTS_NONE
    return dataclasses.replace(
        options,
        hosts=hosts,
        local_ip=options.local_ip or file.local_ip,
        slots=options.slots or file.slots,
        mtu=options.mtu or file.mtu,
        dst_port=options.dst_port or file.dst_port or DST_PORT_DEFAULT,
        datapath_type=options.datapath_type if options.datapath_type is not None else file.datapath_type or "",
    )


def record(options: Options) -> dict[str, str]:
    """The options as `create` writes them into the network, so that no later call has to guess."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {
        key: str(value).lower() if value is True or value is False else str(value)
        for key, value in values.items()
        if value is not None
    }


def _slots(text: str | None) -> int | None:
    """A power of two, 1…4096."""
    number = _integer("slots", text, 1, SLOTS_MAX)
    if number is not None and number & (number - 1):
        raise GeneveError(f"option slots={text}: must be a power of two, the same on every host")
    return number


def _datapath_type(text: str | None) -> str | None:
    """As the Bridge column of ovs-vswitchd.conf.db(5): "" or "system" is the kernel's, or "netdev"."""
    if text not in (None, "", "system", NETDEV):
        raise GeneveError(f"option datapath_type={text}: must be system (the kernel's) or netdev (userspace)")
    return "" if text == "system" else text


def _isolate(text: str | None) -> str | None:
    """As netavark takes it; Podman says 1 and 0 too."""
    levels = {"true": "true", "1": "true", "false": "false", "0": "false", "strict": "strict"}
    if text is not None and text not in levels:
        raise GeneveError(f"option isolate={text}: must be true, strict or false")
    return None if text is None else levels[text]


def _mode(text: str | None) -> str | None:
    if text not in (None, "", "managed", UNMANAGED):
        raise GeneveError(f"option mode={text}: must be managed or {UNMANAGED}")
    return text or None


def _interface(key: str, text: str | None) -> str | None:
    if text is not None and not is_interface_name(text):
        raise GeneveError(f"option {key}={text}: must be an interface name, 1 to 15 letters, digits, '.', '-', '_'")
    return text


def _integer(key: str, text: str | None, lowest: int, highest: int) -> int | None:
    if text is None:
        return None
    # isascii: int() takes other scripts' digits too, and "1_000".
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and lowest <= int(text) <= highest):
        raise GeneveError(f"option {key}={text}: must be a number from {lowest} to {highest}")
    return int(text)


def _flag(key: str, text: str | None) -> bool | None:
    """As Podman's bridge driver takes them."""
    flags = {"1": True, "true": True, "0": False, "false": False}
    if text is not None and text not in flags:
        raise GeneveError(f"option {key}={text}: must be true or false")
    return None if text is None else flags[text]


def _address(key: str, text: str | None, version: int | None = None) -> Address | None:
    if text is None:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise GeneveError(f"option {key}={text}: must be an IPv4 or IPv6 address") from error
    if version not in (None, address.version):
        raise GeneveError(f"option {key}={text}: must be an IPv{version} address")
    return address
