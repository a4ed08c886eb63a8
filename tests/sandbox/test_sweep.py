"""sweep.py, and what gc looks at and removes in links.py and firewall.py, against the real thing."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

from netavark_geneve import linklist, links, sweep
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.found import Bridge, Owner, Port

from .conftest import attach, connect, detach, ip, make_plan, make_veth, plug, ports, vsctl


@contextmanager
def connected() -> Iterator[sweep.Sweeper]:
    with sweep.connect(os.environ, Deadline(10)) as sweeper:
        yield sweeper


def found() -> tuple[dict[str, Port], dict[str, Bridge]]:
    with connected() as sweeper:
        ports, bridges = sweeper.find_all()
    return {port.name: port for port in ports}, {bridge.name: bridge for bridge in bridges}


def remove(bridge: str, *names: str, with_bridge: bool = False) -> None:
    """Take these ports off, and wait for the switch."""
    rows = [port.row for name, port in found()[0].items() if name in names]
    with connected() as sweeper:
        next_cfg = sweeper.remove(bridge, rows, with_bridge=with_bridge, deadline=Deadline(10))
        assert sweeper.has_completed(next_cfg, Deadline(10))


def test_containers_are_found_on_the_bridge_that_they_are_on() -> None:
    plan, other = make_plan(), make_plan(2, network="net2", vni=8)
    attach(plan)
    attach(other)

    ports, bridges = found()

    assert ports.keys() == {plan.veth.name, other.veth.name}
    port = ports[plan.veth.name]
    assert (port.bridge, port.network, port.container_id) == ("ovs_net1", "net1", "container-1")
    assert (port.container, port.interface, port.boot_id) == ("c1", "eth1", "boot")
    assert {name: bridge.is_ours for name, bridge in bridges.items()} == {
        "br-phy": False,
        "ovs_net1": True,
        "ovs_net2": True,
    }
    assert not any(bridge.has_others for bridge in bridges.values())
    for each in (plan, other):
        links.remove_link(each.veth.name)


def test_container_on_a_bridge_of_the_users_is_found_and_its_port_removed_alone() -> None:
    vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
    vsctl("add-port", "theirs", "left", "--", "set", "Interface", "left", "type=internal")
    for tag in ("owner=geneve-ovs", "role=container", "container-id=c", "container-interface=eth0"):
        vsctl("set", "Port", "left", f"external_ids:{tag}")
    vsctl("add-port", "theirs", "right", "--", "set", "Interface", "right", "type=internal")

    assert found()[0]["left"].bridge == "theirs"
    remove("theirs", "left", with_bridge=True)

    assert ports("theirs") == ["right"]
    remove("theirs", with_bridge=True)
    assert ports("theirs") == ["right"]


def test_bridge_goes_with_its_last_ports_and_its_tunnels() -> None:
    plans = [make_plan(number) for number in (1, 2, 3)]
    for plan in plans:
        attach(plan)

    remove("ovs_net1", plans[0].veth.name, with_bridge=True)
    assert set(ports()) == {plans[1].veth.name, plans[2].veth.name, "gv7-2", "gv7-3"}
    remove("ovs_net1", plans[1].veth.name, plans[2].veth.name, with_bridge=True)

    assert vsctl("list-br") == "br-phy"
    remove("ovs_net1", with_bridge=True)  # gone is fine
    for plan in plans:
        links.remove_link(plan.veth.name)


def test_bridge_stays_unless_it_is_to_go_too() -> None:
    plan = make_plan()
    attach(plan)

    remove("ovs_net1", plan.veth.name)

    assert set(ports()) == {"gv7-2", "gv7-3"}
    links.remove_link(plan.veth.name)


def test_port_of_somebody_else_keeps_the_bridge() -> None:
    plan = make_plan()
    attach(plan)
    vsctl("add-port", "ovs_net1", "theirs", "--", "set", "Interface", "theirs", "type=internal")

    assert found()[1]["ovs_net1"].has_others
    remove("ovs_net1", plan.veth.name, with_bridge=True)

    assert set(ports()) == {"theirs", "gv7-2", "gv7-3"}
    links.remove_link(plan.veth.name)


def test_container_that_joins_before_the_transaction_keeps_the_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows came after the look on which the removal was decided, and after the one of the transaction itself."""
    first, late = make_plan(1), make_plan(2)
    attach(first)
    make_veth(late)
    left = found()[0][first.veth.name]
    run = sweep._Sweep.run
    joined: list[bool] = []

    def join_first(self: sweep._Sweep, txn: object) -> None:
        run(self, txn)
        if not joined:
            joined.append(True)
            subprocess.run(
                ("ovs-vsctl", "--no-wait", "add-port", "ovs_net1", late.veth.name), check=True, capture_output=True
            )

    monkeypatch.setattr(sweep._Sweep, "run", join_first)
    with connected() as sweeper:
        sweeper.remove("ovs_net1", [left.row], with_bridge=True, deadline=Deadline(10))

    assert set(ports()) == {late.veth.name, "gv7-2", "gv7-3"}
    for plan in (first, late):
        links.remove_link(plan.veth.name)


def test_container_that_came_back_under_the_same_name_keeps_its_port() -> None:
    plan = make_plan()
    attach(plan)
    left = found()[0][plan.veth.name]
    detach(plan)
    attach(plan)

    with connected() as sweeper:
        sweeper.remove("ovs_net1", [left.row], with_bridge=True, deadline=Deadline(10))

    assert set(ports()) == {plan.veth.name, "gv7-2", "gv7-3"}
    links.remove_link(plan.veth.name)


