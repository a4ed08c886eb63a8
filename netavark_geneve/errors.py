# SPDX-License-Identifier: Apache-2.0
"""The one exception that reaches users, and the clock that keeps every wait bounded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


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


@contextmanager
def failing_to(step: str) -> Iterator[None]:
    """Turn what the kernel says into a sentence that names the step."""
    try:
        yield
    except OSError as error:
        raise GeneveError(f"cannot {step}: {error.strerror or error}") from error


class Failures:
    """Steps that are to be tried whatever becomes of the others; what failed is raised, in one, at the end."""

    def __init__(self) -> None:
        self._errors: list[GeneveError] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None and self._errors:
            raise GeneveError("; ".join(map(str, self._errors))) from self._errors[0]

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep a GeneveError of the block for the end."""
        try:
            yield
        except GeneveError as error:
            self._errors.append(error)


class Deadline:
    """A point in time (monotonic clock) that all waits of one request share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())
