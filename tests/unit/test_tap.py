# SPDX-License-Identifier: Apache-2.0
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netavark_geneve import links, switch, tap
from netavark_geneve.errors import Deadline

BRIDGE = "ovs_net1"


def is_free(directory: Path, how: int) -> bool:
    """Whether somebody else could have the lock just now."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


class Host:
    """What is done to an interface that is left, and whether anybody could make the bridge meanwhile."""

    def __init__(self, rundir: Path, *, datapath: str | None, is_tap: bool) -> None:
        self.rundir = rundir
        self.datapath = datapath
        self.is_tap = is_tap
        self.done: list[tuple[str, bool]] = []

    def note(self, step: str) -> None:
        self.done.append((step, is_free(self.rundir, fcntl.LOCK_SH)))

    def find_datapath_type(self, bridge: str) -> str | None:
        assert bridge == BRIDGE
        self.note("look")
        return self.datapath

    def remove_tap(self, name: str) -> bool:
        assert name == BRIDGE
        self.note("remove")
        return self.is_tap

    def wait_noticed(self, deadline: Deadline) -> bool:
        self.note("wait")
        return True

    @contextmanager
    def connect_bridge(self, *_: object) -> Iterator["Host"]:
        yield self


@pytest.fixture
def remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, bool]]]:
    def remove_on(*, found: int | None = 7, datapath: str | None = None, is_tap: bool = True) -> list[tuple[str, bool]]:
        host = Host(tmp_path, datapath=datapath, is_tap=is_tap)
        monkeypatch.setattr(links, "find_link", lambda name: found if name == BRIDGE else None)
        monkeypatch.setattr(links, "remove_tap", host.remove_tap)
        monkeypatch.setattr(switch, "connect_bridge", host.connect_bridge)
        tap.remove_left_tap(BRIDGE, {"OVS_RUNDIR": str(tmp_path)}, Deadline(1))
        return host.done

    return remove_on


def test_interfaces_of_bridges_are_made_at_once(tmp_path: Path) -> None:
    with tap.making({"OVS_RUNDIR": str(tmp_path)}):
        assert is_free(tmp_path, fcntl.LOCK_SH)
        assert not is_free(tmp_path, fcntl.LOCK_EX)
    assert is_free(tmp_path, fcntl.LOCK_EX)


def test_nobody_makes_the_bridge_until_the_switch_knows_that_its_interface_is_gone(
    remove: Callable[..., list[tuple[str, bool]]], tmp_path: Path
) -> None:
    assert remove() == [("look", False), ("remove", False), ("wait", False)]
    assert is_free(tmp_path, fcntl.LOCK_EX)


def test_the_interface_of_a_bridge_that_is_there_again_stays(remove: Callable[..., list[tuple[str, bool]]]) -> None:
    assert remove(datapath="netdev") == [("look", False)]


def test_the_switch_is_not_asked_about_what_was_not_removed(remove: Callable[..., list[tuple[str, bool]]]) -> None:
    assert remove(is_tap=False) == [("look", False), ("remove", False)]
    assert remove(found=None) == []
