"""A real Open vSwitch, and attachments planned as the plugin plans them. Runs as root on a host of the lab."""

import ipaddress
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve import interior, links, switch
from netavark_geneve.addresses import Range
from netavark_geneve.errors import Deadline
from netavark_geneve.fabric.mesh import Mesh
from netavark_geneve.model import AttachPlan, Container, Network, Subnet
from netavark_geneve.options import Options
from netavark_geneve.ovsdb import Pool
from netavark_geneve.plan import plan_attach

NETNS = "/run/netns/sandbox"
LOCAL = "192.168.0.10"
Connect = Callable[[AttachPlan], AbstractContextManager[switch.Switch]]


def make_plan(
    number: int = 1, *, peers: tuple[str, ...] = ("192.168.0.11", "192.168.0.12"), network: str = "net1", vni: int = 7
) -> AttachPlan:
    """The plan for container `number` (1…) on a network of three hosts."""
    subnet = ipaddress.ip_network("192.168.120.0/24")
    first = ipaddress.ip_address("192.168.120.1")
    gateway = Subnet(subnet, first, Range(first, ipaddress.ip_address("192.168.120.254")))
    return plan_attach(
        Network(name=network, id=f"id-{network}", driver="geneve-ovs", bridge=f"ovs_{network}", subnets=(gateway,)),
        Options(vni=vni, mtu=1450, datapath_type="netdev"),
        Mesh(
            local=ipaddress.ip_address(LOCAL),
            slot=1,
            size=1 + len(peers),
            peers=tuple((number, ipaddress.ip_address(peer)) for number, peer in enumerate(peers, 2)),
        ),
        Container(id=f"container-{number}", name=f"c{number}", interface=f"eth{number}", addresses=(first + number,)),
        boot_id="boot",
        attempt=os.urandom(8).hex(),
        dns_port=53,
    )


def vsctl(*arguments: str) -> str:
    return subprocess.run(("ovs-vsctl", *arguments), check=True, capture_output=True, text=True).stdout.strip()


def ip(*arguments: str) -> Any:
    """What `ip -json -details …` says; None when it says nothing."""
    shown = subprocess.run(("ip", "-json", "-details", *arguments), check=True, capture_output=True, text=True).stdout
    return json.loads(shown) if shown.strip() else None


def ports(bridge: str = "ovs_net1") -> list[str]:
    return vsctl("list-ports", bridge).split()


def make_veth(plan: AttachPlan, netns: str = NETNS) -> None:
    with links.namespace(netns) as descriptor:
        links.create_veth(plan.veth, descriptor)
        with links.inside(descriptor):
            interior.prepare(plan.veth)
        links.connect_veth(plan.veth)


def connect(plan: AttachPlan, pool: Pool | None = None) -> AbstractContextManager[switch.Switch]:
    return switch.connect(os.environ, Deadline(10), plan.bridge.name, plan.port_tags, pool=pool)


def attach(plan: AttachPlan, seconds: float = 10, *, pool: Pool | None = None) -> None:
    """Veth and switch port, as attach() makes them."""
    deadline = Deadline(seconds)
    with connect(plan, pool) as ovs:
        with ovs.attaching(plan, deadline) as change:
            make_veth(plan)
        ovs.wait_attached(plan, change.next_cfg, deadline)


def plug(ovs: switch.Switch, plan: AttachPlan, seconds: float = 10) -> None:
    """The switch port alone."""
    deadline = Deadline(seconds)
    ovs.wait_attached(plan, store(ovs, plan, seconds).next_cfg, deadline)


def store(ovs: switch.Switch, plan: AttachPlan, seconds: float = 10) -> switch.Attach:
    """What is to be, as far as the database."""
    with ovs.attaching(plan, Deadline(seconds)) as change:
        pass
    return change


def detach(plan: AttachPlan, *, pool: Pool | None = None) -> None:
    with connect(plan, pool) as ovs:
        ovs.detach(plan.bridge.name, plan.port_tags, Deadline(10))
    links.remove_link(plan.veth.name)


@contextmanager
def frozen(daemon: str) -> Iterator[None]:
    """It does nothing meanwhile."""
    pid = int(Path(f"/run/openvswitch/{daemon}.pid").read_text(encoding="ascii"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(autouse=True)
def clean_host() -> Iterator[None]:
    """A namespace for containers; afterwards no bridge of a test and no veth is left."""
    ip("netns", "add", "sandbox")
    yield
    for bridge in vsctl("list-br").split():
        if bridge != "br-phy":
            vsctl("del-br", bridge)
    ip("netns", "delete", "sandbox")
