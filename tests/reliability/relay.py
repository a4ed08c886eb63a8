"""Stand between the plugin and ovsdb-server, and let one of its requests go wrong.

Runs as a program on a host: `python3 relay.py DIRECTORY`. It listens on DIRECTORY/db.sock, says so, and reads jobs
from standard input, a line each: WAY NUMBER. What WAY says is done to the request with that number from then on, of
all connections together; with number 0 to none. It answers a job with a line `ready`, and writes a line for each
request that comes: its method. Requests are those of RFC 7047 §4.1; keep-alives do not count.
"""

import contextlib
import json
import socket
import sys
import threading
import time

SERVER = "/run/openvswitch/db.sock"
LATE = 11.0  # seconds; the plugin's deadline is 10
SETTLED = 0.2  # seconds in which the server has done what it is told
READY = "ready"

WAYS = {
    "error": "an error is the answer",
    "drop": "not passed on, the connection ends",
    "cut": "passed on, the connection ends before the answer",
    "silence": "not passed on, nothing more comes by the connection",
    "deaf": "passed on, nothing more comes by the connection",
    "late": "passed on, the answer comes after the deadline",
}


class Jobs:
    """What is to go wrong, and how many requests there have been since it was said."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._way, self._left = "", 0

    def read(self) -> None:
        for line in sys.stdin:
            way, number = line.split()
            with self._lock:
                self._way, self._left = way, int(number)
                print(READY, flush=True)

    def way_of(self, message: dict[str, object]) -> str | None:
        """What becomes of this message; None when it is just passed on."""
        if "method" not in message or message["method"] == "echo":
            return None
        with self._lock:
            print(message["method"], flush=True)
            self._left -= 1
            return self._way if self._left == 0 else None


class Line:
    """One connection of a client, and its own one to the server."""

    def __init__(self, jobs: Jobs, client: socket.socket) -> None:
        self._jobs = jobs
        self._client = client
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.connect(SERVER)
        self._answered = threading.Event()  # what the server says is passed on
        self._answered.set()
        for pump in (self._requests, self._answers):
            threading.Thread(target=pump, daemon=True).start()

    def _requests(self) -> None:
        text, decoder = "", json.JSONDecoder()
        while data := receive(self._client):
            text += data.decode()
            with contextlib.suppress(ValueError):  # not whole yet
                while text:
                    message, end = decoder.raw_decode(text)
                    self._pass_on(message, text[:end].encode())
                    text = text[end:].lstrip()
        self._end()

    def _pass_on(self, message: dict[str, object], data: bytes) -> None:
        way = self._jobs.way_of(message)
        if way in ("cut", "silence", "deaf", "late"):
            self._answered.clear()
        if way == "error":
            send(self._client, json.dumps(refusal(message)).encode())
        elif way == "drop":
            self._end()
        elif way != "silence":
            send(self._server, data)
        if way == "cut":
            time.sleep(SETTLED)
            self._end()
        elif way == "late":
            threading.Timer(LATE, self._answered.set).start()

    def _answers(self) -> None:
        while data := receive(self._server):
            self._answered.wait()
            send(self._client, data)
        self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def refusal(message: dict[str, object]) -> dict[str, object]:
    """Of a transaction one of its operations is refused, RFC 7047 §4.1.3."""
    reason = {"error": "resources exhausted", "details": "too much is asked"}
    is_whole = message["method"] != "transact"
    return {"id": message["id"], "result": None if is_whole else [reason], "error": reason if is_whole else None}


def receive(connection: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return connection.recv(65536)
    return b""


def send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the other end has gone, which `receive` will see
        connection.sendall(data)


def main(directory: str) -> None:
    jobs = Jobs()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{directory}/db.sock")
        listener.listen()
        print(READY, flush=True)
        threading.Thread(target=jobs.read, daemon=True).start()
        while True:
            Line(jobs, listener.accept()[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
