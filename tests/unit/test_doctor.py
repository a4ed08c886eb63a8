# SPDX-License-Identifier: Apache-2.0
"""`netavark-geneve doctor`: what it asks, and what it says. The judgements are in test_checks.py."""

import json
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from netavark_geneve import cli, dns, doctor, engine, examination, kernel, programs, sweep, underlay
from netavark_geneve.checks.finding import FAULT, UNKNOWN, WARNING, Finding, unknown
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.found import Engine, Program

from .makers import network, refused

pytestmark = pytest.mark.usefixtures("fresh_loggers")

FINE = Finding("Podman", "5.4.2", "4.5 or later")
FAINT = Finding("resolver", "none", "aardvark-dns", WARNING, "no names", "install aardvark-dns")
BAD = Finding("plugin", "mode 0644", "an executable file", FAULT, "it is not executable", "chmod 755 /plugin")
DARK = Finding("packet filter", "an error", "", UNKNOWN, "nft did not finish in time", "look for a program")
Run = Callable[..., tuple[int, str, str]]
Install = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, stdout and stderr of the command when these are the findings, or there is an error instead."""

    def call(*arguments: str, found: list[Finding] | GeneveError) -> tuple[int, str, str]:
        def look(*_: object) -> list[Finding]:
            if isinstance(found, GeneveError):
                raise found
            return found

        monkeypatch.setattr(cli, "check_root", lambda: None)
        monkeypatch.setattr(doctor, "doctor", look)
        monkeypatch.setattr("sys.argv", ["netavark-geneve", "doctor", *arguments])
        return (cli.main(), *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("found", "status", "summary"),
    [
        ([FINE], 0, "1 checks: all is well"),
        ([FINE, FAINT], 0, "2 checks: 1 warning(s)"),
        ([FINE, FAINT, BAD, BAD, DARK], 1, "5 checks: 2 fault(s), 1 unknown, 1 warning(s)"),
        ([FINE, DARK, FAINT], 2, "3 checks: 1 unknown, 1 warning(s)"),
    ],
    ids=["well", "warning", "fault", "unknown"],
)
def test_exit_status_and_summary_say_how_bad_it_is(run: Run, found: list[Finding], status: int, summary: str) -> None:
    told, out, err = run(found=found)
    assert (told, out.splitlines()[-1], err) == (status, summary, "")
    assert len(out.splitlines()) == len(found) - found.count(FINE) + 1


def test_people_read_what_is_not_well_or_everything(run: Run) -> None:
    fault = (
        "fault    plugin: found mode 0644; wanted an executable file; it is not executable; remedy: chmod 755 /plugin\n"
    )
    assert run(found=[FINE, BAD])[1] == f"{fault}2 checks: 1 fault(s)\n"
    assert run("--all", found=[FINE, BAD])[1] == (
        f"ok       Podman: found 5.4.2; wanted 4.5 or later\n{fault}2 checks: 1 fault(s)\n"
    )


def test_machines_read_everything(run: Run) -> None:
    status, out, _ = run("--json", found=[FINE, BAD])
    assert status == 1
    assert [entry["state"] for entry in json.loads(out)] == ["ok", "fault"]
    assert json.loads(out)[1] == {
        "name": "plugin",
        "found": "mode 0644",
        "wanted": "an executable file",
        "state": "fault",
        "reason": "it is not executable",
        "remedy": "chmod 755 /plugin",
    }


def test_host_that_cannot_be_looked_at_is_another_failure_than_faults(run: Run) -> None:
    assert run(found=GeneveError("not here")) == (2, "", "netavark-geneve doctor: not here\n")


@pytest.mark.parametrize("version", [None, "0.7.1"], ids=["missing", "old"])
def test_without_a_library_nothing_that_needs_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    def find(name: str) -> str:
        if name != "pyroute2":
            return "9.9"
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", find)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(examination, "examine", None)  # what is called would fail
    faults = [finding.name for finding in doctor.doctor([], {}) if finding.state == FAULT]
    assert faults == ["library pyroute2"]


def test_step_that_fails_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    """On a host where nothing can be asked, each step says so, and what depends on it is left out."""
    lost = GeneveError("no answer; look")

    def fail(*_: object, **__: object) -> None:
        raise lost

    for module, name in (
        (engine, "ask_podman"),
        (engine, "ask_version"),
        (sweep, "connect"),
        (underlay, "find_interfaces"),
        (dns, "find_lines"),
    ):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(sweep, "check_namespace", lambda environ: None)
    monkeypatch.setattr(engine, "find_program", lambda *_: Program("/plugin", is_file=True, mode=0o755))

    found = {finding.name: finding.state for finding in examination.examine([network()], environ)}

    assert found["Podman"] == found["plugin's version"] == found["database of Open vSwitch"] == FAULT
    assert found["fabric.toml"] == found["network net1"] == FAULT
    assert found["names"] == UNKNOWN
    assert unknown("names", lost).remedy == "look"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a shell script where programs are looked for first."""

    def make(name: str, script: str) -> str:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
        return str(file)

    return make


