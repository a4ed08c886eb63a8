"""What a host looks like to a tester who hunts for leaks."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .machine import Machine

# Each section is printed after a line "### NAME".
# Each program takes a few milliseconds, which counts: there are thousands of snapshots in a run of all tests.
SCRIPT = r"""
section() { echo "### $1"; }
section ovsdb; ovsdb-client --timeout=10 --format=json dump Open_vSwitch
section links; ip -json -details address
section routes; ip route show table all
section rules; ip rule; ip -6 rule
section firewall; nft --stateless list ruleset
section files # none of the directories need be, and that two of them are there tells nothing
find /run/netns /run/containers/networks /run/netavark-geneve ! -path /run/netns ! -path /run/netavark-geneve \
    2>/dev/null || true
section contents # sysctls of the one interface that is always there; no directory need be, some values cannot be read
cd /proc/sys/net
grep -ars '' /run/netavark-geneve /run/sysctl.d ipv4/ip_forward ipv[46]/conf/{all,default,br-phy} bridge || true
section zones # of firewalld, if it runs; a line for each list that a zone has
[ ! -S /run/dbus/system_bus_socket ] || { firewall-cmd --get-active-zones 2>/dev/null || true; } |
    awk '/^[^ ]/ { zone = $1 } /^ / { print zone ":" $0 }'
section processes
ps -e -o pid=,ppid=,args= | awk -v own=$$ '$1 > 1 && $1 != own && $2 != own && !/<defunct>$/ {
    $1 = $2 = ""; print substr($0, 1, 100)
}'
"""
# Columns that say how the switch is doing, not what it was told; and _uuid, which tells nothing.
VOLATILE = {
    *("_uuid", "datapaths", "datapath_id", "ifindex", "ofport", "mac_in_use", "db_version", "ovs_version"),
    *("cur_cfg", "next_cfg", "statistics", "status", "admin_state", "link_state", "link_resets", "link_speed"),
    *("duplex", "lacp_current", "bond_active_slave", "bfd_status", "rstp_status", "rstp_statistics"),
    *("cfm_fault", "cfm_fault_status", "cfm_flap_count", "cfm_health", "cfm_remote_mpids"),
    *("cfm_remote_opstate", "system_type", "system_version"),
}
UNDERLAY = ("br-phy", "underlay")


@dataclass(frozen=True)
class Snapshot:
    """Compares equal to another when nothing was left behind in between."""

    lines: tuple[str, ...]


def diff(before: Snapshot, after: Snapshot) -> str:
    """What is different, one line each with + or -; empty when equal."""
    lines = difflib.unified_diff(before.lines, after.lines, n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def snapshot(machine: Machine) -> Snapshot:
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", machine.sh(SCRIPT).stdout, re.M | re.S)
    readers = {"ovsdb": _ovsdb, "links": _links, "firewall": _firewall}
    return Snapshot(
        tuple(f"{name}: {line}" for name, text in sections for line in sorted(readers.get(name, str.splitlines)(text)))
    )


def _ovsdb(text: str) -> Iterator[str]:
    """A line for each row. References become "…": the rows they lead to are lines of their own."""
    for line in text.splitlines():
        table = json.loads(line)
        for row in table["data"]:
            columns = {name: _plain(value) for name, value in zip(table["headings"], row, strict=True)}
            told = {name: value for name, value in columns.items() if value and name not in VOLATILE}
            if columns.get("name") not in UNDERLAY and table["caption"] != "Datapath table":
                yield f"{table['caption']}: {json.dumps(told, ensure_ascii=False)}"


def _plain(value: Any) -> Any:
    """An OVSDB value without the notation of sets and maps."""
    match value:
        case ["uuid", _]:
            return "…"
        case ["set", items]:
            return [_plain(item) for item in items]
        case ["map", pairs]:
            return dict(pairs)
        case _:
            return value


def _links(text: str) -> Iterator[str]:
    """A line for each link and one for each address, without what comes and goes by itself."""
    for link in json.loads(text):
        name, kind = link["ifname"], link.get("linkinfo", {}).get("info_kind", link["link_type"])
        state = "up" if "UP" in link["flags"] else "down"
        master = f" master {link['master']}" if "master" in link else ""
        yield f"{name} ({kind}) {link['address']} mtu {link['mtu']} {state}{master}"
        for address in link["addr_info"]:
            yield f"{name} {address['local']}/{address['prefixlen']} scope {address['scope']}"


def _firewall(text: str) -> Iterator[str]:
    """A line for each rule, with the table and the chain it is in."""
    path: list[str] = []
    for line in map(str.strip, re.sub(r"\{ # progname .*", "{", text).splitlines()):
        if line.endswith("{"):
            path.append(line.removesuffix(" {"))
            yield " ".join(path)
        elif line == "}":
            path.pop()
        elif line:
            yield " ".join([*path, line])
