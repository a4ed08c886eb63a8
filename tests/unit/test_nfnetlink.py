# SPDX-License-Identifier: Apache-2.0
"""What the kernel is asked, and how its answers are read. That it does it is seen in tests/sandbox/test_firewall.py."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from netavark_geneve import nfnetlink
from netavark_geneve.netlink import ACK, attribute, attributes, message, text

from .makers import refused

HEADER = b"\x01\x00\x00\x00"  # struct nfgenmsg: the family inet
OURS = text(1, "netavark_geneve")
GETCHAIN, GETSETELEM, DELSETELEM, DELCHAIN = 0xA04, 0xA0D, 0xA0E, 0xA05
WEB = "published/ovs_net1/0123456789ab"


def chain(name: str, table: bytes = OURS, more: bytes = b"") -> bytes:
    return HEADER + table + text(3, name) + more


def element(key: bytes, target: str) -> bytes:
    """Key and verdict, as a map has them."""
    verdict = attribute(2, attribute(1, b"\xff\xff\xff\xfd") + text(2, target))
    return attribute(1, attribute(1, attribute(1, key)) + attribute(2, verdict))


class Kernel:
    """It answers each list in turn, and writes down what it is to change."""

    def __init__(self, *lists: list[bytes] | OSError) -> None:
        self.lists = list(lists)
        self.asked: list[tuple[int, bytes]] = []
        self.changes: list[bytes] = []
        self.is_open = True

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        self.asked.append((kind, body))
        found = self.lists.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    def change(self, requests: list[bytes]) -> None:
        self.changes += requests

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kernel]:
    def make(*lists: list[bytes] | OSError) -> Kernel:
        made = Kernel(*lists)
        monkeypatch.setattr(nfnetlink, "Kernel", lambda protocol: made)
        monkeypatch.setattr(nfnetlink, "close_aside", lambda close: close())
        return made

    return make


INTERRUPTED = InterruptedError(errno.EINTR, os.strerror(errno.EINTR))


def test_chains_are_those_of_our_table_that_no_hook_calls(kernel: Any) -> None:
    theirs = text(1, "theirs")
    made = kernel([chain("forward", more=attribute(4, b"")), chain(WEB), chain("network/b"), chain("input", theirs)])
    assert nfnetlink.list_chains() == {WEB, "network/b"}
    assert made.asked == [(GETCHAIN, HEADER)]
    assert not made.is_open


def test_chains_are_found_by_a_part_of_their_names(kernel: Any) -> None:
    noted = text(12, "of /0123456789ab")  # somebody's remark
    kernel([chain(WEB), chain("network/b", more=noted), chain("published/b/0123456789ab")])
    assert nfnetlink.list_chains("/0123456789ab") == {WEB, "published/b/0123456789ab"}


def test_list_of_two_states_is_asked_for_again(kernel: Any) -> None:
    made = kernel(INTERRUPTED, INTERRUPTED, [chain(WEB)])
    assert nfnetlink.list_chains() == {WEB}
    assert len(made.asked) == 3


def test_rules_that_never_rest_are_told(kernel: Any) -> None:
    made = kernel(*[INTERRUPTED] * 1000)
    with refused("cannot list our chains of the packet filter", "Interrupted system call"):
        nfnetlink.list_chains()
    assert len(made.asked) == 100
    assert not made.is_open


def test_chain_goes_with_what_leads_there_and_nothing_else(kernel: Any) -> None:
    """All between the messages that make it one change; the last is answered."""
    found = [HEADER + OURS + text(2, "ports4") + attribute(3, element(b"80", WEB) + element(b"81", f"{WEB}0"))]
    made = kernel(found, [])
    nfnetlink.delete_chain(WEB, ["ports4", "ports6"])
    of_map = OURS + text(2, "ports4")
    assert made.asked == [(GETSETELEM, HEADER + of_map), (GETSETELEM, HEADER + OURS + text(2, "ports6"))]
    key = attribute(3, attribute(1, attribute(1, attribute(1, b"80"))))
    assert made.changes == [
        message(0x10, 0, b"\x00\x00\x00\x0a"),
        message(DELSETELEM, 0, HEADER + of_map + key),
        message(DELCHAIN, ACK, HEADER + OURS + text(3, WEB)),
        message(0x11, 0, b"\x00\x00\x00\x0a"),
    ]


def test_many_keys_are_more_than_one_message(kernel: Any) -> None:
    keys = [number.to_bytes(8, "big") for number in range(2500)]
    lists = [HEADER + OURS + attribute(3, b"".join(element(key, WEB) for key in keys[at::5])) for at in range(5)]
    made = kernel(lists)
    nfnetlink.delete_chain(WEB, ["ports4"])
    removals = [dict(attributes(sent[20:]))[3] for sent in made.changes[1:-2]]
    assert [len(list(attributes(each))) for each in removals] == [1000, 1000, 500]


def test_table_goes_in_one_message(kernel: Any) -> None:
    made = kernel()
    nfnetlink.delete_table()
    assert made.changes[1:-1] == [message(0xA02, ACK, HEADER + OURS)]


def test_refusal_names_the_chain(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel([])

    def refuse(requests: list[bytes]) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(made, "change", refuse)
    with refused(f"cannot remove chain {WEB} of the packet filter", "Device or resource busy"):
        nfnetlink.delete_chain(WEB, ["ports4"])
    assert not made.is_open
