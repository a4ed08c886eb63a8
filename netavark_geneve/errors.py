# SPDX-License-Identifier: Apache-2.0
"""The one exception that reaches users, and the clock that keeps every wait bounded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class GeneveError(Exception):
    """A failure in a sentence for the person at the prompt: what failed, why, what to do next.

    Podman and netavark print it verbatim behind their own prefix, so it starts with neither "Error:"
    nor our name, and it stays on one line.
    """

    def __str__(self) -> str:
        line = " ".join(super().__str__().split())
        return "".join(character if character.isprintable() else "?" for character in line)


@contextmanager
def during(step: str) -> Iterator[None]:
    """Put the name of the step in front of every GeneveError that leaves the block."""
    try:
        yield
    except GeneveError as error:
        raise GeneveError(f"{step}: {error}") from error


class Deadline:
    """A point in time (monotonic clock) that all waits of one request share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())
