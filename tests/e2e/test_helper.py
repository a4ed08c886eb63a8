"""The warm helper does the plugin's work, and whatever happens to it or to its callers, nothing is lost or left.

Each test has a helper of its own, on a socket of its own.
"""

import ipaddress
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import get_args

import pytest

from netavark_geneve.kept import LATELY
from tests.lab import Host, machine

from .conftest import SOCKET_VARIABLE, Helper, Libs, MakeFabric, helper
from .fabric import IMAGE, PLUGIN, Fabric, inspect, plugin_error, refusal, run
from .faults import BOUND, DAEMONS, HOSTS, NETNS, Caller, assert_says, host_with_network, ports, wait_for
from .guests import Guest, namespaces, shares
from .wire import listen, wait_until

SOCKET = "/run/helper-of-a-test.sock"
NO_HELPER = {SOCKET_VARIABLE: "/nonexistent"}
AT_ONCE = 20
KILLS = 10
PAIRS = 250  # setups and teardowns
MEMORY, GROWTH = 60 * 1024, 4 * 1024  # KiB; it settles at two more than after the first requests
THREADS = 32  # of the helper, each of which may keep a file open


@pytest.fixture
def own_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on the hosts asks nobody but the helper of this test."""
    monkeypatch.setitem(machine.ENVIRONMENT, SOCKET_VARIABLE, SOCKET)


@pytest.fixture
def host(own_socket: None, make_fabric: MakeFabric) -> Host:
    return host_with_network(make_fabric)


@pytest.fixture
def warm(host: Host) -> Iterator[Helper]:
    with helper(host, SOCKET) as running:
        yield running


@pytest.fixture
def caller(host: Host) -> Iterator[Caller]:
    """Calls for one container, whose namespace is there; of other tests' faults it knows nothing."""
    host.run("ip", "netns", "add", "c1")
    caller = Caller(host, inspect(host, "net1"))
    yield caller
    caller.teardown()  # or a test that fails would fail all that follow
    host.run("ip", "netns", "del", "c1")


def test_containers_come_and_go_through_the_helper(host: Host, warm: Helper) -> None:
    seen = [read_by(host, warm)]
    container = run(host, "net1", name="c1")
    seen.append(read_by(host, warm))
    assert container.ping("192.168.120.1")
    host.run("podman", "rm", "-f", "-t0", "c1")
    seen.append(read_by(host, warm))

    assert seen[0] < seen[1] < seen[2]
    host.run("podman", "run", "--rm", "--network", "net1", IMAGE, "true", env=NO_HELPER)
    assert read_by(host, warm) == seen[2]  # so it does nothing unasked


def test_a_failure_is_the_same_sentence(host: Host, warm: Helper) -> None:
    command = ("podman", "run", "--rm", "--name=c1", "--network", "net1", "--ip", "192.168.120.1", IMAGE, "true")
    seen = read_by(host, warm)

    through_helper = refusal(host, *command)

    assert read_by(host, warm) > seen
    assert_says(through_helper, ["192.168.120.1", "gateway"])
    with_no_helper = host.run(*command, check=False, env=NO_HELPER)
    assert with_no_helper.stderr.strip() == through_helper


def test_it_asks_for_new_addresses_as_the_one_whom_the_switches_know(host: Host, warm: Helper) -> None:
    """One MAC more to learn would have them go through all of their flows, as they must for one that was here."""
    witness = run(host, "net1", name="c1")
    time.sleep(LATELY)  # of what left before it was there a helper knows nothing
    with listen([witness], "arp") as wire:
        for address in ("192.168.120.8", "192.168.120.9", "192.168.120.8"):
            host.run("podman", "run", "--rm", "--network", "net1", "--ip", address, IMAGE, "true")
        wire.settle()
        asked = [
            (str(ipaddress.ip_address(frame[38:42])), frame[6:12])
            for frame in wire.captures["c1"].frames()
            if frame[12:14] == b"\x08\x06" and frame[28:32] == bytes(4)  # a probe, RFC 5227
        ]

    new, other, again = (next(group) for _, group in itertools.groupby(asked, key=lambda question: question[0]))
    assert [new[0], other[0], again[0]] == ["192.168.120.8", "192.168.120.9", "192.168.120.8"]
    assert new[1] == other[1] != again[1]


def test_podmans_debug_shows_the_steps(host: Host, warm: Helper) -> None:
    run(host, "net1", name="quiet")
    said = host.run("podman", "--log-level=debug", "run", "--rm", "--network", "net1", IMAGE, "true").stderr
    assert "[DEBUG geneve-ovs] attach: " in said
    assert host.run("podman", "run", "--rm", "--network", "net1", IMAGE, "true").stderr == ""
    assert warm.said() == ""


def test_a_helper_that_is_killed_in_mid_setup(host: Host, caller: Caller, warm: Helper) -> None:
    before = host.snapshot()
    with hanging_setup(caller) as process:
        kill(host, warm)
        stdout, stderr = process.communicate(timeout=BOUND)

    result = subprocess.CompletedProcess((), process.returncode, stdout, stderr)
    assert_says(plugin_error(result), ["the helper ended in the middle of the request", "run the command again"])
    assert len(ports(host)) == 1  # nobody was there to undo it, and it was not repeated
    assert caller.setup().returncode == 0  # without a helper
    assert len(ports(host)) == 1
    assert caller.ping_gateway()
    with helper(host, SOCKET):
        assert caller.setup().returncode == 0  # Podman would not; the attempt before counts as one that was killed
        assert caller.ping_gateway()
        assert caller.teardown().returncode == 0
        wait_for(host, before)


def test_a_helper_that_is_killed_in_mid_teardown(host: Host, caller: Caller, warm: Helper) -> None:
    before = host.snapshot()
    assert caller.setup().returncode == 0
    with hanging(caller, "teardown") as process:
        wait_until(lambda: ports(host) == [], "the port to be gone from the database", BOUND)
        kill(host, warm)
        stdout, stderr = process.communicate(timeout=BOUND)

    result = subprocess.CompletedProcess((), process.returncode, stdout, stderr)
    assert_says(plugin_error(result), ["the helper ended in the middle of the request"])
    with helper(host, SOCKET):
        assert caller.teardown().returncode == 0
        wait_for(host, before)


def test_a_helper_that_is_killed_as_soon_as_it_has_answered(host: Host, caller: Caller) -> None:
    """The kernel may still be tidying up after the interface then."""
    before = host.snapshot()
    for _ in range(KILLS):
        with helper(host, SOCKET) as running:
            assert caller.setup().returncode == 0
            assert caller.teardown().returncode == 0
            kill(host, running)
        wait_for(host, before)


def test_a_caller_that_is_killed_in_mid_setup(host: Host, caller: Caller, warm: Helper) -> None:
    before = host.snapshot()
    with hanging_setup(caller) as process:
        process.kill()
        process.wait()

    wait_for(host, before)
    wait_until(lambda: "a caller has gone before its setup was done: undone" in warm.said(), "the helper to say so")
    assert caller.setup().returncode == 0
    assert caller.ping_gateway()


def test_a_caller_that_is_killed_and_comes_again_at_once(host: Host, caller: Caller, warm: Helper) -> None:
    before = host.snapshot()
    with ThreadPoolExecutor(1) as pool:
        with hanging_setup(caller) as process:
            process.kill()
            process.wait()
            again = pool.submit(caller.setup)
            # It waits for its turn; nothing tells that from here but the connection.
            wait_until(lambda: connections(host) == 2, "the next request to have arrived")
        assert again.result().returncode == 0

    assert len(ports(host)) == 1
    assert caller.ping_gateway()
    assert caller.teardown().returncode == 0
    wait_for(host, before)


def test_a_helper_that_is_asked_to_end_finishes_what_it_does(host: Host, caller: Caller, warm: Helper) -> None:
    with hanging_setup(caller) as process:
        host.run("kill", "-TERM", str(warm.pid))
        wait_until(lambda: host.run("test", "-e", SOCKET, check=False).returncode != 0, "the socket to be gone")
        host.thaw("ovs-vswitchd")
        stdout, stderr = process.communicate(timeout=BOUND)

    assert (process.returncode, stderr) == (0, "")
    assert list(json.loads(stdout)["interfaces"]) == ["eth0"]
    assert caller.ping_gateway()
    assert warm.process.wait(BOUND) == 0


