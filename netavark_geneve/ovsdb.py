# SPDX-License-Identifier: Apache-2.0
"""This host's OVSDB by ovsdbapp, with its traps shut.

Transactions always check errors, the wait for ovs-vswitchd fails loudly, and only the rows of one request
are replicated, so that our cost does not grow with the ports of the host.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID

from . import naming
from .errors import Deadline, GeneveError, failing_to
from .lean import without
from .log import timed
from .schema import OPEN_VSWITCH

with without("ssl"):  # which takes long, and would be there for databases of other hosts
    from ovs.db.idl import SchemaHelper
    from ovs.db.idl import Transaction as Transaction  # for those who write changes
    from ovsdbapp import exceptions
    from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl
    from ovsdbapp.schema.open_vswitch import impl_idl

SOCKET = "db.sock"
RUNDIR = "/run/openvswitch"
RUNDIR_VARIABLE = "OVS_RUNDIR"  # as Open vSwitch's own tools
DAEMON = "ovs-vswitchd"  # which follows what the database says
Conditions = Mapping[str, list[Any]]  # by table
EVERY = [True]  # the condition that every row meets
COMMIT_MIN = 0.5  # seconds that a transaction gets, even when the deadline has passed
RESTART = 1.0  # seconds that a server which is not there gets to come back; an attach has more patience
LOOK_AGAIN = 0.02  # seconds between two looks for it
START_IT = "is Open vSwitch running? (systemctl start openvswitch-switch or openvswitch)"


@contextmanager
def connected(
    environ: Mapping[str, str],
    deadline: Deadline,
    conditions: Conditions,
    *,
    pool: "Pool | None" = None,
    patient: bool = False,
) -> "Iterator[Replica]":
    """Replicate of each table only the rows that meet one of its conditions.

    That is conditional monitoring, ovsdb-server(7) §4.1.12. By a connection of the `pool`, if it has one. Raises
    GeneveError when there is no server, at the deadline if told to be `patient`, and when it does not answer.
    """
    path = os.path.join(environ.get(RUNDIR_VARIABLE, RUNDIR), SOCKET)
    patience = deadline if patient else Deadline(min(RESTART, deadline.remaining()))
    with timed("OVSDB connection"):
        api = (pool and pool.take(conditions)) or _connect(path, conditions, deadline, patience)
    try:
        yield api
    except BaseException:
        api.close()  # whatever state it is in
        raise
    if pool is None or not pool.give(api):
        api.close()


def _connect(path: str, conditions: Conditions, deadline: Deadline, patience: Deadline) -> "Replica":
    with failing_to("connect to OVSDB"):
        _wait_for_server(path, patience)
    helper = SchemaHelper(schema_json=OPEN_VSWITCH)
    helper.register_all()
    idl = _Idl(f"unix:{path}", helper)
    for table, condition in conditions.items():
        idl.cond_change(table, condition)
    try:
        with failing_to("connect to OVSDB"):
            return Replica(Connection(idl, deadline.remaining()), auto_index=False)
    except exceptions.OvsdbAppException as error:
        cause = error.__cause__
        if isinstance(cause, RuntimeError) and not isinstance(cause, exceptions.OvsdbAppException):  # which is one, too
            raise GeneveError(f"cannot connect to OVSDB: {cause}; is there a limit of processes?") from error
        raise GeneveError(f"ovsdb-server does not answer on {path}; {START_IT}") from error


def _wait_for_server(path: str, patience: Deadline) -> None:
    """Until somebody listens. ovs.db.idl itself tries again only after one second, then two, then four."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                probe.connect(path)
            return
        except BlockingIOError:  # it listens, but has too many callers to serve
            return
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if not patience.remaining():
                raise GeneveError(f"no ovsdb-server on {path}: {error.strerror}; {START_IT}") from error
        time.sleep(LOOK_AGAIN)


