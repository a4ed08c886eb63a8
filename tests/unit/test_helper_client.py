# SPDX-License-Identifier: Apache-2.0
"""The thin client, as a process of its own, against helpers that behave in all sorts of ways."""

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve.helper import client, wire

from .conftest import PROJECT
from .makers import encoded, request_json

# As plugin-config/geneve-ovs, but what the client does by itself is told instead of done.
CLIENT = """
import sys
before = set(sys.modules)
sys.path.append({project!r})
from netavark_geneve.helper import client
client.TIMEOUT = {timeout}
loaded = []
ask = client._ask

def ask_and_look(*arguments):
    answer = ask(*arguments)
    loaded[:] = set(sys.modules) - before
    return answer

def cold(request):
    import hashlib, json, os, sys
    request = sys.stdin.buffer.read() if request is None else request
    arguments = [os.fsencode(argument).hex() for argument in sys.argv[1:]]
    print(json.dumps({{"cold": arguments, "request": hashlib.sha256(request).hexdigest()}}))
    return 7

client._ask = ask_and_look
if {stub}:
    client._cold = cold
status = client.main()
if {show_loaded}:
    print(*sorted(loaded), file=sys.stderr)
sys.exit(status)
"""
NETNS = "/proc/self/ns/uts"  # any file stands for the container's namespace
REQUEST = b'{"container_id": "c1"}'
Behaviour = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Asked:
    """A request as the helper's end of the socket sees it."""

    words: list[bytes]
    environ: dict[bytes, bytes]
    request: bytes
    descriptors: list[os.stat_result]


