"""An attach beside a thousand containers is as much work for us as one beside a single one: counted, not timed."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest

from netavark_geneve import tags
from netavark_geneve.model import Container
from tests.bench.common import table
from tests.bench.growth import PEERS, know_peers
from tests.e2e.conftest import SOCKET_VARIABLE, Helper, helper
from tests.e2e.fabric import create
from tests.e2e.faults import BOUND
from tests.e2e.guests import Guest, namespaces, shares
from tests.e2e.wire import wait_until
from tests.lab import Host, Lab

from . import report

pytestmark = pytest.mark.alone(reason="who has to wait asks more often")
SOCKET = "/run/work.sock"
TRACE = "/run/work.trace"
NAMES = "/run/netavark-geneve/aardvark-dns/net1"
MANY = 1000
ROUNDS = 5  # attaches, of which the one with the least work counts
MORE = 1.1  # times the work, at most
TITLE = "The work of an attach"
# How often we wait, and are woken, depends on others; so does how often we ask on the network.
NOT_OURS = re.compile(r"futex|p?poll|p?select6?|epoll_wait|clock_nanosleep|restart_syscall|\w+\(\d+<socket:")
READING = re.compile(r"(read|recvfrom|recvmsg)\(\d+<(UNIX-STREAM|NETLINK)")
ENDED = re.compile(r"= (\d+)[^=]*$")


@dataclass(frozen=True)
class Work:
    """Of the helper, for one attach: system calls, and bytes that ovsdb-server, the kernel and its caller tell it."""

    calls: int
    told: int


def test_an_attach_beside_a_thousand_is_no_more_work() -> None:
    with Lab(hosts=2) as lab:
        host, other = lab.hosts
        know_peers(host, other)
        network = create(host, "net1", "--subnet", "10.64.0.0/11", "--opt", "slots=128")
        stays, *come = shares(network, 1 + 2 * ROUNDS)
        env = {SOCKET_VARIABLE: SOCKET}
        with namespaces(host, ["stays", "comes", "others"]), helper(host, SOCKET) as running:
            Guest(host, network, "stays", stays, env=env).must("setup")
            guests = [Guest(host, network, "comes", share, life=life, env=env) for life, share in enumerate(come)]
            alone = least(running, guests[:ROUNDS])
            add_ports(host, network, stays)
            beside = least(running, guests[ROUNDS:])
            guests[-1].must("setup")
            wait_until(guests[-1].is_reached, "the thousandth to answer", BOUND)
    assert beside.calls <= MORE * alone.calls, (alone, beside)
    assert beside.told <= MORE * alone.told, (alone, beside)
    report.write(TITLE, lines(alone, beside))


def least(running: Helper, guests: list[Guest]) -> Work:
    """The least of several attaches; each with an address that nobody has had."""
    found = []
    for guest in guests:
        with traced(guest.host, running):
            guest.must("setup")
        found.append(work(guest.host.read(TRACE)))
        guest.must("teardown")
    return Work(min(each.calls for each in found), min(each.told for each in found))


@contextmanager
def traced(host: Host, running: Helper) -> Iterator[None]:
    """The helper's system calls are written down."""
    strace = host.popen("strace", "-f", "-qq", "-yy", "-s0", "-o", TRACE, "-p", str(running.pid))
    untraced = ("sh", "-c", 'grep -L "TracerPid:.*[1-9]" /proc/$1/task/*/status', "sh", str(running.pid))
    try:
        wait_until(lambda: not host.run(*untraced, check=False).stdout, "all threads to be traced", BOUND)
        yield
    finally:
        strace.terminate()
        strace.wait(BOUND)


def work(trace: str) -> Work:
    """What strace has written down, in one line or in two for each call."""
    begun: dict[str, str] = {}
    calls = told = 0
    for line in trace.splitlines():
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text
            continue
        if text.startswith("<... "):
            text = begun.pop(thread) + text
        if READING.match(text):
            told += int(ended[1]) if (ended := ENDED.search(text)) else 0
        elif not NOT_OURS.match(text):
            calls += 1
    return Work(calls, told)


def add_ports(host: Host, network: Mapping[str, Any], stays: tuple[str, ...]) -> None:
    """So many more containers, as if we had attached them: interfaces, ports in one transaction, names."""
    containers = [
        Container(f"{number:064x}", f"other{number}", "eth0", (ip_address(stays[0]) + 100 + number,))
        for number in range(MANY - 1)
    ]
    batch = "".join(
        f"link add other{number} type veth peer name eth{number} netns others\n"
        f"link set other{number} addrgenmode none up\n"
        for number in range(len(containers))
    )
    host.run("ip", "-batch", "-", input=batch, timeout=4 * BOUND)
    boot_id = host.read("/proc/sys/kernel/random/boot_id").strip()
    words = ["ovs-vsctl", "--timeout=100"]
    for number, container in enumerate(containers):
        name = f"other{number}"
        own = tags.of_container(network["id"], network["name"], container, boot_id)
        settings = [f'external_ids:{key}="{value}"' for key, value in own.items()]
        words += ["--", "add-port", network["network_interface"], name, "tag=0"]
        words += ["--", "set", "Port", name, *settings, "other_config:transient=true"]
        words += ["--", "set", "Interface", name, *settings]
    host.run(*words, timeout=4 * BOUND)
    names = "".join(f"{each.id} {each.addresses[0]}  {each.name}\n" for each in containers)
    host.sh('cat >>"$1"', NAMES, input=names)


def lines(alone: Work, beside: Work) -> list[str]:
    rows = [(f"{count:,}", str(each.calls), f"{each.told:,}") for count, each in ((1, alone), (MANY, beside))]
    head = ("containers attached", "system calls", "bytes told by ovsdb-server and the kernel")
    return [TEXT, "", *table(head, *rows)]


TEXT = f"""What the helper does for one more container, on a network with names and {PEERS} peers. Waiting is left out,
and asking the network whether the address is free. The test allows a tenth more at a thousand."""
