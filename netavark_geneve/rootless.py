# SPDX-License-Identifier: Apache-2.0
"""Tell root on the host from root in a user namespace, which cannot reach the host's Open vSwitch."""

import os
from pathlib import Path

from .errors import GeneveError


def check_root() -> None:
    """Raise GeneveError unless this is root of the initial user namespace, as rootful Podman is."""
    if os.geteuid() != 0 or _outer_uid_of_root() != 0:
        raise GeneveError(
            "geneve-ovs needs root: rootless Podman cannot reach the host's Open vSwitch;"
            " run podman as root (sudo podman …)"
        )


def _outer_uid_of_root() -> int | None:
    """user_namespaces(7): each line of uid_map is a first uid inside, the same outside, and a count."""
    for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines():
        inside, outside, _ = map(int, line.split())
        if inside == 0:
            return outside
    return None
