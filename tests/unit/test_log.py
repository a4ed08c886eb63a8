# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from netavark_geneve import log


@pytest.mark.parametrize(
    ("rust_log", "level"),
    [
        ("netavark=debug", logging.DEBUG),
        ("netavark=info", logging.INFO),
        ("netavark=warn", logging.WARNING),
        ("netavark=error", logging.ERROR),
        ("netavark=trace", logging.DEBUG),
        ("debug", logging.DEBUG),
        ("INFO", logging.INFO),
        ("hyper=debug", logging.WARNING),
        ("netavark=debug,hyper=error", logging.DEBUG),
        ("hyper=error, netavark=debug", logging.DEBUG),
        ("netavark=info,netavark=debug", logging.DEBUG),
        ("netavark=loud", logging.WARNING),
        ("", logging.WARNING),
        ("=,", logging.WARNING),
    ],
)
def test_level_is_the_one_that_podman_asks_netavark_for(rust_log: str, level: int) -> None:
    assert log.level_from_environment({"RUST_LOG": rust_log}) == level


def test_level_is_warning_without_the_variable() -> None:
    assert log.level_from_environment({}) == logging.WARNING


@pytest.mark.usefixtures("fresh_loggers")
def test_warnings_go_to_stderr_and_steps_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    log.install({})
    log.logger.warning("network %s is local", "net1")
    log.logger.debug("a step")
    assert capsys.readouterr() == ("", "[WARNING geneve-ovs] network net1 is local\n")


@pytest.mark.usefixtures("fresh_loggers")
def test_warnings_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    log.install({})
    log.logger.warning("told by our own handler, not by the root logger's too")
    assert caplog.messages == []


@pytest.mark.usefixtures("fresh_loggers")
def test_steps_go_to_stderr_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    log.install({"RUST_LOG": "netavark=debug"})
    with log.timed("links"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("[DEBUG geneve-ovs] links: ")
    assert captured.err.endswith(" ms\n")


@pytest.mark.usefixtures("fresh_loggers")
def test_step_that_fails_is_timed_too_and_its_error_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    log.install({"RUST_LOG": "debug"})
    with pytest.raises(LookupError), log.timed("links"):
        raise LookupError
    assert "links: " in capsys.readouterr().err


@pytest.mark.usefixtures("fresh_loggers")
def test_tracebacks_of_ovsdbapp_stay_off_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log.install({"RUST_LOG": "debug"})
    logging.getLogger("ovsdbapp.backend").error("Traceback")
    assert capsys.readouterr() == ("", "")