def test_ovsdb_server_comes_back(host: Host, warm: Helper) -> None:
    fail, mend, words = DAEMONS["ovsdb-server stopped"]
    run(host, "net1", name="c1")
    command = ("podman", "run", "--rm", "--network", "net1", IMAGE, "true")

    fail(host)
    try:
        assert_says(refusal(host, *command, timeout=BOUND), words)
    finally:
        mend(host)
    host.run("ovs-vsctl", "--timeout=20", "set", "Bridge", "ovs_net1", "other_config:mac-aging-time=300")
    host.run("ovs-vsctl", "remove", "Bridge", "ovs_net1", "other_config", "mac-aging-time")  # ovs-vswitchd is back

    seen = read_by(host, warm)
    assert run(host, "net1", name="c2").ping("192.168.120.1")
    assert read_by(host, warm) > seen


def test_a_changed_fabric_toml_counts_at_once(host: Host, warm: Helper) -> None:
    run(host, "net1", name="c1")
    assert tunnels(host) == ["gv77-2"]

    Fabric([host]).configure(hosts=[*HOSTS, "192.168.0.12"])
    run(host, "net1", name="c2")
    assert tunnels(host) == ["gv77-2", "gv77-3"]

    Fabric([host]).configure(hosts=HOSTS)
    run(host, "net1", name="c3")
    assert tunnels(host) == ["gv77-2"]


def test_many_at_once(host: Host, warm: Helper) -> None:
    before = host.snapshot()
    with many(host) as callers:
        seen = read_by(host, warm)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda one: one.call("setup"), callers))
            assert [result.stdout for result in results if result.returncode] == []
            assert len(ports(host)) == AT_ONCE
            assert [one.name for one in callers if not one.is_reached()] == []
            results = list(pool.map(lambda one: one.call("teardown"), callers))
            assert [result.stdout for result in results if result.returncode] == []
        assert read_by(host, warm) > seen
    wait_for(host, before)


def test_a_helper_that_is_restarted_meanwhile_is_not_missed(host: Host) -> None:
    """What it has taken it finishes, and what it has not goes on without it."""
    with many(host) as callers, ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        for verb in ("setup", "teardown"):
            running = stack.enter_context(helper(host, SOCKET))
            results = [pool.submit(one.call, verb) for one in callers]
            wait_until(lambda: any(result.done() for result in results), "the first one to be done")  # noqa: B023
            host.run("kill", "-TERM", str(running.pid))
            stack.enter_context(helper(host, SOCKET))
            assert [result.result().stdout for result in results if result.result().returncode] == []
            assert len(ports(host)) == (AT_ONCE if verb == "setup" else 0)


