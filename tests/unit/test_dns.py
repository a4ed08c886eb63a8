# SPDX-License-Identifier: Apache-2.0
"""What aardvark-dns is given to read, and what happens when it does not do its part."""

import ipaddress
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from netavark_geneve import dns
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Line, Names

WEB = Names(
    network="net1",
    internal=False,
    listen=(ipaddress.ip_address("192.168.120.1"), ipaddress.ip_address("fd00:120::1")),
    upstreams=(),
    container_id="a" * 64,
    addresses=(ipaddress.ip_address("192.168.120.2"), ipaddress.ip_address("fd00:120::2")),
    names=("web", "www"),
)
DB = replace(WEB, container_id="b" * 64, addresses=(ipaddress.ip_address("192.168.120.3"),), names=("db",))
WEB_LINE = f"{WEB.container_id} 192.168.120.2 fd00:120::2 web,www"
DB_LINE = f"{DB.container_id} 192.168.120.3  db"
LISTEN = "192.168.120.1,fd00:120::1"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(dns, "DIRECTORY", tmp_path / "netavark-geneve" / "aardvark-dns")
    monkeypatch.setattr(dns, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(dns, "EXIT_PATIENCE", 0.2)
    return dns.DIRECTORY


def program(tmp_path: Path, script: str) -> str:
    """A stand-in for aardvark-dns."""
    path = tmp_path / "aardvark-dns"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def ensure(tmp_path: Path, *entries: Names, script: str = ":") -> None:
    for names in entries:
        dns.ensure_names(names, program(tmp_path, script), os.environ, Deadline(10))


def contents(directory: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in directory.iterdir()}


class TestFindProgram:
    def test_podmans_own_variable_is_asked_first(self, tmp_path: Path) -> None:
        path = program(tmp_path, ":")
        assert dns.find_program({"CONTAINERS_HELPER_BINARY_DIR": str(tmp_path)}) == path

    def test_none_when_it_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns, "HELPER_DIRECTORIES", (str(tmp_path),))
        assert dns.find_program({}) is None

    def test_what_cannot_be_run_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns, "HELPER_DIRECTORIES", (str(tmp_path),))
        Path(program(tmp_path, ":")).chmod(0o644)
        assert dns.find_program({}) is None


class TestFiles:
    def test_a_file_has_the_listeners_and_a_line_for_each_container(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, DB)
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE, DB_LINE]}

    def test_directories_are_for_root_alone(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB)
        assert [path.stat().st_mode & 0o777 for path in (directory.parent, directory)] == [0o700, 0o700]

    def test_ensuring_twice_is_ensuring_once(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, WEB)
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}

    def test_the_newest_container_decides_about_the_servers(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, replace(DB, upstreams=("192.0.2.53", "2001:db8::53")))
        assert contents(directory)["net1"][0] == f"{LISTEN} 192.0.2.53,2001:db8::53"

    def test_an_internal_network_is_marked(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, replace(WEB, internal=True))
        assert contents(directory) == {"net1%int": [LISTEN, WEB_LINE]}

    def test_a_network_that_became_internal_has_one_file(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, replace(DB, internal=True))
        assert contents(directory) == {"net1%int": [LISTEN, WEB_LINE, DB_LINE]}

    def test_no_network_is_taken_for_the_pid_file(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, replace(WEB, network="aardvark.pid"))
        assert contents(directory) == {"aardvark.pid%": [LISTEN, WEB_LINE]}

    def test_our_own_address_among_the_servers_would_be_a_loop(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, replace(WEB, upstreams=("192.168.120.1", "192.168.120.33")))
        assert contents(directory)["net1"][0] == f"{LISTEN} 192.168.120.33"
        ensure(tmp_path, replace(WEB, upstreams=("fd00:120:0::1",)))
        assert contents(directory)["net1"][0] == LISTEN

    @pytest.mark.parametrize("server", ["", "dns.example", "192.0.2.53:5353", "fe80::1%eth0"])
    def test_a_server_that_would_hide_the_whole_network_is_refused(self, tmp_path: Path, server: str) -> None:
        with pytest.raises(GeneveError, match="not an IP address; create the network with another --dns"):
            ensure(tmp_path, replace(WEB, upstreams=(server,)))
        assert not dns.DIRECTORY.exists()

    @pytest.mark.parametrize("name", ["", "space 1", "comma,1", "newline\n2", "tab\t", "half \ud800"])
    def test_a_name_that_cannot_be_written_is_left_out(
        self, tmp_path: Path, directory: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        ensure(tmp_path, replace(WEB, names=("web", name, "www")))
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}
        (warning,) = caplog.messages
        assert f"ignoring the name {name!r}" in warning

    def test_a_container_without_a_name_is_still_of_its_network(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, replace(WEB, names=()))
        assert contents(directory)["net1"][1].split(" ")[3] == "a" * 12

    def test_a_name_that_comes_twice_is_written_once(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, replace(WEB, names=("web", "www", "web")))
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}


