"""revalidation.py with a real ovs-vswitchd, whose cached flows come after its configuration."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from netavark_geneve import links
from netavark_geneve.revalidation import Rounds

from .conftest import NETNS, attach, frozen, make_plan

STRANGER = "02:00:00:00:00:01"
FLOWS = 500  # so many that a round takes longer than it takes us to look
LEAST, MOST = 5, 30  # ports
EXPERIMENTAL = b"\x88\xb5"


@contextmanager
def wire(interface: str) -> Iterator[socket.socket]:
    """Of the container."""
    with links.namespace(NETNS) as netns, links.inside(netns):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind((interface, 0))
    with raw:
        yield raw


def send(raw: socket.socket, source: bytes) -> None:
    """To a MAC that no switch knows, so to all ports."""
    raw.send(bytes.fromhex(STRANGER.replace(":", "")) + source + EXPERIMENTAL + bytes(46))


def appctl(*arguments: str) -> str:
    return subprocess.run(("ovs-appctl", *arguments), check=True, capture_output=True, text=True).stdout


def number(port: str) -> str:
    """In the datapath."""
    found = re.search(rf" {port} \d+/(\d+):", appctl("dpif/show"))
    assert found, f"no port {port}"
    return found[1]


def outputs() -> list[set[str]]:
    """The ports to which each cached flow for the stranger sends."""
    flows = re.findall(rf"dst={STRANGER}\).* actions:(.*)", appctl("dpctl/dump-flows"))
    return [set(re.findall(r"(?:^|,)(\d+)(?=,|$)", actions)) for actions in flows]


def test_when_the_second_round_has_ended_all_flows_know_a_new_port(caplog: pytest.LogCaptureFixture) -> None:
    """It begins at the latest when a new MAC is heard of."""
    attach(make_plan(1))
    seen = 0
    with wire("eth1") as raw, closing(Rounds(os.environ)) as rounds, caplog.at_level("DEBUG", "geneve-ovs"):
        for count in range(1, MOST):
            for _ in range(FLOWS):
                send(raw, b"\x02" + os.urandom(5))
            plan = make_plan(1 + count)
            attach(plan)
            for _ in range(2):
                rounds.ask()
                rounds.wait(lambda: send(raw, b"\x02" + os.urandom(5)))
            found = outputs()
            new = number(plan.veth.name)
            assert all(new in ports for ports in found)
            # It does not take as many at once as we can send, and forgets those that it has no time to look after.
            seen += len(found)
            if count >= LEAST and seen > FLOWS:
                break
    assert seen > FLOWS
    assert not any("its flows" in message for message in caplog.messages)


def test_a_daemon_that_does_not_answer_is_not_waited_for_any_longer(caplog: pytest.LogCaptureFixture) -> None:
    with closing(Rounds(os.environ)) as rounds, caplog.at_level("DEBUG", "geneve-ovs"), frozen("ovs-vswitchd"):
        rounds.ask()
        rounds.wait(lambda: None)
    assert caplog.messages == ["ovs-vswitchd does not say when its flows are up to date"]
