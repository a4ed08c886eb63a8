# SPDX-License-Identifier: Apache-2.0
"""The helper's side: serve requests of root on this host, several at a time, until nobody asks any more."""

import json
import logging
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from .. import attach, detach  # noqa: F401 - loaded once, for all requests
from ..errors import GeneveError
from ..frontends.netavark import Reply, failure, handle
from ..kept import Kept
from ..log import FORMAT, level_from_environment, logger
from . import wire

IDLE = 300.0  # seconds without a request after which the helper ends
WORKERS = 32  # requests at the same time
PATIENCE = 10.0  # seconds for a caller to send its request
PAUSE = 0.1  # seconds until the next try when no request can be accepted just now
FIRST_FD = 3  # sd_listen_fds(3)
_messages: ContextVar[list[str] | None] = ContextVar("messages", default=None)
_level: ContextVar[int] = ContextVar("level", default=logging.WARNING)


def serve(path: str | None, environ: Mapping[str, str], *, idle: float = IDLE) -> None:
    """Serve on the socket that systemd handed over, or on one of our own at `path`.

    Ends when nobody has asked for `idle` seconds, or on SIGTERM; requests that run are finished first.
    """
    helper = Helper(environ)
    with _messages_to_callers(), _end_asked() as asked:
        with _listen(path, environ) as listener:
            listener.setblocking(False)
            while _serve_next(listener, asked, helper, idle):
                pass
        helper.finish()


def _serve_next(listener: socket.socket, asked: socket.socket, helper: "Helper", idle: float) -> bool:
    """Take one request; False when the end is asked for, or nobody has asked for so long and nobody waits."""
    ready, _, _ = select.select([listener, asked], [], [], idle)
    if not ready:
        return helper.is_busy()
    if asked in ready:
        return False
    try:
        connection, _ = listener.accept()
    except OSError as error:  # another helper was faster, or there are too many files open just now
        logger.debug("cannot accept a request: %s", error)
        time.sleep(PAUSE)
        return True
    helper.start(connection)
    return True


class Helper:
    """Who it is for (one network namespace, one configuration), and the requests that are running."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._kept = Kept()
        self._netns = _identity("/proc/self/ns/net")
        # Threads that stay: libuuid, by which ovs makes its UUIDs, keeps a file open for each thread there ever was.
        self._threads = ThreadPoolExecutor(WORKERS)
        self._running = 0
        self._containers: set[str] = set()  # that are being worked on
        self._changed = threading.Condition()  # of the two above

    def start(self, connection: socket.socket) -> None:
        with self._changed:
            self._running += 1
        self._threads.submit(self._run, connection)

    def is_busy(self) -> bool:
        with self._changed:
            return self._running > 0

    def finish(self) -> None:
        """Wait for the requests that are running; their own deadlines bound them."""
        self._threads.shutdown()
        self._kept.close()

    def _run(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve(connection)
        except (OSError, EOFError, ValueError) as error:  # the caller is gone, or talks nonsense
            logger.debug("request given up: %s", error)
        except Exception:  # noqa: BLE001 - the thread survives whatever happened
            logger.exception("a bug in the helper itself")
        finally:
            with self._changed:
                self._running -= 1

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        uid = _peer_uid(connection)
        with _received(connection) as ((words, settings, request), descriptors):
            arguments = [os.fsdecode(word) for word in words.split(b"\0")]
            caller = dict(os.fsdecode(item).split("=", 1) for item in settings.split(b"\0") if item)
            if uid != 0 or not descriptors or len(arguments) != 2 or not self._is_for_us(caller, descriptors[0]):
                connection.sendall(wire.NOT_MINE)
                return
            environ = {key: value for key, value in self._environ.items() if key not in wire.FORWARDED} | caller
            if len(descriptors) > 1:
                arguments[1] = f"/proc/self/fd/{descriptors[1]}"
            with self._alone(_container(request)):
                connection.sendall(wire.TAKEN)
                reply, messages = _handle(arguments, request, environ, self._kept)
                try:
                    connection.sendall(wire.pack(bytes([reply.status]), reply.output, messages))
                except OSError:
                    # Nobody knows that the container is attached: as if the attach itself had been killed.
                    if arguments[0] == "setup" and reply.status == 0:
                        _undo(arguments, request, environ, self._kept)
                    raise

    @contextmanager
    def _alone(self, container: str) -> Iterator[None]:
        """One request at a time for a container: the one before may be that of a caller who was killed.

        Its undo, by tags, would take away what the next one has made.
        """
        with self._changed:
            self._changed.wait_for(lambda: container not in self._containers)
            self._containers.add(container)
        try:
            yield
        finally:
            with self._changed:
                self._containers.discard(container)
                self._changed.notify_all()

    def _is_for_us(self, caller: Mapping[str, str], netns: int) -> bool:
        agreed = all(caller.get(key) == self._environ.get(key) for key in wire.SHARED)
        return agreed and _identity(netns) == self._netns


def _handle(arguments: list[str], request: bytes, environ: Mapping[str, str], kept: Kept) -> tuple[Reply, bytes]:
    """The reply, and what the caller's user is told besides."""
    messages: list[str] = []
    _messages.set(messages)
    level = level_from_environment(environ)
    _level.set(level)
    if level < logger.getEffectiveLevel():  # until somebody wants to know this much, nobody pays for it
        logger.setLevel(level)
    try:
        reply = handle(arguments, request, environ, kept)
    except GeneveError as error:
        reply = failure(error)
    except Exception as error:  # noqa: BLE001 - the edge: the helper survives whatever happened
        logger.debug("unexpected failure", exc_info=True)
        reply = failure(
            f"unexpected {type(error).__name__}: {error}; this is a bug in geneve-ovs, RUST_LOG=debug shows where"
        )
    finally:
        _messages.set(None)
    return reply, "".join(f"{line}\n" for line in messages).encode(errors="replace")


