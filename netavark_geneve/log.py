# SPDX-License-Identifier: Apache-2.0
"""Logging to stderr, which reaches the user's terminal: warnings, and our steps when asked for."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

logger = logging.getLogger("geneve-ovs")

FORMAT = "[%(levelname)s %(name)s] %(message)s"
_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


def level_from_environment(environ: Mapping[str, str]) -> int:
    """The level Podman asks netavark for: RUST_LOG has "netavark=LEVEL" or, less specific, "LEVEL"."""
    levels = {"": logging.WARNING}
    for directive in environ.get("RUST_LOG", "").split(","):
        target, _, level = directive.strip().lower().rpartition("=")
        if level in _LEVELS:
            levels[target] = _LEVELS[level]
    return levels.get("netavark", levels[""])


def install(environ: Mapping[str, str]) -> None:
    """Send our records to stderr and keep the libraries' tracebacks off the user's terminal."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    logger.setLevel(level_from_environment(environ))
    logger.propagate = False
    # ovsdbapp logs a traceback for each failure that it also raises.
    logging.getLogger("ovsdbapp").addHandler(logging.NullHandler())
    logging.getLogger("ovsdbapp").propagate = False


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Log at debug level how long the block took; the attach benchmark reads these lines."""
    start = time.perf_counter()
    try:
        yield
    finally:
        logger.debug("%s: %.1f ms", step, (time.perf_counter() - start) * 1e3)
