# SPDX-License-Identifier: Apache-2.0
"""Podman and the plugin, asked what they are. Not for the plugin, which is called while Podman holds its lock."""

import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from .errors import Deadline, GeneveError
from .found import Engine, Program
from .programs import ask


def find_program(name: str, directories: Iterable[str]) -> Program | None:
    """The first file of that name in one of the directories."""
    for path in (os.path.join(directory, name) for directory in directories):
        with suppress(OSError):
            mode = os.stat(path).st_mode
            return Program(path, stat.S_ISREG(mode), stat.S_IMODE(mode))
    return None


def ask_version(plugin: Program, deadline: Deadline) -> str:
    """The version that the plugin says it has."""
    said = ask([plugin.path, "info"], deadline)
    try:
        return str(json.loads(said)["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise GeneveError(f"'{plugin.path} info' does not say its version; is that our plugin?") from error


def ask_podman(deadline: Deadline) -> Engine:
    """What Podman says of itself."""
    said = ask(["podman", "info", "--format", "json"], deadline)
    try:
        info = json.loads(said)
        backend = info["host"].get("networkBackendInfo") or {}
        return Engine(
            version=info["version"]["Version"],
            backend=info["host"].get("networkBackend") or "",
            netavark=backend.get("version") or "",
            drivers=tuple(info["plugins"]["network"] or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GeneveError(f"'podman info' says nothing of its networks ({error}); upgrade Podman") from error
