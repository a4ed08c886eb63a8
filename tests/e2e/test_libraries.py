"""The essential story, once with Debian's pyroute2 and ovsdbapp and once with the newest from PyPI."""

import json
from typing import Any, get_args

import pytest

from tests.lab import Host

from .conftest import Libs, MakeFabric
from .fabric import run, unreachable
from .faults import wait_for

PYTHON = "/opt/netavark-geneve/bin/python"
# The modules as the plugin imports them, and where they come from.
SHOW = """
import importlib.metadata, json, ovs, ovsdbapp, pyroute2
names = {"pyroute2": pyroute2, "ovsdbapp": ovsdbapp, "ovs": ovs}
print(json.dumps({name: [importlib.metadata.version(name), module.__file__] for name, module in names.items()}))
"""


@pytest.mark.parametrize("libs", get_args(Libs))
def test_create_run_reach_reload_remove(make_fabric: MakeFabric, libs: Libs) -> None:
    fabric = make_fabric(3, libs=libs)
    fabric.configure()
    clean = fabric.each(Host.snapshot)

    fabric.create("net1", "--subnet", "192.168.120.0/24", "--subnet", "fd00:1::/64")
    containers = fabric.run("net1")
    assert unreachable(containers) == []

    fabric.each(lambda host: host.run("podman", "network", "reload", "--all"))
    assert unreachable(containers) == []

    fabric.each(lambda host: host.run("podman", "rm", "-f", "-t0", f"c{host.index}"))
    for host, before in zip(fabric.hosts, clean, strict=True):
        wait_for(host, before)


@pytest.mark.parametrize("libs", get_args(Libs))
def test_a_failure_is_a_sentence(make_fabric: MakeFabric, libs: Libs) -> None:
    """Each generation of the libraries reports in its own way what the plugin passes on."""
    fabric = make_fabric(1, libs=libs)
    fabric.configure()
    fabric.create("net1", "--subnet", "192.168.120.0/24")
    (host,) = fabric.hosts
    before = host.snapshot()
    host.run("ip", "link", "add", "ovs_net1", "type", "bridge")
    try:
        result = host.run("podman", "run", "--rm", "--network", "net1", "alpine", "true", check=False, timeout=30)
    finally:
        host.run("ip", "link", "del", "ovs_net1")

    assert result.returncode != 0
    assert "attach" in result.stderr
    assert "ovs_net1" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    wait_for(host, before)
    assert run(host, "net1", name="c1").ping("192.168.120.1")


def test_debians_libraries_are_in_use(make_fabric: MakeFabric) -> None:
    for version, file in in_use(make_fabric(1, libs="debian").hosts[0]).values():
        assert version != ""
        assert file.startswith("/usr/lib/python3/dist-packages/")


def test_pypis_libraries_are_in_use(make_fabric: MakeFabric) -> None:
    newest = in_use(make_fabric(1, libs="pypi").hosts[0])
    debians = in_use(make_fabric(1, libs="debian").hosts[0])

    for name, (version, file) in newest.items():
        assert file.startswith("/opt/netavark-geneve/lib/")
        assert release(version) > release(debians[name][0]), name
    assert release(newest["pyroute2"][0]) >= (0, 9)
    assert release(newest["ovsdbapp"][0]) >= (2, 12)


def in_use(host: Host) -> dict[str, Any]:
    """By library, the version and the file that the plugin's own Python takes."""
    return dict(json.loads(host.run(PYTHON, "-c", SHOW).stdout))


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
