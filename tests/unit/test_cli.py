# SPDX-License-Identifier: Apache-2.0
"""The operator's command. What `reload` does is in test_reload.py, what the command costs in test_imports.py."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from netavark_geneve import __version__, cli, firewalld, stale
from netavark_geneve import gc as gc_verb
from netavark_geneve import reload as reload_verb
from netavark_geneve.errors import GeneveError
from netavark_geneve.model import Container, Network

from .makers import container, network

pytestmark = pytest.mark.usefixtures("fresh_loggers")

NET1, NET2 = network(name="net1"), network(name="net2", id="11" * 32)
WEB, DB = container(), container(name="db", id="ef" * 32)

Run = Callable[..., tuple[int, str, str]]


class Reloads:
    """Each reload finds the next of these lists of containers, or fails with the next of these errors."""

    def __init__(self) -> None:
        self.outcomes: list[list[tuple[Network, Container]] | BaseException] = []
        self.log: list[str] = []

    def reload(self, networks: object, environ: Mapping[str, str]) -> list[tuple[Network, Container]]:
        self.log.append("reload")
        outcome = self.outcomes.pop(0) if self.outcomes else []
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def watching(self, *, reloads: int, end: BaseException) -> Callable[[], Iterator[None]]:
        """A firewalld that is reloaded so many times."""

        def events() -> Iterator[None]:
            for _ in range(reloads):
                self.log.append("firewalld")
                yield
            raise end

        def listen() -> Iterator[None]:
            self.log.append("listen")
            return events()

        return listen


@pytest.fixture
def reloads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reloads]:
    """`reload` of root does nothing but write down that it was called; the handler of SIGTERM is put back."""
    made = Reloads()
    monkeypatch.setattr(cli, "check_root", lambda: None)
    monkeypatch.setattr(reload_verb, "reload", made.reload)
    before = signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, stdout and stderr of the command."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["netavark-geneve", *arguments])
        try:
            status: Any = cli.main()
        except SystemExit as stopped:
            status = stopped.code
        return (status, *capsys.readouterr())

    return call


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--help"], ["COMMAND", "reload"]), (["reload", "--help"], ["--watch", "firewalld"])]
)
def test_help_tells_what_there_is(run: Run, arguments: list[str], words: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert all(word in out for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["relaod"], "'relaod'"),
        (["setup"], "'setup'"),
        (["--watch"], "COMMAND"),
        (["reload", "net1"], "net1"),
        (["reload", "--wait"], "--wait"),
    ],
    ids=["nothing", "typo", "the plugin's", "no command", "a network", "unknown option"],
)
def test_wrong_arguments_are_told_on_stderr_and_change_nothing(
    run: Run, reloads: Reloads, arguments: list[str], words: str
) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert err.startswith("usage: netavark-geneve")
    assert reloads.log == []


@pytest.mark.parametrize(
    ("attached", "told"),
    [
        ([], "restored 0 container(s) on 0 network(s)\n"),
        ([(NET1, WEB)], "restored 1 container(s) on 1 network(s)\n"),
        ([(NET1, WEB), (NET2, WEB), (NET1, DB)], "restored 3 container(s) on 2 network(s)\n"),
    ],
    ids=["nothing", "one", "several"],
)
def test_reload_tells_how_much_it_restored(
    run: Run, reloads: Reloads, attached: list[tuple[Network, Container]], told: str
) -> None:
    reloads.outcomes = [attached]
    assert run("reload") == (0, told, "")
    assert reloads.log == ["reload"]


def test_error_is_told_on_stderr_behind_the_commands_name(run: Run, reloads: Reloads) -> None:
    reloads.outcomes = [GeneveError("no OVSDB socket /run/openvswitch/db.sock;\nis Open vSwitch running?")]
    assert run("reload") == (
        1,
        "",
        "netavark-geneve reload: no OVSDB socket /run/openvswitch/db.sock; is Open vSwitch running?\n",
    )


def test_other_users_than_root_are_refused(run: Run, reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_root() -> None:
        raise GeneveError("geneve-ovs needs root")

    monkeypatch.setattr(cli, "check_root", check_root)
    assert run("reload") == (1, "", "netavark-geneve reload: geneve-ovs needs root\n")
    assert reloads.log == []


def test_version_needs_no_root(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run("--version")[0] == 0


class TestWatch:
    @pytest.fixture
    def watch(self, run: Run, reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> Run:
        """Run while firewalld is reloaded so many times; then somebody stops us, unless `end` comes first."""

        def call(*, times: int, end: BaseException | None = None) -> tuple[int, str, str]:
            monkeypatch.setattr(firewalld, "reloads", reloads.watching(reloads=times, end=end or KeyboardInterrupt()))
            return run("reload", "--watch")

        return call

    def test_everything_is_restored_first_and_again_after_each_reload_of_firewalld(
        self, watch: Run, reloads: Reloads
    ) -> None:
        status, out, err = watch(times=2)
        assert (status, err) == (0, "")
        assert out.splitlines() == ["restored 0 container(s) on 0 network(s)"] * 3
        assert reloads.log == ["listen", "reload", "firewalld", "reload", "firewalld", "reload"]

    def test_no_reload_is_missed_while_everything_is_restored_first(self, watch: Run, reloads: Reloads) -> None:
        watch(times=0)
        assert reloads.log == ["listen", "reload"]

    def test_reload_that_fails_is_a_warning_and_the_next_one_another_chance(self, watch: Run, reloads: Reloads) -> None:
        reloads.outcomes = [[], GeneveError("no OVSDB socket"), [(NET1, WEB)]]
        status, out, err = watch(times=2)
        assert status == 0
        assert out.splitlines()[-1] == "restored 1 container(s) on 1 network(s)"
        assert err == "[WARNING geneve-ovs] no OVSDB socket\n"

    def test_first_one_that_fails_is_an_error(self, watch: Run, reloads: Reloads) -> None:
        reloads.outcomes = [GeneveError("no OVSDB socket")]
        assert watch(times=2) == (1, "", "netavark-geneve reload: no OVSDB socket\n")

    def test_bus_that_goes_away_is_an_error(self, watch: Run) -> None:
        status, _, err = watch(times=1, end=GeneveError("the system bus has closed the connection"))
        assert (status, err) == (1, "netavark-geneve reload: the system bus has closed the connection\n")

    def test_it_is_stopped_by_sigterm_as_by_the_keyboard(self, watch: Run) -> None:
        watch(times=0)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_reload_that_was_interrupted_has_not_succeeded(run: Run, reloads: Reloads) -> None:
    reloads.outcomes = [KeyboardInterrupt()]
    status, out, _ = run("reload")
    assert (status != 0, out) == (True, "")


class TestGc:
    PORT = stale.Thing("port", "veth1", "veth1", "its interface is gone", "net1", "cd" * 32, "web")
    CHAIN = stale.Thing("chain", "network/ovs_net9", "network/ovs_net9", "its network has no container here")

    @pytest.fixture
    def collect(self, run: Run, reloads: Reloads, monkeypatch: pytest.MonkeyPatch) -> Run:
        """Run when gc reports this."""

        def call(*arguments: str, report: gc_verb.Report | GeneveError) -> tuple[int, str, str]:
            def gc(networks: object, environ: object, *, apply: bool, wait: object) -> gc_verb.Report:
                assert apply is ("--apply" in arguments)
                if isinstance(report, GeneveError):
                    raise report
                return report

            monkeypatch.setattr(gc_verb, "gc", gc)
            return run("gc", *arguments)

        return call

    @pytest.mark.parametrize("arguments", [(), ("--apply",)], ids=["look", "apply"])
    def test_host_where_all_is_well(self, collect: Run, arguments: tuple[str, ...]) -> None:
        assert collect(*arguments, report=gc_verb.Report(())) == (0, "nothing is stale\n", "")
        assert collect("--json", *arguments, report=gc_verb.Report(())) == (0, "[]\n", "")

    def test_stale_things_are_told_one_a_line_and_are_no_success(self, collect: Run) -> None:
        assert collect(report=gc_verb.Report((self.PORT, self.CHAIN))) == (
            1,
            "port veth1 of container web (cdcdcdcdcdcd) on network net1: its interface is gone\n"
            "chain network/ovs_net9: its network has no container here\n",
            "netavark-geneve gc: found 2 stale; 'netavark-geneve gc --apply' removes them\n",
        )

    def test_what_was_removed_is_told_and_a_success(self, collect: Run) -> None:
        status, out, err = collect("--apply", report=gc_verb.Report((self.PORT,), frozenset((self.PORT,))))
        assert (status, err) == (0, "")
        assert out == "removed port veth1 of container web (cdcdcdcdcdcd) on network net1: its interface is gone\n"

    def test_what_stays_is_told_with_the_error(self, collect: Run) -> None:
        report = gc_verb.Report((self.PORT, self.CHAIN), frozenset((self.PORT,)), GeneveError("nft is out"))
        status, out, err = collect("--apply", report=report)
        assert (status, err) == (1, "netavark-geneve gc: nft is out\n")
        assert [line.split()[0] for line in out.splitlines()] == ["removed", "chain"]

    def test_what_stays_without_an_error_is_no_success_either(self, collect: Run) -> None:
        status, _, err = collect("--apply", report=gc_verb.Report((self.CHAIN,)))
        assert (status, err) == (1, "netavark-geneve gc: 1 could not be removed; run it again\n")

    def test_machines_are_told_the_same(self, collect: Run) -> None:
        report = gc_verb.Report((self.PORT, self.CHAIN), frozenset((self.PORT,)))
        status, out, _ = collect("--json", "--apply", report=report)
        assert status == 1
        assert json.loads(out) == [
            {
                "kind": "port",
                "name": "veth1",
                "network": "net1",
                "container": "cdcdcdcdcdcd",
                "reason": "its interface is gone",
                "removed": True,
            },
            {
                "kind": "chain",
                "name": "network/ovs_net9",
                "network": None,
                "container": None,
                "reason": "its network has no container here",
                "removed": False,
            },
        ]

    def test_host_that_cannot_be_looked_at_is_an_error(self, collect: Run) -> None:
        assert collect(report=GeneveError("no OVSDB socket")) == (1, "", "netavark-geneve gc: no OVSDB socket\n")

    def test_wait_says_what_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        cli._wait(0.0, 2)
        out, err = capsys.readouterr()
        assert out == ""
        assert err == (
            "netavark-geneve gc: 2 may be of a container that is just starting or ending; looking again in 0 s\n"
        )