class Pool:
    """Connections that wait for the next request, of a process that serves many."""

    SIZE = 8  # more are not kept; so many requests at the same time are rare
    PATIENCE = 0.5  # seconds for the server to answer on a connection that has been idle

    def __init__(self) -> None:
        self._idle: list[Replica] = []
        self._lock = threading.Lock()

    def take(self, conditions: Conditions) -> "Replica | None":
        """A connection that now replicates these rows; None when there is none that works."""
        while True:
            with self._lock:
                api = self._idle.pop() if self._idle else None
            if api is None or api.look_at(conditions, Deadline(self.PATIENCE)):
                return api
            api.close()
            self.close()  # the others would not do better, one after the other

    def give(self, api: "Replica") -> bool:
        """Keep it for later; False when there are enough."""
        with self._lock:
            is_kept = len(self._idle) < self.SIZE
            if is_kept:
                self._idle.append(api)
        return is_kept

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            closing, self._idle = self._idle, []
        for api in closing:
            api.close()


def tagged(wanted: Mapping[str, str]) -> list[Any]:
    return ["external_ids", "includes", ["map", [list(item) for item in wanted.items()]]]


def named(name: str) -> list[str]:
    return ["name", "==", name]


class _Idl(OvsdbIdl):  # type: ignore[misc]
    """Tells who waits that the server has said something, and keeps what it takes long to convert."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.changed = threading.Event()
        self.values: dict[Any, dict[str, Any]] = {}  # by row

    def run(self) -> Any:
        changed = super().run()
        self.changed.set()
        return changed

    def cooperative_yield(self) -> None:
        """ovsdbapp's sleeps between two updates, for the sake of green threads; ours are real ones."""

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        self.values.pop(row.uuid, None)


class Change:
    """One transaction's worth of change. `run` runs again, on fresh rows, when somebody was faster."""

    next_cfg = 0  # the number of the configuration that it made, once it stands in the database (0: nothing changed)

    def __init__(self, api: "Replica") -> None:
        self.api = api

    def run(self, txn: Transaction) -> None:
        raise NotImplementedError


