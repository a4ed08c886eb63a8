# SPDX-License-Identifier: Apache-2.0
"""firewalld.py against the real firewalld."""

import ipaddress
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netavark_geneve import firewalld
from netavark_geneve.errors import Deadline, GeneveError

SCRIPT = Path(__file__).parents[1] / "lab" / "firewalld.sh"
PID = Path("/run/firewalld.pid")
SUBNETS = [ipaddress.ip_network("192.168.120.0/24"), ipaddress.ip_network("fd00:120::/64")]
NAMES = {str(subnet) for subnet in SUBNETS}
CONFIGURATION = Path("/etc/firewalld/firewalld.conf")
WATCH = """
import signal
from netavark_geneve import firewalld
signal.signal(signal.SIGTERM, signal.default_int_handler)
events = firewalld.reloads()
print("listening", flush=True)
try:
    for _ in events:
        print("again", flush=True)
except KeyboardInterrupt:
    print("end")
"""


@pytest.fixture(scope="module", autouse=True)
def host_with_firewalld() -> Iterator[None]:
    script("start")
    yield
    script("stop")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    cmd("--reload")
    assert trusted() == set()


def script(verb: str) -> None:
    subprocess.run(("sh", SCRIPT, verb), check=True, timeout=30)


def cmd(*arguments: str) -> str:
    """What firewall-cmd says."""
    return subprocess.run(
        ("firewall-cmd", *arguments), check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def trusted(zone: str = "trusted") -> set[str]:
    return set(cmd(f"--zone={zone}", "--list-sources").split())


def ensure(seconds: float = 10) -> None:
    firewalld.ensure_trusted(SUBNETS, Deadline(seconds))


def remove() -> None:
    firewalld.remove_trusted(SUBNETS, Deadline(10))


class Quiet(Exception):
    """Nothing has happened for long enough."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Quiet out of whatever the block waits in."""

    def ring(*_: object) -> None:
        raise Quiet

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def count(events: Iterator[None]) -> int:
    """How many events there are until it is quiet."""
    found = 0
    try:
        while True:
            with within(0.4):
                next(events)
            found += 1
    except Quiet:
        return found


def test_subnets_become_sources_of_the_running_zone_only(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        ensure()
        assert trusted() == NAMES
    assert cmd("--permanent", "--zone=trusted", "--list-sources") == ""

    for _ in range(2):
        remove()
        assert trusted() == set()
    assert caplog.messages == []


def test_a_subnet_of_another_zone_moves_when_it_comes_and_stays_there_when_it_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "geneve-ovs")
    cmd("--zone=drop", "--add-source=192.168.120.0/24")

    remove()
    assert trusted("drop") == {"192.168.120.0/24"}

    ensure()
    assert trusted("drop") == set()
    assert trusted() == NAMES
    assert caplog.messages == ["subnet 192.168.120.0/24 moves from firewalld's zone drop to trusted"]


def test_what_firewalld_refuses_is_a_warning_and_the_next_subnet_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(firewalld, "ZONE", "nowhere")
    ensure()
    assert len(caplog.messages) == 2
    assert "cannot change firewalld's zone nowhere: INVALID_ZONE: nowhere; see" in caplog.text


def test_a_reload_forgets_the_subnets_and_is_told_once() -> None:
    events = firewalld.reloads()
    ensure()

    cmd("--reload")

    assert trusted() == set()
    with within(5):
        next(events)
    ensure()
    assert trusted() == NAMES
    assert count(events) == 0


@pytest.mark.parametrize("how", ["--reload", "--complete-reload", "SIGHUP", "restart", "start"])
def test_each_way_to_reload_or_start_is_told(how: str) -> None:
    if how == "start":
        end_firewalld()
    events = firewalld.reloads()
    match how:
        case "SIGHUP":
            os.kill(int(PID.read_text()), signal.SIGHUP)
        case "restart":
            script("restart")
        case "start":
            script("start_firewalld")
        case _:
            cmd(how)

    with within(5):
        next(events)
    ensure()  # waits until a firewalld that has just begun is ready

    assert trusted() == NAMES
    assert count(events) == 0


def end_firewalld() -> None:
    subprocess.run(("sh", SCRIPT, "end", PID.read_text()), check=True, timeout=30)


def test_signals_of_strangers_are_not_taken_for_firewalld() -> None:
    events = firewalld.reloads()
    names = subprocess.run(("busctl", "list", "--acquired", "--unique"), check=True, capture_output=True, text=True)
    everybody = [line.split()[0] for line in names.stdout.splitlines() if line.startswith(":")]
    for destination in ([], *([f"--dest={name}"] for name in everybody)):
        signal_ = ("--type=signal", "/org/fedoraproject/FirewallD1", "org.fedoraproject.FirewallD1.Reloaded")
        subprocess.run(("dbus-send", "--system", *destination, *signal_), check=False, timeout=10)

    assert everybody
    assert count(events) == 0


def test_a_watch_sleeps_until_it_is_told_and_ends_with_sigterm() -> None:
    with subprocess.Popen([sys.executable, "-c", WATCH], stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout
        assert watch.stdout.readline() == "listening\n"
        before = switches(watch.pid)
        time.sleep(0.5)
        assert switches(watch.pid) - before <= 1
        cmd("--reload")
        assert watch.stdout.readline() == "again\n"
        watch.terminate()
        assert watch.stdout.read() == "end\n"
        assert watch.wait(timeout=5) == 0


def switches(pid: int) -> int:
    """How often a process has gone to sleep so far."""
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["voluntary_ctxt_switches"])


def test_ports_are_not_published_where_firewalld_is_strict() -> None:
    firewalld.check_can_publish(Deadline(10))
    text = CONFIGURATION.read_text()
    assert "\nStrictForwardPorts=no\n" in text
    CONFIGURATION.write_text(text.replace("\nStrictForwardPorts=no\n", "\nStrictForwardPorts=yes\n"))
    try:
        cmd("--reload")
        with pytest.raises(GeneveError, match="cannot publish ports, since firewalld has StrictForwardPorts=yes"):
            firewalld.check_can_publish(Deadline(10))
    finally:
        CONFIGURATION.write_text(text)
    cmd("--reload")
    firewalld.check_can_publish(Deadline(10))


def test_firewalld_that_does_not_run_is_not_started(caplog: pytest.LogCaptureFixture) -> None:
    end_firewalld()
    try:
        assert firewalld.is_installed()
        ensure()
        remove()
        firewalld.check_can_publish(Deadline(10))
        assert not PID.exists()
    finally:
        script("start_firewalld")
    assert caplog.messages == []


def test_firewalld_that_hangs_costs_a_warning_and_a_bounded_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(firewalld, "PATIENCE", 0.2)
    pid = int(PID.read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        ensure()
        assert time.monotonic() - start < 1
        firewalld.check_can_publish(Deadline(10))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "no answer in time over the system bus" in caplog.text


def test_a_bus_that_goes_ends_the_watch() -> None:
    events = firewalld.reloads()
    script("stop")
    try:
        with within(5), pytest.raises(GeneveError, match="the system bus"):
            next(events)
    finally:
        script("start")
