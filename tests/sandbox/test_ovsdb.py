"""Connections to a real ovsdb-server that serve one request after the other."""

import subprocess
from collections.abc import Iterator

import pytest
from ovs.db.idl import Transaction

from netavark_geneve import ovsdb
from netavark_geneve.errors import Deadline, GeneveError
from netavark_geneve.ovsdb import Pool

from .conftest import attach, connect, detach, frozen, make_plan, make_veth, plug, ports, store, vsctl


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A connection for each that was made."""
    connections: list[object] = []
    connect_anew = ovsdb._connect

    def recording(*arguments: object) -> ovsdb.Replica:
        connections.append(connect_anew(*arguments))  # type: ignore[arg-type]
        return connections[-1]  # type: ignore[return-value]

    monkeypatch.setattr(ovsdb, "_connect", recording)
    return connections


def test_one_connection_serves_requests_of_any_network(pool: Pool, made: list[object]) -> None:
    first, second, other = make_plan(1), make_plan(2), make_plan(3, network="net2", vni=8)

    for plan in (first, second, other):
        attach(plan, pool=pool)
    assert set(ports()) == {first.veth.name, second.veth.name, "gv7-2", "gv7-3"}
    assert set(ports("ovs_net2")) == {other.veth.name, "gv8-2", "gv8-3"}
    for plan in (first, second, other):
        detach(plan, pool=pool)

    assert vsctl("list-br") == "br-phy"
    assert len(made) == 1


def test_a_request_sees_its_own_port_and_not_the_one_of_the_request_before(pool: Pool) -> None:
    first, second = make_plan(1), make_plan(2)
    attach(first, pool=pool)

    with connect(second, pool) as ovs:
        assert ovs.find_port(second.port_tags) is None
        assert ovs.find_port(first.port_tags) is None
        assert ovs.has_bridge("ovs_net1", "id-net1")
    with connect(first, pool) as ovs:
        assert ovs.find_port(first.port_tags) == first.veth.name


def test_what_others_did_meanwhile_is_known(pool: Pool) -> None:
    plan = make_plan()
    attach(plan, pool=pool)

    detach(plan)

    with connect(plan, pool) as ovs:
        assert ovs.find_port(plan.port_tags) is None
        assert not ovs.has_bridge("ovs_net1", "id-net1")


def test_requests_at_the_same_time_have_a_connection_each(pool: Pool, made: list[object]) -> None:
    first, second = make_plan(1), make_plan(2)
    make_veth(first)
    make_veth(second)

    with connect(first, pool) as one, connect(second, pool) as other:
        plug(one, first)
        plug(other, second)

    assert {first.veth.name, second.veth.name} <= set(ports())
    assert len(made) == 2


def test_a_server_that_dropped_the_connection_is_connected_to_again(pool: Pool) -> None:
    first, second = make_plan(1), make_plan(2)
    attach(first, pool=pool)

    subprocess.run(("ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/reconnect"), check=True)
    attach(second, pool=pool)

    assert {first.veth.name, second.veth.name} <= set(ports())


def test_a_request_that_failed_leaves_no_connection_to_the_next(pool: Pool, made: list[object]) -> None:
    plan = make_plan()  # without a veth: there is no such device
    with pytest.raises(GeneveError, match="No such device"), connect(plan, pool) as ovs:
        plug(ovs, plan)
    with connect(plan, pool) as ovs:
        ovs.detach(plan.bridge.name, plan.port_tags, Deadline(10))

    assert len(made) == 2


def test_a_server_that_does_not_answer_is_waited_for_until_the_deadline_and_no_longer() -> None:
    plan = make_plan()
    make_veth(plan)

    with connect(plan) as ovs, frozen("ovsdb-server"):
        with pytest.raises(GeneveError, match=r"did not take the change within 0\.1 s"):
            store(ovs, plan, 0.1)
        assert not ovs.has_bridge(plan.bridge.name, "id-net1")  # the connection still tells what it knew
    detach(plan)  # by then the server has made the change

    assert vsctl("list-br") == "br-phy"


def test_when_one_connection_is_dead_so_are_the_others(
    pool: Pool, made: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "PATIENCE", 0.1)
    with connect(make_plan(1), pool), connect(make_plan(2), pool):
        pass
    with frozen("ovsdb-server"):
        assert pool.take({"Bridge": ovsdb.EVERY}) is None
    assert [api.ovsdb_connection.is_running for api in made] == [False, False]  # type: ignore[attr-defined]


def test_more_connections_than_it_keeps_are_closed(
    pool: Pool, made: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "SIZE", 1)
    with connect(make_plan(1), pool), connect(make_plan(2), pool):
        pass
    running = [api.ovsdb_connection.is_running for api in made]  # type: ignore[attr-defined]
    assert sorted(running) == [False, True]


def test_a_change_larger_than_the_socket_takes_at_once_gets_there() -> None:
    plan = make_plan()
    attach(plan)
    with connect(plan) as ovs:
        ovs._api.submit(Remark(ovs._api, plan.bridge.name, "x" * 400_000), Deadline(10))

    assert len(vsctl("get", "Bridge", plan.bridge.name, "external_ids:remark")) >= 400_000


class Remark(ovsdb.Change):
    """Write something long down with a bridge."""

    def __init__(self, api: ovsdb.Replica, bridge: str, text: str) -> None:
        super().__init__(api)
        self.bridge = bridge
        self.text = text

    def run(self, txn: Transaction) -> None:
        self.api.find_named("Bridge", self.bridge).setkey("external_ids", "remark", self.text)
