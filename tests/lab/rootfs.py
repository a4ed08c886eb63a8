"""The Debian 13 root file system that every host is made from."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .cache import cached, digest, locked, say
from .errors import LabError
from .machine import HERE, Starting

SUITE = "trixie"
PACKAGES = (
    # the subject
    *("podman", "netavark", "aardvark-dns", "crun", "conmon", "catatonit", "openvswitch-switch"),
    *("uidmap", "fuse-overlayfs", "passt"),  # rootless Podman
    *("firewalld", "dbus"),  # a firewall that a host may have; there is no init that would start it
    # the plugin and its tests
    *("python3", "python3-venv", "python3-pip", "python3-setuptools", "python3-wheel", "python3-pytest"),
    *("python3-pyroute2", "python3-ovsdbapp", "python3-netaddr", "python3-openvswitch", "python3-jeepney"),
    # the tester's tools
    *("iproute2", "iputils-ping", "iputils-arping", "tcpdump", "socat", "nftables", "ethtool", "procps"),
    *("strace", "curl", "busybox-static", "less", "bash", "ca-certificates"),
    *("bats", "jq", "ncat"),  # what netavark's own test suite runs on
)
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
STORE = "usr/lib/lab/images"  # of the image that all containers are made from
BUILD_TIMEOUT = 1200.0


def rootfs() -> Path:
    """The cached root file system, built first if need be."""
    scripts = [(HERE / name).read_bytes() for name in ("customize.sh", "image.sh")]
    key = digest(SUITE, *PACKAGES, *LEFT_OUT, *scripts)
    note = "building the Debian 13 root file system, once per machine, about a minute …"
    return cached("root", key, note, _build)


def _build(root: Path) -> None:
    bootstrap(root, PACKAGES, HERE / "customize.sh")
    build_in(root.parent, str(root), (HERE / "image.sh").read_text(), {root / STORE: f"/{STORE}"})


def bootstrap(root: Path, packages: Sequence[str], script: Path) -> None:
    """Install these packages into an empty directory, and run a script in it."""
    need("mmdebstrap", "mmdebstrap", "debian-archive-keyring")
    call(
        # What it mounts, and whatever it runs, is gone when it is interrupted.
        *("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "--"),
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        '--aptopt=Acquire::Languages "none"',
        f"--customize-hook=chroot \"$1\" sh -s <'{script}'",
        SUITE,
        str(root),
    )


def build_in(
    scratch: Path, lower: str, script: str, binds: Mapping[Path, str], env: Mapping[str, str] | None = None
) -> None:
    """Run a build script on a machine that is thrown away, but for what it writes to `binds`."""
    command = ("env", *(f"{name}={value}" for name, value in (env or {}).items()), "sh", "-ec", script)
    start = Starting(scratch / "build", lower, command, binds, network=False)
    try:
        start.wait()
        if start.process.wait(BUILD_TIMEOUT):
            raise LabError(f"a step of the build failed:\n{start.log()}")
    finally:
        start.abort()


def need(program: str, *packages: str) -> None:
    """Install Debian packages unless their program is there."""
    if shutil.which(program):
        return
    if not shutil.which("apt-get"):
        raise LabError(f"the lab needs {program}; install it, or use a Debian machine")
    install = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
    with locked("apt-get"):
        say(f"installing {program} …")
        try:
            call(*install)
        except LabError:  # the package lists may be missing or old
            call("apt-get", "update")
            call(*install)


def call(*command: str) -> None:
    """Run a step of a build; what it says is shown if it fails."""
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=BUILD_TIMEOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        umask=0o022,
        check=False,
    )
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise LabError(f"a step of the build failed with exit status {result.returncode}:\n{tail}")
