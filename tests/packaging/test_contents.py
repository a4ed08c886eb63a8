"""What the packages are made of, without installing them."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from netavark_geneve import __version__
from tests.lab.topology import CHECKOUT

from .builds import DEB, RPM, SRPM, Build
from .conftest import BUNDLED

MODULES = "/usr/share/netavark-geneve"
OURS = {f"{MODULES}/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "netavark_geneve").rglob("*.py")}
UNITS = (
    "netavark-geneve.socket",
    "netavark-geneve.service",
    "netavark-geneve-gc.service",
    "netavark-geneve-reload.service",
)
PROGRAMS = {"/usr/libexec/netavark/geneve-ovs", "/usr/sbin/netavark-geneve"}
CONFIG = "/etc/netavark-geneve/fabric.toml"
# Besides programs and modules.
FILES = {
    CONFIG,
    *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS),
    "/usr/lib/systemd/system-preset/90-netavark-geneve.preset",
    "/usr/lib/firewalld/services/netavark-geneve.xml",
    "/usr/share/bash-completion/completions/netavark-geneve",
    "/usr/share/man/man5/fabric.toml.5.gz",
    "/usr/share/man/man7/geneve-ovs.7.gz",
    "/usr/share/man/man8/netavark-geneve.8.gz",
}
REQUIRES = {"/usr/bin/python3", "python3 >= 3.11", "openvswitch", "podman >= 4.5", "netavark >= 1.6", "nftables"}
LIBRARIES = {
    "python3dist(jeepney) >= 0.7",
    "python3dist(ovs)",
    "python3dist(ovsdbapp) >= 2.11",
    "python3dist(pyroute2) >= 0.7.7",
}
PINNED = dict(re.findall(r"^(\w+)==(\S+)", (CHECKOUT / "packaging/requirements.txt").read_text(), re.MULTILINE))


def query(package: Path, *arguments: str) -> list[str]:
    """Lines of what rpm says of a package file."""
    command = ("rpm", "-qp", *arguments, str(package))
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()


def rpm_files(build: Build) -> dict[str, str]:
    """Mode and owners by path; directories, documents and licences left out."""
    lines = query(build.file(RPM), "--qf", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME}\n]")
    fields = (line.split() for line in lines)
    return _files((path, f"{mode} {owner}") for path, mode, owner in fields)


def deb_files(build: Build) -> dict[str, str]:
    command = ("dpkg-deb", "--fsys-tarfile", str(build.file(DEB)))
    tar = subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
    listed = subprocess.run(["tar", "-tv"], input=tar, capture_output=True, timeout=30, check=True).stdout.decode()
    fields = (line.split() for line in listed.splitlines())
    return _files((field[5].removeprefix("."), f"{field[0]} {field[1].replace('/', ':')}") for field in fields)


def _files(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    left_out = ("/usr/share/doc/", "/usr/share/licenses/")
    return {path: mode for path, mode in found if mode.startswith("-") and not path.startswith(left_out)}


def requires(build: Build) -> set[str]:
    """Without what rpm asks of itself and of the scriptlets' shell."""
    return {
        line for line in query(build.file(RPM), "--requires") if not line.startswith(("rpmlib(", "config(", "/bin/sh"))
    }


