# SPDX-License-Identifier: Apache-2.0
"""The warm helper: whom it serves, and what becomes of everything that can go wrong between it and its callers.

What a request does is told instead of done.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netavark_geneve import cli
from netavark_geneve.errors import GeneveError
from netavark_geneve.frontends.netavark import Reply
from netavark_geneve.helper import server, wire
from netavark_geneve.log import logger

from .conftest import PROJECT

NETNS = "/proc/self/ns/net"
OTHER_NETNS = "/proc/self/ns/uts"  # another file of the same kind
DEADLINE = 30.0  # seconds for anything that happens by itself
SHARED = {key: f"/somewhere/{key}" for key in wire.SHARED}
Handle = Callable[[Sequence[str], bytes, Mapping[str, str]], Reply]


class Answer(NamedTuple):
    status: int
    output: bytes
    messages: bytes


class Served(NamedTuple):
    """A call of `handle`."""

    verb: str
    netns: str
    container: str
    environ: Mapping[str, str]


@dataclass
class Work:
    """Stands for `handle`: writes down what it is asked, and does to it whatever the test wants."""

    served: list[Served]
    do: Handle = lambda arguments, request, environ: Reply(0, b"done")

    def handle(self, arguments: Sequence[str], request: bytes, environ: Mapping[str, str], kept: object) -> Reply:
        verb, netns = arguments
        container = json.loads(request)["container_id"]
        self.served.append(Served(verb, netns, container, environ))
        return self.do(arguments, request, environ)

    def calls(self) -> list[tuple[str, str]]:
        return [(one.verb, one.container) for one in self.served]


class Caller:
    """A client on its own: says what it is told to, and closes when the block ends."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(
        self,
        verb: str = "setup",
        container: str = "c1",
        *,
        environ: Mapping[str, str] | None = None,
        files: Sequence[str] = (NETNS, OTHER_NETNS),
    ) -> None:
        given = SHARED if environ is None else environ
        settings = "\0".join(f"{key}={value}" for key, value in given.items())
        request = json.dumps({"container_id": container})
        self.send(wire.pack(f"{verb}\0/run/netns/{container}".encode(), settings.encode(), request.encode()), files)

    def send(self, message: bytes, files: Sequence[str] = (NETNS,)) -> None:
        descriptors = [os.open(file, os.O_RDONLY) for file in files]
        try:
            sent = self.socket.sendmsg([message], wire.rights(descriptors) if descriptors else [])
            if sent < len(message):
                self.socket.sendall(message[sent:])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def word(self) -> bytes:
        """Whether the helper takes the request; nothing when it closes."""
        return self.socket.recv(1)

    def answer(self) -> Answer:
        status, output, messages = wire.receive(self.socket, 3)
        return Answer(status[0], output, messages)


def ask(path: Path, *arguments: str, **options: Any) -> Answer:
    with Caller(path) as caller:
        caller.say(*arguments, **options)
        assert caller.word() == wire.TAKEN
        return caller.answer()


def is_refused(path: Path, **options: Any) -> bool:
    with Caller(path) as caller:
        caller.say(**options)
        return caller.word() == wire.NOT_MINE


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Whoever runs the tests counts as root."""
    real, made = server._peer_uid, Work([])
    monkeypatch.setattr(server, "handle", made.handle)
    monkeypatch.setattr(server, "_peer_uid", lambda connection: 0 if real(connection) == os.geteuid() else 1)
    return made


@pytest.fixture
def path(work: Work, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a helper listens, which runs in a thread of this process."""
    reading, writing = socket.socketpair()

    @contextmanager
    def end_asked() -> Iterator[socket.socket]:
        yield reading

    monkeypatch.setattr(server, "_end_asked", end_asked)
    with tempfile.TemporaryDirectory() as directory, reading, writing:
        os.chmod(directory, 0o755)  # what is tested is the socket's own mode
        path = Path(directory, "run", "helper.sock")
        environ = {**SHARED, "PATH": "/bin", "RUST_LOG": "error", "NETAVARK_FW": "none"}
        thread = threading.Thread(target=server.serve, args=(str(path), environ))
        thread.start()
        try:
            wait_for_listener(path)
            yield path
        finally:
            writing.sendall(b"\0")
            thread.join(DEADLINE)
        assert not thread.is_alive()
        assert not path.exists()


