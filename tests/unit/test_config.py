# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from netavark_geneve import config
from netavark_geneve.config import Fabric, load, read

from .makers import refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fabric.toml"


def test_file_with_every_key_is_read(file: Path) -> None:
    file.write_text(
        'hosts = ["192.168.0.10", "-", "host-c"]\nlocal_ip = "192.168.0.10"\nslots = 8\n'
        'subnet_pool = "10.128.0.0/9"\nmtu = 1400\ndst_port = 6082\ndatapath_type = "netdev"\n'
    )
    assert read(str(file)) == Fabric(
        path=str(file),
        hosts=("192.168.0.10", "-", "host-c"),
        local_ip="192.168.0.10",
        slots=8,
        subnet_pool="10.128.0.0/9",
        mtu=1400,
        dst_port=6082,
        datapath_type="netdev",
    )


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "hosts = []\n"], ids=["empty", "comment", "no hosts"])
def test_file_that_says_nothing_leaves_everything_open(file: Path, text: str) -> None:
    file.write_text(text)
    assert read(str(file)) == Fabric(path=str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('host = ["a"]', ("unknown key 'host'", "hosts", "subnet_pool")),
        ("[network]\nmtu = 1", ("unknown key 'network'",)),
        ('path = "x"', ("unknown key 'path'",)),
        ('hosts = "192.168.0.10"', ("hosts must be a list of strings",)),
        ("hosts = [1]", ("hosts must be a list of strings",)),
        ('slots = "8"', ("slots must be an integer", "'8'")),
        ("slots = true", ("slots must be an integer", "True")),
        ("mtu = 1.5", ("mtu must be an integer", "1.5")),
        ("local_ip = 10", ("local_ip must be a string", "10")),
        ("hosts = [", ("not valid TOML",)),
        ("slots = 1\nslots = 2", ("not valid TOML",)),
    ],
)
def test_file_with_a_mistake_is_refused_by_its_path_and_the_key(file: Path, text: str, words: tuple[str, ...]) -> None:
    file.write_text(text)
    with refused(str(file), *words):
        read(str(file))


def test_file_that_is_not_text_is_refused(file: Path) -> None:
    file.write_bytes(b'local_ip = "\xff"')
    with refused(str(file), "not valid TOML"):
        read(str(file))


def test_file_that_is_named_must_exist(file: Path) -> None:
    with refused(f"cannot read {file}", "No such file"):
        load({config.PATH_VARIABLE: str(file)})


def test_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with refused(f"cannot read {tmp_path}", "Is a directory"):
        read(str(tmp_path))


def test_file_that_the_environment_names_is_read(file: Path) -> None:
    file.write_text("slots = 4")
    assert load({"NETAVARK_GENEVE_CONFIG": str(file)}) == Fabric(path=str(file), slots=4)


@pytest.mark.parametrize("environ", [{}, {config.PATH_VARIABLE: ""}], ids=["unset", "empty"])
def test_default_file_need_not_exist(monkeypatch: pytest.MonkeyPatch, file: Path, environ: dict[str, str]) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", str(file))
    assert load(environ).hosts == ()


def test_default_file_is_read_when_it_exists(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text("slots = 4")
    monkeypatch.setattr(config, "DEFAULT_PATH", str(file))
    assert load({}) == Fabric(path=str(file), slots=4)


def test_default_file_is_where_the_manual_says() -> None:
    assert Fabric().path == "/etc/netavark-geneve/fabric.toml"
