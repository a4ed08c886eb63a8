"""The labs of the end-to-end tests, without a helper unless a test starts one.

With `--long` the storm rages for ten minutes and containers come and go two thousand times. `--seed` repeats the
choices of a test that has failed, though not the moments.
"""

import secrets
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Labs, make_fabric

__all__ = ["make_fabric"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the storm and the endurance in their full length")
    parser.addoption("--seed", type=int, help="of what is left to chance; another one each time by default")


@pytest.fixture(scope="session")
def is_long(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--long"))


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """Of what a test leaves to chance; told when the test fails."""
    given = pytestconfig.getoption("--seed")
    chosen = secrets.randbelow(2**32) if given is None else int(given)
    print(f"seed {chosen}")
    return chosen


@pytest.fixture(scope="session")
def labs() -> Iterator[Labs]:
    running = Labs(with_helpers=False)
    try:
        yield running
    finally:
        running.drop_all()
