# SPDX-License-Identifier: Apache-2.0
"""The plugin as a process, as netavark runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netavark_geneve import __version__

from .conftest import PROJECT, Plugin
from .makers import check_style, encoded, request_json


def error_of(output: bytes) -> str:
    """The message of an answer that is one line of JSON with the one key "error"."""
    assert output.endswith(b"\n")
    assert output.count(b"\n") == 1
    document = json.loads(output)
    assert list(document) == ["error"]
    message = document["error"]
    assert isinstance(message, str)
    check_style(message)
    return message


@pytest.mark.parametrize("arguments", [("info",), ()], ids=["info", "no argument"])
def test_info_is_answered(plugin: Plugin, arguments: tuple[str, ...]) -> None:
    done = plugin(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == {"version": __version__, "api_version": "1.0.0"}


def test_info_does_not_wait_for_stdin() -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "netavark_geneve", "info"],
            stdin=reading,
            capture_output=True,
            cwd=PROJECT,
            timeout=20,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0


def test_unknown_verb_is_an_error(plugin: Plugin) -> None:
    done = plugin("remove", stdin=b"{}")
    assert (done.returncode, done.stderr) == (1, b"")
    assert "'remove'" in error_of(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["create"], b""),
        (["setup", "/run/netns/none"], b""),
        (["teardown", "/run/netns/none"], b""),
        (["setup", "/run/netns/none"], b"{"),
        (["create"], b"[]"),
    ],
    ids=["create: empty", "setup: empty", "teardown: empty", "setup: malformed", "create: no object"],
)
def test_stdin_without_a_request_is_an_error_and_nothing_else(
    plugin: Plugin, arguments: list[str], stdin: bytes
) -> None:
    done = plugin(*arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (1, b"")
    assert error_of(done.stdout)


def test_steps_that_were_asked_for_stay_off_stdout(plugin: Plugin) -> None:
    done = plugin("setup", "/run/netns/none", stdin=b"{}", RUST_LOG="netavark=debug")
    assert done.returncode == 1
    assert error_of(done.stdout)


def test_error_is_told_in_ascii_whatever_the_locale(plugin: Plugin) -> None:
    done = plugin("rémové", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 1
    assert done.stdout.isascii()
    assert "unknown subcommand" in error_of(done.stdout)


def caught_signals(pid: int) -> int:
    """Bit N-1 is set when the process has a handler for signal N; proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))


def started(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT)


def wait_for_handler(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    deadline = time.monotonic() + 20
    while not caught_signals(process.pid) >> (number - 1) & 1:
        assert process.poll() is None
        assert time.monotonic() < deadline, f"no handler for {number.name}"
        time.sleep(0.01)


def test_request_is_read_to_its_end_even_when_it_is_refused_unread() -> None:
    """netavark fails with "Broken pipe" otherwise, and the user never sees our reason."""
    larger_than_any_pipe = encoded(request_json(padding="x" * 2_000_000))
    with started([sys.executable, "-m", "netavark_geneve", "remove"]) as process:
        assert process.stdin is not None
        process.stdin.write(larger_than_any_pipe)
        output, _ = process.communicate(timeout=20)
    assert "'remove'" in error_of(output)


def test_plugin_that_is_asked_to_stop_says_so_in_json() -> None:
    with started([sys.executable, "-m", "netavark_geneve", "setup", "/run/netns/none"]) as process:
        wait_for_handler(process, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        output, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (1, b"")
    assert "interrupted" in error_of(output)


def test_teardown_keeps_ignoring_the_signal_that_netavark_ignores() -> None:
    ignoring = 'trap "" TERM; exec "$0" -m netavark_geneve teardown /run/netns/none'
    with started(["sh", "-c", ignoring, sys.executable]) as process:
        wait_for_handler(process, signal.SIGINT)  # Python's own: the interpreter is up
        time.sleep(0.2)  # time to make the mistake of catching SIGTERM
        assert not caught_signals(process.pid) >> (signal.SIGTERM - 1) & 1
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "interrupted" not in error_of(output)


UNHEARD = """
import json, sys
from netavark_geneve import __main__ as plugin
from netavark_geneve.errors import GeneveError

def handle(arguments, request, environ):
    print(json.dumps([arguments, request.decode()]), file=sys.stderr)
    if arguments[0] == "setup":
        return plugin.Reply(0, b"{}")
    raise GeneveError("no luck")

plugin.handle = handle
sys.exit(plugin.main())
"""


@pytest.mark.parametrize("verb", ["setup", "teardown"])
def test_setup_of_which_nobody_hears_is_undone(verb: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-c", UNHEARD, verb, "/run/netns/c1"]
        done = subprocess.run(
            command, input="{}", stdout=writing, stderr=subprocess.PIPE, cwd=PROJECT, timeout=20, check=False, text=True
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    asked = [json.loads(line)[0][0] for line in done.stderr.splitlines() if line.startswith("[[")]
    warnings = [line for line in done.stderr.splitlines() if not line.startswith("[[")]
    assert asked == (["setup", "teardown"] if verb == "setup" else ["teardown"])
    assert (
        warnings
        == [
            "[WARNING geneve-ovs] cannot answer, is netavark gone? Broken pipe",
            "[WARNING geneve-ovs] could not undo: no luck; the next attach or detach of this container will",
        ][: len(asked)]
    )
