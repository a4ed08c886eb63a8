# SPDX-License-Identifier: Apache-2.0
"""Tell root on the host from root in a user namespace, which cannot reach the host's Open vSwitch."""

import os

from . import files
from .errors import GeneveError, failing_to

UID_MAP = "/proc/self/uid_map"


def check_root() -> None:
    """Raise GeneveError unless this is root of the initial user namespace, as rootful Podman is."""
    if os.geteuid() != 0 or not _is_initial_user_namespace():
        raise GeneveError(
            "geneve-ovs needs root: rootless Podman cannot reach the host's Open vSwitch;"
            " run podman as root (sudo podman …)"
        )


def _is_initial_user_namespace() -> bool:
    """user_namespaces(7): only there all uids are what they are outside."""
    with failing_to(f"read {UID_MAP}"):
        return files.read(UID_MAP).split() == ["0", "0", str(2**32 - 1)]
