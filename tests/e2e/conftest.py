"""Labs that live as long as the test session, and a clean fabric of some of their hosts for each test.

With `--helper` every host runs a warm helper meanwhile, which serves the plugin's calls.
"""

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Literal

import pytest

from tests.lab import Host, Lab, machine
from tests.lab.snapshot import Snapshot, diff

from .fabric import CONFIG, Fabric

Libs = Literal["debian", "pypi"]
MakeFabric = Callable[..., Fabric]
SIZES = {("debian", 1500): 5, ("debian", 9000): 2, ("pypi", 1500): 3}
SOCKET = "/run/netavark-geneve/helper.sock"
SOCKET_VARIABLE = "NETAVARK_GENEVE_SOCKET"
END = 40.0  # seconds for a helper to finish what it does


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--helper", action="store_true", help="run a warm helper on every host")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cold(reason): the plugin's own process does the work, also with --helper")


@pytest.fixture(autouse=True)
def _cold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is marked so finds no helper."""
    marker = request.node.get_closest_marker("cold")
    if marker is not None:
        assert marker.kwargs.keys() == {"reason"}
        monkeypatch.setitem(machine.ENVIRONMENT, SOCKET_VARIABLE, "/nonexistent")


class Labs:
    """The session's labs, by libraries and underlay MTU, each started when first asked for."""

    def __init__(self, *, with_helpers: bool) -> None:
        self._with_helpers = with_helpers
        self._running: dict[tuple[Libs, int], tuple[dict[Host, Snapshot], ExitStack]] = {}

    def get(self, libs: Libs, mtu: int) -> dict[Host, Snapshot]:
        """The hosts, and how each of them looks before the first test, and so before any other."""
        if (libs, mtu) not in self._running:
            with ExitStack() as stack:
                lab = stack.enter_context(Lab(hosts=SIZES[libs, mtu], mtu=mtu, libs=libs))
                Fabric(lab.hosts).each(_warm_up)
                if self._with_helpers:
                    for host in lab.hosts:
                        stack.enter_context(helper(host))
                clean = {host: host.snapshot() for host in lab.hosts}
                self._running[libs, mtu] = clean, stack.pop_all()
        return self._running[libs, mtu][0]

    def drop(self, libs: Libs, mtu: int) -> None:
        """Take the lab down; whoever asks for it next gets a new one."""
        if (libs, mtu) in self._running:
            _, stack = self._running.pop((libs, mtu))
            stack.close()

    def drop_all(self) -> None:
        while self._running:
            self.drop(*next(iter(self._running)))


@pytest.fixture(scope="session")
def labs(pytestconfig: pytest.Config) -> Iterator[Labs]:
    running = Labs(with_helpers=pytestconfig.getoption("--helper"))
    try:
        yield running
    finally:
        running.drop_all()


@pytest.fixture
def make_fabric(labs: Labs) -> Iterator[MakeFabric]:
    """Some hosts of a lab, as clean as new; whatever a test leaves behind on them fails it, and it alone."""
    with ExitStack() as stack:

        def make(hosts: int = 3, *, libs: Libs = "debian", mtu: int = 1500) -> Fabric:
            clean = labs.get(libs, mtu)
            fabric = Fabric(list(clean)[:hosts])

            def check_clean() -> None:
                try:
                    fabric.each(_clean)
                    seen = zip(fabric.hosts, fabric.each(Host.snapshot), strict=True)
                    left = [f"{host.name}\n{diff(clean[host], after)}" for host, after in seen if after != clean[host]]
                    assert not left, "\n".join(["left behind:", *left])
                except BaseException:
                    labs.drop(libs, mtu)  # else every test after this one would fail too, and hide it
                    raise

            stack.callback(check_clean)
            return fabric

        yield make


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Three hosts that know each other by fabric.toml."""
    three = make_fabric(3)
    three.configure()
    return three


@dataclass(frozen=True)
class Helper:
    """A running helper: its process as the host sees it, and what it has said on stderr."""

    process: subprocess.Popen[str]
    pid: int
    output: IO[str]

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()


@contextmanager
def helper(host: Host, socket: str = SOCKET, *, idle: float = 100000, prefix: Sequence[str] = ()) -> Iterator[Helper]:
    """A helper that listens for as long as the block, unless something ends it before; it must not have crashed."""
    with tempfile.TemporaryFile("a+", errors="replace") as output:
        command = (*prefix, "netavark-geneve", "helper", "--socket", socket, "--idle", str(idle))
        # The shell tells the number and becomes the helper.
        script = ("sh", "-c", 'echo $$; exec "$@"', "sh", *command)
        process = host.popen(*script, stdout=subprocess.PIPE, stderr=output)
        assert process.stdout
        running = Helper(process, int(process.stdout.readline()), output)
        try:
            # 00010000 is __SO_ACCEPTCON: it listens.
            listens = 'grep -q "00010000.* $1\\$" "/proc/$2/net/unix"'
            host.sh(f"until {listens}; do sleep 0.02; done", socket, str(running.pid), timeout=30)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.close()
            process.wait(END)
        assert "Traceback" not in running.said(), running.said()


def _warm_up(host: Host) -> None:
    """Let Podman make what it makes once for each boot, or the first test would seem to leave it behind."""
    host.sh("podman network create warm >&2; podman network rm warm >&2")
    # Forwarding stays on once a network needed it, as with Podman's own bridges.
    host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")


def _clean(host: Host) -> None:
    """Remove what a user can remove; the rest is the plugin's to have removed."""
    host.sh(
        "podman rm -fa -t0 >&2; cd /etc/containers/networks; grep -ls geneve-ovs -- * | sed 's/[.]json$//'"
        f" | xargs -r podman network rm -f >&2; rm -f {CONFIG}"
    )
    # A container's or an exec session's conmon ends on its own, after a last `podman container cleanup`.
    host.sh("until ! pgrep -x 'conmon|podman' >&2; do sleep 0.02; done", timeout=END)
