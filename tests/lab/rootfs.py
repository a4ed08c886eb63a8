"""The Debian 13 root file system that every host is made from."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .cache import cached, digest, say
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
BUILD_TIMEOUT = 1200.0


def rootfs() -> Path:
    """The cached root file system, built first if need be."""
    scripts = [(HERE / name).read_bytes() for name in ("customize.sh", "image.sh")]
    key = digest(SUITE, *PACKAGES, *LEFT_OUT, *scripts)
    note = "building the Debian 13 root file system, once per machine, about a minute …"
    return cached("root", key, note, _build)


def _build(root: Path) -> None:
    _need_mmdebstrap()
    _call(
        # What it mounts, and whatever it runs, is gone when it is interrupted.
        *("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "--"),
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        '--aptopt=Acquire::Languages "none"',
        f"--customize-hook=chroot \"$1\" sh -s <'{HERE / 'customize.sh'}'",
        SUITE,
        str(root),
    )
    store = "/usr/lib/lab/images"
    build_in(root.parent, str(root), (HERE / "image.sh").read_text(), {root / store[1:]: store})


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


def _need_mmdebstrap() -> None:
    if shutil.which("mmdebstrap"):
        return
    if not shutil.which("apt-get"):
        raise LabError("the lab needs mmdebstrap to build its hosts; install it, or use a Debian machine")
    say("installing mmdebstrap …")
    install = ("apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring")
    try:
        _call(*install)
    except LabError:  # the package lists may be missing or old
        _call("apt-get", "update")
        _call(*install)


def _call(*command: str) -> None:
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
