"""Many containers with published ports come and go at once, beside Podman's own bridge, and nothing is left of them."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Container, create
from .web import fetch, serve

pytestmark = pytest.mark.alone(reason="it keeps every core busy")

OURS, THEIRS, PORTS = 50, 15, 5
SEED = 3
THEIR_LINKS = ("podman1", "veth0")  # netavark's bridge, and its end of the one container that stays
DNS = "/run/netavark-geneve/aardvark-dns/net1"


def test_containers_with_ports_come_and_go_in_any_order(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    fabric.configure()
    host, outside = fabric.hosts
    create(host, "net1", "--subnet", "192.168.120.0/24", "--opt", "slots=2")
    host.run("podman", "network", "create", "--subnet", "10.99.0.0/24", "plain")
    try:
        serve(host, "plain", "-p", "7000:80", name="steady-theirs")
        serve(host, "net1", "-p", "7001:80", name="steady-ours")
        before, theirs, names = state(host), table(host, "netavark"), host.read(DNS)

        jobs = [("net1", f"ours{number}", 20000 + number * PORTS) for number in range(OURS)]
        jobs += [("plain", f"theirs{number}", 30000 + number * PORTS) for number in range(THEIRS)]
        random.Random(SEED).shuffle(jobs)
        with ThreadPoolExecutor(4) as pool:
            containers = list(pool.map(lambda job: start(host, *job), jobs[: len(jobs) // 2]))
            assert reached(outside, host, containers[0]) == [containers[0].name] * PORTS
            removing = list(containers)
            random.Random(SEED).shuffle(removing)
            late = pool.map(lambda job: start(host, *job), jobs[len(jobs) // 2 :])
            list(pool.map(lambda container: remove(host, container.name), removing))
            containers = list(late)
            assert [fetch(outside, host.address, port) for port in (7000, 7001)] == ["steady-theirs", "steady-ours"]
            assert reached(outside, host, containers[-1]) == [containers[-1].name] * PORTS
            list(pool.map(lambda container: remove(host, container.name), reversed(containers)))

        assert state(host) == before
        assert table(host, "netavark") == theirs
        assert host.read(DNS) == names
        assert [fetch(outside, host.address, port) for port in (7000, 7001)] == ["steady-theirs", "steady-ours"]
    finally:
        host.sh(
            "podman rm -f -t0 --all >&2; podman network rm -f -t0 plain; nft delete table inet netavark;"
            "rm -rf /run/containers/networks/firewall /run/containers/networks/aardvark*"
        )


def start(host: Host, network: str, name: str, first_port: int) -> Container:
    """A web server that is published on five ports of the host."""
    ports = [option for port in range(first_port, first_port + PORTS) for option in ("-p", f"{port}:80")]
    return serve(host, network, *ports, name=name)


def remove(host: Host, name: str) -> None:
    host.run("podman", "rm", "-f", "-t0", name)


def reached(client: Host, host: Host, container: Container) -> list[str]:
    """What answers on each of the container's ports."""
    listed = host.run("podman", "port", container.name).stdout.split()
    return [fetch(client, host.address, int(word.rpartition(":")[2])) for word in listed if word.startswith("0.0.0.0:")]


def state(host: Host) -> list[str]:
    """All that a container of ours could leave behind, chains in any order; netavark's links are busy for a while."""
    return sorted(line for line in host.snapshot().lines if not any(link in line for link in THEIR_LINKS))


def table(host: Host, name: str) -> list[str]:
    return sorted(host.run("nft", "--stateless", "list", "table", "inet", name).stdout.splitlines())
