# SPDX-License-Identifier: Apache-2.0
import errno
import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from netavark_geneve import sysctls
from netavark_geneve.errors import GeneveError
from netavark_geneve.model import Gateway

from .makers import refused

V4, V6 = (ip_network("192.168.120.0/24"), None), (ip_network("fd00::/64"), None)
ONE = Gateway("ovs_net1", (V4,))
BOTH = replace(ONE, subnets=(V4, V6))
INTERNAL = replace(BOTH, forwards=False)
KEYS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/ovs_net1/rp_filter",
    "net/ipv4/conf/ovs_net1/forwarding",
    "net/ipv4/conf/ovs_net1/route_localnet",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/ovs_net1/forwarding",
    "net/ipv6/conf/ovs_net1/accept_ra",
    "net/ipv6/conf/ovs_net1/accept_dad",
)


class Kernel:
    """Stands for /proc/sys, where all of these have the value "as it was"."""

    def __init__(self, root: Path, keys: Iterable[str]) -> None:
        self.root = root
        for key in keys:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_text("as it was\n")

    def changed(self) -> dict[str, str]:
        files = [path for path in self.root.rglob("*") if path.is_file()]
        values = {str(path.relative_to(self.root)): path.read_text().strip() for path in files}
        return {key: value for key, value in values.items() if value != "as it was"}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path / "proc", KEYS)
    monkeypatch.setattr(sysctls, "DIRECTORY", str(tmp_path / "sysctl.d"))
    monkeypatch.setattr(sysctls, "KERNEL", str(made.root))
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sysctl.d" / "10-geneve-ovs-ovs_net1.conf"


