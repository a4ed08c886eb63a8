# SPDX-License-Identifier: Apache-2.0
"""Close what the kernel is slow to close: packet sockets and those to the packet filter wait an RCU period, 10 ms."""

import _thread
from collections.abc import Callable


def close_aside(close: Callable[[], None]) -> None:
    """Call `close` in a thread that nobody waits for; where no more threads may be started, at once.

    threading.Thread waits until its thread runs. Two of them for each attach were a twentieth of it.
    """
    try:
        _thread.start_new_thread(close, ())
    except RuntimeError:
        close()