def test_interfaces_are_found_by_their_aliases_and_kinds() -> None:
    plan = make_plan()
    make_veth(plan)
    ip("link", "add", "theirs", "type", "veth", "peer", "name", "peer")
    ip("link", "set", "theirs", "alias", "geneve-ovs of mine")
    ip("link", "add", "dummy9", "type", "bridge")
    ip("link", "set", "dummy9", "alias", plan.veth.alias)
    ip("tuntap", "add", "tap9", "mode", "tap")
    try:
        names = {link.name: link for link in linklist.find_all([])}

        assert names.keys() - {"br-phy"} == {plan.veth.name, "tap9"} | names.keys() & {"ovs-netdev"}
        veth = names[plan.veth.name]
        assert veth.owner == Owner("net1", "c1", "container-1"[:12], "eth1")
        links.remove_found(veth.index, veth.name)
        make_veth(plan)
        links.remove_found(veth.index, veth.name)  # another one, of the same name
        assert links.find_link(plan.veth.name) is not None
    finally:
        for name in ("theirs", "dummy9", "tap9", plan.veth.name):
            links.remove_link(name)


def test_interface_that_the_list_lacks_is_asked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 6.9 leave one out when another one goes while they make the list."""
    plan = make_plan()
    make_veth(plan)
    real = IPRoute

    @contextmanager
    def lacking() -> Iterator[SimpleNamespace]:
        with real() as ipr:
            yield SimpleNamespace(get_links=lambda *indexes: ipr.get_links(*indexes) if indexes else [])

    monkeypatch.setattr(linklist, "IPRoute", lacking)
    assert linklist.find_all([]) == ()
    (found,) = linklist.find_all([plan.veth.name, "gone"])
    monkeypatch.undo()

    assert (found.name, found.owner) == (plan.veth.name, Owner("net1", "c1", "container-1"[:12], "eth1"))
    links.remove_link(plan.veth.name)


@pytest.mark.parametrize("times", [3, 1000])
def test_list_that_is_interrupted_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    real = IPRoute
    interruptions = iter(range(times))

    @contextmanager
    def busy() -> Iterator[SimpleNamespace]:
        with real() as ipr:

            def get_links(*indexes: int) -> Any:
                if next(interruptions, None) is not None:
                    raise NetlinkDumpInterrupted
                return ipr.get_links(*indexes)

            yield SimpleNamespace(get_links=get_links)

    plan = make_plan()
    make_veth(plan)
    monkeypatch.setattr(linklist, "IPRoute", busy)
    if times < linklist.DUMPS:
        assert plan.veth.name in {link.name for link in linklist.find_all([])}
    else:
        with pytest.raises(GeneveError, match="cannot list the host's interfaces"):
            linklist.find_all([])
    monkeypatch.undo()
    links.remove_link(plan.veth.name)


def test_a_switch_of_another_network_namespace_is_refused() -> None:
    sweep.check_namespace(os.environ)
    with (
        links.namespace("/run/netns/sandbox") as netns,
        links.inside(netns),
        pytest.raises(GeneveError, match="not the network namespace that Open vSwitch is in"),
    ):
        sweep.check_namespace(os.environ)


def test_without_a_switch_the_first_process_tells_the_network_namespace(tmp_path: object) -> None:
    sweep.check_namespace({"OVS_RUNDIR": str(tmp_path)})


def test_a_transaction_after_which_everything_is_as_wanted_waits_for_nothing() -> None:
    plan = make_plan()
    make_veth(plan)
    with connect(plan) as ovs:
        plug(ovs, plan)
    with connected() as sweeper:
        assert sweeper.remove("ovs_net1", [], with_bridge=True, deadline=Deadline(10)) == 0
    links.remove_link(plan.veth.name)


def test_tunnel_that_the_switch_cannot_make_is_told_from_those_that_work() -> None:
    plan = make_plan()
    attach(plan)
    _, bad = (tunnel.name for tunnel in plan.tunnels)
    vsctl("set", "Interface", bad, "options:remote_ip=nowhere")

    with connected() as sweeper:
        broken = sweeper.find_broken(Deadline(0.5))
        remotes = sweeper.find_remotes()
        cur_cfg, next_cfg, types = sweeper.find_state(Deadline(10))

    assert [(each.name, each.role) for each in broken] == [(bad, "tunnel")]
    assert "remote_ip" in broken[0].error
    assert remotes == {"id-net1": {"192.168.0.11", "192.168.0.12"}}
    assert cur_cfg == next_cfg > 0
    assert types >= {"geneve", "internal"}
    links.remove_link(plan.veth.name)


def test_port_whose_link_is_just_being_made_is_not_broken() -> None:
    plan = make_plan()
    with connect(plan) as ovs, ovs.attaching(plan, Deadline(10)):
        pass
    with connected() as sweeper:
        sweeper.find_state(Deadline(10))  # ovs-vswitchd has looked for the link
        assert [each.name for each in sweeper.find_broken(Deadline(0))] == [plan.veth.name]
        making = threading.Timer(0.3, make_veth, [plan])
        making.start()
        assert sweeper.find_broken(Deadline(10)) == ()
        making.join()
    links.remove_link(plan.veth.name)


def test_switch_itself_says_its_version() -> None:
    said = subprocess.run(("ovs-vswitchd", "--version"), check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[0].endswith(f"(Open vSwitch) {sweep.ask_version(Deadline(10))}")
