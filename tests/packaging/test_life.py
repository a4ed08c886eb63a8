"""A package on two hosts: installed, used, upgraded while containers talk, removed without a trace."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netavark_geneve import __version__
from tests.e2e.conftest import helper
from tests.e2e.fabric import CONFIG, Container, Fabric, unreachable
from tests.lab import Host

from .builds import DEB, LATER, RPM, Build

LIBRARIES = ("pyroute2", "ovsdbapp", "ovs", "jeepney", "netaddr", "pbr")
# As far as the packages' dependencies go, a Fedora.
DISTRIBUTION = """\
Name: distribution
Version: 1
Release: 1
Summary: What a distribution has
License: MIT
BuildArch: noarch
Provides: /bin/sh, /usr/bin/python3, python3 = 3.13.5, nftables = 1.1.3
Provides: openvswitch = 3.5.0, podman = 5:5.4.2, netavark = 2:1.14.0
%description
Nothing.
%files
"""
WITH_LIBRARIES = DISTRIBUTION.replace(
    "%description",
    "Provides: python3dist(pyroute2) = 0.7.7, python3dist(ovsdbapp) = 2.11, python3dist(ovs) = 3.5\n"
    "Provides: python3dist(jeepney) = 0.9\n%description",
)
# Of Fedora's package `filesystem`.
DIRECTORIES = ("/usr/share/licenses", *(f"/usr/share/man/man{section}" for section in (5, 7, 8)))
# All that a package could leave behind; not the packagers' own databases, nor Podman's networks.
LIST = "find /etc /usr /opt ! -path '/etc/containers/networks*' ! -path '/usr/lib/python3*/__pycache__/*'"
ENABLED = "cd /etc/systemd/system; ls -d *.wants/netavark-geneve*"
WANTS = [
    "firewalld.service.wants/netavark-geneve-reload.service",
    "multi-user.target.wants/netavark-geneve-gc.service",
    "sockets.target.wants/netavark-geneve.socket",
]


RESTORED = "restored 2 container(s) on 1 network(s)\n"


class Debian:
    """The Debian package, by dpkg on the host itself."""

    left: Sequence[str] = ()

    def install(self, host: Host, build: Build) -> None:
        shutil.copy(build.file(DEB), f"{root(host)}/tmp/new.deb")
        # The lab's hosts are kept small by leaving these out.
        included = [f"--path-include=/usr/share/{name}/*" for name in ("doc", "man")]
        host.run("dpkg", "--force-confold", *included, "--install", "/tmp/new.deb")

    def verify(self, host: Host) -> str:
        return host.run("dpkg", "--verify", "netavark-geneve").stdout

    def remove(self, host: Host) -> None:
        host.run("dpkg", "--purge", "netavark-geneve")


@dataclass(frozen=True)
class Redhat:
    """The RPM, by `rpm --root` of this machine; the host is the root.

    The database is in a directory of this machine: SQLite would follow /proc/PID/root as the link to / that it seems to
    be, and come out in this machine's own database.
    """

    databases: Path
    # Changed by the administrator, and so left to him.
    left: Sequence[str] = ("/etc/netavark-geneve", f"{CONFIG}.rpmnew", f"{CONFIG}.rpmsave")

    def install(self, host: Host, build: Build) -> None:
        self.check(host, "--upgrade", str(build.file(RPM)))

    def verify(self, host: Host) -> str:
        return self.run(host, "--verify", "netavark-geneve").stdout

    def remove(self, host: Host) -> None:
        self.check(host, "--erase", "netavark-geneve")

    def check(self, host: Host, *arguments: str) -> None:
        done = self.run(host, *arguments)
        assert done.returncode == 0, done.stderr

    def run(self, host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
        database = self.databases / host.name
        database.mkdir(exist_ok=True)
        command = ["rpm", "--root", root(host), "--dbpath", str(database), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def root(host: Host) -> str:
    return f"/proc/{host.pid}/root"


def distribution(spec: str, directory: Path) -> str:
    """A package that provides what this spec says."""
    (directory / "distribution.spec").write_text(spec)
    command = ["rpmbuild", "-bb", "--define", f"_topdir {directory}", "--define", f"_rpmdir {directory}"]
    subprocess.run([*command, directory / "distribution.spec"], capture_output=True, timeout=60, check=True)
    (built,) = directory.glob("noarch/*.rpm")
    return str(built)


@contextmanager
def talking(container: Container, other: Container) -> Iterator[None]:
    """A container that pings another one five times a second meanwhile; no answer may be missing."""
    ping = ("nsenter", f"--net={container.host.netns(container.name)}", "--", "ping", "-i0.2", "-n", other.address)
    with container.host.popen(*ping, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)  # it says how many were answered
            output, _ = process.communicate(timeout=10)
    assert " 0% packet loss" in output, output


def live(kind: Debian | Redhat, fabric: Fabric, first: Build, later: Build) -> None:
    """The story."""
    before = fabric.each(files)
    fabric.each(lambda host: kind.install(host, first))
    assert fabric.each(kind.verify) == ["", ""]
    assert fabric.each(enabled) == [WANTS, WANTS]
    assert fabric.each(version) == [__version__] * 2

    fabric.configure()
    config = fabric.each(lambda host: host.read(CONFIG))
    fabric.create("net1", "--subnet", "192.168.120.0/24")
    containers = fabric.run("net1")
    assert unreachable(containers) == []

    with talking(*containers):
        fabric.each(lambda host: kind.install(host, later))
    assert fabric.each(version) == [LATER] * 2
    assert fabric.each(lambda host: host.read(CONFIG)) == config
    assert fabric.each(enabled) == [WANTS, WANTS]
    with helper(fabric.hosts[0]), helper(fabric.hosts[1]):
        containers += fabric.run("net1", name="later")
    assert unreachable(containers) == []
    assert fabric.each(lambda host: host.run("netavark-geneve", "gc").stdout) == ["nothing is stale\n"] * 2
    assert fabric.each(lambda host: host.run("netavark-geneve", "reload").stdout) == [RESTORED] * 2

    assert fabric.each(faults) == [[], []]

    fabric.each(kind.remove)
    assert unreachable(containers) == []
    for paths, others in zip(before, fabric.each(files), strict=True):
        assert (others - paths, paths - others) == (set(kind.left), set())


def files(host: Host) -> set[str]:
    return set(host.sh(LIST).stdout.splitlines())


def enabled(host: Host) -> list[str]:
    return host.sh(ENABLED).stdout.splitlines()


def version(host: Host) -> str:
    return host.run("netavark-geneve", "--version").stdout.strip()


def faults(host: Host) -> list[object]:
    """What the doctor says of the host, and of the package's libraries."""
    findings = json.loads(host.run("netavark-geneve", "doctor", "--json", check=False).stdout)
    return [finding for finding in findings if finding["state"] == "fault"]