def _undo(arguments: list[str], request: bytes, environ: Mapping[str, str], kept: Kept) -> None:
    """Take back a setup of which nobody has heard."""
    reply, _ = _handle(["teardown", *arguments[1:]], request, environ, kept)
    logger.warning("a caller has gone before its setup was done: %s", reply.output.decode().strip() or "undone")


def _peer_uid(connection: socket.socket) -> int:
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _container(request: bytes) -> str:
    """The container's id; all requests that are nonsense count as one."""
    try:
        return str(json.loads(request)["container_id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


@contextmanager
def _end_asked() -> Iterator[socket.socket]:
    """Readable once SIGTERM or SIGINT has come. An exception could hit a request that is just being accepted."""
    reading, writing = socket.socketpair()
    numbers = (signal.SIGTERM, signal.SIGINT)
    with reading, writing:
        writing.setblocking(False)
        wakeup = signal.set_wakeup_fd(writing.fileno())
        handlers = [signal.signal(number, lambda *_: None) for number in numbers]
        try:
            yield reading
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


@contextmanager
def _messages_to_callers() -> Iterator[None]:
    """Send what is logged to the caller of the request that logs it, at the level that the caller asked for.

    What has no caller goes where it went before.
    """
    before = logger.handlers[:], logger.level

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages = _messages.get()
            if messages is None:
                handlers, level = before
                for own in handlers if record.levelno >= level else ():
                    own.handle(record)
            elif record.levelno >= _level.get():
                messages.append(self.format(record))

    handler = Handler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.handlers[:] = [handler]
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
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            name.unlink(missing_ok=True)
            _bind(listener, str(name))
        except OSError as error:
            raise GeneveError(f"cannot listen on {name}: {error.strerror or error}; choose another --socket") from error
        listener.listen(128)
        own = _identity(str(name))
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if _identity(str(name)) == own:  # else a helper that was started later has taken the place
                    name.unlink()


def _bind(listener: socket.socket, name: str) -> None:
    mask = os.umask(0o177)
    try:
        listener.bind(name)
    finally:
        os.umask(mask)


def _identity(file: str | int) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino
