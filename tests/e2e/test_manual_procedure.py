"""The procedure by hand that this project replaces, step for step, with one command per host instead."""

from .conftest import MakeFabric
from .fabric import Fabric, run

SIZE_MB = 50


def test_two_hosts_with_the_same_command_share_one_network(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    fabric.configure()

    first, second = fabric.create("net1", "--subnet", "192.168.120.0/24", "--opt", "slots=2")

    assert first["subnets"][0]["lease_range"] == {"start_ip": "192.168.120.1", "end_ip": "192.168.120.126"}
    assert second["subnets"][0]["lease_range"] == {"start_ip": "192.168.120.129", "end_ip": "192.168.120.254"}
    assert first["options"]["mtu"] == second["options"]["mtu"] == "1450"
    assert first["options"]["vni"] == second["options"]["vni"]

    server, client = fabric.run("net1")

    assert client.ping(server.address)
    assert server.ping(client.address)

    server.sh(f"dd if=/dev/urandom of=/tmp/file bs=1M count={SIZE_MB} 2>/dev/null; httpd -h /tmp")
    fetched = client.sh(f"wget -q -O - http://{server.address}/file | sha256sum")
    assert fetched == server.sh("sha256sum </tmp/file")


def test_the_list_of_hosts_may_come_from_the_command_line(make_fabric: MakeFabric) -> None:
    fabric = make_fabric(2)
    hosts = ",".join(host.address for host in fabric.hosts)

    fabric.create("net1", "--subnet", "192.168.120.0/24", "--opt", f"hosts={hosts}", "--opt", "datapath_type=netdev")

    one, other = fabric.run("net1")
    assert one.ping(other.address)


def test_the_ranges_of_the_procedure_itself_work_too(make_fabric: MakeFabric) -> None:
    """`--internal --ip-range …`, a different one on each host, as people type it today."""
    fabric = make_fabric(2)
    fabric.configure()
    ranges = {0: "192.168.120.1-192.168.120.126", 1: "192.168.120.129-192.168.120.254"}

    containers = []
    for host in fabric.hosts:
        single = Fabric([host])
        (network,) = single.create(
            "net1", "--internal", "--subnet", "192.168.120.0/24", "--ip-range", ranges[host.index], "--opt", "mtu=1450"
        )
        assert "slot" not in network["options"]
        containers.append(run(host, "net1", name="c"))

    assert [container.address for container in containers] == ["192.168.120.2", "192.168.120.130"]
    assert containers[0].ping(containers[1].address)
    assert containers[1].ping(containers[0].address)
