# SPDX-License-Identifier: Apache-2.0
"""Programs and libraries, and whether Podman finds the plugin."""

import re
from collections.abc import Sequence

from ..found import Engine, Program
from ..naming import OWNER
from .finding import FAULT, WARNING, Finding

PYTHON = (3, 11)
LIBRARIES = {"jeepney": "0.7", "ovsdbapp": "2.11", "pyroute2": "0.7.7"}  # as install_requires of setup.cfg
PODMAN, NETAVARK = "4.5", "1.6"
EXECUTABLE = 0o111
REINSTALL = "install netavark-geneve again, by the package manager or with 'make install'"


def check_python(version: Sequence[int]) -> Finding:
    """The interpreter that runs us, which is the plugin's unless somebody mixed installations."""
    found, wanted = ".".join(map(str, version)), f"{'.'.join(map(str, PYTHON))} or later"
    if tuple(version) >= PYTHON:
        return Finding("Python", found, wanted)
    return Finding("Python", found, wanted, FAULT, "the plugin is written for a later Python", REINSTALL)


def check_library(name: str, version: str | None) -> Finding:
    """A library by its version; None where it is missing, "" where a package has it without saying which."""
    wanted = f"{LIBRARIES[name]} or later"
    if version is None:
        return Finding(f"library {name}", "none", wanted, FAULT, "the plugin cannot do without it", REINSTALL)
    if not version or _numbers(version) >= _numbers(LIBRARIES[name]):
        return Finding(f"library {name}", version or "one", wanted)
    return Finding(f"library {name}", version, wanted, FAULT, "the plugin uses what came later", REINSTALL)


def check_podman(engine: Engine) -> Finding:
    wanted = f"{PODMAN} or later"
    if _numbers(engine.version) >= _numbers(PODMAN):
        return Finding("Podman", engine.version, wanted)
    reason = "an earlier Podman knows no network plugins"
    return Finding("Podman", engine.version or "no version", wanted, FAULT, reason, "upgrade Podman")


def check_netavark(engine: Engine) -> Finding:
    """Podman's network backend; what it says of itself is "netavark 1.14.0"."""
    wanted = f"netavark {NETAVARK} or later"
    if engine.backend != "netavark":
        reason, remedy = "plugins are netavark's", 'set network_backend = "netavark" in containers.conf'
        return Finding("network backend", engine.backend or "none", wanted, FAULT, reason, remedy)
    if _numbers(engine.netavark) >= _numbers(NETAVARK):
        return Finding("network backend", engine.netavark, wanted)
    reason = "an earlier netavark calls plugins in another way, or not at all"
    return Finding("network backend", engine.netavark or "no version", wanted, FAULT, reason, "upgrade netavark")


def check_file(plugin: Program | None, directories: Sequence[str]) -> Finding:
    """The plugin's file in one of the directories where Podman looks."""
    wanted = f"an executable file {OWNER}"
    if plugin is None:
        where = ", ".join(directories)
        return Finding("plugin", "none", wanted, FAULT, f"there is no {OWNER} in {where}", REINSTALL)
    if not plugin.is_file:
        return Finding("plugin", "no regular file", wanted, FAULT, f"{plugin.path} cannot be run", REINSTALL)
    if plugin.mode & EXECUTABLE != EXECUTABLE:
        reason = f"{plugin.path} is not executable"
        return Finding("plugin", f"mode {plugin.mode:04o}", wanted, FAULT, reason, f"chmod 755 {plugin.path}")
    return Finding("plugin", plugin.path, wanted)


def check_answer(plugin: Program, version: str, own: str) -> Finding:
    """What the plugin says of itself, which it does with its own interpreter and our package as it finds it."""
    if version == own:
        return Finding("plugin's version", version, own)
    reason = f"{plugin.path} and this command are of different installations"
    return Finding("plugin's version", version, own, WARNING, reason, REINSTALL)


def check_driver(engine: Engine, plugin: Program) -> Finding:
    found = ", ".join(engine.drivers) or "none"
    if OWNER in engine.drivers:
        return Finding("Podman's network drivers", found, OWNER)
    reason = f"Podman does not look for plugins where {plugin.path} is"
    remedy = "add its directory to netavark_plugin_dirs in containers.conf"
    return Finding("Podman's network drivers", found, OWNER, FAULT, reason, remedy)


def check_resolver(program: str | None, named: Sequence[str]) -> Finding:
    """aardvark-dns, if one of the networks has names."""
    wanted = "aardvark-dns" if named else "none needed"
    if program or not named:
        return Finding("resolver", program or "none", wanted)
    reason = f"containers have no names on {', '.join(named)}"
    return Finding("resolver", "none", wanted, WARNING, reason, "install aardvark-dns")


def check_helper(is_there: bool) -> Finding:
    """A note: without the helper the plugin's own process does the work."""
    return Finding("helper", "its socket" if is_there else "none", "none needed; with it containers start faster")


def _numbers(version: str) -> tuple[int, ...]:
    """The first number with dots in it, "4.9.4-rhel" as well as "netavark 1.14.0"."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
