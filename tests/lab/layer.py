"""The plugin under test, installed as a user would: pip, into a virtual environment of its own."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from .cache import cached, digest
from .errors import LabError
from .rootfs import build_in, rootfs

Libs = Literal["debian", "pypi"]
VENV = "/opt/netavark-geneve"
PLUGIN = "geneve-ovs"
PLUGIN_DIRECTORY = "/usr/libexec/netavark"  # one of those Podman looks into by default
COMMAND = "netavark-geneve"
# What cannot change what pip installs.
NOT_SOURCE = (
    *(".*", "__pycache__", "*.egg-info", "build", "dist"),
    *("tests", "docs", "packaging", "CHANGELOG*", "Makefile"),
)
PIP = f"python3 -m pip --quiet --no-input --python {VENV}/bin/python install --root-user-action=ignore"
PYPI = "setuptools wheel pyroute2 ovsdbapp netaddr ovs jeepney pytest"
ENVIRONMENTS = {
    "debian": f"python3 -m venv --system-site-packages --without-pip {VENV}",
    "pypi": f"python3 -m venv --without-pip {VENV}; {PIP} {PYPI}",
}
PROJECT = {
    "debian": f"{PIP} --no-index --no-build-isolation /tmp/source",
    "pypi": f"{PIP} --no-build-isolation /tmp/source",
}


def lower_directories(checkout: Path, libs: Libs) -> str:
    """The layers of a host, as overlayfs wants them: the plugin above the root file system."""
    root = rootfs()
    return f"{_plugin(root, checkout, libs)}:{root}"


def _plugin(root: Path, checkout: Path, libs: Libs) -> Path:
    """The layer with the plugin of this checkout."""
    content = _content(checkout)
    if not {"setup.cfg", "pyproject.toml", "setup.py"} & content.keys():
        raise LabError(f"there is no Python project in {checkout}; name the checkout that holds the plugin")
    environment = _environment(root, libs)
    key = digest(environment.name, PROJECT[libs], *(part for file in content.items() for part in file))

    def build(new: Path) -> None:
        shutil.copytree(environment, new, copy_function=os.link, symlinks=True, dirs_exist_ok=True)
        source = new.parent / "source"
        for name, data in content.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        _install(root, new, PROJECT[libs], libs, {source: "/tmp/source"})
        _link(new, content[f"plugin-config/{PLUGIN}"])

    return cached(f"plugin-{libs}", key, f"installing the plugin ({libs} libraries) …", build)


def _environment(root: Path, libs: Libs) -> Path:
    """The virtual environment without the plugin, which changes far more often."""
    key = digest(root.name, ENVIRONMENTS[libs])
    note = f"making a virtual environment ({libs} libraries) …"
    return cached(f"venv-{libs}", key, note, lambda new: _install(root, new, ENVIRONMENTS[libs], libs, {}))


def _install(root: Path, new: Path, script: str, libs: Libs, binds: dict[Path, str]) -> None:
    venv = new / VENV[1:]
    venv.mkdir(parents=True, exist_ok=True)
    binds = {venv: VENV, **binds}
    env: dict[str, str] = {}
    if libs == "pypi":
        env = _pip_environment()
        binds |= {path: str(path) for path in _mentioned(env)}
    build_in(new.parent, str(root), script, binds, env)


def _link(new: Path, plugin: bytes) -> None:
    """Put the plugin where Podman looks for it, as `make install` does, and the operator's command on the PATH."""
    path = new / PLUGIN_DIRECTORY[1:] / PLUGIN
    path.parent.mkdir(parents=True)
    path.write_bytes(plugin)
    path.chmod(0o755)
    link = new / "usr/local/bin" / COMMAND
    link.parent.mkdir(parents=True)
    link.symlink_to(f"{VENV}/bin/{COMMAND}")


def _content(checkout: Path) -> dict[str, bytes]:
    """All that pip could read, read once: the checkout may be under somebody's editor."""
    ignore = shutil.ignore_patterns(*NOT_SOURCE)
    content: dict[str, bytes] = {}
    for directory, directories, files in os.walk(checkout):
        ignored = ignore(directory, [*directories, *files])
        directories[:] = sorted(set(directories) - ignored)
        for path in (Path(directory, name) for name in sorted(set(files) - ignored)):
            content[str(path.relative_to(checkout))] = path.read_bytes()
    return content


def _pip_environment() -> dict[str, str]:
    """How pip and TLS are set up on this machine, as environment variables."""
    relevant = re.compile("^PIP_|_PROXY$|^SSL_CERT|_CA_BUNDLE$", re.IGNORECASE)
    env = {name: value for name, value in os.environ.items() if relevant.search(name)}
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    for line in listed.stdout.splitlines():  # nothing when this machine has no pip
        if setting := re.fullmatch(r"(?:global|install)\.([\w-]+)=(.*)", line):
            name = "PIP_" + setting[1].upper().replace("-", "_")
            env.setdefault(name, ast.literal_eval(setting[2]))
    return env


def _mentioned(env: dict[str, str]) -> list[Path]:
    """Files and directories of this machine that must be visible to pip, outer ones first."""
    words = [word for value in env.values() for word in re.split(r"[\s,]+", value)]
    paths = {Path(word.removeprefix("file://")) for word in words if word.startswith(("/", "file:///"))}
    # A local index links to files that lie beside it.
    paths |= {path.parent for path in paths if path.is_dir() and len(path.parts) > 3}
    return sorted({path for path in paths if path.exists()} | {Path("/etc/resolv.conf"), Path("/etc/hosts")})
