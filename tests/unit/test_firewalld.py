# SPDX-License-Identifier: Apache-2.0
"""firewalld.py on hosts without firewalld, and on one whose bus is dead; the rest wants a real one."""

import ipaddress
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netavark_geneve import firewalld
from netavark_geneve.errors import Deadline, GeneveError

from .conftest import PROJECT
from .makers import refused

SUBNETS = [ipaddress.ip_network("192.168.120.0/24"), ipaddress.ip_network("fd00:120::/64")]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """firewalld is installed, and a bus could be at SOCKET."""
    file = tmp_path / "firewalld"
    file.touch(mode=0o755)
    monkeypatch.setattr(firewalld, "DIRECTORIES", (str(tmp_path),))
    monkeypatch.setattr(firewalld, "SOCKET", str(tmp_path / "bus"))
    return file


@pytest.fixture
def silent_bus(program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something listens there, and never says a word."""
    monkeypatch.setattr(firewalld, "PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(firewalld.SOCKET)
        listener.listen()
        yield


def use(seconds: float = 10) -> None:
    """Everything that an attach and a detach ask for."""
    firewalld.check_can_publish(Deadline(seconds))
    firewalld.ensure_trusted(SUBNETS, Deadline(seconds))
    firewalld.remove_trusted(SUBNETS, Deadline(seconds))


@pytest.mark.parametrize("missing", ["program", "bus"])
def test_without_firewalld_nobody_is_talked_to(
    program: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    if missing == "program":
        program.unlink()
        Path(firewalld.SOCKET).touch()
    monkeypatch.setattr(firewalld, "_Bus", None)

    assert not firewalld.is_installed()
    use()

    assert caplog.messages == []


def test_without_firewalld_the_library_is_not_even_loaded() -> None:
    script = """if True:
        import ipaddress, sys
        from netavark_geneve import errors, firewalld
        firewalld.SOCKET = "/nowhere"
        firewalld.ensure_trusted([ipaddress.ip_network("10.0.0.0/24")], errors.Deadline(1))
        sys.exit("jeepney" in sys.modules)"""
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, timeout=30, check=True)


@pytest.mark.usefixtures("silent_bus")
def test_a_silent_bus_costs_a_warning_and_a_bounded_wait(caplog: pytest.LogCaptureFixture) -> None:
    start = time.monotonic()

    use()

    assert time.monotonic() - start < 1
    assert [record.levelname for record in caplog.records if record.levelname != "DEBUG"] == ["WARNING"] * 2
    assert "no answer in time" in caplog.text


@pytest.mark.usefixtures("silent_bus")
def test_a_request_that_is_out_of_time_does_not_wait_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewalld, "PATIENCE", 30.0)
    start = time.monotonic()

    use(seconds=0)

    assert time.monotonic() - start < 1


@pytest.mark.usefixtures("program")
def test_a_bus_that_is_gone_costs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(firewalld.SOCKET)

    use()

    assert "Connection refused" in caplog.text


@pytest.mark.usefixtures("program")
def test_watching_without_a_bus_is_refused_at_once() -> None:
    with refused("system bus", "No such file or directory", "look after its service"):
        firewalld.reloads()


@pytest.mark.usefixtures("silent_bus")
def test_watching_a_silent_bus_is_refused() -> None:
    with pytest.raises(GeneveError, match="no answer in time"):
        firewalld.reloads()
