"""Two machines for all tests. Each test leaves them as it found them: installed, and all containers running."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.common import table
from tests.reliability import report

from .fabric import UNITS, deploy, install, package
from .machine import VirtualMachine, each, machines

Timing = dict[str, list[float]]
"""By what happened to a machine: seconds until each of UNITS was started, and until the other machine was served."""


@dataclass(frozen=True)
class Packages:
    """The same content under two version numbers."""

    previous: Path
    current: Path


@pytest.fixture(scope="session")
def packages() -> Packages:
    return Packages(package("0.0.1"), package())


@pytest.fixture(scope="session")
def pair(packages: Packages) -> Iterator[list[VirtualMachine]]:
    with machines(2) as running:
        each(running, lambda machine: install(machine, packages.current))
        deploy(running)
        yield running


@pytest.fixture(scope="session")
def timing() -> Iterator[Timing]:
    """What the tests put in goes to docs/reliability.md."""
    found: Timing = {}
    yield found
    steps = [*(f"{unit} has started" for unit in UNITS), "the other machine is served, since the event itself"]
    rows = [(step, *(f"{found[event][index]:.0f}" for event in found)) for index, step in enumerate(steps)]
    report.write("Back in service", [TEXT, "", *table(("seconds since the kernel's start", *found), *rows)])


TEXT = """On virtual machines with Debian 13 and the kernel's datapath, emulated in software and so many times slower
than hardware. Both containers are back by themselves: `web.service` is one of Quadlet's, `podman-restart.service`
starts the other one."""
