# SPDX-License-Identifier: Apache-2.0
"""Small files, most of them the kernel's: read and written with three system calls each.

Python's own files make ten, and go through several hundred kilobytes of code that nothing else in an attach touches.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

_PIECE = 65536  # bytes


def read(path: str | os.PathLike[str]) -> str:
    """What is in it. Raises OSError, and UnicodeDecodeError when it is not UTF-8."""
    return read_bytes(path).decode()


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """What is in it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(descriptor, _PIECE):
            data += piece
        return data
    finally:
        os.close(descriptor)


def write(path: str | os.PathLike[str], text: str) -> None:
    """Put this into a file that is there, at once, as the kernel wants its settings. Raises OSError."""
    _write(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC), text)


def create(path: str | os.PathLike[str], text: str) -> None:
    """Make a file with this in it, or write it over. Raises OSError."""
    _write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666), text)


def make_directory(path: str | os.PathLike[str]) -> None:
    """For root alone, unless something of that name is there. Raises OSError."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def find_program(name: str, directories: Iterable[str]) -> str | None:
    """The first that can be run."""
    paths = (os.path.join(directory, name) for directory in directories)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _write(descriptor: int, text: str) -> None:
    try:
        data = text.encode()
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
