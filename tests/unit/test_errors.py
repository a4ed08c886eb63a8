# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from netavark_geneve import errors
from netavark_geneve.errors import Deadline, GeneveError, during


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
