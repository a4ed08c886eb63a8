# SPDX-License-Identifier: Apache-2.0
"""This host's OVSDB by ovsdbapp, with its traps shut.

Transactions always check errors, the wait for ovs-vswitchd fails loudly, and only the rows of one request
are replicated, so that our cost does not grow with the ports of the host.
"""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ovs.db.idl import SchemaHelper, Transaction
from ovsdbapp import exceptions
from ovsdbapp.backend.ovs_idl import transaction
from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl
from ovsdbapp.schema.open_vswitch import impl_idl

from .errors import Deadline, GeneveError
from .log import timed
from .schema import OPEN_VSWITCH

SOCKET = "db.sock"
RUNDIR = "/run/openvswitch"
RUNDIR_VARIABLE = "OVS_RUNDIR"  # as Open vSwitch's own tools
START_IT = "is Open vSwitch running? (systemctl start openvswitch-switch or openvswitch)"


@contextmanager
def connected(
    environ: Mapping[str, str], deadline: Deadline, *, bridges: list[Any], ports: list[Any]
) -> "Iterator[Replica]":
    """Replicate only the rows that meet one of these conditions (conditional monitoring, ovsdb-server(7) §4.1.12).

    Raises GeneveError at once when there is no socket, and at the deadline when nobody answers.
    """
    path = os.path.join(environ.get(RUNDIR_VARIABLE, RUNDIR), SOCKET)
    if not os.path.exists(path):
        raise GeneveError(f"no OVSDB socket {path}; {START_IT}")
    helper = SchemaHelper(schema_json=OPEN_VSWITCH)
    helper.register_all()
    idl = _Idl(f"unix:{path}", helper)
    idl.cond_change("Bridge", bridges)
    idl.cond_change("Port", ports)
    idl.cond_change("Interface", ports)
    connection = Connection(idl, deadline.remaining())
    try:
        with timed("OVSDB connection"):
            api = Replica(connection, auto_index=False)
    except exceptions.OvsdbAppException as error:
        raise GeneveError(f"ovsdb-server does not answer on {path}; {START_IT}") from error
    try:
        yield api
    finally:
        connection.stop(timeout=1)


def tagged(wanted: Mapping[str, str]) -> list[Any]:
    return ["external_ids", "includes", ["map", [list(item) for item in wanted.items()]]]


def named(name: str) -> list[str]:
    return ["name", "==", name]


class _Idl(OvsdbIdl):  # type: ignore[misc]
    """Tells who waits that the replica has changed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.changed = threading.Event()

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        self.changed.set()


class Request(transaction.Transaction):  # type: ignore[misc]
    """Asks ovs-vswitchd for a new configuration, whose number is then in `next_cfg` (0: nothing changed).

    ovsdbapp's own for this schema waits too, but only logs when the wait fails, and keeps the connection
    from serving an undo meanwhile.
    """

    next_cfg = 0

    def pre_commit(self, txn: Transaction) -> None:
        self.api.root.increment("next_cfg")

    def post_commit(self, txn: Transaction) -> None:
        self.next_cfg = txn.get_increment_new_value()


class Replica(impl_idl.OvsdbIdl):  # type: ignore[misc]
    # Backend keeps the first connection in a class attribute for ever; ours belongs to the instance.
    ovsdb_connection: Any = None

    @property
    def root(self) -> Any:
        """The one row of table Open_vSwitch."""
        return self._ovs

    def find_named(self, table: str, name: str) -> Any:
        rows = self.tables[table].rows.values()
        return next((row for row in rows if row.name == name), None)

    def find_tagged(self, table: str, tags: Mapping[str, str]) -> Any:
        return next(iter(self.all_tagged(table, tags)), None)

    def all_tagged(self, table: str, tags: Mapping[str, str]) -> list[Any]:
        return [row for row in self.tables[table].rows.values() if tags.items() <= row.external_ids.items()]