class TestPrograms:
    def test_answer(self, install: Install) -> None:
        install("tool", 'echo "$1"')
        assert programs.ask(["tool", "x"], Deadline(5)) == "x\n"

    def test_failure_is_told_in_its_last_words(self, install: Install) -> None:
        install("tool", "echo much >&2; echo 'no socket' >&2; exit 3")
        with refused("'tool x' fails: no socket"):
            programs.ask(["tool", "x"], Deadline(5))

    def test_failure_without_a_word(self, install: Install) -> None:
        install("tool", "exit 3")
        with refused("exit status 3"):
            programs.ask(["tool"], Deadline(5))

    def test_program_that_is_not_there(self) -> None:
        with refused("cannot run 'no-such-tool'", "is it installed?"):
            programs.ask(["no-such-tool"], Deadline(5))

    def test_program_that_hangs_ends_with_all_that_it_has_started(self, install: Install) -> None:
        """The child would keep the pipe open; it ends too, or this took a minute."""
        install("tool", "sleep 60 & sleep 60")
        start = time.monotonic()
        with refused("'tool' does not answer"):
            programs.ask(["tool"], Deadline(0))
        assert time.monotonic() - start < 30


class TestEngine:
    INFO = (
        '{"host": {"networkBackend": "netavark", "networkBackendInfo": {"version": "netavark 1.14.0"}},'
        ' "plugins": {"network": ["bridge", "geneve-ovs"]}, "version": {"Version": "5.4.2"}}'
    )

    def test_what_podman_says(self, install: Install) -> None:
        install("podman", f"[ \"$*\" = 'info --format json' ] && echo '{self.INFO}'")
        assert engine.ask_podman(Deadline(5)) == Engine(
            "5.4.2", "netavark", "netavark 1.14.0", ("bridge", "geneve-ovs")
        )

    def test_podman_that_says_little(self, install: Install) -> None:
        install("podman", """echo '{"host": {}, "plugins": {"network": null}, "version": {"Version": "4.0"}}'""")
        assert engine.ask_podman(Deadline(5)) == Engine("4.0", "", "", ())

    @pytest.mark.parametrize("said", ["", "{}", "[]", '{"host": 1}'])
    def test_podman_that_says_something_else(self, install: Install, said: str) -> None:
        install("podman", f"echo '{said}'")
        with refused("'podman info' says nothing"):
            engine.ask_podman(Deadline(5))

    def test_plugin_is_found_in_the_first_directory_that_has_it(self, install: Install, tmp_path: Path) -> None:
        path = install("geneve-ovs", """[ "$1" = info ] && echo '{"version": "1.2"}'""")
        plugin = engine.find_program("geneve-ovs", [str(tmp_path / "none"), str(tmp_path / "bin")])
        assert plugin == Program(path, is_file=True, mode=0o755)
        assert engine.ask_version(plugin, Deadline(5)) == "1.2"
        assert engine.find_program("geneve-ovs", [str(tmp_path)]) is None

    def test_plugin_that_is_not_ours(self, install: Install) -> None:
        path = install("geneve-ovs", "echo hello")
        with refused("does not say its version"):
            engine.ask_version(Program(path, is_file=True, mode=0o755), Deadline(5))


@pytest.mark.parametrize(
    ("name", "line", "is_there"),
    [
        ("openvswitch", "kernel/net/openvswitch/openvswitch.ko.xz: kernel/net/nsh/nsh.ko.xz", True),
        ("vport_geneve", "kernel/net/openvswitch/vport-geneve.ko: x", True),
        ("geneve", "kernel/net/openvswitch/vport-geneve.ko: kernel/drivers/net/geneve.ko", False),
    ],
    ids=["compressed", "dash", "only needed by others"],
)
def test_modules_are_those_of_depmods_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str, is_there: bool
) -> None:
    (tmp_path / "modules.dep").write_text(f"{line}\n")
    paths = {"/lib/modules": tmp_path, "/sys/module": tmp_path / "none"}
    monkeypatch.setattr(kernel, "Path", lambda first, *rest: Path(paths[first], rest[-1]))
    assert kernel.has_module(name) is is_there
