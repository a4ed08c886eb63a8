"""SIGINT, SIGTERM and SIGHUP, so that none of them leaves half a lab behind."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred() -> Iterator[None]:
    """Hold them back until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, _: seen.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(seen):
            signal.raise_signal(late)


@contextmanager
def terminable() -> Iterator[None]:
    """Make each an exception inside the block, as SIGINT is one already, so that everything is unwound."""
    main = threading.current_thread() is threading.main_thread()
    mine = [number for number in SIGNALS if main and signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
