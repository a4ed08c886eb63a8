"""The labs of the end-to-end tests, without a helper unless a test starts one."""

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Labs, make_fabric

__all__ = ["make_fabric"]


@pytest.fixture(scope="session")
def labs() -> Iterator[Labs]:
    running = Labs(with_helpers=False)
    try:
        yield running
    finally:
        running.drop_all()
