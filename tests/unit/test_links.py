# SPDX-License-Identifier: Apache-2.0
"""What cannot be seen in tests/sandbox/test_links.py, which runs without the confinement of a systemd unit."""

import os

import pytest

from netavark_geneve import links

CLONE_NEWNET = 0x40000000


def test_a_namespace_is_entered_and_left_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit with RestrictNamespaces=net may do no setns(2) that leaves the kind open."""
    entered: list[tuple[str, int]] = []
    monkeypatch.setattr(links, "setns", lambda fd, kind=0: entered.append((os.readlink(f"/proc/self/fd/{fd}"), kind)))
    home = os.readlink("/proc/thread-self/ns/net")

    with links.namespace("/dev/null") as netns, links.inside(netns):
        assert entered == [("/dev/null", CLONE_NEWNET)]

    assert entered[1:] == [(home, CLONE_NEWNET)]
