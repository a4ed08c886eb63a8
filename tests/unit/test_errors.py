# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from netavark_geneve import errors
from netavark_geneve.errors import Deadline, Failures, GeneveError, during


def test_message_stays_on_one_line_whatever_was_quoted_in_it() -> None:
    assert str(GeneveError("ovsdb-server said:\n  no\t such\r\nrow\n")) == "ovsdb-server said: no such row"


def test_step_is_put_in_front_of_the_message() -> None:
    with pytest.raises(GeneveError) as caught, during("attach web"), during("connect"):
        raise GeneveError("no socket")
    assert str(caught.value) == "attach web: connect: no socket"


def test_step_keeps_the_cause_for_the_log() -> None:
    cause = GeneveError("no socket")
    with pytest.raises(GeneveError) as caught, during("attach web"):
        raise cause
    assert caught.value.__cause__ is cause


def test_step_leaves_other_exceptions_alone() -> None:
    bug = KeyError("vni")
    with pytest.raises(KeyError) as caught, during("attach web"):
        raise bug
    assert caught.value is bug


def test_step_that_succeeds_raises_nothing_and_goes_on() -> None:
    done = []
    with during("attach web"):
        done.append("step")
    assert done == ["step"]


@pytest.mark.parametrize(("passed", "remaining"), [(0, 10), (4, 6), (10, 0), (99, 0)])
def test_deadline_counts_down_to_zero_and_no_further(
    monkeypatch: pytest.MonkeyPatch, passed: float, remaining: float
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(errors, "time", SimpleNamespace(monotonic=lambda: clock.now))
    deadline = Deadline(10)
    clock.now += passed
    assert deadline.remaining() == remaining
    assert deadline.seconds == 10


def failing(error: BaseException) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


def try_all(*steps: Callable[[], object]) -> None:
    with Failures() as failures:
        for step in steps:
            with failures.collected():
                step()


NO_PORT, NO_NAMES = GeneveError("no port"), GeneveError("no names")


class TestFailures:
    def test_steps_are_tried_whatever_becomes_of_the_others(self) -> None:
        done: list[str] = []
        with pytest.raises(GeneveError) as caught:
            try_all(failing(NO_PORT), lambda: done.append("rules"), failing(NO_NAMES), lambda: done.append("link"))
        assert done == ["rules", "link"]
        assert str(caught.value) == "no port; no names"

    def test_first_failure_is_the_cause(self) -> None:
        with pytest.raises(GeneveError) as caught:
            try_all(failing(NO_PORT), failing(NO_NAMES))
        assert caught.value.__cause__ is NO_PORT

    def test_steps_that_all_succeed_raise_nothing(self) -> None:
        done: list[str] = []
        try_all(lambda: done.append("port"), lambda: done.append("rules"))
        assert done == ["port", "rules"]

    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), KeyError("vni")], ids=["interrupted", "a bug"])
    def test_what_is_no_failure_of_a_step_stops_them_all(self, stop: BaseException) -> None:
        done: list[str] = []
        with pytest.raises(type(stop)) as caught:
            try_all(failing(NO_PORT), failing(stop), lambda: done.append("link"))
        assert caught.value is stop
        assert done == []

    def test_failures_among_failures_come_out_as_one_sentence(self) -> None:
        with pytest.raises(GeneveError) as caught, during("detach web"):
            try_all(lambda: try_all(failing(NO_NAMES), failing(GeneveError("no rules"))), failing(NO_PORT))
        assert str(caught.value) == "detach web: no names; no rules; no port"
