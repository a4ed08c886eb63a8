"""switch.py against a real ovsdb-server and ovs-vswitchd."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve import links, switch
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.ovsdb import Pool, Replica

from .conftest import NETNS, attach, connect, detach, frozen, ip, make_plan, make_veth, plug, ports, store, vsctl


def test_one_attach_makes_bridge_tunnels_and_port() -> None:
    plan = make_plan()

    attach(plan)

    assert set(ports()) == {plan.veth.name, "gv7-2", "gv7-3"}
    assert vsctl("get", "Bridge", "ovs_net1", "other_config:hwaddr") == f'"{plan.bridge.hwaddr}"'
    assert vsctl("get", "Interface", "ovs_net1", "mac_in_use") == f'"{plan.bridge.hwaddr}"'
    assert vsctl("get", "Interface", "ovs_net1", "mtu") == "1450"
    assert vsctl("get", "Port", "gv7-2", "protected") == "true"
    options = vsctl("get", "Interface", "gv7-2", "options")
    assert options == '{dst_port="6081", key="7", local_ip="192.168.0.10", remote_ip="192.168.0.11"}'
    assert vsctl("get", "Port", plan.veth.name, "protected") == "false"
    assert vsctl("get", "Port", plan.veth.name, "other_config:transient") == '"true"'
    assert vsctl("get", "Port", plan.veth.name, "external_ids:container-name") == "c1"


def test_attach_returns_only_when_the_switch_forwards_for_the_port() -> None:
    plan = make_plan()
    make_veth(plan)
    with connect(plan) as ovs:
        plug(ovs, plan)
        # Asked of ovs-vswitchd itself, without waiting for it.
        shown = subprocess.run(("ovs-ofctl", "show", "ovs_net1"), check=True, capture_output=True, text=True).stdout

    assert f"({plan.veth.name})" in shown


def test_a_bridge_is_there_for_those_who_join_once_the_switch_has_made_it() -> None:
    """Until then there may be an interface of its name all the same, of the bridge that it replaces."""
    plans = [make_plan(number) for number in (1, 2, 3)]
    for plan in plans:
        make_veth(plan)
    with connect(plans[0]) as first, connect(plans[1]) as second:
        with frozen("ovs-vswitchd"):
            assert not store(first, plans[0]).has_bridge
            change = store(second, plans[1])
            assert not change.has_bridge
        second.wait_attached(plans[1], change.next_cfg, Deadline(10))
    with connect(plans[2]) as third:
        assert store(third, plans[2]).has_bridge


def test_an_interface_that_comes_after_the_switch_has_looked_for_it_is_taken() -> None:
    plan = make_plan()
    with connect(plan) as ovs:
        change = store(ovs, plan)
        vsctl("wait-until", "Interface", plan.veth.name, "ofport=-1")
        make_veth(plan)
        ovs.wait_attached(plan, change.next_cfg, Deadline(10))

    assert int(vsctl("get", "Interface", plan.veth.name, "ofport")) > 0
    assert links.is_up(plan.veth.name)


def test_ports_of_all_kinds_count() -> None:
    plan = make_plan()
    with connect(plan) as ovs:
        assert ovs.count_ports(plan.bridge.name) == 0  # there is no bridge
    attach(plan)
    with connect(plan) as ovs:
        assert ovs.count_ports(plan.bridge.name) == len(ports()) + 1  # the bridge's own


@pytest.mark.parametrize(("peers", "crowd"), [(2, False), (switch.CROWD, True)])
def test_in_a_crowd_the_interface_is_made_when_its_port_stands_in_the_database(peers: int, crowd: bool) -> None:
    peer_addresses = tuple(f"192.168.{number // 200}.{11 + number % 200}" for number in range(peers))
    first, second = (make_plan(number, peers=peer_addresses) for number in (1, 2))
    attach(first)
    with connect(second) as ovs:
        with ovs.attaching(second, Deadline(10)) as change:
            stands = change.next_cfg > 0
            make_veth(second)
        ovs.wait_attached(second, change.next_cfg, Deadline(10))

    assert stands is crowd
    assert {first.veth.name, second.veth.name} <= set(ports())


def test_the_switch_has_no_flag_to_change_of_an_interface_that_is_not_up_yet() -> None:
    """It would write back all that it has read, and so set down what is set up meanwhile."""
    plan = make_plan()
    with links.namespace(NETNS) as netns, connect(plan) as ovs:
        links.create_veth(plan.veth, netns)
        made = ip("link", "show", plan.veth.name)[0]["flags"]
        plug(ovs, plan)

    assert set(made) == {"BROADCAST", "MULTICAST", "NOARP", "PROMISC"}
    assert ip("link", "show", plan.veth.name)[0]["flags"] == made


def test_a_change_is_decided_about_also_when_the_interface_cannot_be_made() -> None:
    """Or the undo would look for the port before the server has it."""
    plan = make_plan()
    with connect(plan) as ovs, pytest.raises(ZeroDivisionError), ovs.attaching(plan, Deadline(10)) as change:
        raise ZeroDivisionError

    assert change.next_cfg == int(vsctl("get", "Open_vSwitch", ".", "next_cfg"))
    assert plan.veth.name in ports()
    detach(plan)


def test_the_switch_says_that_it_has_noticed() -> None:
    attach(make_plan())
    with switch.connect_bridge(os.environ, Deadline(10), "ovs_net1") as ovs:
        assert ovs.wait_noticed(Deadline(10))
        with frozen("ovs-vswitchd"):
            assert not ovs.wait_noticed(Deadline(10))


def test_the_last_detach_removes_the_bridge_and_is_repeatable() -> None:
    one, other = make_plan(1), make_plan(2)
    attach(one)
    attach(other)

    detach(one)
    assert set(ports()) == {other.veth.name, "gv7-2", "gv7-3"}

    detach(other)
    detach(other)
    assert vsctl("list-br") == "br-phy"
    assert vsctl("--columns=name", "--format=json", "find", "Port", "external_ids:owner=geneve-ovs") == json.dumps(
        {"data": [], "headings": ["name"]}, separators=(",", ":")
    )


def test_a_port_of_somebody_else_keeps_the_bridge() -> None:
    plan = make_plan()
    attach(plan)
    vsctl("add-port", "ovs_net1", "theirs", "--", "set", "Interface", "theirs", "type=internal")

    detach(plan)

    assert set(ports()) == {"theirs", "gv7-2", "gv7-3"}


def test_a_bridge_of_somebody_else_is_refused_and_left_alone() -> None:
    vsctl("add-br", "ovs_net1", "--", "set", "Bridge", "ovs_net1", "datapath_type=netdev")
    plan = make_plan()

    with pytest.raises(GeneveError, match=r"OVS bridge ovs_net1 exists and is not this network's.*--interface-name"):
        attach(plan)

    detach(plan)
    assert ports() == []


def test_a_vni_that_another_network_uses_is_refused() -> None:
    attach(make_plan())

    with pytest.raises(GeneveError, match="VNI 7 is already used by network net1"):
        attach(make_plan(2, network="net2", vni=7))

    assert vsctl("list-br").split() == ["br-phy", "ovs_net1"]


def test_a_tunnel_port_name_that_is_taken_elsewhere_changes_nothing() -> None:
    vsctl("add-port", "br-phy", "gv7-2", "--", "set", "Interface", "gv7-2", "type=internal")
    try:
        with pytest.raises(GeneveError, match="gv7-2"):
            attach(make_plan())
        assert vsctl("list-br") == "br-phy"
    finally:
        vsctl("del-port", "br-phy", "gv7-2")


def test_an_error_that_vswitchd_reports_in_the_row_is_raised() -> None:
    plan = make_plan()  # without a veth: there is no such device
    with (
        connect(plan) as ovs,
        pytest.raises(
            GeneveError, match=rf"could not set up {plan.veth.name}: .*No such device.*netavark-geneve doctor"
        ),
    ):
        plug(ovs, plan)


def test_tunnels_follow_the_list_of_hosts() -> None:
    attach(make_plan(1, peers=("192.168.0.11",)))
    before = vsctl("get", "Interface", "gv7-2", "_uuid")

    attach(make_plan(2, peers=("192.168.0.11", "192.168.0.12")))
    assert {"gv7-2", "gv7-3"} < set(ports())
    assert vsctl("get", "Interface", "gv7-2", "_uuid") == before  # a tunnel in use is not made anew

    attach(make_plan(3, peers=("192.168.0.21",)))
    assert "gv7-3" not in ports()
    assert vsctl("get", "Interface", "gv7-2", "options:remote_ip") == '"192.168.0.21"'


def test_the_next_attach_repairs_what_was_changed_by_hand() -> None:
    attach(make_plan(1))
    vsctl("set", "Port", "gv7-2", "protected=false")
    vsctl("del-port", "gv7-3")
    vsctl("remove", "Bridge", "ovs_net1", "other_config", "hwaddr")

    plan = make_plan(2)
    attach(plan)

    assert vsctl("get", "Port", "gv7-2", "protected") == "true"
    assert "gv7-3" in ports()
    assert vsctl("get", "Bridge", "ovs_net1", "other_config:hwaddr") == f'"{plan.bridge.hwaddr}"'


def test_a_port_that_a_killed_attempt_left_is_replaced() -> None:
    attach(make_plan())
    again = make_plan()
    with connect(again) as ovs:
        left = ovs.find_port(again.port_tags)
    assert left in ports()

    attach(again)

    assert set(ports()) == {again.veth.name, "gv7-2", "gv7-3"}


def test_only_the_rows_of_one_request_are_replicated() -> None:
    for number in range(1, 31):
        attach(make_plan(number))

    with connect(make_plan(31)) as ovs:
        names = [row.name for table in ("Port", "Interface") for row in ovs._api.tables[table].rows.values()]

    assert sorted(names) == ["gv7-2", "gv7-2", "gv7-3", "gv7-3", "ovs_net1"]


def test_the_next_container_of_a_network_has_no_interfaces_looked_for() -> None:
    """The server would go through all that there are."""
    attach(make_plan(1))
    pool = Pool()
    asked = []
    for number in (2, 3):
        plan = make_plan(number)
        bridge, tags, port = plan.bridge.name, plan.port_tags, plan.veth.name
        with switch.connect(os.environ, Deadline(10), bridge, tags, port, pool=pool) as ovs:
            asked.append(ovs._api.tables["Interface"].condition_state.acked)
    pool.close()

    assert asked[0] is not None
    assert asked[0] == asked[1]


def test_a_port_that_somebody_takes_away_meanwhile_is_missed() -> None:
    plan = make_plan()
    make_veth(plan)
    with connect(plan) as ovs:
        with frozen("ovs-vswitchd"):
            change = store(ovs, plan)
            vsctl("--no-wait", "del-port", plan.veth.name)
        with pytest.raises(GeneveError, match=f"could not set up {plan.veth.name}: no OpenFlow port number"):
            ovs.wait_attached(plan, change.next_cfg, Deadline(10))
    detach(plan)


def test_what_containers_left_before_the_last_boot_goes_with_the_next_attach() -> None:
    """From all bridges, whether anybody uses them again or not; this boot's containers stay."""
    runs, other, comes = make_plan(1), make_plan(2, network="net2", vni=8), make_plan(3)
    for plan in (runs, other):
        attach(plan)
    vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
    leave("ovs_net1", "left1", "earlier")
    leave("ovs_net2", "left2", "earlier")
    leave("theirs", "left3", "earlier")
    leave("ovs_net1", "crashed", "boot")

    attach(comes)

    assert set(ports()) == {runs.veth.name, comes.veth.name, "crashed", "gv7-2", "gv7-3"}
    assert set(ports("ovs_net2")) == {other.veth.name, "gv8-2", "gv8-3"}
    assert ports("theirs") == []
    for plan in (runs, other, comes):
        links.remove_link(plan.veth.name)


