# SPDX-License-Identifier: Apache-2.0
"""The interface that ovs-vswitchd makes for a bridge of its userspace datapath, and may leave behind.

It outlives the bridge, with its address, when the daemon is down; and for good when the daemon reads the routes just
as it lets go of the interface, since it keeps open an interface that has a route, and the route stays with the
interface. Whoever makes the bridge again may get this very interface.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from . import links, switch
from .errors import Deadline, failing_to
from .ovsdb import RUNDIR, RUNDIR_VARIABLE


@contextmanager
def making(environ: Mapping[str, str]) -> Iterator[None]:
    """Nobody of us removes what is left of a bridge's interface: it may be the one that is being made."""
    with _locked(environ, fcntl.LOCK_SH):
        yield


def remove_left_tap(bridge: str, environ: Mapping[str, str], deadline: Deadline) -> None:
    """Remove what is left of a bridge's interface, unless there is such a bridge again.

    Nobody makes the bridge again before ovs-vswitchd knows: it would go on with a device that there is no more.
    """
    if links.find_link(bridge) is None:
        return
    with _locked(environ, fcntl.LOCK_EX), switch.connect_bridge(environ, deadline, bridge) as ovs:
        if ovs.find_datapath_type(bridge) is None and links.remove_tap(bridge):
            ovs.wait_noticed(deadline)


@contextmanager
def _locked(environ: Mapping[str, str], how: int) -> Iterator[None]:
    path = environ.get(RUNDIR_VARIABLE, RUNDIR)
    with failing_to(f"open {path}"):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with failing_to(f"lock {path}"):
            fcntl.flock(directory, how)
        yield
    finally:
        os.close(directory)