class TestRemoval:
    def test_of_one_container_leaves_the_others(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, DB)
        for _ in range(2):
            dns.remove_names("net1", WEB.container_id)
            assert contents(directory) == {"net1": [LISTEN, DB_LINE]}

    def test_of_the_last_takes_all_along(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, replace(DB, network="net2", internal=True))
        dns.remove_names("net1", WEB.container_id)
        assert list(contents(directory)) == ["net2%int"]
        for _ in range(2):
            dns.remove_names("net2", DB.container_id)
            assert not directory.parent.exists()

    def test_what_others_keep_beside_it_stays(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB)
        (directory.parent / "theirs").touch()
        dns.remove_names("net1", WEB.container_id)
        assert [path.name for path in directory.parent.iterdir()] == ["theirs"]

    def test_replacing_all_leaves_exactly_those(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, replace(WEB, network="net2"))
        dns.replace_all([replace(WEB, network="net3"), DB, WEB], program(tmp_path, ":"), os.environ, Deadline(10))
        assert contents(directory) == {"net1": [LISTEN, DB_LINE, WEB_LINE], "net3": [LISTEN, WEB_LINE]}

    def test_replacing_all_by_nothing_takes_all_away(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB)
        dns.replace_all([], program(tmp_path, "exit 1"), os.environ, Deadline(10))
        assert not directory.parent.exists()


class TestLeftovers:
    def test_lines_tell_networks_containers_and_names(self, tmp_path: Path) -> None:
        ensure(tmp_path, WEB, replace(DB, network="net2", internal=True), replace(DB, network="aardvark.pid"))
        assert set(dns.find_lines()) == {
            Line("net1", WEB.container_id, "web,www"),
            Line("net2", DB.container_id, "db"),
            Line("aardvark.pid", DB.container_id, "db"),
        }

    def test_host_without_a_resolver_has_none(self, directory: Path) -> None:
        assert (dns.find_lines(), dns.has_instance(), dns.find_unfinished()) == ((), False, ())
        dns.remove_lines(lambda lines: lines)
        assert not directory.parent.exists()

    def test_file_that_names_nobody_is_found_and_removed(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB)
        (directory / "net2").write_text(f"{LISTEN}\n")
        (directory / "net3").touch()
        nobody = (Line("net2"), Line("net3"))
        assert set(nobody) < set(dns.find_lines())
        dns.remove_lines(lambda lines: nobody)
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}

    def test_what_is_live_stays(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, DB)
        dns.remove_lines(lambda lines: [line for line in lines if line.names == "db"])
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}

    def test_of_the_last_the_resolver_goes_too(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB)
        dns.remove_lines(lambda lines: lines)
        assert not directory.parent.exists()

    def test_resolver_without_names_is_found_and_removed(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        assert (dns.has_instance(), dns.find_lines()) == (True, ())
        dns.remove_lines(lambda lines: lines)
        assert not directory.parent.exists()

    def test_file_whose_writer_was_killed_is_found_and_removed(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB)
        (directory.parent / "aardvark-dns.new").touch()
        assert dns.find_unfinished() == (str(directory.parent / "aardvark-dns.new"),)
        dns.remove_lines(lambda lines: [])
        assert dns.find_unfinished() == ()
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}

    @pytest.mark.parametrize("left", ["", "aardvark-dns", "aardvark-dns.new"], ids=["at first", "later", "last"])
    def test_what_a_killed_writer_left_goes_with_its_container(self, directory: Path, left: str) -> None:
        if left == "aardvark-dns.new":
            directory.mkdir(parents=True)
            (directory.parent / left).touch()
        else:
            (directory.parent / left).mkdir(parents=True)
        dns.remove_names("net1", WEB.container_id)
        assert not directory.parent.exists()