def test_ports_of_others_are_only_looked_at_after_a_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    look_at = Replica.look_at

    def count(self: Replica, *arguments: Any) -> bool:
        looked.append(True)
        return look_at(self, *arguments)

    monkeypatch.setattr(Replica, "look_at", count)
    plans = [make_plan(number) for number in (1, 2, 3)]
    attach(plans[0])
    leave("ovs_net1", "crashed", "boot")
    attach(plans[1])
    assert looked == []
    leave("ovs_net1", "left", "earlier")
    for _ in range(2):
        attach(plans[2])
        detach(plans[2])
        assert looked == [True]
    for plan in plans[:2]:
        links.remove_link(plan.veth.name)


def leave(bridge: str, name: str, boot_id: str) -> None:
    """The rows of a container whose interface went with the kernel that had it, as the switch finds them."""
    tags = ("owner=geneve-ovs", "role=container", f"container-id={name}", f"boot-id={boot_id}")
    settings = [f"external_ids:{tag}" for tag in tags]
    rows = ("--", "set", "Port", name, *settings, "--", "set", "Interface", name, *settings)
    subprocess.run(("ovs-vsctl", "add-port", bridge, name, *rows), check=False, capture_output=True)
    assert vsctl("get", "Interface", name, "ofport") == "-1"


def test_attaches_and_detaches_from_many_processes_at_once_lose_nothing() -> None:
    """The last to leave removes the bridge while others join: nobody ends up on a bridge that is gone."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.churn", str(number)],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
        )
        for number in range(1, 5)
    ]
    failures = [worker.communicate(timeout=120)[1].decode() for worker in workers]

    assert failures == [""] * 4
    assert [worker.returncode for worker in workers] == [0] * 4
    assert vsctl("list-br") == "br-phy"


def test_a_veth_goes_with_its_namespace_and_detach_still_removes_the_port() -> None:
    plan = make_plan()
    subprocess.run(("ip", "netns", "add", "shortlived"), check=True)
    make_veth(plan, "/run/netns/shortlived")
    with connect(plan) as ovs:
        plug(ovs, plan)

    subprocess.run(("ip", "netns", "delete", "shortlived"), check=True)
    detach(plan)

    assert links.find_link(plan.veth.name) is None
    assert vsctl("list-br") == "br-phy"