def read(connection: socket.socket) -> Asked:
    """Read a whole request, by other means than the package's own."""
    data, received, _, _ = socket.recv_fds(connection, 2**22, 8)
    descriptors = [os.fstat(descriptor) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    parts = []
    for _ in range(3):
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            piece = connection.recv(2**22)
            assert piece
            data += piece
        end = 4 + int.from_bytes(data[:4], "big")
        parts.append(data[4:end])
        data = data[end:]
    assert data == b""
    words, environ, request = parts
    variables = dict(item.split(b"=", 1) for item in environ.split(b"\0") if item)
    return Asked(words.split(b"\0"), variables, request, descriptors)


@contextmanager
def helper(path: Path, behave: Behaviour) -> Iterator[None]:
    """Something that listens there and does this to whoever connects; nobody must come twice."""
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                behave(connection)

        served = pool.submit(serve)
        yield
        served.result(30)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "helper.sock"


class Client:
    """Starts the client as netavark does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def command(self, *, timeout: float = 30, stub: bool = True, show_loaded: bool = False) -> list[str]:
        text = CLIENT.format(project=str(PROJECT), timeout=timeout, stub=stub, show_loaded=show_loaded)
        return [sys.executable, "-I", "-S", "-c", text]

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        known = (*wire.FORWARDED, *wire.SHARED)
        inherited = {key: value for key, value in os.environ.items() if key not in known}
        return {**inherited, wire.SOCKET_VARIABLE: str(self.path), **more}

    def run(
        self,
        *arguments: str | bytes,
        request: bytes = REQUEST,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.command(**options), *(arguments or ("setup", NETNS))],
            input=request,
            capture_output=True,
            env=self.environ(environ or {}),
            timeout=60,
            check=False,
        )


@pytest.fixture
def thin(path: Path) -> Client:
    return Client(path)


def answering(*parts: bytes) -> Behaviour:
    """A helper that takes the request and answers this."""

    def behave(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(wire.TAKEN + wire.pack(*parts))

    return behave


def refuse(connection: socket.socket) -> None:
    read(connection)
    connection.sendall(wire.NOT_MINE)


def close_at_once(connection: socket.socket) -> None:
    pass


def close_in_the_middle(connection: socket.socket) -> None:
    connection.recv(10)


def close_after_reading(connection: socket.socket) -> None:
    read(connection)


def say_something_else(connection: socket.socket) -> None:
    read(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


NOT_TAKING = {
    "refuses": refuse,
    "closes at once": close_at_once,
    "closes in the middle of the request": close_in_the_middle,
    "closes after the request": close_after_reading,
    "is something else": say_something_else,
}


def worked_cold(done: subprocess.CompletedProcess[bytes], request: bytes, *arguments: bytes) -> bool:
    """Whether the client did it all by itself, with all of the request."""
    assert (done.returncode, done.stderr) == (7, b""), done
    wanted = {"cold": [word.hex() for word in arguments], "request": hashlib.sha256(request).hexdigest()}
    return bool(json.loads(done.stdout) == wanted)


def error_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """The sentence of a client that has failed: one object on stdout, nothing else anywhere."""
    assert (done.returncode, done.stderr) == (1, b""), done
    reply = json.loads(done.stdout)
    assert list(reply) == ["error"]
    assert done.stdout.count(b"\n") == 1
    return str(reply["error"])


def test_nothing_is_imported_before_the_helper_has_answered(thin: Client, path: Path) -> None:
    with helper(path, answering(b"\0", b"{}\n", b"")):
        done = thin.run(show_loaded=True)

    assert done.returncode == 0
    loaded = set(done.stderr.decode().split())
    own = {"netavark_geneve", "netavark_geneve.helper", "netavark_geneve.helper.client", "netavark_geneve.helper.wire"}
    assert own < loaded
    # _socket is builtin in distributions' Pythons, a small library in others.
    assert loaded - own - {"_socket"} - set(sys.builtin_module_names) == set()


def test_the_request_arrives_with_all_that_belongs_to_it(thin: Client, path: Path) -> None:
    asked: list[Asked] = []
    sent = {"RUST_LOG": "netavark=debug", "OVS_RUNDIR": "/run/ovs", "CONTAINERS_CONF": "", "HOME": "/"}

    def behave(connection: socket.socket) -> None:
        asked.append(read(connection))
        connection.sendall(wire.TAKEN + wire.pack(b"\0", b"", b""))

    with helper(path, behave):
        thin.run(environ=sent)

    (request,) = asked
    assert request.words == [b"setup", NETNS.encode()]
    assert request.request == REQUEST
    assert request.environ == {b"RUST_LOG": b"netavark=debug", b"OVS_RUNDIR": b"/run/ovs", b"CONTAINERS_CONF": b""}
    wanted = [os.stat(file) for file in ("/proc/self/ns/net", NETNS)]
    assert [found.st_ino for found in request.descriptors] == [found.st_ino for found in wanted]


@pytest.mark.parametrize("netns", [b"/run/netns/none", b"/run/netns/\xff\xfe"])
def test_a_namespace_that_is_gone_is_named_only(thin: Client, path: Path, netns: bytes) -> None:
    asked: list[Asked] = []

    def behave(connection: socket.socket) -> None:
        asked.append(read(connection))

    with helper(path, behave):
        done = thin.run("teardown", netns)

    (request,) = asked
    assert request.words == [b"teardown", netns]
    assert len(request.descriptors) == 1
    assert worked_cold(done, REQUEST, b"teardown", netns)


@pytest.mark.parametrize(
    ("status", "output", "warnings"),
    [
        (0, b"", b""),
        (0, b'{"interfaces": {}}\n', b"[WARNING geneve-ovs] \xe2\x80\xa6\n"),
        (1, b'{"error": "x"}\n', b""),
        (255, b"\0\xff\n\n no end", b"\xfe" * 1000),
        (0, bytes(range(256)) * 8192, bytes(range(256)) * 8192),
    ],
    ids=["nothing", "success and a warning", "failure", "no text", "2 MB"],
)
def test_the_answer_is_passed_on_as_it_is(
    thin: Client, path: Path, status: int, output: bytes, warnings: bytes
) -> None:
    with helper(path, answering(bytes([status]), output, warnings)):
        done = thin.run()

    assert (done.returncode, done.stdout, done.stderr) == (status, output, warnings)


def test_a_large_request_arrives_whole(thin: Client, path: Path) -> None:
    large = os.urandom(2**21)
    asked: list[Asked] = []

    def behave(connection: socket.socket) -> None:
        asked.append(read(connection))
        connection.sendall(wire.TAKEN + wire.pack(b"\0", b"", b""))

    with helper(path, behave):
        assert thin.run(request=large).returncode == 0

    assert asked[0].request == large


@pytest.mark.parametrize("request_bytes", [b"", REQUEST, b"\0" * 2**21], ids=["empty", "small", "2 MB"])
@pytest.mark.parametrize("behave", NOT_TAKING.values(), ids=NOT_TAKING)
def test_a_helper_that_does_not_take_the_request_leaves_it_whole(
    thin: Client, path: Path, behave: Behaviour, request_bytes: bytes
) -> None:
    with helper(path, behave):
        done = thin.run(request=request_bytes)

    assert worked_cold(done, request_bytes, b"setup", NETNS.encode())


@pytest.mark.parametrize("there", ["nothing", "a file", "nobody behind it"])
def test_no_helper(thin: Client, path: Path, there: str) -> None:
    if there == "a file":
        path.touch()
    elif there == "nobody behind it":
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))

    assert worked_cold(thin.run(), REQUEST, b"setup", NETNS.encode())


@pytest.mark.parametrize(
    "arguments", [("info",), ("create",), ("setup",), ("setup", NETNS, "x"), ("remove", NETNS)], ids=" ".join
)
def test_other_calls_do_not_ask_the_helper(thin: Client, path: Path, arguments: tuple[str, ...]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        done = thin.run(*arguments)

        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert worked_cold(done, REQUEST, *map(os.fsencode, arguments))


def test_the_work_is_done_by_the_same_code(thin: Client, path: Path) -> None:
    """The process of its own was started without its libraries, and finds them."""
    unknown = encoded(request_json(container_id=None))

    with helper(path, refuse):
        done = thin.run(request=unknown, stub=False)

    words = ["container_id"] if os.geteuid() == 0 else ["needs root"]
    assert [word for word in words if word not in error_of(done)] == []


def test_a_client_that_may_open_no_more_files_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    ours, helpers = socket.socketpair()
    with ours, helpers:
        monkeypatch.setattr("posix.open", fail)
        assert client._ask(ours, ["setup", NETNS], REQUEST) is None
    monkeypatch.setattr("_socket.socket", fail)
    assert client._connect() is None


@pytest.mark.parametrize(
    "said",
    [b"", wire.pack(b"\0"), wire.pack(b"\0", b"{}", b"warning")[:-1], b"\xff" * 100, wire.pack(b"", b"{}", b"")],
    ids=["nothing", "a part", "all but a byte", "nonsense", "no status"],
)
def test_a_helper_that_dies_after_it_took_the_request(thin: Client, path: Path, said: bytes) -> None:
    """It is not known what was done: that is said, and nothing is done again."""

    def behave(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(wire.TAKEN + said)

    with helper(path, behave):
        done = thin.run()

    assert error_of(done) == client.LOST


def test_a_helper_that_is_killed_with_something_unread(thin: Client, path: Path) -> None:
    """The kernel then says so in another way."""

    def behave(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(wire.TAKEN)

    with helper(path, behave):
        done = thin.run()

    assert error_of(done) == client.LOST


def test_a_helper_that_never_answers(thin: Client, path: Path) -> None:
    gone = threading.Event()

    def behave(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(wire.TAKEN)
        gone.wait(30)

    with helper(path, behave):
        done = thin.run(timeout=0.1)
        gone.set()

    assert error_of(done) == client.SILENT


def test_a_helper_that_is_given_up_cannot_take_the_request_any_more(thin: Client, path: Path) -> None:
    gone = threading.Event()
    late: list[type[OSError]] = []

    def behave(connection: socket.socket) -> None:
        read(connection)
        gone.wait(30)
        try:
            connection.sendall(wire.TAKEN)
        except OSError as error:
            late.append(type(error))

    with helper(path, behave):
        done = thin.run(timeout=0.1)
        gone.set()

    assert worked_cold(done, REQUEST, b"setup", NETNS.encode())
    assert late == [BrokenPipeError]


def test_an_answer_that_is_there_before_the_client_looks_is_not_asked_for_again() -> None:
    """A helper that is faster than the client, which had to wait for its turn on the processor."""
    ours, theirs = socket.socketpair()
    slow = Slow(fileno=ours.detach())
    with theirs, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client._ask, slow, ["setup", NETNS], REQUEST)
        assert read(theirs).request == REQUEST
        theirs.sendall(wire.TAKEN + wire.pack(b"\0", b"done", b""))
        theirs.close()
        slow.go_on.set()
        assert asked.result(30) == [b"\0", b"done", b""]


class Slow(socket.socket):
    """Comes back from sending only when it is told so."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.go_on = threading.Event()

    def sendmsg(self, *arguments: Any) -> int:
        sent = super().sendmsg(*arguments)
        assert self.go_on.wait(30)
        return sent


def test_what_the_helper_says_while_it_is_given_up_counts() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(wire.TAKEN)
        assert client._taken_after_all(ours) == wire.TAKEN
        with pytest.raises(BrokenPipeError):
            theirs.sendall(b"\0")
        assert ours.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("verb", ["setup", "teardown"])
def test_an_interrupted_client_says_so(thin: Client, path: Path, number: signal.Signals, verb: str) -> None:
    with interrupted(thin, path, verb, number, ignoring=False) as done:
        assert error_of(done) == client.INTERRUPTED[verb]


def test_a_client_that_shall_not_be_interrupted_is_not(thin: Client, path: Path) -> None:
    with interrupted(thin, path, "teardown", signal.SIGTERM, ignoring=True) as done:
        assert (done.returncode, done.stdout, done.stderr) == (0, b"done", b"")


@contextmanager
def interrupted(
    thin: Client, path: Path, verb: str, number: signal.Signals, *, ignoring: bool
) -> Iterator[subprocess.CompletedProcess[bytes]]:
    """How a client ends that gets a signal while it waits for the answer, which then comes."""
    taken, signalled = threading.Event(), threading.Event()

    def behave(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(wire.TAKEN)
        taken.set()
        assert signalled.wait(30)
        with suppress(OSError):  # nobody listens any more, unless the signal is ignored
            connection.sendall(wire.pack(b"\0", b"done", b""))

    with helper(path, behave):
        process = subprocess.Popen(
            [*thin.command(), verb, NETNS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=thin.environ({}),
            preexec_fn=(lambda: signal.signal(number, signal.SIG_IGN)) if ignoring else None,
        )
        with process:
            assert process.stdin
            process.stdin.write(REQUEST)
            process.stdin.close()
            process.stdin = None
            assert taken.wait(30)
            process.send_signal(number)
            if not ignoring:
                process.wait(30)
            signalled.set()
            output, errors = process.communicate(timeout=30)
        yield subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def test_the_sentences_need_no_escapes() -> None:
    for sentence in (client.LOST, client.SILENT, *client.INTERRUPTED.values()):
        assert json.loads(f'{{"error": "{sentence}"}}') == {"error": sentence}


def test_a_setup_that_nobody_hears_of_is_taken_back(thin: Client, path: Path) -> None:
    """netavark was killed meanwhile: its end of stdout is closed."""
    asked = []
    reading, writing = os.pipe()
    os.close(reading)
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)

        def serve() -> None:
            for answer in (b"{}", b""):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(30)
                    asked.append(read(connection))
                    connection.sendall(wire.TAKEN + wire.pack(b"\0", answer, b""))

        served = pool.submit(serve)
        command = [*thin.command(), "setup", NETNS]
        done = subprocess.run(
            command,
            input=REQUEST,
            stdout=writing,
            stderr=subprocess.PIPE,
            env=thin.environ({}),
            timeout=60,
            check=False,
        )
        served.result(30)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
    assert [one.words[0] for one in asked] == [b"setup", b"teardown"]
    assert asked[0].request == asked[1].request == REQUEST
