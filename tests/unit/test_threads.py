# SPDX-License-Identifier: Apache-2.0
"""A process that may start no more threads (RLIMIT_NPROC, a cgroup's pids.max) does without, or says so."""

import _thread
import socket
import threading
from pathlib import Path

import pytest
from ovsdbapp import exceptions

from netavark_geneve import links, neighbours, nfnetlink, ovsdb, underlay
from netavark_geneve.errors import Deadline

from .makers import planned, refused

REASON = "can't start new thread"


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise RuntimeError(REASON)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(_thread, "start_new_thread", start)


def test_interface_is_removed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(links, "remove_link", removed.append)
    links.make_vanish("veth1")
    assert removed == ["veth1"]


class Socket:
    """A packet socket."""

    is_open = True

    def setsockopt(self, *_: object) -> None:
        """As it is."""

    def bind(self, _: object) -> None:
        """It is."""

    def close(self) -> None:
        self.is_open = False


def test_packet_socket_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Socket()
    monkeypatch.setattr("netavark_geneve.neighbours.socket.socket", lambda *_: raw)
    with neighbours.open_socket(planned().veth):
        assert raw.is_open
    assert not raw.is_open


def test_name_that_cannot_be_resolved_says_why() -> None:
    with refused("cannot resolve peer.example", REASON, "limit of processes"):
        underlay.resolve("peer.example", Deadline(1))


class Filter:
    """A socket to the packet filter."""

    is_open = True

    def change(self, requests: list[bytes]) -> None:
        assert self.is_open

    def close(self) -> None:
        self.is_open = False


def test_socket_to_the_packet_filter_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Filter()
    monkeypatch.setattr(nfnetlink, "Kernel", lambda protocol: made)
    nfnetlink.delete_table()
    assert not made.is_open


def test_connection_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ovsdb-server answers, which is not what the sentence is to be about."""

    def replica(*_: object, **named: object) -> None:
        raise exceptions.OvsdbConnectionUnavailable(db_schema="x", error=REASON) from RuntimeError(REASON)

    monkeypatch.setattr(ovsdb, "Replica", replica)
    connection = ovsdb.connected({"OVS_RUNDIR": str(tmp_path)}, Deadline(1), {})
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "db.sock"))
        server.listen()
        with refused("cannot connect to OVSDB", REASON, "limit of processes"), connection:
            pass
