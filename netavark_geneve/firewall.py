# SPDX-License-Identifier: Apache-2.0
"""The host's packet filter: one nftables table of our own, never netavark's.

The only module that changes nftables. It feeds libnftables' JSON (libnftables-json(5)) to the `nft`
program: the Python binding is in no package index, and the distribution's belongs to the distribution's
own Python, which on Enterprise Linux 9 is too old for us. Each change is one atomic batch.

Rules are never looked up and edited. The table's skeleton is written anew in every batch, so it repairs
itself; what belongs to one network is a chain of its own and elements of verdict maps that jump there.
"""

import fcntl
import ipaddress
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .addresses import Network as IPNetwork
from .errors import Deadline, GeneveError
from .model import Egress

TABLE = "netavark_geneve"
POSTROUTING = "postrouting"
FORWARD = "forward"
BRIDGES = "bridges"  # a set: the bridges of all our networks that have a way out
SOURCES = {4: "sources4", 6: "sources6"}  # verdict maps: subnet of a network -> its chain
FAMILY = {4: "ip", 6: "ip6"}
MULTICAST = {4: ipaddress.ip_network("224.0.0.0/4"), 6: ipaddress.ip_network("ff00::/8")}
DRIVER_VARIABLE = "NETAVARK_FW"  # firewall_driver of containers.conf(5)

Command = dict[str, Any]


def ensure_egress(egress: Egress, environ: Mapping[str, str], deadline: Deadline) -> None:
    """Let the network's packets out, under an address of this host; never what stays in the network."""
    if not egress.subnets or not _is_wanted(environ):
        return
    chain = _chain(egress.bridge)
    # nft refuses an element that jumps to a chain which stands behind the map in the same batch.
    commands = [_table("add"), _add("chain", name=chain), _flush(chain), *_skeleton()]
    for subnet, source in egress.subnets:
        commands += [*_translation(chain, subnet, source), _element("add", subnet, chain)]
    commands.append(_add("element", name=BRIDGES, elem=[egress.bridge]))
    with _lock():
        _run(commands, deadline)


def remove_egress(
    bridge: str, environ: Mapping[str, str], deadline: Deadline, *, is_needed: Callable[[], bool]
) -> None:
    """Forget the network of `bridge`, and with the last one the table; gone is fine.

    `is_needed` is asked under the lock: whoever joins the network right now comes after us.
    """
    if not _is_wanted(environ):
        return
    chain = _chain(bridge)
    with _lock():
        if is_needed():
            return
        objects = _list(deadline)
        chains = {item["chain"]["name"] for item in objects if "chain" in item}
        if chain not in chains:
            return
        if chains == {chain, POSTROUTING, FORWARD}:
            _run([_table("delete")], deadline)
            return
        maps = [item["map"] for item in objects if "map" in item]
        elements = [
            {"delete": {"element": _named(name=verdicts["name"], elem=[element])}}
            for verdicts in maps
            for element in verdicts.get("elem", [])
            if element[1] == _jump(chain)
        ]
        elements.append({"delete": {"element": _named(name=BRIDGES, elem=[bridge])}})
        _run([*elements, {"delete": {"chain": _named(name=chain)}}], deadline)


def _is_wanted(environ: Mapping[str, str]) -> bool:
    return environ.get(DRIVER_VARIABLE) != "none"


def _skeleton() -> list[Command]:
    """Maps, set and hooks: what is there already stays, the hooks' rules are written anew.

    Forwarding joins what the switch keeps apart; nothing goes from one of our networks to another.
    """
    maps = [
        _add("map", name=name, type=f"ipv{version}_addr", map="verdict", flags=["interval"])
        for version, name in SOURCES.items()
    ]
    hook = _add("chain", name=POSTROUTING, type="nat", hook="postrouting", prio=100, policy="accept")
    rules = [
        _rule(POSTROUTING, {"vmap": {"key": _field(version, "saddr"), "data": f"@{name}"}})
        for version, name in SOURCES.items()
    ]
    isolation = [
        _add("set", name=BRIDGES, type="ifname"),
        _add("chain", name=FORWARD, type="filter", hook="forward", prio=0, policy="accept"),
        _flush(FORWARD),
        _rule(
            FORWARD, *(_equals({"meta": {"key": key}}, f"@{BRIDGES}") for key in ("iifname", "oifname")), {"drop": None}
        ),
    ]
    return [*maps, hook, _flush(POSTROUTING), *rules, *isolation]


def _translation(chain: str, subnet: IPNetwork, source: Any) -> list[Command]:
    """What one subnet's packets meet on their way out."""
    version = subnet.version
    translate = {"masquerade": None} if source is None else {"snat": {"addr": str(source), "family": FAMILY[version]}}
    stays = [
        _rule(chain, _equals(_field(version, "daddr"), _prefix(inside)), {"return": None})
        for inside in (subnet, MULTICAST[version])
    ]
    return [*stays, _rule(chain, _equals(_field(version, "saddr"), _prefix(subnet)), translate)]


def _chain(bridge: str) -> str:
    return f"network_{bridge}"


def _jump(chain: str) -> dict[str, Any]:
    return {"jump": {"target": chain}}


def _named(**attributes: Any) -> dict[str, Any]:
    return {"family": "inet", "table": TABLE, **attributes}


def _table(verb: str) -> Command:
    return {verb: {"table": {"family": "inet", "name": TABLE}}}


def _add(kind: str, **attributes: Any) -> Command:
    return {"add": {kind: _named(**attributes)}}


def _flush(chain: str) -> Command:
    return {"flush": {"chain": _named(name=chain)}}


def _rule(chain: str, *expressions: dict[str, Any]) -> Command:
    return _add("rule", chain=chain, expr=list(expressions))


def _equals(left: Any, right: Any) -> dict[str, Any]:
    return {"match": {"left": left, "op": "==", "right": right}}


def _field(version: int, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": FAMILY[version], "field": field}}


def _prefix(network: IPNetwork) -> dict[str, Any]:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def _element(verb: str, subnet: IPNetwork, chain: str) -> Command:
    return {verb: {"element": _named(name=SOURCES[subnet.version], elem=[[_prefix(subnet), _jump(chain)]])}}


def _list(deadline: Deadline) -> list[dict[str, Any]]:
    """All objects of our table; none when there is no table."""
    listed = _nft(["-j", "list", "table", "inet", TABLE], None, deadline)
    return [] if listed.returncode else list(json.loads(listed.stdout)["nftables"])


def _run(commands: list[Command], deadline: Deadline) -> None:
    done = _nft(["-j", "-f", "-"], json.dumps({"nftables": commands}), deadline)
    if done.returncode:
        raise GeneveError(f"nft refused our rules: {done.stderr.strip()}; see 'nft list table inet {TABLE}'")


def _nft(arguments: list[str], text: str | None, deadline: Deadline) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["nft", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=max(1.0, deadline.remaining()),
            check=False,
        )
    except FileNotFoundError as error:
        raise GeneveError(
            'the nft program is missing; install nftables, or set firewall_driver = "none" in containers.conf'
        ) from error
    except subprocess.TimeoutExpired as error:
        raise GeneveError("nft did not finish in time; look for a program that holds the ruleset") from error


@contextmanager
def _lock() -> Iterator[None]:
    """One of us at a time, since the last network to go takes the table along.

    The rules belong to the network namespace, so its own file carries the lock.
    """
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        yield
    finally:
        os.close(namespace)
