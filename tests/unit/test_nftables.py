# SPDX-License-Identifier: Apache-2.0
"""libnftables' JSON, and the `nft` program that takes it."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve import nftables
from netavark_geneve.errors import Deadline, GeneveError

from .makers import refused

NAMED = {"family": "inet", "table": "netavark_geneve"}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (nftables.table("delete"), {"delete": {"table": {"family": "inet", "name": "netavark_geneve"}}}),
        (
            nftables.add("set", name="bridges", type="ifname"),
            {"add": {"set": {**NAMED, "name": "bridges", "type": "ifname"}}},
        ),
        (nftables.flush("chain", "forward"), {"flush": {"chain": {**NAMED, "name": "forward"}}}),
        (nftables.delete("chain", "network/b"), {"delete": {"chain": {**NAMED, "name": "network/b"}}}),
        (
            nftables.rule("forward", nftables.interface("oif", "podman*"), {"drop": None}),
            {
                "add": {
                    "rule": {
                        **NAMED,
                        "chain": "forward",
                        "expr": [
                            {"match": {"left": {"meta": {"key": "oifname"}}, "op": "==", "right": "podman*"}},
                            {"drop": None},
                        ],
                    }
                }
            },
        ),
    ],
    ids=["table", "add", "flush", "delete", "rule"],
)
def test_command_is_as_libnftables_takes_it(command: object, wanted: object) -> None:
    assert command == wanted


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        (
            nftables.conntrack("state", "invalid"),
            {"match": {"left": {"ct": {"key": "state"}}, "op": "in", "right": "invalid"}},
        ),
        (nftables.field("ip6", "saddr"), {"payload": {"protocol": "ip6", "field": "saddr"}}),
        (nftables.prefix(ip_network("fd00::/64")), {"prefix": {"addr": "fd00::", "len": 64}}),
        (
            nftables.lookup(nftables.concat("tcp", 80), "ports4"),
            {"vmap": {"key": {"concat": ["tcp", 80]}, "data": "@ports4"}},
        ),
        (nftables.jump("network/b"), {"jump": {"target": "network/b"}}),
    ],
    ids=["conntrack", "field", "prefix", "lookup", "jump"],
)
def test_expression_is_as_libnftables_takes_it(expression: object, wanted: object) -> None:
    assert expression == wanted


def test_elements_are_one_command_and_none_is_no_command() -> None:
    assert nftables.elements("add", "bridges", (name for name in ("a", "b"))) == [
        {"add": {"element": {**NAMED, "name": "bridges", "elem": ["a", "b"]}}}
    ]
    assert nftables.elements("add", "bridges", ()) == []


@pytest.mark.parametrize(
    ("comment", "kept"), [("net1 web", "net1 web"), ("x" * 129, "x" * 128), ("", None), (None, None)]
)
def test_comment_is_as_long_as_nft_takes_it(comment: str | None, kept: str | None) -> None:
    rule = nftables.rule("c", {"drop": None}, comment=comment)["add"]["rule"]
    assert rule.get("comment") == kept


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `nft` this shell script, which finds the test's own directory in $HERE."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HERE", str(tmp_path))

    def make(script: str) -> Path:
        program = tmp_path / "nft"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return tmp_path

    return make


def test_batch_goes_to_nft_at_once(nft: Any) -> None:
    here = nft('echo "$@" >> "$HERE/arguments"; cat > "$HERE/stdin"')
    commands = [nftables.table("add"), nftables.flush("chain", "forward")]
    nftables.run(commands, Deadline(10))
    assert (here / "arguments").read_text() == "-j -f -\n"
    assert json.loads((here / "stdin").read_text()) == {"nftables": commands}


def test_refusal_tells_nfts_reason_on_one_line(nft: Any) -> None:
    nft('cat > /dev/null; echo "internal:0:0-0: Error: File exists" >&2; echo >&2; exit 1')
    with refused("nft refused our rules", "File exists", "'nft list table inet netavark_geneve'"):
        nftables.run([nftables.table("add")], Deadline(10))


def test_objects_of_our_table_are_listed(nft: Any) -> None:
    here = nft("""echo "$@" > "$HERE/arguments"; echo '{"nftables": [{"metainfo": {}}, {"chain": {"name": "c"}}]}'""")
    assert nftables.list_table(Deadline(10)) == [{"metainfo": {}}, {"chain": {"name": "c"}}]
    assert (here / "arguments").read_text() == "-j list table inet netavark_geneve\n"


def test_table_that_is_not_there_has_no_objects(nft: Any) -> None:
    nft('echo "Error: No such file or directory" >&2; exit 1')
    assert nftables.list_table(Deadline(10)) == []


def test_host_without_nft_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with refused("nft", "install nftables", 'firewall_driver = "none"'):
        nftables.run([nftables.table("add")], Deadline(10))


def test_host_that_can_start_no_process_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork(*_: object, **named: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("subprocess.run", fork)
    with refused("cannot run nft: Resource temporarily unavailable", "limit of processes"):
        nftables.run([nftables.table("add")], Deadline(10))


@pytest.mark.parametrize(("seconds", "patience"), [(0, 1), (10**6, 10**5)], ids=["none left", "plenty"])
def test_nft_has_what_is_left_of_the_deadline_and_a_second_at_least(
    monkeypatch: pytest.MonkeyPatch, seconds: float, patience: float
) -> None:
    given = []

    def hang(command: list[str], *, timeout: float, **_: Any) -> None:
        given.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr("subprocess.run", hang)
    with refused("nft did not finish in time"):
        nftables.run([nftables.table("add")], Deadline(seconds))
    assert patience <= given[0] <= max(1, seconds)


def is_locked() -> bool:
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(namespace, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(namespace)
    return False


def fail_under_the_lock() -> None:
    with nftables.lock():
        assert is_locked()
        raise GeneveError("nft refused our rules")


def test_lock_keeps_others_out_and_is_given_back_whatever_happens() -> None:
    with pytest.raises(GeneveError, match="nft refused our rules"):
        fail_under_the_lock()
    with nftables.lock():  # would wait for ever
        assert is_locked()


KILLED = """
from netavark_geneve import nftables
from netavark_geneve.errors import Deadline

with nftables.lock():
    nftables.run([nftables.table("add")], Deadline(60))
"""


def test_nft_keeps_the_lock_of_its_caller_who_was_killed(nft: Any) -> None:
    here: Path = nft('cat >"$HERE/given"; touch "$HERE/started"; while [ ! -e "$HERE/go" ]; do sleep 0.01; done')
    caller = subprocess.Popen([sys.executable, "-c", KILLED])
    try:
        wait_until((here / "started").exists)
        caller.kill()
        caller.wait(30)
        assert is_locked()
    finally:
        caller.kill()
        caller.wait(30)
        (here / "go").touch()
    wait_until(lambda: not is_locked())
    assert json.loads((here / "given").read_text()) == {"nftables": [nftables.table("add")]}


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
