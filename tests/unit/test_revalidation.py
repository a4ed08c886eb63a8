# SPDX-License-Identifier: Apache-2.0
"""What ovs-vswitchd may answer, and what when nobody answers; sandbox/test_revalidation.py asks a real one."""

import json
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve.revalidation import WAIT_BLIND, Rounds

PID = 7


def answering(
    directory: Path, answer: bytes, heard: list[Any], cause: threading.Event | None = None
) -> threading.Thread:
    """A daemon that takes one request, and says this; once there is `cause`, if that is given."""
    (directory / "ovs-vswitchd.pid").write_text(f"{PID}\n")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(directory / f"ovs-vswitchd.{PID}.ctl"))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            heard.append(json.loads(connection.recv(4096)))
            if cause is None or cause.wait(10):
                connection.send(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def ask(directory: Path) -> None:
    with closing(Rounds({"OVS_RUNDIR": str(directory)})) as rounds:
        rounds.ask()
        rounds.wait(lambda: None)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        (b'{"id":0,"result":"","error":null}', []),
        (b'{"id":0,"result":null,"error":"can\'t wait on multiple udpifs.\\n"}', [WAIT_BLIND]),
    ],
    ids=["one datapath", "two"],
)
def test_waits_for_the_answer_or_blindly(tmp_path: Path, slept: list[float], answer: bytes, pause: list[float]) -> None:
    heard: list[Any] = []
    daemon = answering(tmp_path, answer, heard)
    ask(tmp_path)
    daemon.join()
    assert heard == [{"id": 0, "method": "revalidator/wait", "params": []}]
    assert slept == pause


def test_gives_cause_for_a_round_when_the_last_one_had_ended_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cause = threading.Event()
    daemon = answering(tmp_path, b'{"id":0,"result":"","error":null}', [], cause)
    with closing(Rounds({"OVS_RUNDIR": str(tmp_path)})) as rounds, caplog.at_level("DEBUG", "geneve-ovs"):
        rounds.ask()
        rounds.wait(cause.set)
    daemon.join()
    assert cause.is_set()
    assert caplog.messages == []


@pytest.mark.parametrize("pid", [None, "7", "\u00bd"], ids=["no file", "nobody there", "nonsense"])
def test_nobody_to_ask_is_no_reason_to_wait(
    tmp_path: Path, slept: list[float], caplog: pytest.LogCaptureFixture, pid: str | None
) -> None:
    if pid is not None:
        (tmp_path / "ovs-vswitchd.pid").write_text(pid, encoding="utf-8")
    with caplog.at_level("DEBUG", "geneve-ovs"):
        ask(tmp_path)
    assert slept == []
    assert [message.partition(":")[0] for message in caplog.messages] == ["cannot ask ovs-vswitchd for its flows"]


def test_waiting_without_having_asked_returns_at_once(slept: list[float]) -> None:
    with closing(Rounds({})) as rounds:
        rounds.wait(lambda: None)
    assert slept == []
