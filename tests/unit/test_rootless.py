# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from netavark_geneve import rootless
from netavark_geneve.rootless import check_root

from .makers import refused


@pytest.fixture
def uid_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands for /proc/self/uid_map, of a process whose effective user is 0."""
    file = tmp_path / "uid_map"
    monkeypatch.setattr(rootless, "UID_MAP", str(file))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return file


def test_root_of_the_host_is_welcome(uid_map: Path) -> None:
    uid_map.write_text("         0          0 4294967295\n")
    check_root()
    assert uid_map.exists()


@pytest.mark.parametrize(
    "text",
    [
        "         0       1000          1\n",
        "         0       1000          1\n         1     100000      65536\n",
        "         1          0          1\n         0       1000          1\n",
        "      1000       1000          1\n",
        "",
    ],
    ids=["one user", "rootless podman", "in another order", "without a root", "not mapped yet"],
)
def test_root_of_a_user_namespace_is_refused(uid_map: Path, text: str) -> None:
    uid_map.write_text(text)
    with refused("root", "rootless", "sudo podman"):
        check_root()


def test_other_users_are_refused(uid_map: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid_map.write_text("         0          0 4294967295\n")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with refused("root", "rootless", "sudo podman"):
        check_root()
