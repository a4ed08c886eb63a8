"""A host with firewalld: our subnets are where netavark puts those of its own networks."""

from collections.abc import Iterator

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import Fabric, create, refusal, run
from .web import fetch, serve
from .wire import recording, wait_until

SUBNET = "192.168.120.0/24"


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Iterator[Fabric]:
    """Two hosts; the first has firewalld, with the zone that it puts everything into."""
    fabric = make_fabric(2)
    fabric.configure()
    one = fabric.hosts[0]
    one.start_firewalld()
    try:
        yield fabric
        one.sh("podman rm -fa -t0 >&2")
    finally:
        one.stop_firewalld()


def trusted(host: Host) -> list[str]:
    return host.run("firewall-cmd", "--zone=trusted", "--list-sources").stdout.split()


def test_containers_are_trusted_as_long_as_there_are_any(fabric: Fabric) -> None:
    one, two = fabric.hosts
    create(one, "net1", "--subnet", SUBNET)
    web = serve(one, "net1", "-p", "8080:80", name="web")
    client = run(one, "net1", name="client")

    assert trusted(one) == [SUBNET]
    assert web.ping(two.address)  # through the host
    assert client.sh("nslookup web.dns.podman | tail -n +3 | grep -o '192[0-9.]*'") == web.address  # from the host
    assert fetch(two, one.address, 8080) == "web"  # in from outside

    one.run("podman", "rm", "-f", "-t0", "web")
    assert trusted(one) == [SUBNET]
    one.run("podman", "rm", "-f", "-t0", "client")
    assert trusted(one) == []


def test_a_reload_of_firewalld_forgets_them_and_ours_brings_them_back(fabric: Fabric) -> None:
    one, two = fabric.hosts
    create(one, "net1", "--subnet", SUBNET)
    web = serve(one, "net1", "-p", "8080:80", name="web")

    one.run("firewall-cmd", "--reload")
    assert trusted(one) == []
    assert not web.ping(two.address)
    one.run("netavark-geneve", "reload")

    assert trusted(one) == [SUBNET]
    assert web.ping(two.address)
    assert fetch(two, one.address, 8080) == "web"


def test_a_service_that_watches_restores_them_each_time(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    create(one, "net1", "--subnet", SUBNET)
    run(one, "net1", name="c")

    with recording(one, "netavark-geneve", "reload", "--watch") as said:
        wait_until(lambda: bool(said.seek(0) or said.read()), "the first restoration")
        for _ in range(2):
            one.run("firewall-cmd", "--reload")
            wait_until(lambda: trusted(one) == [SUBNET], "the subnet to be trusted again")


def test_where_firewalld_forbids_published_ports_the_user_is_told(fabric: Fabric) -> None:
    one = fabric.hosts[0]
    create(one, "net1", "--subnet", SUBNET)
    one.sh("sed -i s/^StrictForwardPorts=.*/StrictForwardPorts=yes/ /etc/firewalld/firewalld.conf")
    one.run("firewall-cmd", "--reload")
    try:
        said = refusal(one, "podman", "run", "-d", "--name", "c", "--network", "net1", "-p", "8080:80", "alpine")
    finally:
        one.sh("sed -i s/^StrictForwardPorts=.*/StrictForwardPorts=no/ /etc/firewalld/firewalld.conf")
    assert "firewalld has StrictForwardPorts=yes" in said
    run(one, "net1", name="without-ports")
