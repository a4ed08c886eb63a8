# SPDX-License-Identifier: Apache-2.0
"""libnftables' JSON (libnftables-json(5)) for one table, and the `nft` program that takes a batch of it at once.

The program rather than the Python binding, which is in no package index: the distribution's belongs to
the distribution's own Python, which on Enterprise Linux 9 is too old for us.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .addresses import Network as IPNetwork
from .errors import Deadline, GeneveError, failing_to
from .naming import NFT_TABLE as TABLE

if TYPE_CHECKING:
    import subprocess

FAMILY = {4: "ip", 6: "ip6"}

Command = dict[str, Any]
Expression = dict[str, Any]
_locked: ContextVar[tuple[int, ...]] = ContextVar("locked", default=())  # the descriptor that carries our lock


def table(verb: str) -> Command:
    return {verb: {"table": {"family": "inet", "name": TABLE}}}


def add(kind: str, **attributes: Any) -> Command:
    """Make an object of `kind` (chain, map, set, …) unless it is there."""
    return {"add": {kind: _named(**attributes)}}


def flush(kind: str, name: str) -> Command:
    return {"flush": {kind: _named(name=name)}}


def delete(kind: str, name: str) -> Command:
    return {"delete": {kind: _named(name=name)}}


def elements(verb: str, name: str, items: Iterable[Any]) -> list[Command]:
    """Add elements to a set or map, or delete them; no command for none."""
    found = list(items)
    return [{verb: {"element": _named(name=name, elem=found)}}] if found else []


def rule(chain: str, *expressions: Expression, comment: str | None = None) -> Command:
    described = {"comment": comment[:COMMENT_MAX]} if comment else {}
    return {"add": {"rule": {"family": "inet", "table": TABLE, "chain": chain, "expr": list(expressions), **described}}}


def equals(left: Any, right: Any) -> Expression:
    return {"match": {"left": left, "op": "==", "right": right}}


def interface(direction: str, name: str) -> Expression:
    """Match the interface of a packet; `direction` is iif or oif, `name` a name, "name*" or "@set"."""
    return equals({"meta": {"key": f"{direction}name"}}, name)


def conntrack(key: str, value: str) -> Expression:
    return {"match": {"left": {"ct": {"key": key}}, "op": "in", "right": value}}


def field(protocol: str, name: str) -> Expression:
    return {"payload": {"protocol": protocol, "field": name}}


def prefix(network: IPNetwork) -> Expression:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def concat(*parts: Any) -> Expression:
    return {"concat": list(parts)}


def lookup(key: Expression, name: str) -> Expression:
    """Go where the verdict map `name` sends the packet, if it knows the key."""
    return {"vmap": {"key": key, "data": f"@{name}"}}


def jump(chain: str) -> Expression:
    return {"jump": {"target": chain}}


def run(commands: list[Command], deadline: Deadline) -> None:
    """Apply all of it or nothing. Raises GeneveError with nft's reason."""
    done = _nft(["-j", "-f", "-"], json.dumps({"nftables": commands}), deadline)
    if done.returncode:
        raise GeneveError(f"nft refused our rules: {done.stderr.strip()}; see 'nft list table inet {TABLE}'")


def list_table(deadline: Deadline) -> list[dict[str, Any]]:
    """All objects of our table; none when there is no table."""
    listed = _nft(["-j", "list", "table", "inet", TABLE], None, deadline)
    if listed.returncode:
        if "No such file or directory" in listed.stderr:
            return []
        raise GeneveError(f"nft cannot list table {TABLE}: {listed.stderr.strip()}")
    return list(json.loads(listed.stdout)["nftables"])


def list_ruleset(deadline: Deadline) -> list[dict[str, Any]]:
    """All objects of all tables, whosever they are."""
    listed = _nft(["-j", "list", "ruleset"], None, deadline)
    if listed.returncode:
        raise GeneveError(f"nft cannot list the rules: {listed.stderr.strip()}; run 'nft list ruleset'")
    return [item for item in json.loads(listed.stdout)["nftables"] if "metainfo" not in item]


@contextmanager
def lock() -> Iterator[None]:
    """One of us at a time, since the last network to go takes the table along.

    The rules belong to the network namespace, so its own file carries the lock. An nft that we start gets it, too:
    if we are killed it goes on, and whoever comes next has to see what it has done.
    """
    with failing_to("lock the packet filter's rules"):
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with failing_to("lock the packet filter's rules"):
            fcntl.flock(namespace, fcntl.LOCK_EX)
        before = _locked.set((namespace,))
        try:
            yield
        finally:
            _locked.reset(before)
    finally:
        os.close(namespace)


COMMENT_MAX = 128  # bytes, as nft has it


def _named(**attributes: Any) -> dict[str, Any]:
    return {"family": "inet", "table": TABLE, **attributes}


def _nft(arguments: list[str], text: str | None, deadline: Deadline) -> "subprocess.CompletedProcess[str]":
    import subprocess

    try:
        return subprocess.run(
            ["nft", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=max(1.0, deadline.remaining()),
            check=False,
            pass_fds=_locked.get(),
        )
    except FileNotFoundError as error:
        raise GeneveError(
            'the nft program is missing; install nftables, or set firewall_driver = "none" in containers.conf'
        ) from error
    except OSError as error:
        raise GeneveError(f"cannot run nft: {error.strerror}; is there a limit of processes, or of memory?") from error
    except subprocess.TimeoutExpired as error:
        raise GeneveError("nft did not finish in time; look for a program that holds the ruleset") from error
