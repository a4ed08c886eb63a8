"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Hear SIGINT: a shell has what it starts in the background ignore it, and so would all that we start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