class Replica(impl_idl.OvsdbIdl):  # type: ignore[misc]
    # Backend keeps the first connection in a class attribute for ever; ours belongs to the instance.
    ovsdb_connection: Any = None

    @property
    def root(self) -> Any:
        """The one row of table Open_vSwitch."""
        return self._ovs

    def wait_until(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        """Whether the condition, which is asked after everything that the server says, is met by the deadline."""
        changed = self.idl.changed
        while True:
            changed.clear()
            with self.ovsdb_connection.lock:
                if condition():
                    return True
            if not changed.wait(deadline.remaining()):
                return False

    def look_at(self, conditions: Conditions, deadline: Deadline) -> bool:
        """Replicate other rows from now on; False when the server has not agreed by the deadline."""
        with self.ovsdb_connection.lock:
            for table, condition in conditions.items():
                self.idl.cond_change(table, condition)
            self.idl.send_cond_change()
        states = [self.tables[table].condition_state for table in conditions]
        return self.wait_until(lambda: all(state.latest is state.acked for state in states), deadline)

    def submit(self, change: Change, deadline: Deadline) -> int:
        """Put the change into the database; the number of the configuration that it makes (0: nothing changed)."""
        with self.submitting(change, deadline):
            pass
        return change.next_cfg

    @contextmanager
    def submitting(self, change: Change, deadline: Deadline) -> Iterator[None]:
        """Put the change into the database, where it stands when the block, which need not wait for that, has ended.

        When the block fails, the change has been decided about all the same, and can be undone. ovsdbapp's own way
        hands it to the connection's thread and takes the connection's lock until the server answers, which an undo
        would wait for; and it waits for ovs-vswitchd, but only logs when it waits in vain.
        """
        patience = Deadline(max(deadline.remaining(), COMMIT_MIN))
        sent = self._send(change)
        try:
            yield
        except BaseException:
            with suppress(GeneveError):
                self._settle(change, *sent, deadline, patience)
            raise
        self._settle(change, *sent, deadline, patience)

    def _send(self, change: Change) -> tuple[Transaction, int]:
        """The transaction, on its way to the server, and the state of the replica that it builds on."""
        with self.ovsdb_connection.lock:
            before = self.idl.change_seqno
            txn = Transaction(self.idl)
            try:
                self.root.increment("next_cfg")
                change.run(txn)
                status = txn.commit()
            except BaseException:
                txn.abort()
                raise
            if status == Transaction.TRY_AGAIN or self.idl._session.get_backlog():
                # So that its thread, which sleeps, connects again, or sends what the socket did not take at once.
                self.ovsdb_connection.txns.put(None)
            return txn, before

    def _settle(self, change: Change, txn: Transaction, before: int, deadline: Deadline, patience: Deadline) -> None:
        """Wait until the server has decided, and send the change again when somebody was faster."""
        with timed("ovsdb-server"):
            while True:
                is_decided = self.wait_until(partial(_is_decided, txn), patience)
                status = txn.commit()
                has_news = status != Transaction.TRY_AGAIN or self.wait_until(partial(self._has_news, before), patience)
                if not (is_decided and has_news):
                    raise no_answer(deadline)
                if status != Transaction.TRY_AGAIN:
                    break
                txn, before = self._send(change)  # somebody was faster, or the connection went
        if status not in (Transaction.SUCCESS, Transaction.UNCHANGED):
            raise GeneveError(_explain(str(txn.get_error())))
        change.next_cfg = int(txn.get_increment_new_value()) if status == Transaction.SUCCESS else 0

    def _has_news(self, since: int) -> bool:
        return bool(self.idl.change_seqno != since)

    def has_completed(self, next_cfg: int, deadline: Deadline) -> bool:
        """Wait until ovs-vswitchd reports that it has applied configuration number `next_cfg`."""
        return self.wait_until(lambda: bool(self.root.cur_cfg >= next_cfg), deadline)

    def close(self) -> None:
        self.ovsdb_connection.stop(timeout=1)

    def find_named(self, table: str, name: str) -> Any:
        rows = self.tables[table].rows.values()
        return next((row for row in rows if self.value(row, "name") == name), None)

    def find_tagged(self, table: str, tags: Mapping[str, str]) -> Any:
        return next(iter(self.all_tagged(table, tags)), None)

    def all_tagged(self, table: str, tags: Mapping[str, str]) -> list[Any]:
        rows = self.tables[table].rows.values()
        return [row for row in rows if tags.items() <= self.value(row, "external_ids").items()]

    def value(self, row: Any, column: str) -> Any:
        """What a column holds, not to be changed; no reference to other rows, which may come later than the row.

        Converted from OVSDB's notation once: with 64 peers that is what an attach would spend its time on.
        """
        known = self.idl.values.setdefault(row.uuid, {})
        if column not in known:
            known[column] = getattr(row, column)
        return known[column]

    def own_ports(self, bridge: Any) -> set[UUID]:
        """What goes with a network's bridge: its tunnels, and the port that every bridge has of its own name."""
        tags = naming.tunnel_tags(bridge.external_ids["network-id"])
        own = self.find_named("Port", bridge.name)
        return {row.uuid for row in [*self.all_tagged("Port", tags), own] if row is not None}


def _is_decided(txn: Transaction) -> bool:
    return bool(txn.commit() != Transaction.INCOMPLETE)


def no_answer(deadline: Deadline) -> GeneveError:
    return GeneveError(f"Open vSwitch did not take the change within {deadline.seconds:g} s; {START_IT}")


def _explain(refusal: str) -> str:
    """ovsdb-server's refusals are JSON; those that users can meet are a full disk, and a name that is taken."""
    unwritten = re.search(r'"io-error": ?"([^"]+)"', refusal)
    if unwritten is not None:
        return f"ovsdb-server cannot write its database: {unwritten[1]}; see to the disk of its conf.db"
    taken = re.search(r"identical values \(\W*([\w.-]+)\W*\) for index on column", refusal)
    if taken is None:
        return f"ovsdb-server refused the change: {refusal}"
    name = taken[1]
    return (
        f"Open vSwitch already has a port {name} that is not this network's; remove it (ovs-vsctl del-port {name})"
        " or create the network again with another --opt vni= or --interface-name"
    )
