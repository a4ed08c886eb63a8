"""Twenty containers at once on each of three hosts, and nothing of them afterwards."""

import ipaddress
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import Host, diff

from .fabric import Container, Fabric, address
from .wire import all_unreached

pytestmark = pytest.mark.alone(reason="it keeps every core busy")

EACH = 20
SUBNET = ("--subnet", "192.168.112.0/20")
TIMEOUT = 300.0  # seconds for what sixty containers do at once


def test_many_containers_started_at_once_all_reach_each_other(fabric: Fabric) -> None:
    leases = [network["subnets"][0]["lease_range"] for network in fabric.create("net1", *SUBNET)]
    before = fabric.each(Host.snapshot)

    containers = start_at_once(fabric)

    assert len({container.address for container in containers}) == EACH * len(fabric.hosts)
    for container in containers:
        lease = leases[container.host.index]
        assert between(lease["start_ip"], container.address, lease["end_ip"])
    assert [len(ports(host)) for host in fabric.hosts] == [EACH] * len(fabric.hosts)
    assert all_unreached(containers, [container.address for container in containers], timeout=TIMEOUT) == []

    fabric.each(lambda host: host.run("podman", "rm", "-fa", "-t0", timeout=TIMEOUT))
    after = fabric.each(Host.snapshot)
    assert [diff(was, now) for was, now in zip(before, after, strict=True)] == [""] * len(fabric.hosts)


def start_at_once(fabric: Fabric) -> list[Container]:
    """Sixty `podman run`, none of which waits for another."""

    def start(place: tuple[Host, str]) -> Container:
        host, name = place
        command = ("podman", "run", "-d", "--name", name, "--network", "net1", "alpine", "sleep", "1000")
        host.run(*command, timeout=TIMEOUT)
        return Container(host, name, address(host, name, "net1"))

    places = [(host, f"c{host.index}x{number}") for number in range(EACH) for host in fabric.hosts]
    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(start, places))


def ports(host: Host) -> list[str]:
    """The ports of this host's containers, by the tags that they carry."""
    find = ("ovs-vsctl", "--format=json", "--columns=name", "find", "Port", "external_ids:role=container")
    return [name for (name,) in json.loads(host.run(*find).stdout)["data"]]


def between(first: str, middle: str, last: str) -> bool:
    return int(ipaddress.ip_address(first)) <= int(ipaddress.ip_address(middle)) <= int(ipaddress.ip_address(last))
