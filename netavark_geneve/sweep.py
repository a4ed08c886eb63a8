# SPDX-License-Identifier: Apache-2.0
"""All that is ours in Open vSwitch, on whomever's bridge, and its removal when it is stale."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from . import naming
from .errors import Deadline, GeneveError
from .found import Bridge, Broken, Port
from .ovsdb import DAEMON, EVERY, RUNDIR, RUNDIR_VARIABLE, Change, Replica, Transaction, connected
from .programs import ask


class Sweeper:
    """A connection that sees every bridge and every port, whosever they are."""

    def __init__(self, api: Replica) -> None:
        self._api = api

    def find_all(self) -> tuple[tuple[Port, ...], tuple[Bridge, ...]]:
        """Every container's port, and every bridge, at one moment."""
        with self._api.ovsdb_connection.lock:
            rows = sorted(self._api.tables["Bridge"].rows.values(), key=lambda row: str(row.name))
            on = {uuid: row.name for row in rows for uuid in row.ports}
            ports = [row for row in self._api.all_tagged("Port", naming.CONTAINER_ROLE) if row.uuid in on]
            found = sorted((_port(row, on[row.uuid]) for row in ports), key=lambda port: port.name)
            return tuple(found), tuple(map(self._bridge, rows))

    def find_broken(self, patience: Deadline) -> tuple[Broken, ...]:
        """Every interface of ours that ovs-vswitchd cannot set up until then.

        A container that starts among many has its port for a moment before its link.
        """
        names = {each.name for each in self._all_broken()}

        def still_broken() -> list[Broken]:
            return sorted((each for each in self._all_broken() if each.name in names), key=lambda each: each.name)

        self._api.wait_until(lambda: not still_broken(), patience)
        return tuple(still_broken())

    def _all_broken(self) -> tuple[Broken, ...]:
        with self._api.ovsdb_connection.lock:
            rows = self._api.all_tagged("Interface", {"owner": naming.OWNER})
            broken = [row for row in rows if row.error or row.ofport == [-1]]
            return tuple(
                Broken(row.name, row.external_ids.get("role", "bridge"), *(row.error or ["no OpenFlow port number"]))
                for row in broken
            )

    def find_remotes(self) -> dict[str, set[str]]:
        """Where the tunnels lead, by the network's id."""
        with self._api.ovsdb_connection.lock:
            found: dict[str, set[str]] = {}
            for row in self._api.all_tagged("Port", {"owner": naming.OWNER, "role": "tunnel"}):
                found.setdefault(row.external_ids.get("network-id", ""), set()).add(row.external_ids.get("remote", ""))
            return found

    def find_state(self, deadline: Deadline) -> tuple[int, int, frozenset[str]]:
        """The configuration that ovs-vswitchd has reached by the deadline, the one to reach, its interface types."""
        next_cfg = int(self._api.root.next_cfg)
        self._api.has_completed(next_cfg, deadline)
        return int(self._api.root.cur_cfg), next_cfg, frozenset(self._api.root.iface_types)

    def remove(self, bridge: str, ports: Collection[UUID], *, with_bridge: bool, deadline: Deadline) -> int:
        """Take these ports off the bridge, in one transaction, and the bridge away if it then serves nobody.

        The number of the configuration to wait for; gone is fine.
        """
        return self._api.submit(_Sweep(self._api, bridge, ports, with_bridge=with_bridge), deadline)

    def has_completed(self, next_cfg: int, deadline: Deadline) -> bool:
        """Wait until ovs-vswitchd has followed; False when it does not."""
        return self._api.has_completed(next_cfg, deadline)

    def _bridge(self, row: Any) -> Bridge:
        if not _is_ours(row):
            return Bridge(row.uuid, row.name)
        containers = {port.uuid for port in self._api.all_tagged("Port", naming.CONTAINER_ROLE)}
        others = set(row.ports) - self._api.own_ports(row) - containers
        network = row.external_ids.get("network-name", "")
        return Bridge(row.uuid, row.name, network, is_ours=True, has_others=bool(others))


@contextmanager
def connect(environ: Mapping[str, str], deadline: Deadline) -> Iterator[Sweeper]:
    """Connect to this host's OVSDB; what is there when this is called is seen."""
    with connected(environ, deadline, {"Bridge": EVERY, "Port": EVERY, "Interface": EVERY}) as api:
        yield Sweeper(api)


def ask_version(deadline: Deadline) -> str:
    """What ovs-vswitchd itself says; raises GeneveError when it does not answer."""
    patience = max(1, round(deadline.remaining()))
    said = ask(["ovs-appctl", f"--timeout={patience}", "version"], Deadline(patience + 1)).splitlines()
    return said[0].rpartition(" ")[2] if said else ""


def check_namespace(environ: Mapping[str, str]) -> None:
    """Raise GeneveError unless we see the interfaces that ovs-vswitchd sees; without it, those of process 1."""
    process = _daemon(environ) or "1"
    try:
        theirs, ours = (os.stat(f"/proc/{each}/ns/net") for each in (process, "self"))
    except OSError as error:
        raise GeneveError(f"cannot tell the network namespace of process {process}: {error.strerror}") from error
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
        raise GeneveError(
            "this is not the network namespace that Open vSwitch is in, so every interface would seem to be gone;"
            f" run it there (nsenter --net --target {process} netavark-geneve …)"
        )


def _daemon(environ: Mapping[str, str]) -> str | None:
    """The number of its process. In its file may stand another one's, of a container's for that matter."""
    try:
        number = Path(environ.get(RUNDIR_VARIABLE, RUNDIR), f"{DAEMON}.pid").read_text(encoding="utf-8").strip()
        name = Path("/proc", str(int(number)), "comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return number if name == DAEMON else None


class _Sweep(Change):
    def __init__(self, api: Replica, bridge: str, ports: Collection[UUID], *, with_bridge: bool) -> None:
        super().__init__(api)
        self.bridge = bridge
        self.ports = ports
        self.with_bridge = with_bridge

    def run(self, txn: Transaction) -> None:
        bridge = self.api.find_named("Bridge", self.bridge)
        if bridge is None:
            return
        going = set(self.ports) & set(bridge.ports)
        txn.add_comment(f"geneve-ovs: gc of {len(going)} port(s) on {self.bridge}")
        if self.with_bridge and _is_ours(bridge) and set(bridge.ports) <= self.api.own_ports(bridge) | going:
            bridge.verify("ports")  # somebody may be joining right now
            # delete() brings the row, and so the check, into the transaction: see switch.py.
            self.api.root.delvalue("bridges", bridge.uuid)
            bridge.delete()
            return
        for port in going:  # by their rows: a container that came back has another one, maybe of the same name
            bridge.delvalue("ports", port)


def _is_ours(bridge: Any) -> bool:
    ids = bridge.external_ids
    return ids.get("owner") == naming.OWNER and "network-id" in ids


def _port(row: Any, bridge: str) -> Port:
    ids = row.external_ids
    return Port(
        row=row.uuid,
        name=row.name,
        bridge=bridge,
        network=ids.get("network-name", ""),
        container_id=ids.get("container-id", ""),
        container=ids.get("container-name", ""),
        interface=ids.get("container-interface", ""),
        boot_id=ids.get("boot-id", ""),
    )
