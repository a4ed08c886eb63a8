"""`netavark-geneve doctor` on hosts that were broken on purpose: it names the fault, and its remedy mends it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import CONFIG, PLUGIN, create, run
from .faults import BOUND, HOSTS, Act, host_with_network

PEER = HOSTS[1]
PORT = "UDP port 6081"
CLOSED = "nft 'table inet closed { chain input { type filter hook input priority 10; policy drop; }; }'"
NETWORKS = "/etc/containers/networks"
# The lab's kernel has no modules at all; the doctor asks depmod's list for them.
MODULES = """
list=/lib/modules/$(uname -r)/modules.builtin
mkdir -p "${list%/*}"
printf '%s\\n' kernel/net/openvswitch/openvswitch.ko kernel/drivers/net/geneve.ko >"$list"
"""
EARLIER = """
tags() { printf ' external_ids:%s' owner=geneve-ovs role=container network-id=1 network-name=net1 "$@"; }
ovs-vsctl add-port ovs_net1 veth-old -- set Port veth-old \
    $(tags container-id=ffff container-name=old container-interface=eth0 boot-id=earlier) 2>/dev/null || true
"""


@dataclass(frozen=True)
class Fault:
    """How it is made, what the doctor's finding is called, words of the remedy, and what does it.

    Without a `mend` the remedy is typed as it stands.
    """

    make: Act
    finding: str
    remedy: str
    mend: Act | None = None


def sh(script: str) -> Act:
    return lambda host: host.sh(f"{{ {script}\n}} >&2")


def configure(text: str) -> Act:
    return lambda host: host.write(CONFIG, text)


def listed(*hosts: str) -> Act:
    return configure(f'hosts = {json.dumps(hosts)}\ndatapath_type = "netdev"\n')


FAULTS = {
    "plugin not executable": Fault(sh(f"chmod 644 {PLUGIN}"), "plugin", f"chmod 755 {PLUGIN}"),
    "plugin missing": Fault(
        sh(f"mv {PLUGIN} /root"), "plugin", "install netavark-geneve again", sh(f"mv /root/geneve-ovs {PLUGIN}")
    ),
    "plugin whose Python is gone": Fault(
        sh(f"cp -p {PLUGIN} /root; sed -i '1s|.*|#!/nowhere/python|' {PLUGIN}"),
        "plugin's version",
        "install netavark-geneve again",
        sh(f"mv /root/geneve-ovs {PLUGIN}"),
    ),
    "ovs-vswitchd hangs": Fault(
        lambda host: host.freeze("ovs-vswitchd"),
        "ovs-vswitchd",
        "systemctl restart openvswitch",
        lambda host: host.thaw("ovs-vswitchd"),
    ),
    "ovsdb-server stopped": Fault(
        Host.stop_ovsdb, "database of Open vSwitch", "systemctl start openvswitch", Host.start_ovsdb
    ),
    "ovsdb-server hangs": Fault(
        lambda host: host.freeze("ovsdb-server"),
        "database of Open vSwitch",
        "systemctl start openvswitch",
        lambda host: host.thaw("ovsdb-server"),
    ),
    "fabric.toml with an error": Fault(configure("hosts = [\n"), "fabric.toml", "mend it", listed(*HOSTS)),
    "this host not among hosts": Fault(
        listed("192.168.0.99", PEER), "fabric.toml", "the list must name every host", listed(*HOSTS)
    ),
    "another order of hosts": Fault(listed(PEER, HOSTS[0]), "network net1", "restore the order", listed(*HOSTS)),
    "list of hosts that has grown": Fault(
        listed(*HOSTS, "192.168.0.12"), "tunnels of network net1", "podman network reload --all"
    ),
    "peer without a route": Fault(
        sh(f"ip route add unreachable {PEER}"),
        f"way to {PEER}",
        f"ip route get {PEER}",
        sh(f"ip route del unreachable {PEER}"),
    ),
    "underlay's MTU too small": Fault(
        sh(f"ip route add {PEER} dev br-phy mtu 1450"),
        f"way to {PEER}",
        "take 'mtu 1450' out of the route",
        sh(f"ip route del {PEER} dev br-phy"),
    ),
    "port of an earlier boot": Fault(sh(EARLIER), "port veth-old", "netavark-geneve gc --apply"),
    "tunnel in error": Fault(
        sh("ovs-vsctl set Interface gv77-2 options:remote_ip=nowhere"), "tunnel gv77-2", "podman network reload --all"
    ),
    "gateway without its address": Fault(
        sh("ip address del 192.168.120.1/24 dev ovs_net1"), "gateway of network net1", "podman network reload --all"
    ),
    "bridge down": Fault(sh("ip link set ovs_net1 down"), "gateway of network net1", "podman network reload --all"),
    "forwarding off": Fault(sh("sysctl -qw net.ipv4.ip_forward=0"), "net.ipv4.ip_forward", "netavark-geneve reload"),
    "strict reverse path": Fault(
        sh("sysctl -qw net.ipv4.conf.ovs_net1.rp_filter=1"),
        "net.ipv4.conf.ovs_net1.rp_filter",
        "netavark-geneve reload",
    ),
    "rules flushed": Fault(sh("nft flush ruleset"), "packet filter", "netavark-geneve reload"),
    "resolver killed": Fault(
        sh("kill -KILL $(cat /run/netavark-geneve/aardvark-dns/aardvark.pid); sleep 0.2"),
        "names",
        "netavark-geneve reload",
    ),
    "VNI of another network": Fault(
        sh(
            "podman network create -d geneve-ovs --subnet 192.168.121.0/24 --opt vni=78 net2;"
            f' sed -i \'s/"78"/"77"/\' {NETWORKS}/net2.json'
        ),
        "VNI 77",
        "create net2 again with another --opt vni=",
        sh("podman network rm net2; podman network create -d geneve-ovs --subnet 192.168.121.0/24 --opt vni=79 net2"),
    ),
}


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    """One of two hosts, with a container on a network."""
    host = host_with_network(make_fabric)
    run(host, "net1", name="c")
    return host


@pytest.fixture
def kernel_host(host: Host) -> Iterator[Host]:
    """The same, which would have the kernel's datapath for another network."""
    host.sh(MODULES)
    create(host, "net2", "--subnet", "192.168.121.0/24", "--opt", "datapath_type=system")
    # The userspace datapath's br-phy cannot do what the kernel datapath's underlay can.
    host.run("ip", "route", "add", PEER, "dev", "underlay")
    yield host
    host.run("ip", "route", "del", PEER)
    host.run("rm", "-rf", "/lib/modules")