@pytest.mark.parametrize("libs", get_args(Libs))
def test_it_does_not_grow(own_socket: None, make_fabric: MakeFabric, libs: Libs) -> None:
    fabric = make_fabric(1, libs=libs)
    fabric.configure(hosts=HOSTS)
    fabric.create("net1", "--subnet", "192.168.120.0/24")
    (host,) = fabric.hosts
    with namespaces(host, ["c1"]), helper(host, SOCKET) as warm:
        run(host, "net1", name="stays")
        guest = Guest(host, inspect(host, "net1"), "c1", ("192.168.120.9",))

        guest.come_and_go(PAIRS // 10)
        memory, files = resident(host, warm), open_files(host, warm)
        guest.come_and_go(PAIRS - PAIRS // 10)

        assert open_files(host, warm) <= files + THREADS
        assert resident(host, warm) < min(memory + GROWTH, MEMORY)
        assert warm.said() == ""


def test_a_helper_of_another_network_namespace_does_not_serve(host: Host) -> None:
    host.run("ip", "netns", "add", "elsewhere")
    try:
        with helper(host, SOCKET, prefix=("nsenter", "--net=/run/netns/elsewhere")) as other:
            seen = read_by(host, other)
            assert run(host, "net1", name="c1").ping("192.168.120.1")
            host.run("podman", "rm", "-f", "-t0", "c1")
            assert read_by(host, other) == seen
    finally:
        host.run("ip", "netns", "del", "elsewhere")


def test_a_caller_in_another_network_namespace_is_not_served(host: Host, caller: Caller, warm: Helper) -> None:
    seen = read_by(host, warm)
    command = ("nsenter", f"--net={NETNS}", PLUGIN, "setup", NETNS)

    done = host.run(*command, input=caller.request("192.168.120.1"), check=False)

    assert_says(plugin_error(done), ["192.168.120.1", "gateway"])
    assert read_by(host, warm) == seen


def test_a_call_with_a_configuration_of_its_own_is_not_served(host: Host, warm: Helper) -> None:
    host.write("/run/empty.conf", "")
    seen = read_by(host, warm)
    command = ("podman", "run", "--rm", "--network", "net1", IMAGE, "true")

    host.run(*command, env={"CONTAINERS_CONF_OVERRIDE": "/run/empty.conf"})

    assert read_by(host, warm) == seen
    host.run("rm", "/run/empty.conf")


def test_it_ends_when_nobody_asks(host: Host) -> None:
    with helper(host, SOCKET, idle=0.5) as running:
        assert running.process.wait(BOUND) == 0
        assert host.run("test", "-e", SOCKET, check=False).returncode == 1
        assert run(host, "net1", name="c1").ping("192.168.120.1")


@contextmanager
def many(host: Host) -> Iterator[list[Guest]]:
    """Containers that come and go at once."""
    network = inspect(host, "net1")
    names = [f"n{number}" for number in range(AT_ONCE)]
    with namespaces(host, names):
        yield [Guest(host, network, name, share) for name, share in zip(names, shares(network, AT_ONCE), strict=True)]


@contextmanager
def hanging(caller: Caller, verb: str) -> Iterator[subprocess.Popen[str]]:
    """A call that waits for ovs-vswitchd, which is frozen until the end of the block."""
    host, pipe = caller.host, subprocess.PIPE
    host.freeze("ovs-vswitchd")
    try:
        # exec: whoever signals the process signals the plugin.
        command = ("bash", "-c", 'exec "$@" <<<"$REQUEST"', "sh", PLUGIN, verb, NETNS)
        with host.popen(*command, env={"REQUEST": caller.request()}, stdout=pipe, stderr=pipe) as process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        host.thaw("ovs-vswitchd")


@contextmanager
def hanging_setup(caller: Caller) -> Iterator[subprocess.Popen[str]]:
    with hanging(caller, "setup") as process:
        wait_until(lambda: len(ports(caller.host)) == 1, "the port to stand in the database", BOUND)
        yield process


def kill(host: Host, running: Helper) -> None:
    host.run("kill", "-KILL", str(running.pid))
    running.process.wait(BOUND)


def read_by(host: Host, running: Helper) -> int:
    """Bytes that it has read from files so far: nothing is done without, and nothing is read when nothing is done."""
    return int(status(host, running, "io", "rchar"))


def resident(host: Host, running: Helper) -> int:
    """KiB."""
    return int(status(host, running, "status", "VmRSS").split()[0])


def status(host: Host, running: Helper, file: str, key: str) -> str:
    lines = dict(line.split(":", 1) for line in host.read(f"/proc/{running.pid}/{file}").splitlines())
    return str(lines[key]).strip()


def open_files(host: Host, running: Helper) -> int:
    return len(host.run("ls", f"/proc/{running.pid}/fd").stdout.split())


def connections(host: Host) -> int:
    """How many callers are connected, as the helper's side shows them (03 is connected, proc_pid_net(5))."""
    lines = host.read("/proc/net/unix").splitlines()
    return sum(line.endswith(f" {SOCKET}") and " 0001 03 " in line for line in lines)


def tunnels(host: Host) -> list[str]:
    return [name for name in host.run("ovs-vsctl", "list-ports", "ovs_net1").stdout.split() if name.startswith("gv")]