def without_libraries(host: Host) -> None:
    host.sh('cd /usr/lib/python3/dist-packages; for name; do rm -rf "$name" "$name"-*; done', *LIBRARIES)
    for library in LIBRARIES:
        assert host.run("python3", "-c", f"import {library}", check=False).returncode == 1


def test_debian_package(fabric: Fabric, plain: Build, later: Build) -> None:
    live(Debian(), fabric, plain, later)


def test_rpm_with_bundled_libraries(fabric: Fabric, bundled: Build, later: Build, tmp_path: Path) -> None:
    """On hosts whose Python has none."""
    fabric.each(without_libraries)
    redhat, has = Redhat(tmp_path), distribution(DISTRIBUTION, tmp_path)
    fabric.each(lambda host: redhat.check(host, "--install", has))
    fabric.each(lambda host: host.run("mkdir", "-p", *DIRECTORIES))
    live(redhat, fabric, bundled, later)


def test_rpm_with_the_distributions_libraries(fabric: Fabric, plain: Build, tmp_path: Path) -> None:
    (host,) = fabric.hosts[:1]
    redhat = Redhat(tmp_path)
    refused = redhat.run(host, "--install", str(plain.file(RPM)))
    assert refused.returncode != 0
    assert "openvswitch is needed by netavark-geneve" in refused.stderr

    redhat.check(host, "--install", distribution(WITH_LIBRARIES, tmp_path))
    redhat.install(host, plain)
    one = Fabric([host])
    one.configure()
    one.create("net1", "--subnet", "192.168.120.0/24")
    (container,) = one.run("net1")
    assert container.ping("192.168.120.1")


def test_units_and_firewalld_service_are_valid(fabric: Fabric, plain: Build) -> None:
    (host,) = fabric.hosts[:1]
    Debian().install(host, plain)
    assert host.sh("systemd-analyze verify /usr/lib/systemd/system/netavark-geneve* 2>&1").stdout == ""
    assert "ports: 6081/udp" in host.run("firewall-offline-cmd", "--info-service=netavark-geneve").stdout
