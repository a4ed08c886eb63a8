"""Builds that all tests look at, and hosts of the lab to install them on."""

from collections.abc import Iterator

import pytest

from tests.e2e.fabric import Fabric
from tests.lab import Lab

from .builds import Build, later_source

BUNDLED = "RPMFLAGS=--with bundled"
# What the lab installed of the plugin.
OWN_INSTALL = "rm -rf /opt/netavark-geneve /usr/libexec/netavark /usr/local/bin/netavark-geneve"


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The RPM that needs the distribution's Python libraries, and the Debian package."""
    build = Build(tmp_path_factory.mktemp("plain"))
    build.make("rpm", "deb")
    return build


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Build:
    build = Build(tmp_path_factory.mktemp("bundled"))
    build.make("rpm", BUNDLED, offline=True)
    return build


@pytest.fixture(scope="session")
def later(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The next version of both, the RPM with bundled libraries."""
    build = Build(tmp_path_factory.mktemp("later"), later_source(tmp_path_factory.mktemp("source") / "checkout"))
    build.make("rpm", "deb", BUNDLED)
    return build


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    """Two hosts without the plugin."""
    with Lab(hosts=2) as lab:
        hosts = Fabric(lab.hosts)
        hosts.each(lambda host: host.sh(OWN_INSTALL))
        yield hosts
