"""dns.py against the real aardvark-dns."""

import ipaddress
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from netavark_geneve import dns
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.model import Names

DEFAULT_RESOLVERS = Path("/etc/resolv.conf")
NXDOMAIN = "NXDOMAIN"
A, AAAA = 1, 28
TWO = "192.168.121.1"
ALL_ADDRESSES = ("192.168.120.1", "192.168.120.2", "192.168.120.3", TWO, "192.168.121.2", "fd00:120::1", "fd00:120::2")


def make_names(number: int, *names: str, network: int = 120, upstreams: tuple[str, ...] = ()) -> Names:
    """Container `number` (from 2) of a network with both families."""
    prefixes = (f"192.168.{network}.", f"fd00:{network}::")
    return Names(
        network=f"net{network}",
        internal=False,
        listen=tuple(ipaddress.ip_address(f"{prefix}1") for prefix in prefixes[: 2 if network == 120 else 1]),
        upstreams=upstreams,
        container_id=f"{network}{number:061}",
        addresses=tuple(ipaddress.ip_address(f"{prefix}{number}") for prefix in prefixes),
        names=names,
    )


WEB = make_names(2, "web", "www")
DB = make_names(3, "db")
OTHER = make_names(2, "other", network=121)


@pytest.fixture(autouse=True)
def addresses() -> Iterator[None]:
    """The addresses of gateways and containers are this host's; it starts and ends without an instance."""
    for address in ALL_ADDRESSES:
        # nodad: also on lo an IPv6 address can be bound to only after a while, otherwise
        options = ("/128", "nodad") if ":" in address else ("/32",)
        subprocess.run(("ip", "address", "add", address + options[0], "dev", "lo", *options[1:]), check=True)
    resolvers = DEFAULT_RESOLVERS.read_text()
    yield
    DEFAULT_RESOLVERS.write_text(resolvers)
    dns.replace_all([], program(), os.environ, Deadline(10))
    assert not dns.DIRECTORY.parent.exists()
    assert instances() == []
    for address in ALL_ADDRESSES:
        length = 128 if ":" in address else 32
        subprocess.run(("ip", "address", "delete", f"{address}/{length}", "dev", "lo"), check=True)


def program() -> str:
    found = dns.find_program(os.environ)
    assert found is not None
    return found


def ensure(*entries: Names) -> None:
    for names in entries:
        dns.ensure_names(names, program(), os.environ, Deadline(10))


def remove(names: Names) -> None:
    dns.remove_names(names.network, names.container_id)