class TestStart:
    def test_is_as_aardvark_dns_wants_it(self, tmp_path: Path, directory: Path) -> None:
        ensure(tmp_path, WEB, script=f'echo "$@" > {tmp_path}/arguments; pwd >> {tmp_path}/arguments')
        assert (tmp_path / "arguments").read_text() == f"--config {directory} -p 53 run\n/\n"

    def test_under_systemd_is_in_a_scope_of_its_own(self, tmp_path: Path, directory: Path) -> None:
        dns.SYSTEMD.mkdir()
        stand_in = tmp_path / "systemd-run"
        stand_in.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n')
        stand_in.chmod(0o755)
        dns.ensure_names(WEB, "/aardvark-dns", {"PATH": f"{tmp_path}:/usr/bin:/bin"}, Deadline(10))
        assert (tmp_path / "arguments").read_text() == f"-q --scope /aardvark-dns --config {directory} -p 53 run\n"

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            (
                "echo Error from child process >&2; echo Error starting server it is too late >&2; exit 1",
                r"aardvark-dns did not start: it is too late; see 'ss -lntup sport = :53'.*--disable-dns",
            ),
            (
                "printf 'Error from child processError starting server it is too late\n\n' >&2; exit 1",
                r"aardvark-dns did not start: it is too late; see",
            ),
            ("exit 1", "it gives no reason"),
            ("sleep 60", "it did not finish in time"),
            ("sleep 60 & exit 1", "it did not finish in time"),
        ],
        ids=["a reason", "a reason in one line", "no reason", "hangs", "keeps the pipe"],
    )
    def test_that_fails_says_why_and_takes_the_names_back(
        self, tmp_path: Path, directory: Path, script: str, reason: str
    ) -> None:
        ensure(tmp_path, WEB)
        with pytest.raises(GeneveError, match=reason):
            dns.ensure_names(DB, program(tmp_path, script), os.environ, Deadline(0.1))
        assert contents(directory) == {"net1": [LISTEN, WEB_LINE]}

    def test_that_fails_for_the_first_container_leaves_nothing(self, tmp_path: Path, directory: Path) -> None:
        with pytest.raises(GeneveError):
            ensure(tmp_path, WEB, script=f"echo 1 > {directory}/aardvark.pid; exit 1")
        assert not directory.parent.exists()

    def test_of_what_is_not_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(GeneveError, match="/nowhere: No such file or directory"):
            dns.ensure_names(WEB, "/nowhere", os.environ, Deadline(10))

    def test_whoever_keeps_the_pipe_open_does_not_keep_us(self, tmp_path: Path) -> None:
        start = time.monotonic()
        ensure(tmp_path, WEB, script="sleep 5 &")
        assert time.monotonic() - start < 3

    @pytest.mark.parametrize("port", ["", "0", "65536", "-1", "domain", "٥٣", "5 3"])
    def test_needs_a_port(self, tmp_path: Path, port: str) -> None:
        with pytest.raises(GeneveError, match=r"set dns_bind_port in containers.conf"):
            dns.ensure_names(WEB, program(tmp_path, ":"), {"NETAVARK_DNS_PORT": port}, Deadline(10))
        assert not dns.DIRECTORY.exists()

    def test_takes_podmans_port(self, tmp_path: Path) -> None:
        assert (dns.port({}), dns.port({"NETAVARK_DNS_PORT": "65535"})) == (53, 65535)
        environ = {**os.environ, "NETAVARK_DNS_PORT": "5353"}
        dns.ensure_names(WEB, program(tmp_path, f'echo "$4" > {tmp_path}/port'), environ, Deadline(10))
        assert (tmp_path / "port").read_text() == "5353\n"


class TestSignals:
    @pytest.fixture
    def process(self) -> "subprocess.Popen[bytes]":
        """It ignores SIGHUP, says on its standard output so, and ends on its own soon enough."""
        code = "import signal, time; signal.signal(1, signal.SIG_IGN); print(flush=True); time.sleep(20)"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        return process

    @pytest.fixture
    def signalled(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """No signal is sent, whatever the code under test would do: some of these numbers mean every process."""
        pids: list[int] = []
        monkeypatch.setattr("netavark_geneve.dns.os.kill", lambda pid, kind: pids.append(pid))
        return pids

    @pytest.mark.parametrize("number", ["none", "-1", "0", "1", "1 2", "4194999", "99999999999999999999", "", "\xb2"])
    def test_a_pid_file_with_anything_in_it_is_no_instance(
        self, tmp_path: Path, directory: Path, signalled: list[int], number: str
    ) -> None:
        ensure(tmp_path, WEB)
        (directory / "aardvark.pid").write_bytes(number.encode())
        dns.remove_names("net1", WEB.container_id)
        assert signalled == []
        assert not directory.parent.exists()

    @pytest.mark.parametrize("number", ["-1", "0", "-4194999", "+7", "1_0"])
    def test_no_number_is_signalled_that_means_many_processes(
        self, tmp_path: Path, directory: Path, signalled: list[int], number: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dns, "_is_instance", lambda pid: True)
        ensure(tmp_path, WEB)
        (directory / "aardvark.pid").write_text(number)
        dns.remove_names("net1", WEB.container_id)
        assert signalled == []

    def test_a_process_that_is_not_ours_is_left_alone(
        self, tmp_path: Path, directory: Path, process: "subprocess.Popen[bytes]"
    ) -> None:
        ensure(tmp_path, WEB)
        (directory / "aardvark.pid").write_text(str(process.pid))
        dns.remove_names("net1", WEB.container_id)
        assert not directory.parent.exists()
        assert process.poll() is None
        with process:
            process.kill()

    def test_an_instance_that_stays_without_networks_is_ended(
        self, tmp_path: Path, directory: Path, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ensure(tmp_path, WEB)
        (directory / "aardvark.pid").write_text(str(process.pid))
        monkeypatch.setattr(dns, "_is_instance", lambda pid: process.poll() is None)
        dns.remove_names("net1", WEB.container_id)
        with process:
            assert process.wait() == -signal.SIGTERM


def test_containers_look_below_podmans_domain() -> None:
    assert dns.search_domains() == ("dns.podman",)


def test_a_directory_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "DIRECTORY", Path("/proc/none/aardvark-dns"))
    with pytest.raises(GeneveError, match=r"cannot keep the names of containers in /proc/none/aardvark-dns"):
        dns.ensure_names(WEB, "/aardvark-dns", {}, Deadline(10))
