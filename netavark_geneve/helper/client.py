# SPDX-License-Identifier: Apache-2.0
"""The plugin's process, thin: hand the call to the warm helper, or do it here. Builtin modules only until then.

netavark starts one for each container and waits for it, and a Python that imports nothing starts in a
few milliseconds.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has none
import _socket
import posix
import sys

from . import wire

VERBS = ("setup", "teardown")  # what a helper is asked; create and info are rare
TIMEOUT = 30.0  # seconds for an answer; the helper's own deadlines are far shorter
GLANCE = 0.25  # seconds between two looks at whether a signal has come
HINT = "run the command again (systemctl status netavark-geneve.service)"
LOST = f"the helper ended in the middle of the request; {HINT}"
SILENT = f"the helper took the request and has not answered for {TIMEOUT:g} s; {HINT}"
INTERRUPTED = {
    "setup": "interrupted; everything done so far is undone by the helper",
    "teardown": "interrupted; the helper goes on to the end",
}


def main() -> int:
    """Entry point of the file in the plugin directory. stdout carries the one reply of the protocol.

    When it returns, all is written, and nothing in this process is left to end in good order.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in VERBS or len(arguments) != 2:
        return _cold(None)
    with_helper = _connect()
    if with_helper is None:
        return _cold(None)
    try:
        _heed_signals()
        request = _read_all()
        answer = _ask(with_helper, arguments, request)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED[arguments[0]])
    except TimeoutError:
        return _fail(SILENT)
    except (EOFError, OSError):
        return _fail(LOST)
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
    if answer is None:
        return _cold(request)
    status, output, warnings = answer
    return _answer(arguments, request, status[0], output, warnings)


def _heed_signals() -> None:
    """Have SIGTERM raise KeyboardInterrupt, as SIGINT does; netavark ignores it during teardown.

    One that comes just before a call that waits would be heard only when the call is done: an alarm wakes us.
    """
    if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGTERM, _signal.default_int_handler)
    _signal.signal(_signal.SIGALRM, lambda *_: None)
    _signal.setitimer(_signal.ITIMER_REAL, GLANCE, GLANCE)


def _answer(arguments: list[str], request: bytes, status: int, output: bytes, warnings: bytes) -> int:
    """Pass it on. A setup that nobody hears of is undone, as the plugin's own process does it."""
    try:
        _write(2, warnings)
        _write(1, output)
    except OSError:  # netavark is gone
        with_helper = _connect()
        if arguments[0] == "setup" and status == 0 and with_helper is not None:
            try:  # noqa: SIM105 - contextlib is not builtin
                _ask(with_helper, ["teardown", arguments[1]], request)
            except (EOFError, OSError):
                pass  # the next attach or detach of this container will
        return 1
    return status


def _connect() -> "_socket.socket | None":
    path = posix.environ.get(wire.SOCKET_VARIABLE.encode(), wire.SOCKET.encode())
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        sock.settimeout(TIMEOUT)
        sock.connect(path)
    except OSError:  # no helper on this host, or none that is for us
        return None
    return sock


def _ask(sock: "_socket.socket", arguments: list[str], request: bytes) -> list[bytes] | None:
    """Status, stdout and stderr; None when the helper has not taken the request, so that nothing was done.

    Raises EOFError or OSError when it took the request and did not answer: it is not known then what was
    done, and asking again blindly could do it twice.
    """
    try:
        descriptors = [posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)]
    except OSError:  # too many files are open: it cannot be told where we are
        return None
    try:  # noqa: SIM105 - contextlib is not builtin
        descriptors.append(posix.open(arguments[1], posix.O_RDONLY | posix.O_CLOEXEC))
    except OSError:
        pass  # a teardown does without
    environ = b"\0".join(
        key.encode() + b"=" + value
        for key in (*wire.FORWARDED, *wire.SHARED)
        if (value := posix.environ.get(key.encode())) is not None
    )
    message = wire.pack(
        b"\0".join(argument.encode(errors="surrogateescape") for argument in arguments), environ, request
    )
    try:
        sent = sock.sendmsg([message], wire.rights(descriptors))
        if sent < len(message):  # sending nothing would fail if the helper has closed already, all answered
            sock.sendall(message[sent:])
        taken = sock.recv(1)
    except OSError:
        taken = _taken_after_all(sock)
    if taken != wire.TAKEN:
        return None
    answer = wire.receive(sock, 3)
    if len(answer[0]) != 1:
        raise EOFError
    return answer


def _taken_after_all(sock: "_socket.socket") -> bytes:
    """What a helper that we gave up has said in this very moment; from now on it cannot take the request any more."""
    try:
        sock.shutdown(_socket.SHUT_RD)  # its next word fails, unix(7)
        return sock.recv(1)
    except OSError:
        return b""


def _cold(request: bytes | None) -> int:
    """Do the work in this process, which was started without its site-packages."""
    import gc
    import site

    gc.disable()  # what an import makes stays; the process is over before there is garbage
    site.main()
    from ..__main__ import main as cold

    return cold(request)


def _fail(reason: str) -> int:
    """The protocol's answer to a call that failed; without json, the reasons must need no escapes."""
    _write(1, f'{{"error": "{reason}"}}\n'.encode())
    return 1


def _read_all() -> bytes:
    data = b""
    while piece := posix.read(0, 65536):
        data += piece
    return data


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[posix.write(descriptor, data) :]
