# SPDX-License-Identifier: Apache-2.0
"""Which addresses have left a moment ago, as far as a helper can know."""

import ipaddress

import pytest

from netavark_geneve import kept
from netavark_geneve.kept import LATELY, PROBER_AGE, Kept

ONE, OTHER = ipaddress.ip_address("192.168.120.9"), ipaddress.ip_address("fd00::9")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(kept, "time", made)
    return made


@pytest.fixture
def knowing(clock: Clock) -> Kept:
    """One that has run long enough to know what has left."""
    made = Kept()
    clock.now += LATELY
    return made


def test_before_it_knows_any_address_may_have_been_here(clock: Clock) -> None:
    young = Kept()
    assert young.was_here_lately("net1", [ONE])
    clock.now += LATELY
    assert not young.was_here_lately("net1", [ONE])


def test_an_address_that_leaves_is_remembered_for_a_while(clock: Clock, knowing: Kept) -> None:
    knowing.left("net1", [ONE])
    clock.now += LATELY - 1
    assert knowing.was_here_lately("net1", [OTHER, ONE])
    clock.now += 1
    assert not knowing.was_here_lately("net1", [OTHER, ONE])


def test_other_addresses_and_networks_were_not_here(knowing: Kept) -> None:
    knowing.left("net1", [ONE])
    assert not knowing.was_here_lately("net1", [OTHER])
    assert not knowing.was_here_lately("net2", [ONE])
    assert not knowing.was_here_lately("net1", [])


def test_a_container_whose_addresses_are_not_known_may_have_had_any(knowing: Kept) -> None:
    knowing.left("net1", [])
    assert knowing.was_here_lately("net1", [ONE])
    assert not knowing.was_here_lately("net2", [ONE])


def test_it_does_not_remember_more_and_more(clock: Clock, knowing: Kept) -> None:
    for number in range(1000):
        knowing.left("net1", [ONE + number])
        clock.now += 1
    assert len(knowing._left) <= LATELY + 1


def test_who_asks_is_the_same_for_a_while_and_another_for_each_network(clock: Clock, knowing: Kept) -> None:
    asker = knowing.prober("net1")
    clock.now += PROBER_AGE - 1
    assert knowing.prober("net1") == asker
    assert knowing.prober("net2") != asker
    clock.now += 1
    assert knowing.prober("net1") != asker
    assert asker[0] & 3 == 2  # locally administered, unicast
