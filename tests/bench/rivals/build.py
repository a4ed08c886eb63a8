"""The rivals' programs, brought into one directory of the host that will run them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
COMPILE = ("cc", "-std=c11", "-O2", "-static", "-Wall", "-Wextra", "-Werror")
TIMEOUT = 600.0
OVS_CNI = "OVS_CNI_DIRECTORY"
CNI_PROGRAMS = ("ovs", "static")


class BuildError(Exception):
    """A rival's program cannot be had."""


def programs(directory: Path) -> None:
    """Our own ones: the C floor, and the plugins that do nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    _need_compiler()
    # Static: the host that runs it need not have this machine's C library.
    _call(*COMPILE, "-o", str(directory / "floor"), str(HERE / "floor.c"), str(HERE / "question.c"))
    _call(*COMPILE, "-o", str(directory / "nothing-c"), str(HERE / "nothing.c"))
    _copy(HERE / "nothing.py", directory / "nothing-python")


def ovs_cni(directory: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """ovs-cni's `ovs` and the CNI project's `static`, from where $OVS_CNI_DIRECTORY says; None if it says nothing.

    Static programs, since the host that runs them need not have this machine's C library. `static` is the cheapest
    IPAM plugin: `host-local` takes a lock and keeps files besides, and the benchmark gives out addresses itself.
    """
    source = environ.get(OVS_CNI)
    if not source:
        return None
    missing = [name for name in CNI_PROGRAMS if not Path(source, name).is_file()]
    if missing:
        raise BuildError(f"{OVS_CNI} is {source}, and there is no {' and no '.join(missing)} in it")
    directory.mkdir(parents=True, exist_ok=True)
    for name in CNI_PROGRAMS:
        _copy(Path(source, name), directory / name)
    return directory


def _copy(source: Path, destination: Path) -> None:
    shutil.copyfile(source, destination)
    destination.chmod(0o755)


def _need_compiler() -> None:
    if shutil.which(COMPILE[0]):
        return
    if not shutil.which("apt-get"):
        raise BuildError("the C rivals need a C compiler; install one that is called cc")
    install = ("apt-get", "install", "-qq", "--no-install-recommends", "gcc", "libc6-dev")
    try:
        _call(*install)
    except BuildError:  # the package lists may be missing or old
        _call("apt-get", "update", "-qq")
        _call(*install)


def _call(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise BuildError(f"{' '.join(command)} exited with {done.returncode}:\n{tail}")
