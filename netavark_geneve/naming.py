# SPDX-License-Identifier: Apache-2.0
"""Every name, number, MAC address and tag that we derive. All hosts derive the same from the same input.

Interface names are at most 15 bytes (IFNAMSIZ less the NUL). They are for people; what a row or a link
is, and whose, stands in its tags.
"""

import base64
import ipaddress
import os
import re

try:  # as the standard library's random does: hashlib loads all of OpenSSL
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

OWNER = "geneve-ovs"
NFT_TABLE = "netavark_geneve"  # of the family inet
VNI_MAX = 2**24 - 1  # RFC 8926 §3.4: 24 bits; we leave 0 out, which OVS takes for "no key"
IFNAME_MAX = 15
CONTAINER_ROLE = {"owner": OWNER, "role": "container"}  # the external_ids of every container's port

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IFNAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def is_interface_name(name: str) -> bool:
    """Whether the kernel, OVS and /proc/sys/net all take `name` for an interface."""
    return (
        len(name) <= IFNAME_MAX
        and _IFNAME.fullmatch(name) is not None
        and name not in (".", "..", "all", "default", "lo")
    )


def random_mac() -> bytes:
    """One that nobody has, and nobody can derive: locally administered, unicast."""
    return b"\x02" + os.urandom(5)


def _digest(*parts: str) -> bytes:
    digest: bytes = sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
    return digest


def _token(length: int, *parts: str) -> str:
    return base64.b32encode(_digest(*parts)).decode().lower()[:length]


def vni(network_name: str) -> int:
    """The network's VNI, 1…2²⁴−1, unless the user chose one."""
    return 1 + int.from_bytes(_digest("vni", network_name)[:8]) % VNI_MAX


def bridge(network_name: str) -> str:
    """`ovs_NAME`; a longer name is cut and told apart by a hash of the whole."""
    name = f"ovs_{network_name}"
    return name if len(name) <= IFNAME_MAX else f"{name[:9]}_{_token(5, 'bridge', network_name)}"


def veth(network_id: str, container_id: str, interface: str, attempt: str) -> str:
    """The host side of a container's veth, another one for each `attempt` to attach it.

    ovs-vswitchd knows devices by name. One that comes back under a name that it has not quite let go of is
    taken for the old one, and nothing passes.
    """
    return f"{veth_stem(network_id, container_id, interface)}{_token(4, 'attempt', attempt)}"


def veth_stem(network_id: str, container_id: str, interface: str) -> str:
    """With what the name of a veth's host side begins: it tells whose it is before it has its alias."""
    return f"veth{_token(7, 'veth', network_id, container_id, interface)}"


def alias(network_name: str, container_name: str, container_id: str, interface: str) -> str:
    """What `ip link` shows of a veth's host side, and by what it is found when OVSDB does not know it."""
    return f"{OWNER} {network_name} {container_name} {container_id[:12]} {interface}"


def alias_parts(alias: str) -> tuple[str, str, str, str] | None:
    """Network, container, first digits of its id and its interface; None of an alias that is not ours."""
    parts = alias.split(" ")
    if len(parts) < 5 or parts[0] != OWNER:
        return None
    return parts[1], " ".join(parts[2:-2]), parts[-2], parts[-1]


def tunnel(vni: int, slot: int) -> str:
    """The tunnel port to host number `slot` (from 1) of a network: `gv12345678-2`."""
    return f"gv{vni}-{slot}"


def mac_of_address(address: Address) -> str:
    """A MAC that an address keeps when it moves to a new container, so that no neighbour cache goes stale.

    0a:58 (locally administered) and the octets of an IPv4 address. Of an IPv6 address a hash: the slices
    of one subnet differ in its high bits, so its low octets repeat on every host.
    """
    tail = address.packed if address.version == 4 else _digest("mac", str(address))[:4]
    return ":".join(f"{octet:02x}" for octet in b"\x0a\x58" + tail)


def bridge_mac(vni: int, tunnel_endpoint: str) -> str:
    """The MAC of a bridge without an address: one for each network and host."""
    return ":".join(f"{octet:02x}" for octet in b"\x0e" + _digest("bridge", str(vni), tunnel_endpoint)[:5])


def container_mac(network_id: str, container_id: str, interface: str) -> str:
    """The MAC of an interface without an address."""
    tail = _digest("container", network_id, container_id, interface)[:5]
    return ":".join(f"{octet:02x}" for octet in b"\x0e" + tail)


def network_tags(network_id: str) -> dict[str, str]:
    """The external_ids by which every OVSDB row of a network is found, and refused when it is not ours."""
    return {"owner": OWNER, "network-id": network_id}


def tunnel_tags(network_id: str) -> dict[str, str]:
    """The external_ids by which the tunnel ports of a network are found."""
    return network_tags(network_id) | {"role": "tunnel"}


def container_tags(network_id: str, container_id: str, interface: str) -> dict[str, str]:
    """The external_ids by which one attachment is found."""
    return network_tags(network_id) | {
        "role": "container",
        "container-id": container_id,
        "container-interface": interface,
    }