def instances() -> list[int]:
    """All processes of our directory, whatever the pid file says."""
    found = subprocess.run(("pgrep", "-f", f"^[^ ]*aardvark-dns --config {dns.DIRECTORY} "), capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def query(name: str, server: str, source: str | None = None, kind: int = A, port: int = 53) -> list[str] | str:
    """The addresses in the answer, or its failure: one question by hand (RFC 1035 §4), as no tool is installed."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        if source is not None:
            client.bind((source, 0))
        client.settimeout(5)
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        question += struct.pack("!2H", kind, 1)
        client.connect((server, port))
        client.send(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + question)
        try:
            answer = client.recv(4096)
        except ConnectionRefusedError:
            return "nobody there"
    flags, _, count = struct.unpack("!3H", answer[2:8])
    if flags & 15:
        return {3: NXDOMAIN}.get(flags & 15, str(flags & 15))
    size = 4 if kind == A else 16
    records = answer[12 + len(question) :]  # each begins with a pointer to the name, and has one address
    step = 12 + size
    packed = [records[index * step + 12 : (index + 1) * step] for index in range(count)]
    return sorted(str(ipaddress.ip_address(address)) for address in packed)


def becomes(ask: Callable[[], object], wanted: object) -> None:
    """aardvark-dns reads its files a moment after the signal."""
    deadline = Deadline(3)
    while (found := ask()) != wanted and deadline.remaining():
        time.sleep(0.005)
    assert found == wanted


def answered(names: Names, source: str | None = None) -> None:
    """The container's first name is known by now, to whoever asks; below dns.podman, so that nobody else is asked."""
    family = [str(address) for address in names.addresses if address.version == 4]
    becomes(lambda: query(f"{names.names[0]}.dns.podman", str(names.listen[0]), source), family)


@contextmanager
def upstream(address: str, answer: str) -> Iterator[list[str]]:
    """A server that gives one answer to all; yields whom it was asked by."""
    askers: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))

        def serve() -> None:
            while True:
                message, sender = server.recvfrom(4096)
                if message == b"end":
                    return
                askers.append(sender[0])
                question = message[12 : message.index(b"\0", 12) + 5]
                header = message[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
                record = struct.pack("!3HIH", 0xC00C, A, 1, 0, 4) + socket.inet_aton(answer)
                server.sendto(header + question + record, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield askers
        finally:
            server.sendto(b"end", (address, 53))
            thread.join()


class TestAnswers:
    def test_containers_of_a_network_find_each_other(self) -> None:
        ensure(WEB, DB)
        answered(DB)
        assert query("db", "192.168.120.1", "192.168.120.2") == ["192.168.120.3"]
        assert query("db", "fd00:120::1", "fd00:120::2", AAAA) == ["fd00:120::3"]
        assert query("www.dns.podman", "192.168.120.1", "192.168.120.3") == ["192.168.120.2"]
        assert query("WEB", "192.168.120.1", "192.168.120.3") == ["192.168.120.2"]

    def test_a_container_that_comes_back_has_its_new_address_only(self) -> None:
        ensure(WEB, DB, WEB)
        moved = replace(DB, addresses=(ipaddress.ip_address("192.168.120.9"),), names=("db2",))
        ensure(moved)
        answered(moved)
        assert query("db.dns.podman", "192.168.120.1", "192.168.120.2") == NXDOMAIN
        assert query("web", "192.168.120.1", "192.168.120.2") == ["192.168.120.2"]

    def test_networks_do_not_see_each_other_and_share_the_instance(self) -> None:
        ensure(WEB, OTHER)
        answered(OTHER, "192.168.121.2")
        assert query("web.dns.podman", TWO, "192.168.121.2") == NXDOMAIN
        assert query("other.dns.podman", "192.168.120.1", "192.168.120.2") == NXDOMAIN
        assert len(instances()) == 1

    def test_a_name_that_does_not_fit_costs_nobody_elses(self) -> None:
        ensure(replace(WEB, names=("web", "two words", "line\nbreak", "comma,")), DB)
        answered(DB, "192.168.120.2")
        assert query("web", "192.168.120.1", "192.168.120.3") == ["192.168.120.2"]

    def test_other_names_are_asked_of_the_networks_servers(self) -> None:
        with upstream("127.0.0.53", "192.0.2.53") as host, upstream("127.0.0.54", "192.0.2.54"):
            DEFAULT_RESOLVERS.write_text("nameserver 127.0.0.53\n")
            ensure(WEB)
            assert query("example.com", "192.168.120.1", "192.168.120.2") == ["192.0.2.53"]
            ensure(replace(WEB, upstreams=("127.0.0.54",)))
            becomes(lambda: query("example.com", "192.168.120.1", "192.168.120.2"), ["192.0.2.54"])
            ensure(replace(WEB, upstreams=("192.168.120.1",)))
            becomes(lambda: query("example.com", "192.168.120.1", "192.168.120.2"), ["192.0.2.53"])
            assert set(host) == {"127.0.0.1"}

    def test_containers_of_an_internal_network_reach_no_other_server(self) -> None:
        with upstream("127.0.0.53", "192.0.2.53") as asked:
            DEFAULT_RESOLVERS.write_text("nameserver 127.0.0.53\n")
            ensure(replace(WEB, internal=True, upstreams=("127.0.0.53",)))
            ensure(replace(DB, internal=True, names=("no good",)))
            answered(replace(DB, names=(DB.container_id[:12],)))
            assert query("web", "192.168.120.1", "192.168.120.3") == ["192.168.120.2"]
            for source in ("192.168.120.2", "192.168.120.3"):
                assert query("example.com", "192.168.120.1", source) == NXDOMAIN
            assert asked == []

    def test_podmans_port_is_taken(self) -> None:
        dns.ensure_names(WEB, program(), {**os.environ, "NETAVARK_DNS_PORT": "5353"}, Deadline(10))
        assert query("web", "192.168.120.1", "192.168.120.2", port=5353) == ["192.168.120.2"]


class TestInstance:
    def test_goes_with_the_last_container(self) -> None:
        ensure(WEB, DB, OTHER)
        for names in (WEB, OTHER):
            remove(names)
            remove(names)
        assert len(instances()) == 1
        answered(DB)

        remove(DB)
        assert instances() == []
        assert not dns.DIRECTORY.parent.exists()

    def test_comes_back_at_once_after_the_last_went(self) -> None:
        for _ in range(20):
            ensure(WEB)
            assert query("web", "192.168.120.1") == ["192.168.120.2"]
            remove(WEB)

    def test_goes_with_the_last_network(self) -> None:
        ensure(WEB, DB, OTHER)
        for names in (WEB, DB):
            remove(names)
        assert len(instances()) == 1
        remove(OTHER)
        assert instances() == []

    def test_that_died_is_started_again_with_all_names(self) -> None:
        ensure(WEB)
        os.kill(instances()[0], signal.SIGKILL)
        becomes(instances, [])
        ensure(DB)
        assert query("web", "192.168.120.1") == ["192.168.120.2"]

    def test_that_died_is_no_hindrance_to_leaving(self) -> None:
        ensure(WEB)
        os.kill(instances()[0], signal.SIGKILL)
        becomes(instances, [])
        remove(WEB)
        assert not dns.DIRECTORY.parent.exists()

    def test_is_not_netavarks(self, tmp_path: Path) -> None:
        """One with another directory is not signalled, though our pid file names it."""
        (tmp_path / "podman").write_text(f"{TWO}\n{OTHER.container_id} 192.168.121.2  other\n")
        subprocess.run((program(), "--config", str(tmp_path), "-p", "53", "run"), check=True)
        theirs = int((tmp_path / "aardvark.pid").read_text())
        ensure(WEB)
        ours = (dns.DIRECTORY / "aardvark.pid").read_text()
        (dns.DIRECTORY / "aardvark.pid").write_text(str(theirs))
        (tmp_path / "podman").unlink()  # at SIGHUP it would exit
        dns.remove_names("no such network", WEB.container_id)
        time.sleep(0.1)
        assert Path(f"/proc/{theirs}").exists()
        os.kill(theirs, signal.SIGHUP)
        (dns.DIRECTORY / "aardvark.pid").write_text(ours)

    def test_whose_port_is_taken_says_so_and_the_names_are_taken_back(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            holder.bind(("192.168.120.1", 53))
            with pytest.raises(
                GeneveError,
                match=r"did not start: failed to bind udp listener on 192\.168\.120\.1:53: .*Address already in use",
            ):
                ensure(WEB)
        assert not dns.DIRECTORY.parent.exists()
        ensure(WEB)
        assert query("web", "192.168.120.1") == ["192.168.120.2"]

    def test_without_a_gateway_says_so(self) -> None:
        with pytest.raises(GeneveError, match="Cannot assign requested address"):
            ensure(replace(WEB, listen=(ipaddress.ip_address("192.168.122.1"),)))

    def test_keeps_no_output_of_whoever_starts_it(self) -> None:
        code = f"""
import os
from ipaddress import ip_address as IPv4Address, ip_address as IPv6Address
from netavark_geneve import dns
from netavark_geneve.errors import Deadline
from netavark_geneve.model import Names
dns.ensure_names({WEB!r}, {program()!r}, os.environ, Deadline(10))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=10, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")
        assert query("web", "192.168.120.1") == ["192.168.120.2"]
        (pid,) = instances()
        files = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.name in ("0", "1", "2")}
        assert files == {"/dev/null"}
        assert os.readlink(f"/proc/{pid}/cwd") == "/"

    def test_has_exactly_the_names_it_is_given_anew(self) -> None:
        ensure(WEB, OTHER)
        (pid,) = instances()
        dns.replace_all([DB], program(), os.environ, Deadline(10))
        answered(DB)
        assert query("web.dns.podman", "192.168.120.1") == NXDOMAIN
        assert instances() == [pid]
        os.kill(pid, signal.SIGKILL)
        becomes(instances, [])
        dns.replace_all([WEB, OTHER], program(), os.environ, Deadline(10))
        assert query("other", TWO) == ["192.168.121.2"]


def come_and_go(names: Names) -> None:
    ensure(names)
    remove(names)


def test_many_at_once_end_as_one_after_the_other() -> None:
    entries = [make_names(number, f"c{number}", network=120 + number % 2) for number in range(2, 42)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ensure, entries))
        for names in entries:
            answered(names)
        assert len(instances()) == 1
        list(pool.map(remove, entries))
    assert instances() == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, entries))
    assert not dns.DIRECTORY.parent.exists()
