"""A container on whose behalf the plugin is called, killed and called again, on a host that is looked at in between."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netavark_geneve.switch import MANY_PORTS
from tests.e2e.conftest import SOCKET_VARIABLE, MakeFabric, helper
from tests.e2e.fabric import PLUGIN, inspect, run
from tests.e2e.faults import BOUND, NETNS, Caller, wait_for
from tests.e2e.wire import wait_until
from tests.lab import Host, Snapshot

KILLER = "/run/killer.py"
HEALER, SOCKET = "/run/healer.sock", "/run/victim.sock"  # of the helper that heals, and of the one that is killed
COLD = "/nonexistent"
MORE_PORTS = 'for n; do ovs-vsctl add-port ovs_net1 "more$n" -- set Interface "more$n" type=internal; done'
LESS_PORTS = 'for n; do ovs-vsctl del-port ovs_net1 "more$n"; done'
SHARDS = 4  # hosts that work side by side
PUBLISHED = [{"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1}]
State = frozenset[str]  # what a host has more than it should
# What differs from attempt to attempt and from host to host, though they left the same: names and numbers.
FLEETING = re.compile(r"veth\w+|\b[0-9a-f:.]*[0-9][0-9a-f:.]*\b")


@dataclass(frozen=True)
class Killed:
    """What became of a call that was to be killed: `point` is None when it had ended before that stop."""

    point: str | None
    status: int
    stdout: str
    stderr: str

    @property
    def result(self) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess((), self.status, self.stdout, self.stderr)


@dataclass(frozen=True)
class Victim:
    """One container with a published port, alone on a network with names; `clean` is the host without it."""

    host: Host
    request: str
    gateway: str
    killer: subprocess.Popen[str]
    clean: Snapshot

    def as_now(self) -> "Victim":
        """The same on a host on which more is running."""
        return dataclasses.replace(self, clean=self.host.snapshot())

    def call(self, verb: str, socket: str = HEALER) -> subprocess.CompletedProcess[str]:
        env = {SOCKET_VARIABLE: socket}
        return self.host.run(PLUGIN, verb, NETNS, input=self.request, env=env, check=False, timeout=BOUND)

    def must(self, verb: str, why: str) -> None:
        """A call that has to work, without a word to the user."""
        done = self.call(verb)
        assert (done.returncode, done.stderr) == (0, ""), f"{why}: {verb}: {done}"

    def kill(self, verb: str, stop: int, *, socket: str = COLD, pid: int | None = None) -> Killed:
        """Kill the call, or in its place the process `pid`, at this stop; see killer.py."""
        return self._trace(verb, socket, stop=stop, pid=pid)[0]

    def calls(self, verb: str, socket: str, pid: int | None) -> list[str]:
        """The call's system calls that can fail, in their order; or those of the process `pid`."""
        done, calls = self._trace(verb, socket, stop=0, pid=pid, fail="")
        assert done.status == 0, done
        return calls

    def fail(self, verb: str, socket: str, pid: int | None, call: str, number: int) -> Killed:
        """Have the system call fail when it comes for the so many-th time."""
        return self._trace(verb, socket, stop=number, pid=pid, fail=call)[0]

    def _trace(
        self, verb: str, socket: str, *, stop: int, pid: int | None, fail: str | None = None
    ) -> tuple[Killed, list[str]]:
        job = {"command": [PLUGIN, verb, NETNS], "input": self.request, "environment": {SOCKET_VARIABLE: socket}}
        assert self.killer.stdin
        assert self.killer.stdout
        self.killer.stdin.write(json.dumps(job | {"stop": stop, "pid": pid, "fail": fail}) + "\n")
        self.killer.stdin.flush()
        report: dict[str, Any] = json.loads(self.killer.stdout.readline())
        return Killed(report["point"], report["status"], report["stdout"], report["stderr"]), report["stops"]

    def kill_helper(self, verb: str, stop: int) -> Killed:
        """The same with the helper that serves the call."""
        with helper(self.host, SOCKET) as serving:
            killed = self.kill(verb, stop, socket=SOCKET, pid=serving.pid)
            serving.process.wait(BOUND)
        self.host.run("rm", "-f", SOCKET)
        return killed

    def left(self) -> State:
        """What the host has more than without the container, apart from what differs each time."""
        found = set(self.host.snapshot().lines) - set(self.clean.lines)
        return frozenset(anonymous(line) for line in found if "Open_vSwitch table" not in line)

    def assert_clean(self, why: str) -> None:
        """Nothing of the container is left on the host, nor in its namespace."""
        try:
            wait_for(self.host, self.clean)
        except AssertionError as error:
            raise AssertionError(f"{why}: {error}") from error
        links = self.host.run("ip", "-n", "c1", "-brief", "link").stdout.splitlines()
        assert [line.split()[0] for line in links] == ["lo"], f"{why}: {links}"

    def answers(self) -> bool:
        """Whether the switch forwards for the container."""
        command = ("ip", "netns", "exec", "c1", "ping", "-n", "-q", "-c1", "-W2", self.gateway)
        return self.host.run(*command, check=False).returncode == 0

    def lose_namespace(self) -> None:
        """As when Podman dies with its container; the kernel takes the namespace apart in its own time."""
        self.host.run("ip", "netns", "del", "c1")
        left = ("sh", "-c", "ip -o link show type veth | grep -q 'alias geneve-ovs net1 c1 '")
        wait_until(lambda: self.host.run(*left, check=False).returncode != 0, "the veth to be gone", BOUND)

    def make_namespace(self) -> None:
        self.host.run("ip", "netns", "add", "c1")


def anonymous(text: str) -> str:
    return FLEETING.sub("#", text)


@contextmanager
def victims(make_fabric: MakeFabric, count: int) -> Iterator[list[Victim]]:
    """One on each of so many hosts, which heal by a helper of their own; they are clean at the end, or it fails."""
    fabric = make_fabric(count)
    fabric.configure()
    fabric.create("net1", "--subnet", "192.168.120.0/24", "--opt", "vni=77")
    with ExitStack() as stack:
        found = []
        for host in fabric.hosts:
            host.write(KILLER, Path(__file__).with_name("killer.py").read_text(encoding="utf-8"))
            stack.callback(host.run, "rm", "-f", KILLER)
            host.run("ip", "netns", "add", "c1")
            stack.callback(host.run, "ip", "netns", "del", "c1")
            stack.enter_context(helper(host, HEALER))
            pipe = subprocess.PIPE
            killer = stack.enter_context(host.popen("python3", KILLER, stdin=pipe, stdout=pipe))
            found.append(_victim(host, killer))
        yield found


@contextmanager
def among_many(found: Sequence[Victim]) -> Iterator[list[Victim]]:
    """The same beside another container, on a bridge with so many ports that a setup asks for one more at first."""
    numbers = [str(number) for number in range(MANY_PORTS)]
    with ExitStack() as stack:
        for victim in found:
            run(victim.host, "net1", name="other")
            stack.callback(victim.host.run, "podman", "rm", "-f", "-t0", "other")
            victim.host.sh(MORE_PORTS, *numbers)
            stack.callback(victim.host.sh, LESS_PORTS, *numbers)
        yield [victim.as_now() for victim in found]


def _victim(host: Host, killer: subprocess.Popen[str]) -> Victim:
    network = inspect(host, "net1")
    address = f"192.168.120.{9 + 32 * host.index}"  # of the host's own slice
    request = json.loads(Caller(host, network).request(address)) | {"port_mappings": PUBLISHED}
    return Victim(host, json.dumps(request), network["subnets"][0]["gateway"], killer, host.snapshot())
