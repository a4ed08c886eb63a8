# SPDX-License-Identifier: Apache-2.0
"""What the unit tests share: the environment of one host, and stand-ins at its boundaries."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from netavark_geneve import attach as attach_verb
from netavark_geneve import create as create_verb
from netavark_geneve import detach as detach_verb
from netavark_geneve import firewall, log, underlay
from netavark_geneve.model import AttachResult, Container, Network

from .makers import HOST_1, interfaces
from .ruleset import Ruleset

PROJECT = Path(__file__).parents[2]

set_hypothesis_home_dir(str(PROJECT / ".pytest_cache" / "hypothesis"))
settings.register_profile("unit", settings(), deadline=None, max_examples=60)
settings.load_profile("unit")

Calls = list[tuple[Any, ...]]
Plugin = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests, the plugin takes itself for root of the host."""
    monkeypatch.setattr("netavark_geneve.frontends.netavark.check_root", lambda: None)


@pytest.fixture
def verbs(as_root: None, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The verbs do nothing but write down their arguments, the environment left out."""
    calls: Calls = []

    def create(network: Network, others: Any, environ: Any) -> Network:
        calls.append(("create", network))
        return network

    def attach(network: Network, container: Container, netns: str, environ: Any, kept: Any) -> AttachResult:
        calls.append(("attach", network, container, netns))
        return AttachResult(interface=container.interface, mac="0a:58:c0:a8:78:02", addresses=())

    def detach(network: Network, container: Container, netns: str, environ: Any, kept: Any) -> None:
        calls.append(("detach", network, container.id, container.interface, netns))

    monkeypatch.setattr(create_verb, "create", create)
    monkeypatch.setattr(attach_verb, "attach", attach)
    monkeypatch.setattr(detach_verb, "detach", detach)
    return calls


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A fabric.toml (empty) and a directory of Podman's networks (empty) that are the test's own."""
    networks, containers_conf, fabric = tmp_path / "networks", tmp_path / "containers.conf", tmp_path / "fabric.toml"
    networks.mkdir()
    containers_conf.write_text(f'[network]\nnetwork_config_dir = "{networks}"\n')
    fabric.touch()
    return {"CONTAINERS_CONF": str(containers_conf), "NETAVARK_GENEVE_CONFIG": str(fabric)}


@pytest.fixture
def host(as_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin sees a host with the one address 192.168.0.10/24 and an MTU of 1500 everywhere."""
    monkeypatch.setattr(underlay, "find_interfaces", lambda: interfaces(("eth0", f"{HOST_1}/24")))
    monkeypatch.setattr(underlay, "find_path_mtu", lambda destination: 1500)
    monkeypatch.setattr(underlay, "find_interface_mtu", lambda address: 1500)


@pytest.fixture
def fresh_loggers() -> Iterator[None]:
    """`install` changes process-wide loggers; put them back."""
    loggers = [log.logger, logging.getLogger("ovsdbapp")]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def ruleset(monkeypatch: pytest.MonkeyPatch) -> Ruleset:
    """What the plugin has made of nftables, which was empty."""
    made = Ruleset()
    for name in ("run", "list_table", "has_table", "list_chains", "delete_chain", "delete_table", "lock"):
        monkeypatch.setattr(firewall, name, getattr(made, name))
    return made


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """Run the plugin's process as netavark does."""

    def run(*arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "netavark_geneve", *arguments],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "RUST_LOG": "", **environ},
            timeout=30,
            check=False,
        )

    return run
