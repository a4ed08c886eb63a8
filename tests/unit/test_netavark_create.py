# SPDX-License-Identifier: Apache-2.0
"""`create` from the request to the answer, on a host with the one address 192.168.0.10."""

from pathlib import Path

import pytest

from netavark_geneve import underlay
from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import parse_network

from .frontend import answer, call
from .makers import HOST_1, HOST_2, HOSTS, created, encoded, interfaces, network, network_json, refused

pytestmark = pytest.mark.usefixtures("host")


def test_same_command_gives_each_host_its_own_half(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    request = encoded(network_json(options={"hosts": HOSTS, "slots": "2"}))
    first = answer(call("create", request, environ))
    monkeypatch.setattr(underlay, "find_interfaces", lambda: interfaces(("eth0", f"{HOST_2}/24")))
    second = answer(call("create", request, environ))
    assert first["subnets"] == [
        {
            "subnet": "192.168.120.0/24",
            "gateway": "192.168.120.1",
            "lease_range": {"start_ip": "192.168.120.1", "end_ip": "192.168.120.126"},
        }
    ]
    assert second["subnets"] == [
        {
            "subnet": "192.168.120.0/24",
            "gateway": "192.168.120.129",
            "lease_range": {"start_ip": "192.168.120.129", "end_ip": "192.168.120.254"},
        }
    ]
    assert {key for key in first["options"] if first["options"][key] != second["options"][key]} == {
        "local_ip",
        "slot",
    }


def test_identity_comes_back_unchanged(environ: dict[str, str]) -> None:
    request = network_json(options={"hosts": HOSTS})
    after = answer(call("create", encoded(request), environ))
    assert {key: after[key] for key in ("name", "id", "driver", "created", "labels")} == {
        key: request[key] for key in ("name", "id", "driver", "created", "labels")
    }


def test_answer_reads_back_as_the_network_that_setup_gets(environ: dict[str, str]) -> None:
    after = answer(call("create", encoded(network_json(options={"hosts": HOSTS})), environ))
    assert parse_network(Fields(after, "network")) == created(network(ipam_driver="host-local", dns_enabled=True))


@pytest.mark.parametrize("wanted", [True, False])
def test_names_are_served_when_wanted(environ: dict[str, str], wanted: bool) -> None:
    assert answer(call("create", encoded(network_json(dns_enabled=wanted)), environ))["dns_enabled"] is wanted


def test_names_are_not_served_behind_a_router(environ: dict[str, str]) -> None:
    request = network_json(
        options={"hosts": HOSTS}, subnets=[{"subnet": "10.0.0.0/24", "gateway": "10.0.0.254"}], dns_enabled=True
    )
    assert answer(call("create", encoded(request), environ))["dns_enabled"] is False


def test_internal_network_without_names_has_no_gateway_in_the_answer(environ: dict[str, str]) -> None:
    request = network_json(
        internal=True,
        dns_enabled=False,
        options={"hosts": HOSTS},
        subnets=[{"subnet": "10.0.0.0/24", "gateway": ""}],
    )
    after = answer(call("create", encoded(request), environ))
    assert "gateway" not in after["subnets"][0]
    assert after["internal"] is True


def test_hosts_of_fabric_toml_are_recorded_as_its_path(environ: dict[str, str]) -> None:
    file = environ["NETAVARK_GENEVE_CONFIG"]
    Path(file).write_text(f'hosts = ["{HOST_1}", "{HOST_2}"]')
    assert answer(call("create", encoded(network_json()), environ))["options"]["hosts"] == f"@{file}"


def test_relative_path_of_fabric_toml_is_recorded_absolute_since_setup_runs_elsewhere(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(environ["NETAVARK_GENEVE_CONFIG"])
    file.write_text(f'hosts = ["{HOST_1}", "{HOST_2}"]')
    monkeypatch.chdir(file.parent)
    after = answer(call("create", encoded(network_json()), {**environ, "NETAVARK_GENEVE_CONFIG": file.name}))
    assert after["options"]["hosts"] == f"@{file}"


def test_network_without_hosts_is_local_with_a_warning(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    after = answer(call("create", encoded(network_json()), environ))
    assert after["options"]["hosts"] == "none"
    (warning,) = caplog.messages
    assert "net1 is local to this host" in warning
    assert "list all hosts there and create it again" in warning
    assert environ["NETAVARK_GENEVE_CONFIG"] in warning


def test_network_that_is_local_on_purpose_is_no_cause_for_a_warning(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert answer(call("create", encoded(network_json(options={"hosts": "none"})), environ))["options"]["mtu"] == "1500"
    assert caplog.messages == []


def test_mtu_is_that_of_the_narrowest_way_to_a_peer(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    mtus = {HOST_2: 9000, "192.168.0.12": 1400}
    monkeypatch.setattr(underlay, "find_path_mtu", lambda peer: mtus[str(peer)])
    request = network_json(options={"hosts": f"{HOSTS},192.168.0.12"})
    assert answer(call("create", encoded(request), environ))["options"]["mtu"] == "1350"


def test_mtu_of_a_first_host_is_that_of_its_own_interface(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(underlay, "find_interface_mtu", lambda address: {HOST_1: 9000}[str(address)])
    request = network_json(options={"hosts": HOST_1})
    assert answer(call("create", encoded(request), environ))["options"]["mtu"] == "8950"


def test_conflict_with_a_network_of_podman_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    other = network_json(name="old", id="99" * 32, driver="bridge", subnets=[{"subnet": "192.168.0.0/16"}])
    (tmp_path / "networks" / "old.json").write_bytes(encoded(other))
    with refused("create network net1", "192.168.120.0/24", "192.168.0.0/16", "old"):
        call("create", encoded(network_json()), environ)


def test_network_of_podman_that_we_cannot_read_is_passed_over(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "networks" / "odd.json").write_bytes(encoded({"name": "odd", "subnets": 5}))
    assert answer(call("create", encoded(network_json()), environ))["name"] == "net1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slot": "1"}, ("option slot",)),
        ({"vnl": "1"}, ("'vnl'", "vni")),
        ({"vni": "0"}, ("vni=0",)),
        ({"hosts": "192.168.0.11,192.168.0.12"}, ("192.168.0.11,192.168.0.12", HOST_1)),
        ({"hosts": HOSTS, "mtu": "1500"}, ("mtu=1500", "1450")),
        ({"hosts": HOSTS, "slots": "1"}, ("2 hosts", "1 slot")),
    ],
    ids=["slot", "unknown", "vni", "not this host", "mtu", "slots"],
)
def test_option_that_cannot_work_is_refused(
    environ: dict[str, str], options: dict[str, str], words: tuple[str, ...]
) -> None:
    with refused(*words):
        call("create", encoded(network_json(options=options)), environ)


def test_options_may_come_as_labels_which_stay(environ: dict[str, str]) -> None:
    labels = {"owner": "ops", "geneve-ovs.hosts": HOSTS, "geneve-ovs.vni": "7", "geneve-ovs.mtu": "1400"}
    after = answer(call("create", encoded(network_json(labels=labels, options={"mtu": "1300"})), environ))
    assert after["labels"] == labels
    assert (after["options"]["hosts"], after["options"]["vni"], after["options"]["mtu"]) == (HOSTS, "7", "1300")


def test_answer_of_a_network_by_labels_is_that_of_the_same_network_by_options(environ: dict[str, str]) -> None:
    options = {"hosts": HOSTS, "slots": "2", "isolate": "true"}
    labels = {f"geneve-ovs.{key}": value for key, value in options.items()}
    by_labels = answer(call("create", encoded(network_json(labels=labels)), environ))
    by_options = answer(call("create", encoded(network_json(labels=labels, options=options)), environ))
    assert by_labels == by_options


@pytest.mark.parametrize(("interface", "bridge"), [(None, "br0"), ("", "br0"), ("br1", "br1")])
def test_dockers_options_name_the_bridge_and_the_mtu_and_are_not_recorded(
    environ: dict[str, str], interface: str | None, bridge: str
) -> None:
    options = {
        "hosts": HOSTS,
        "com.docker.network.bridge.name": "br0",
        "com.docker.network.driver.mtu": "1400",
    }
    after = answer(call("create", encoded(network_json(network_interface=interface, options=options)), environ))
    assert (after["network_interface"], after["options"]["mtu"]) == (bridge, "1400")
    assert not {key for key in after["options"] if key.startswith("com.docker")}


def test_dockers_name_that_no_bridge_can_have_is_refused(environ: dict[str, str]) -> None:
    options = {"com.docker.network.bridge.name": "a/b"}
    with refused("'a/b'", "bridge name"):
        call("create", encoded(network_json(options=options)), environ)


def test_slot_is_not_to_be_had_by_a_label_either(environ: dict[str, str]) -> None:
    with refused("option slot"):
        call("create", encoded(network_json(labels={"geneve-ovs.slot": "2"})), environ)


def test_route_without_a_gateway_is_welcome(environ: dict[str, str]) -> None:
    routes = [{"destination": "10.9.0.0/16", "route_type": "prohibit"}]
    after = answer(call("create", encoded(network_json(options={"hosts": HOSTS}, routes=routes)), environ))
    assert after["routes"] == routes


def test_unmanaged_network_answers_with_the_users_bridge_and_router(environ: dict[str, str]) -> None:
    request = network_json(network_interface="br-ex", options={"hosts": "none", "mode": "unmanaged"})
    after = answer(call("create", encoded(request), environ))
    assert (after["network_interface"], after["dns_enabled"]) == ("br-ex", False)
    assert after["subnets"][0]["gateway"] == "192.168.120.1"
    assert "vni" not in after["options"]


def test_layer_2_only_network_answers_without_subnets(environ: dict[str, str]) -> None:
    request = network_json(options={"hosts": HOSTS}, ipam_options={"driver": "none"}, subnets=[])
    after = answer(call("create", encoded(request), environ))
    assert (after["subnets"], after["dns_enabled"], after["ipv6_enabled"]) == ([], False, False)
