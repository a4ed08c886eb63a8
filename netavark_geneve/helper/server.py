# SPDX-License-Identifier: Apache-2.0
"""The helper's side: serve requests of root on this host, each in a thread of its own, until nobody asks any more."""

import logging
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from .. import attach, detach  # noqa: F401 - loaded once, for all requests
from ..errors import GeneveError
from ..frontends.netavark import Reply, failure, handle
from ..log import FORMAT, level_from_environment, logger
from . import wire

IDLE = 300.0  # seconds without a request after which the helper ends
PATIENCE = 10.0  # seconds for a caller to send its request
FIRST_FD = 3  # sd_listen_fds(3)
_messages: ContextVar[list[str] | None] = ContextVar("messages", default=None)
_level: ContextVar[int] = ContextVar("level", default=logging.WARNING)


def serve(path: str | None, environ: Mapping[str, str], *, idle: float = IDLE) -> None:
    """Serve on the socket that systemd handed over, or on one of our own at `path`.

    Ends when nobody has asked for `idle` seconds, or on SIGTERM; requests that run are finished first.
    """
    helper = Helper(environ)
    with _messages_to_callers(), _listen(path, environ) as listener:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        listener.settimeout(idle)
        with suppress(KeyboardInterrupt):
            while _serve_next(listener, helper):
                pass
        helper.finish()


def _serve_next(listener: socket.socket, helper: "Helper") -> bool:
    """Take one request; False when nobody has asked for so long, and nobody waits for an answer."""
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        return helper.is_busy()
    helper.start(connection)
    return True


class Helper:
    """Who it is for (one network namespace, one configuration), and the requests that are running."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._netns = _identity("/proc/self/ns/net")
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def is_busy(self) -> bool:
        with self._lock:
            return bool(self._threads)

    def finish(self) -> None:
        """Wait for the requests that are running; their own deadlines bound them."""
        with self._lock:
            running = list(self._threads)
        for thread in running:
            thread.join()

    def _run(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve(connection)
        except (OSError, EOFError, ValueError) as error:  # the caller is gone, or talks nonsense
            logger.debug("request given up: %s", error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with _received(connection) as ((words, settings, request), descriptors):
            arguments = [os.fsdecode(word) for word in words.split(b"\0")]
            caller = dict(os.fsdecode(item).split("=", 1) for item in settings.split(b"\0") if item)
            if uid != 0 or not descriptors or not self._is_for_us(caller, descriptors[0]):
                connection.sendall(wire.NOT_MINE)
                return
            connection.sendall(wire.TAKEN)
            environ = {key: value for key, value in self._environ.items() if key not in wire.FORWARDED} | caller
            if len(descriptors) > 1:
                arguments[1] = f"/proc/self/fd/{descriptors[1]}"
            reply, messages = _handle(arguments, request, environ)
            try:
                connection.sendall(wire.pack(bytes([reply.status]), reply.output, messages))
            except OSError:
                # Nobody knows that the container is attached: as if the attach itself had been killed.
                if arguments[0] == "setup" and reply.status == 0:
                    handle(["teardown", arguments[1]], request, environ)
                raise

    def _is_for_us(self, caller: Mapping[str, str], netns: int) -> bool:
        agreed = all(caller.get(key) == self._environ.get(key) for key in wire.SHARED)
        return agreed and _identity(netns) == self._netns


def _handle(arguments: list[str], request: bytes, environ: Mapping[str, str]) -> tuple[Reply, bytes]:
    """The reply, and what the caller's user is told besides."""
    messages: list[str] = []
    _messages.set(messages)
    _level.set(level_from_environment(environ))
    try:
        reply = handle(arguments, request, environ)
    except GeneveError as error:
        reply = failure(error)
    except Exception as error:  # noqa: BLE001 - the edge: the helper survives whatever happened
        logger.debug("unexpected failure", exc_info=True)
        reply = failure(
            f"unexpected {type(error).__name__}: {error}; this is a bug in geneve-ovs, RUST_LOG=debug shows where"
        )
    return reply, "".join(f"{line}\n" for line in messages).encode(errors="replace")


@contextmanager
def _messages_to_callers() -> Iterator[None]:
    """Send what is logged to the caller of the request that logs it, at the level that the caller asked for."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages = _messages.get()
            if messages is not None and record.levelno >= _level.get():
                messages.append(self.format(record))

    handler = Handler()
    handler.setFormatter(logging.Formatter(FORMAT))
    before = logger.handlers[:], logger.level
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.handlers[:], level = before
        logger.setLevel(level)


@contextmanager
def _received(connection: socket.socket) -> Iterator[tuple[list[bytes], list[int]]]:
    """The parts of a request, and its descriptors for as long as the block runs."""
    with ExitStack() as stack:
        first, descriptors, _, _ = socket.recv_fds(connection, wire.LENGTH, 2)
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        while len(first) < wire.LENGTH:
            piece = connection.recv(wire.LENGTH - len(first))
            if not piece:
                raise EOFError
            first += piece
        length = int.from_bytes(first, "big")
        if length > wire.LONGEST:
            raise EOFError
        words = wire.exactly(connection, length)
        yield [words, *wire.receive(connection, 2)], descriptors


@contextmanager
def _listen(path: str | None, environ: Mapping[str, str]) -> Iterator[socket.socket]:
    """The socket of netavark-geneve.socket, or one of our own, for root alone."""
    if environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS") == "1":
        with socket.socket(fileno=FIRST_FD) as listener:
            yield listener
        return
    name = Path(path or wire.SOCKET)
    name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(str(name))
        except OSError as error:
            raise GeneveError(f"cannot listen on {name}: {error.strerror}") from error
        finally:
            os.umask(mask)
        listener.listen(128)
        try:
            yield listener
        finally:
            name.unlink(missing_ok=True)


def _identity(netns: str | int) -> tuple[int, int]:
    found = os.stat(netns)
    return found.st_dev, found.st_ino