def wait_for_listener(path: Path) -> None:
    def listens() -> bool:
        try:
            Caller(path).socket.close()
        except OSError:
            return False
        return True

    wait_until(listens)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_was_asked_is_done_and_answered(path: Path, work: Work) -> None:
    work.do = lambda arguments, request, environ: Reply(200, b"\0\xff" * 2**20)

    assert ask(path, "teardown", "c7") == Answer(200, b"\0\xff" * 2**20, b"")
    assert work.calls() == [("teardown", "c7")]


def test_a_large_request_is_read_whole(path: Path, work: Work) -> None:
    container = "c" * 2**21

    assert ask(path, "setup", container).output == b"done"
    assert work.served[0].container == container


def test_a_request_in_pieces_is_put_together(path: Path, work: Work) -> None:
    settings = "\0".join(f"{key}={value}" for key, value in SHARED.items()).encode()
    message = wire.pack(b"setup\0/run/netns/c1", settings, b'{"container_id": "c1"}')
    with Caller(path) as caller:
        caller.send(message[:1])
        for position in range(1, len(message), 7):
            caller.send(message[position : position + 7], files=[])
        assert caller.word() == wire.TAKEN
        assert caller.answer().output == b"done"


def test_the_containers_namespace_is_the_one_that_was_handed_over(path: Path, work: Work) -> None:
    seen: list[int] = []

    def do(arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        seen.append(os.stat(arguments[1]).st_ino)
        return Reply(0, b"")

    work.do = do
    ask(path, "setup")

    assert seen == [os.stat(OTHER_NETNS).st_ino]


def test_a_namespace_that_is_gone_is_called_by_its_name(path: Path, work: Work) -> None:
    ask(path, "teardown", "c1", files=[NETNS])

    assert work.served[0].netns == "/run/netns/c1"


def test_no_descriptor_stays(path: Path, work: Work) -> None:
    def call(**options: Any) -> None:
        with Caller(path) as caller:
            caller.say(**options)
            if caller.word() == wire.TAKEN:
                caller.answer()
            assert caller.word() == b""  # it has closed, last of all the connection

    call()
    before = set(os.listdir("/proc/self/fd"))

    for files in ([NETNS], [NETNS, OTHER_NETNS], [NETNS] * 9, []):
        call(files=files)
    call(environ={})

    assert set(os.listdir("/proc/self/fd")) <= before


def test_threads_are_used_again(path: Path, work: Work) -> None:
    """libuuid, by which ovs makes its UUIDs, keeps a file open for each thread there ever was."""
    seen: set[int] = set()

    def do(arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        seen.add(threading.get_native_id())
        return Reply(0, b"")

    work.do = do
    for _ in range(50):
        ask(path)

    assert len(seen) < 10  # not one alone: it answers a moment before it is free again


def test_more_requests_than_threads_wait_for_their_turn(path: Path, work: Work) -> None:
    gate = Gate()
    work.do = gate.do
    with ThreadPoolExecutor(2 * server.WORKERS) as pool:
        names = [f"c{number}" for number in range(2 * server.WORKERS)]
        answers = [pool.submit(ask, path, "setup", name) for name in names]
        for _ in range(server.WORKERS):
            assert gate.begun.acquire(timeout=DEADLINE)
        gate.open.set()
        assert {answer.result().output for answer in answers} == {b"done"}

    assert sorted(work.calls()) == sorted(("setup", name) for name in names)


def test_socket_and_directory_are_roots_alone(path: Path) -> None:
    assert stat.filemode(path.stat().st_mode) == "srw-------"
    assert stat.filemode(path.parent.stat().st_mode) == "drwx------"


def test_somebody_elses_request_is_refused(path: Path, work: Work) -> None:
    """Even if the socket's mode would let them in."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: that a caller who is not root is refused; only root can become somebody else")
    settings = "\0".join(f"{key}={value}" for key, value in SHARED.items()).encode()
    message = wire.pack(b"setup\0/run/netns/c1", settings, b'{"container_id": "c1"}')

    assert as_nobody(lambda: Caller(path).socket.close()) == b"PermissionError"
    path.parent.chmod(0o755)
    assert as_nobody(lambda: Caller(path).socket.close()) == b"PermissionError"
    path.chmod(0o666)

    def call() -> bytes:
        with Caller(path) as caller:
            caller.send(message)
            return caller.word()

    assert as_nobody(call) == wire.NOT_MINE
    assert work.served == []
    assert call() == wire.TAKEN


def as_nobody(action: Callable[[], object]) -> bytes:
    """What the action returns, or the name of what it raises, in a process of the user nobody."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            said = action()
            os.write(writing, said if isinstance(said, bytes) else b"")
        except BaseException as error:  # noqa: BLE001 - nothing must get past here
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_request_from_another_network_namespace_is_refused(path: Path, work: Work) -> None:
    assert is_refused(path, files=[OTHER_NETNS, NETNS])
    assert work.served == []


@pytest.mark.parametrize("files", [[], ["/dev/null"]], ids=["nothing", "something else"])
def test_a_caller_who_does_not_show_where_it_is_is_refused(path: Path, work: Work, files: list[str]) -> None:
    assert is_refused(path, files=files)
    assert work.served == []


@pytest.mark.parametrize("key", wire.SHARED)
@pytest.mark.parametrize("value", [None, "", "/elsewhere"])
def test_a_request_with_another_configuration_is_refused(path: Path, work: Work, key: str, value: str | None) -> None:
    others = {name: text for name, text in SHARED.items() if name != key}

    assert is_refused(path, environ=others if value is None else {**others, key: value})
    assert work.served == []


def test_the_callers_settings_replace_the_helpers_for_this_request(path: Path, work: Work) -> None:
    ask(path, environ={**SHARED, "NETAVARK_DNS_PORT": "54", "RUST_LOG": "debug"})
    ask(path)

    first, second = (one.environ for one in work.served)
    assert first == {**SHARED, "PATH": "/bin", "NETAVARK_DNS_PORT": "54", "RUST_LOG": "debug"}
    assert second == {**SHARED, "PATH": "/bin"}


def test_each_request_has_its_own_log_level(path: Path, work: Work) -> None:
    def do(arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        logger.debug("a step")
        logger.warning("look: %s", "é\udce9")
        return Reply(0, b"")

    work.do = do
    warning = "[WARNING geneve-ovs] look: é?\n".encode()
    debug = b"[DEBUG geneve-ovs] a step\n"

    assert ask(path).messages == warning
    assert ask(path, environ={**SHARED, "RUST_LOG": "netavark=debug"}).messages == debug + warning
    assert ask(path, environ={**SHARED, "RUST_LOG": "error"}).messages == b""
    assert ask(path).messages == warning


def test_requests_at_the_same_time_do_not_mix_what_they_say(path: Path, work: Work) -> None:
    together = threading.Barrier(8, timeout=DEADLINE)

    def do(arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        container = json.loads(request)["container_id"]
        for number in range(20):
            together.wait()
            logger.warning("%s %d", container, number)
        return Reply(0, container.encode())

    work.do = do
    names = [f"c{number}" for number in range(together.parties)]
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: ask(path, "setup", name), names))

    for name, answer in zip(names, answers, strict=True):
        lines = [f"[WARNING geneve-ovs] {name} {number}" for number in range(20)]
        assert (answer.output.decode(), answer.messages.decode().splitlines()) == (name, lines)


SETTINGS = "\0".join(f"{key}={value}" for key, value in SHARED.items()).encode()
NONSENSE: dict[str, bytes] = {
    "nothing": b"",
    "half a length": b"\0\0",
    "half a part": b"\0\0\0\x09set",
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an endless part": b"\xff\xff\xff\xff" + b"x" * 1000,
    "an endless later part": wire.pack(b"setup\0x") + b"\xff\xff\xff\xff" + b"x" * 1000,
    "settings without values": wire.pack(b"setup\0x", b"RUST_LOG", b"{}"),
}
MISSHAPEN: dict[str, bytes] = {
    "no word": wire.pack(b"", SETTINGS, b"{}"),
    "one word": wire.pack(b"setup", SETTINGS, b"{}"),
    "three words": wire.pack(b"setup\0x\0y", SETTINGS, b"{}"),
}


@pytest.mark.parametrize("files", [(), (NETNS, NETNS)], ids=["no descriptor", "descriptors"])
@pytest.mark.parametrize("message", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_hurts_nobody_else(path: Path, work: Work, message: bytes, files: tuple[str, ...]) -> None:
    with Caller(path) as caller:
        if message:
            caller.send(message, files)
        caller.socket.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # so the kernel says that not all was read
            assert caller.word() == b""

    assert work.served == []
    assert ask(path).output == b"done"


@pytest.mark.parametrize("message", MISSHAPEN.values(), ids=MISSHAPEN)
def test_a_request_that_no_client_sends_is_refused(path: Path, work: Work, message: bytes) -> None:
    with Caller(path) as caller:
        caller.send(message, [NETNS, NETNS])
        assert caller.word() == wire.NOT_MINE

    assert work.served == []
    assert ask(path).output == b"done"


def test_a_request_that_is_no_json_is_answered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netavark_geneve.frontends import netavark

    monkeypatch.setattr(netavark, "check_root", lambda: None)
    monkeypatch.setattr(server, "handle", netavark.handle)
    for request in (b"", b"{", b"[]", b'{"container_id": []}', b"[" * 100000):
        with Caller(path) as caller:
            caller.send(wire.pack(b"setup\0/run/netns/c1", SETTINGS, request))
            assert caller.word() == wire.TAKEN
            answer = caller.answer()
        assert answer.status == 1
        assert list(json.loads(answer.output)) == ["error"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GeneveError("no such luck"), ["no such luck"]),
        (ZeroDivisionError("by zero"), ["unexpected ZeroDivisionError: by zero", "bug in geneve-ovs"]),
        (OSError(5, "broken"), ["unexpected OSError", "broken"]),
    ],
    ids=["expected", "unexpected", "of the kind that sockets raise"],
)
def test_a_failure_is_an_answer(path: Path, work: Work, error: Exception, words: list[str]) -> None:
    def do(arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        raise error

    work.do = do
    answer = ask(path, environ={**SHARED, "RUST_LOG": "debug"})

    assert answer.status == 1
    assert [word for word in words if word not in json.loads(answer.output)["error"]] == []
    assert (b"Traceback" in answer.messages) == (not isinstance(error, GeneveError))


class Gate:
    """Work that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Semaphore(0), threading.Event()

    def do(self, arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        self.begun.release()
        assert self.open.wait(DEADLINE)
        return Reply(0, b"done")


def test_a_caller_who_has_gone_gets_its_setup_undone(path: Path, work: Work) -> None:
    gate = Gate()
    work.do = gate.do
    with Caller(path) as caller:
        caller.say("setup", "c1")
        assert caller.word() == wire.TAKEN
    gate.open.set()

    wait_until(lambda: work.calls() == [("setup", "c1"), ("teardown", "c1")])
    assert work.served[1].netns == work.served[0].netns
    assert work.served[1].environ == work.served[0].environ


@pytest.mark.parametrize(("verb", "status"), [("setup", 1), ("teardown", 0), ("teardown", 1)])
def test_a_caller_who_has_gone_and_nothing_to_undo(path: Path, work: Work, verb: str, status: int) -> None:
    gate = Gate()

    def do(*arguments: Any) -> Reply:
        gate.do(*arguments)
        return Reply(status, b"done")

    work.do = do
    with Caller(path) as caller:
        caller.say(verb, "c1")
        assert caller.word() == wire.TAKEN
    gate.open.set()

    ask(path, "teardown", "c1")  # its turn comes when the other one is through
    assert work.calls() == [(verb, "c1"), ("teardown", "c1")]


def test_an_undo_that_fails_is_told_where_the_helper_runs(
    path: Path, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    def do(arguments: Sequence[str], request: bytes, environ: Mapping[str, str]) -> Reply:
        if arguments[0] == "teardown":
            raise GeneveError("no way back")
        return gate.do(arguments, request, environ)

    work.do = do
    with Caller(path) as caller:
        caller.say("setup", "c1")
        assert caller.word() == wire.TAKEN
    gate.open.set()

    wait_until(lambda: "no way back" in caplog.text)
    work.do = lambda arguments, request, environ: Reply(0, b"done")
    assert ask(path) == Answer(0, b"done", b"")


def test_one_request_at_a_time_for_a_container(path: Path, work: Work) -> None:
    """The undo for a caller who has gone must not hit the next attempt."""
    gate = Gate()
    work.do = gate.do
    with Caller(path) as killed, Caller(path) as next_one, Caller(path) as other:
        killed.say("setup", "c1")
        assert killed.word() == wire.TAKEN
        assert gate.begun.acquire(timeout=DEADLINE)
        next_one.say("setup", "c1")
        other.say("setup", "c2")
        assert other.word() == wire.TAKEN
        assert gate.begun.acquire(timeout=DEADLINE)
        killed.socket.close()
        assert work.calls() == [("setup", "c1"), ("setup", "c2")]

        gate.open.set()
        assert next_one.word() == wire.TAKEN
        assert [one.answer().output for one in (next_one, other)] == [b"done", b"done"]

    assert [call for call in work.calls() if call[1] == "c1"] == [("setup", "c1"), ("teardown", "c1"), ("setup", "c1")]


def test_a_caller_who_goes_while_it_waits_for_its_turn_is_not_served(path: Path, work: Work) -> None:
    gate = Gate()
    work.do = gate.do
    with Caller(path) as first, Caller(path) as impatient:
        first.say("setup", "c1")
        assert first.word() == wire.TAKEN
        impatient.say("teardown", "c1")
        impatient.socket.close()
        gate.open.set()
        assert first.answer().output == b"done"

    ask(path, "setup", "c1")
    assert work.calls() == [("setup", "c1")] * 2


# A helper as a process of its own; its work begins by naming the container in the file "begun", and is done
# when the file "go" is there.
SERVER = """
import os, pathlib, resource, socket, sys, time
sys.path.insert(0, {project!r})
from netavark_geneve.frontends.netavark import Reply
from netavark_geneve.helper import server

def handle(arguments, request, environ, kept):
    directory = pathlib.Path({directory!r})
    (directory / "begun").write_bytes(request)
    while not (directory / "go").exists():
        time.sleep(0.005)
    return Reply(0, b"done")

server.handle = handle
server._peer_uid = lambda connection: 0
{prepare}
server.serve({path!r}, os.environ, idle={idle})
print("ended", flush=True)
"""


class Process(NamedTuple):
    process: subprocess.Popen[str]
    path: Path
    directory: Path

    def begun(self) -> bool:
        return (self.directory / "begun").exists()

    def go_on(self) -> None:
        (self.directory / "go").touch()

    def ended_well(self) -> bool:
        output, errors = self.process.communicate(timeout=DEADLINE)
        return (self.process.returncode, output, errors) == (0, "ended\n", "")


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(
        *, idle: float = 1000, prepare: str = "", path: Path | None = None, pass_fds: Sequence[int] = ()
    ) -> Process:
        listens_at = path or tmp_path / "helper.sock"
        text = SERVER.format(
            project=str(PROJECT), directory=str(tmp_path), path=str(listens_at), idle=idle, prepare=prepare
        )
        environ = {key: value for key, value in os.environ.items() if key not in wire.SHARED} | SHARED
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", text], env=environ, stdout=pipe, stderr=pipe, text=True, pass_fds=pass_fds
        )
        started.append(process)
        return Process(process, listens_at, tmp_path)

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_finishes_what_runs(start: Start, number: signal.Signals) -> None:
    running = start()
    wait_for_listener(running.path)
    with Caller(running.path) as caller:
        caller.say()
        assert caller.word() == wire.TAKEN
        wait_until(running.begun)

        running.process.send_signal(number)
        wait_until(lambda: not running.path.exists())
        running.process.send_signal(number)  # once more: it is waiting already
        with pytest.raises(OSError, match="No such file"):
            Caller(running.path)
        running.go_on()

        assert caller.answer().output == b"done"
    assert running.ended_well()


def test_it_ends_when_nobody_asks(start: Start) -> None:
    running = start(idle=0.05)

    assert running.ended_well()
    assert not running.path.exists()


def test_while_it_works_it_is_not_idle(start: Start) -> None:
    running = start(idle=0.5)
    wait_for_listener(running.path)
    with Caller(running.path) as caller:
        caller.say()
        assert caller.word() == wire.TAKEN
        wait_until(running.begun)
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(1.5)
        running.go_on()
        assert caller.answer().output == b"done"

    assert running.ended_well()


ACTIVATED = """
os.dup2({descriptor}, 3)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = {pid}
"""


def test_the_socket_of_systemd_stays_when_the_helper_ends(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "systemd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for _ in ("first", "again"):
            (tmp_path / "go").touch()
            with Caller(path) as caller:  # who has to wait until the helper is there
                caller.say()
                prepare = ACTIVATED.format(descriptor=listener.fileno(), pid="str(os.getpid())")
                running = start(prepare=prepare, pass_fds=[listener.fileno()])
                assert caller.word() == wire.TAKEN
                assert caller.answer().output == b"done"
            running.process.terminate()
            assert running.ended_well()
            assert not running.path.exists()
            assert path.exists()


def test_a_socket_that_is_meant_for_another_process_is_left_alone(start: Start) -> None:
    prepare = 'os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] = "1", "1"'
    running = start(prepare=prepare)
    wait_for_listener(running.path)

    running.process.terminate()
    assert running.ended_well()


def test_a_helper_takes_the_place_of_another_one_and_keeps_it(start: Start) -> None:
    first = start()
    wait_for_listener(first.path)
    before = first.path.stat().st_ino
    second = start()
    wait_until(lambda: first.path.exists() and first.path.stat().st_ino != before)
    wait_for_listener(second.path)

    first.process.terminate()
    assert first.ended_well()

    second.go_on()
    assert ask(second.path).output == b"done"
    second.process.terminate()
    assert second.ended_well()
    assert not second.path.exists()


def test_what_a_killed_helper_left_is_replaced(start: Start) -> None:
    first = start()
    wait_for_listener(first.path)
    first.process.kill()
    first.process.wait(DEADLINE)
    assert first.path.exists()

    second = start()
    wait_for_listener(second.path)
    second.go_on()
    assert ask(second.path).output == b"done"


def test_too_many_at_once_are_served_later(start: Start) -> None:
    running = start(prepare="resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))")
    running.go_on()
    wait_for_listener(running.path)
    silent = [Caller(running.path) for _ in range(40)]
    for caller in silent:
        caller.socket.close()

    assert ask(running.path).output == b"done"


@pytest.mark.parametrize("there", ["a directory", "below a file", "too long"])
def test_a_path_that_cannot_be_is_told(tmp_path: Path, there: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    names = {"a directory": "directory", "below a file": "file/helper.sock", "too long": "x" * 120}
    path = tmp_path / names[there]

    with pytest.raises(GeneveError, match=r"cannot listen on .*--socket") as caught, server._listen(str(path), {}):
        pass

    assert str(path) in str(caught.value)
    assert "None" not in str(caught.value)


@pytest.mark.usefixtures("fresh_loggers")
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [([], (None, 300.0)), (["--socket", "/run/x", "--idle", "1.5"], ("/run/x", 1.5))],
    ids=["as systemd starts it", "by hand"],
)
def test_operators_command(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: tuple[str | None, float]
) -> None:
    served: list[tuple[str | None, float]] = []
    monkeypatch.setattr(cli, "check_root", lambda: None)
    monkeypatch.setattr(server, "serve", lambda path, environ, idle: served.append((path, idle)))
    monkeypatch.setattr(sys, "argv", ["netavark-geneve", "helper", *arguments])

    assert cli.main() == 0
    assert served == [wanted]
