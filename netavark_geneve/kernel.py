# SPDX-License-Identifier: Apache-2.0
"""What the running kernel has."""

import os
from pathlib import Path

LISTS = ("modules.dep", "modules.builtin")  # of depmod(8)


def release() -> str:
    return os.uname().release


def has_module(name: str) -> bool:
    """Whether the module is loaded, built in, or there to be loaded when it is needed."""
    if Path("/sys/module", name).exists():
        return True
    for path in (Path("/lib/modules", release(), each) for each in LISTS):
        try:
            paths = (line.partition(":")[0] for line in path.read_text(encoding="utf-8").splitlines())
        except OSError:
            continue
        if any(os.path.basename(path).partition(".ko")[0].replace("-", "_") == name for path in paths):
            return True
    return False


def has_legacy_filter() -> bool:
    """Whether there are tables of the old iptables, which nft does not show."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        try:
            if Path("/proc/net", name).read_text(encoding="utf-8").strip():
                return True
        except OSError:
            continue
    return False
