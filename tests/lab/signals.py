"""SIGINT and SIGTERM, so that neither leaves half a lab behind."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred() -> Iterator[None]:
    """Hold both back until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: seen.append(number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(seen):
            signal.raise_signal(late)


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM an exception inside the block, as SIGINT is one, so that everything is unwound."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