def doctor(host: Host, status: int) -> list[dict[str, str]]:
    """What is not well, of a look with this exit status."""
    result = host.run("netavark-geneve", "doctor", "--json", check=False, timeout=2 * BOUND)
    assert (result.returncode, result.stderr) == (status, ""), result
    return [finding for finding in json.loads(result.stdout) if finding["state"] != "ok"]


def test_host_where_all_is_well(host: Host) -> None:
    before = host.snapshot()
    result = host.run("netavark-geneve", "doctor")
    assert result.stdout.endswith(" checks: all is well\n")
    assert len(result.stdout.splitlines()) == 1
    assert host.snapshot() == before


def test_each_fault_is_named_and_its_remedy_mends_it(host: Host) -> None:
    """One after the other on one host; only that one is found, and after its remedy nothing."""
    for what, fault in FAULTS.items():
        fault.make(host)
        found, *more = doctor(host, 1)
        assert (found["name"], found["state"], more) == (fault.finding, "fault", []), (what, found)
        assert fault.remedy in found["remedy"], (what, found)
        mend = fault.mend or sh(found["remedy"])
        mend(host)
        assert doctor(host, 0) == [], what


def test_tunnels_port_that_a_firewall_closes_or_leaves_open(kernel_host: Host) -> None:
    (found,) = doctor(kernel_host, 0)
    assert (found["name"], found["state"], found["found"]) == (PORT, "warning", "open to everybody")
    kernel_host.sh(found["remedy"])
    assert doctor(kernel_host, 0) == []

    kernel_host.sh(CLOSED)
    (found,) = doctor(kernel_host, 1)
    assert (found["name"], found["state"], found["found"]) == (PORT, "fault", f"closed to {PEER}")
    kernel_host.sh(found["remedy"])
    assert doctor(kernel_host, 0) == []
    kernel_host.sh("nft delete table inet closed; nft delete table inet tunnels_6081")


def test_firewalld_that_lets_nobody_in(kernel_host: Host) -> None:
    """As it starts, it also does not know the subnets of the containers."""
    kernel_host.start_firewalld()
    try:
        port, zone = doctor(kernel_host, 1)
        assert (port["name"], port["found"]) == (PORT, f"closed to {PEER}")
        assert (zone["name"], zone["remedy"]) == ("zone trusted of firewalld", "netavark-geneve reload")
        kernel_host.sh(f"{{ {port['remedy']}; }} >&2")
        assert doctor(kernel_host, 0) == []
    finally:
        kernel_host.sh("rm -f /etc/firewalld/zones/public.xml*")
        kernel_host.stop_firewalld()


def test_offload_that_somebody_has_switched_off(kernel_host: Host) -> None:
    kernel_host.sh("ethtool -K underlay tx-udp_tnl-segmentation off >&2")
    found, _ = doctor(kernel_host, 0)
    assert (found["name"], found["state"]) == ("tx-udp_tnl-segmentation of underlay", "warning")
    kernel_host.sh(f"{found['remedy']} >&2")
    assert [finding["name"] for finding in doctor(kernel_host, 0)] == [PORT]


def test_kernel_without_the_modules(kernel_host: Host) -> None:
    kernel_host.run("rm", "-r", "/lib/modules")
    found = [finding for finding in doctor(kernel_host, 1) if finding["state"] == "fault"]
    assert [finding["name"] for finding in found] == ["kernel module openvswitch", "kernel module geneve"]
    assert all("install the kernel's modules" in finding["remedy"] for finding in found)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [(("unshare", "--net"), "nsenter --net --target"), (("setpriv", "--reuid=1000"), "geneve-ovs needs root")],
    ids=["another network namespace", "not root"],
)
def test_host_that_cannot_be_looked_at(make_fabric: MakeFabric, prefix: tuple[str, ...], words: str) -> None:
    (host,) = make_fabric(1).hosts
    result = host.run(*prefix, "netavark-geneve", "doctor", check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
