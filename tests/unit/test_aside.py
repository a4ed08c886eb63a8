# SPDX-License-Identifier: Apache-2.0
"""What takes long to close keeps nobody. Where no threads can be had: test_threads.py."""

from threading import Event

from netavark_geneve.aside import close_aside

PATIENCE = 10.0  # seconds


def test_it_closes_while_we_go_on() -> None:
    goes_on, is_closed = Event(), Event()

    def close() -> None:
        if goes_on.wait(PATIENCE):
            is_closed.set()

    close_aside(close)
    assert not is_closed.is_set()
    goes_on.set()
    assert is_closed.wait(PATIENCE)