def written(file: Path) -> dict[str, str]:
    """As systemd-sysctl reads it."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split(" = ") for line in lines)


IPV4 = {"net/ipv4/ip_forward": "1", "net/ipv4/conf/ovs_net1/rp_filter": "2"}
QUIET = {"net/ipv6/conf/ovs_net1/accept_ra": "0", "net/ipv6/conf/ovs_net1/accept_dad": "0"}


@pytest.mark.parametrize(
    ("gateway", "wanted"),
    [
        (ONE, IPV4),
        (BOTH, {**IPV4, **QUIET, "net/ipv6/conf/all/forwarding": "1"}),
        (
            INTERNAL,
            {
                **QUIET,
                "net/ipv4/conf/ovs_net1/rp_filter": "2",
                "net/ipv4/conf/ovs_net1/forwarding": "0",
                "net/ipv6/conf/ovs_net1/forwarding": "0",
            },
        ),
        (
            replace(INTERNAL, subnets=(V4,)),
            {"net/ipv4/conf/ovs_net1/rp_filter": "2", "net/ipv4/conf/ovs_net1/forwarding": "0"},
        ),
    ],
    ids=["IPv4", "both", "internal", "internal IPv4"],
)
def test_host_forwards_what_the_network_has_a_way_out_for_and_nothing_else(
    kernel: Kernel, file: Path, gateway: Gateway, wanted: dict[str, str]
) -> None:
    sysctls.apply(gateway, localhost=False)
    assert kernel.changed() == wanted
    assert written(file) == wanted


def test_network_without_a_gateway_changes_nothing(kernel: Kernel, file: Path) -> None:
    sysctls.write(replace(ONE, subnets=()))
    sysctls.apply(replace(ONE, subnets=()), localhost=True)
    assert kernel.changed() == {}
    assert not file.exists()


def test_connections_to_localhost_are_translated_only_where_ports_are_published(kernel: Kernel, file: Path) -> None:
    """Nobody sets it back, so the file is the same with and without."""
    sysctls.apply(ONE, localhost=True)
    assert kernel.changed() == {**IPV4, "net/ipv4/conf/ovs_net1/route_localnet": "1"}
    assert written(file) == IPV4


def test_container_without_ports_leaves_it_to_those_that_have_some(kernel: Kernel) -> None:
    sysctls.apply(ONE, localhost=True)
    sysctls.apply(ONE, localhost=False)  # another container
    assert kernel.changed()["net/ipv4/conf/ovs_net1/route_localnet"] == "1"


def test_file_comes_back_when_who_left_last_removed_it(kernel: Kernel, file: Path) -> None:
    sysctls.write(ONE)
    text = file.read_text()
    sysctls.remove("ovs_net1")
    sysctls.apply(ONE, localhost=False)
    assert file.read_text() == text


def test_file_is_whole_or_not_there_and_nothing_beside_it(kernel: Kernel, file: Path) -> None:
    sysctls.write(ONE)
    assert list(file.parent.iterdir()) == [file]


def test_file_that_cannot_be_written_leaves_nothing_behind(
    kernel: Kernel, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", full)
    with refused(f"cannot write {file}: No space left on device"):
        sysctls.write(ONE)
    assert list(file.parent.iterdir()) == []


def test_file_that_is_there_is_left_alone(kernel: Kernel, file: Path) -> None:
    sysctls.write(ONE)
    before = file.stat().st_ino
    sysctls.write(ONE)
    assert file.stat().st_ino == before


def test_removing_twice_is_fine_and_the_kernel_keeps_forwarding(kernel: Kernel, file: Path) -> None:
    sysctls.apply(ONE, localhost=False)
    for _ in range(2):
        sysctls.remove("ovs_net1")
        assert not file.exists()
    assert kernel.changed() == IPV4


def test_value_that_is_set_already_is_not_written_again(kernel: Kernel) -> None:
    forward = kernel.root / "net/ipv4/ip_forward"
    forward.write_text("1\n")
    sysctls.apply(ONE, localhost=False)
    assert forward.read_text() == "1\n"


def test_setting_that_the_kernel_has_not_is_named(kernel: Kernel) -> None:
    (kernel.root / "net/ipv4/ip_forward").unlink()
    (kernel.root / "net/ipv4/ip_forward").mkdir()
    with refused("ip_forward", "to 1", "Is a directory"):
        sysctls.apply(ONE, localhost=False)


def test_directory_that_cannot_be_made_is_named(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctls, "DIRECTORY", "/nowhere/sysctl.d")
    with refused("cannot write /nowhere/sysctl.d", "No such file"):
        sysctls.write(ONE)


class TestLeftovers:
    FOUND = "10-geneve-ovs-ovs_net1.conf"

    @pytest.fixture
    def directory(self, kernel: Kernel, file: Path) -> Path:
        sysctls.write(ONE)
        (file.parent / "99-sysctl.conf").touch()
        return file.parent

    def test_file_tells_its_bridge_also_one_that_looks_like_a_process(self, directory: Path) -> None:
        for bridge in ("br.7", "br.7.conf"):
            sysctls.write(replace(ONE, bridge=bridge))
        assert {file.bridge for file in sysctls.find_files()} == {"ovs_net1", "br.7", "br.7.conf"}
        assert sysctls.find_unfinished() == ()

    def test_host_that_never_had_a_network_has_none(self, kernel: Kernel) -> None:
        assert (sysctls.find_files(), sysctls.find_unfinished()) == ((), ())

    def test_file_is_removed_and_gone_is_fine(self, directory: Path) -> None:
        (file,) = sysctls.find_files()
        for _ in range(2):
            sysctls.remove_file(file, lambda: False)
        assert [path.name for path in directory.iterdir()] == ["99-sysctl.conf"]

    def test_file_of_a_network_that_somebody_just_joined_stays(self, directory: Path) -> None:
        (file,) = sysctls.find_files()
        before = Path(file.path).read_text()

        def is_needed() -> bool:
            assert not Path(file.path).exists()  # who joins now would write it anew
            sysctls.write(ONE)
            return True

        sysctls.remove_file(file, is_needed)
        assert Path(file.path).read_text() == before
        assert len(list(directory.iterdir())) == 2

    def test_file_is_put_back_when_nobody_knows_whether_it_is_needed(self, directory: Path) -> None:
        (file,) = sysctls.find_files()

        def fail() -> bool:
            raise GeneveError("no OVSDB socket")

        with refused("no OVSDB socket"):
            sysctls.remove_file(file, fail)
        assert sysctls.find_files() == (file,)

    def test_file_whose_writer_is_gone_is_found_and_removed(self, directory: Path) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        left, written = (directory / f"10-geneve-ovs-ovs_net1.{pid}" for pid in (gone.pid, os.getpid()))
        left.touch()
        written.touch()
        assert sysctls.find_unfinished() == (str(left),)
        for _ in range(2):
            sysctls.remove_unfinished(str(left))
        assert sysctls.find_unfinished() == ()
        assert written.exists()


def test_settings_are_told_as_they_are_and_as_they_should_be(kernel: Kernel) -> None:
    """What doctor compares; after `apply` they are the same."""
    wanted = {"net/ipv4/conf/ovs_net1/rp_filter": "2", "net/ipv4/ip_forward": "1"}
    assert sysctls.find_settings(ONE) == tuple((key, "as it was", value) for key, value in wanted.items())
    sysctls.apply(ONE, localhost=False)
    assert sysctls.find_settings(ONE) == tuple((key, value, value) for key, value in wanted.items())
    assert sysctls.read("net/ipv4/no_such_key") == "none"
