"""What a host looks like to a tester who hunts for leaks."""

import difflib
import json
import re
from dataclasses import dataclass
from typing import Any

from .machine import Machine

# Each section is printed after a line "### NAME".
SCRIPT = r"""
section() { echo "### $1"; }
section ovsdb; ovsdb-client --timeout=10 --format=json dump Open_vSwitch
section links; ip -json -details link
section addresses; ip -json address
section routes; ip -json route show table all; ip -json -6 route show table all
section rules; ip -json rule; ip -json -6 rule
section firewall; nft --json list ruleset
section namespaces; find /run/netns -mindepth 1 2>/dev/null
section networks; find /run/containers/networks 2>/dev/null
section settings; find /run/sysctl.d -type f -exec grep -H '' {} + 2>/dev/null
section sysctls
grep -rs '' /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf \
    /proc/sys/net/bridge
section processes; ps -e -o pgrp=,args= | awk -v own=$$ '$1 != own && $1 != 0 { $1 = ""; print }'
true
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

    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def lines(self) -> list[str]:
        return [f"{name}: {line}" for name, lines in self.sections for line in lines]


def diff(before: Snapshot, after: Snapshot) -> str:
    """What is different, one line each with + or -; empty when equal."""
    lines = difflib.unified_diff(before.lines(), after.lines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def snapshot(machine: Machine) -> Snapshot:
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", machine.sh(SCRIPT).stdout, re.M | re.S)
    return Snapshot(tuple((name, tuple(sorted(_lines(name, text)))) for name, text in sections))


def _lines(section: str, text: str) -> list[str]:
    match section:
        case "ovsdb":
            return _ovsdb(text)
        case "links" | "addresses" | "routes" | "rules":
            objects = [item for line in text.splitlines() for item in json.loads(line)]
            return [
                _show(_without(item, {"ifindex", "link_index", "stats", "stats64", "flags_changed"}))
                for item in objects
            ]
        case "firewall":
            objects = json.loads(text)["nftables"]
            return [_show(_without(item, {"handle", "packets", "bytes"})) for item in objects if "metainfo" not in item]
        case _:
            return text.splitlines()


def _ovsdb(text: str) -> list[str]:
    """A line for each row. References become "…": the rows they lead to are lines of their own."""
    lines = []
    for line in text.splitlines():
        table = json.loads(line)
        for row in table["data"]:
            columns = {k: _plain(v) for k, v in zip(table["headings"], row, strict=True) if k not in VOLATILE}
            if columns.get("name") not in UNDERLAY and table["caption"] != "Datapath table":
                lines.append(f"{table['caption']}: {_show({k: v for k, v in columns.items() if v})}")
    return lines


def _plain(value: Any) -> Any:
    """An OVSDB value without the notation of sets and maps."""
    match value:
        case ["uuid", _]:
            return "…"
        case ["set", items]:
            return [_plain(item) for item in items]
        case ["map", pairs]:
            return {str(key): _plain(item) for key, item in pairs}
        case _:
            return value


def _without(value: Any, keys: set[str]) -> Any:
    """The same JSON without these keys, at any depth."""
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    if isinstance(value, list):
        return [_without(item, keys) for item in value]
    return value


def _show(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
