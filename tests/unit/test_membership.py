# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address
from pathlib import Path

import pytest

from netavark_geneve import underlay
from netavark_geneve.addresses import Address
from netavark_geneve.errors import Deadline
from netavark_geneve.fabric.mesh import Mesh
from netavark_geneve.membership import find_mesh
from netavark_geneve.options import Options

from .makers import HOST_1, HOST_2, HOSTS, mesh, refused


def find(hosts: str | None) -> Mesh | None:
    return find_mesh(Options(hosts=hosts), own=(ip_address(HOST_1),), deadline=Deadline(1))


@pytest.mark.parametrize("hosts", [None, "none"])
def test_network_without_hosts_has_no_mesh(hosts: str | None) -> None:
    assert find(hosts) is None


def test_hosts_of_the_option_are_the_mesh() -> None:
    assert find(HOSTS) == mesh()


def test_hosts_of_the_file_are_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "fabric.toml"
    file.write_text(f'hosts = ["{HOST_1}"]')
    assert find(f"@{file}") == mesh(HOST_1)
    file.write_text(f'hosts = ["{HOST_1}", "{HOST_2}"]')
    assert find(f"@{file}") == mesh(HOSTS)


def test_file_that_lost_its_hosts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fabric.toml"
    file.write_text("slots = 8")
    with refused(f"{file} has no hosts"):
        find(f"@{file}")


def test_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with refused(f"cannot read {tmp_path}/fabric.toml"):
        find(f"@{tmp_path}/fabric.toml")


def test_names_are_resolved_within_the_deadline_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline, asked = Deadline(1), []

    def resolve(name: str, deadline: Deadline) -> Address:
        asked.append((name, deadline))
        return ip_address(HOST_2)

    monkeypatch.setattr(underlay, "resolve", resolve)
    found = find_mesh(Options(hosts=f"{HOST_1},host-b"), own=(ip_address(HOST_1),), deadline=deadline)
    assert found == mesh()
    assert asked == [("host-b", deadline)]
