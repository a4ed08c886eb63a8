"""The labs of the end-to-end tests, without a helper unless a test starts one.

With `--long` the storm rages for ten minutes and containers come and go two thousand times.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Labs, make_fabric

__all__ = ["make_fabric"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the storm and the endurance in their full length")


@pytest.fixture(scope="session")
def is_long(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--long"))


@pytest.fixture(scope="session")
def labs() -> Iterator[Labs]:
    running = Labs(with_helpers=False)
    try:
        yield running
    finally:
        running.drop_all()
