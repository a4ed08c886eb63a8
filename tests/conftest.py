"""What holds for every test."""

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the common marker known; hear SIGINT, which a shell has what it starts in the background ignore."""
    config.addinivalue_line("markers", "alone(reason): not beside other tests")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