def scripts(build: Build) -> dict[str, str]:
    """The scriptlets by name."""
    text = "\n".join(query(build.file(RPM), "--scripts"))
    parts = re.split(r"^(\w+) scriptlet \(using /bin/sh\):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_rpm_and_source_rpm_are_the_same_bits_when_built_again(bundled: Build) -> None:
    """In the same directory: rpm writes its name into the source RPM, and the digest of that into the RPM."""
    before = [bundled.file(pattern).read_bytes() for pattern in (RPM, SRPM)]
    for path in bundled.dist.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    bundled.make("rpm", BUNDLED)
    assert [bundled.file(pattern).read_bytes() for pattern in (RPM, SRPM)] == before


def test_deb_is_the_same_bits_when_built_again_elsewhere(plain: Build, tmp_path: Path) -> None:
    again = Build(tmp_path)
    again.make("deb", offline=True)
    assert again.file(DEB).read_bytes() == plain.file(DEB).read_bytes()


def test_both_packages_have_the_same_files(plain: Build) -> None:
    modules = {path for path in rpm_files(plain) if path.startswith(MODULES)}
    bytecode = {path for path in modules if path.endswith(".pyc")}
    assert modules - bytecode == OURS
    assert len(bytecode) == len(OURS)

    expected = dict.fromkeys(FILES | OURS, "-rw-r--r-- root:root") | dict.fromkeys(PROGRAMS, "-rwxr-xr-x root:root")
    assert {path: mode for path, mode in rpm_files(plain).items() if path not in bytecode} == expected
    assert deb_files(plain) == expected


def test_bundled_libraries_are_added_to_that_and_have_bytecode_too(plain: Build, bundled: Build) -> None:
    added = rpm_files(bundled).keys() - rpm_files(plain).keys()
    assert rpm_files(plain).keys() - rpm_files(bundled).keys() == set()
    assert {path.removeprefix(f"{MODULES}/").partition("/")[0] for path in added} == {
        *PINNED,
        *(f"{name}-{PINNED[name]}.dist-info" for name in PINNED.keys() - {"ovs"}),
        "ovs.egg-info",
    }
    sources = {path for path in added if path.endswith(".py")}
    assert len([path for path in added if path.endswith(".pyc")]) == len(sources)
    assert set(rpm_files(bundled).values()) == {"-rw-r--r-- root:root", "-rwxr-xr-x root:root"}
    assert {path for path, mode in rpm_files(bundled).items() if "x" in mode.split()[0]} == PROGRAMS


def test_rpm_needs_what_it_calls(plain: Build, bundled: Build) -> None:
    assert requires(plain) == REQUIRES | LIBRARIES
    assert requires(bundled) == REQUIRES
    assert query(plain.file(RPM), "--recommends") == ["aardvark-dns"]


def test_rpm_declares_what_it_bundles(plain: Build, bundled: Build) -> None:
    declared = [line for line in query(bundled.file(RPM), "--provides") if line.startswith("bundled(")]
    assert declared == [f"bundled(python3dist({name})) = {PINNED[name]}" for name in sorted(PINNED)]
    assert not [line for line in query(plain.file(RPM), "--provides") if line.startswith("bundled(")]


def test_fabric_toml_is_the_one_configuration_file_and_says_nothing(plain: Build, tmp_path: Path) -> None:
    assert query(plain.file(RPM), "--configfiles") == [CONFIG]
    subprocess.run(["dpkg-deb", "--raw-extract", plain.file(DEB), tmp_path / "deb"], timeout=30, check=True)
    assert (tmp_path / "deb/DEBIAN/conffiles").read_text() == f"{CONFIG}\n"
    lines = (tmp_path / "deb" / CONFIG[1:]).read_text().splitlines()
    assert [line for line in lines if not line.startswith("#") and line] == []


def test_every_unit_is_in_the_scriptlets(bundled: Build) -> None:
    found = scripts(bundled)
    assert found.keys() == {"postinstall", "preuninstall", "postuninstall"}
    for unit in UNITS:
        assert f" {unit}" in found["postinstall"]
        assert f" {unit}" in found["preuninstall"]
    assert "firewall-cmd" not in "".join(found.values())


def test_debian_package_needs_what_it_calls(plain: Build) -> None:
    command = ("dpkg-deb", "--field", str(plain.file(DEB)), "Version", "Architecture", "Depends", "Recommends")
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert shown == (
        f"Version: {__version__}\n"
        "Architecture: all\n"
        "Depends: python3 (>= 3.11), python3-pyroute2 (>= 0.7.7), python3-ovsdbapp (>= 2.11), python3-openvswitch,"
        " python3-jeepney (>= 0.7), openvswitch-switch, podman (>= 4.5), netavark (>= 1.6), nftables\n"
        "Recommends: aardvark-dns\n"
    )


@pytest.mark.parametrize("variant", ["plain", "bundled"])
def test_rpmlint_has_nothing_to_say(request: pytest.FixtureRequest, variant: str) -> None:
    build: Build = request.getfixturevalue(variant)
    config, spec = (CHECKOUT / "packaging" / name for name in ("rpmlint.toml", "netavark-geneve.spec"))
    command = ["rpmlint", "-c", str(config), str(spec), str(build.file(RPM)), str(build.file(SRPM))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 errors, 0 warnings" in done.stdout
