# SPDX-License-Identifier: Apache-2.0
import fcntl
import os
from pathlib import Path

from netavark_geneve import switch


def is_free(directory: Path, how: int) -> bool:
    """Whether somebody else could have the lock just now."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def test_interfaces_of_bridges_are_made_at_once_and_removed_alone(tmp_path: Path) -> None:
    environ = {"OVS_RUNDIR": str(tmp_path)}
    with switch.making(environ):
        assert is_free(tmp_path, fcntl.LOCK_SH)
        assert not is_free(tmp_path, fcntl.LOCK_EX)
    with switch.alone(environ):
        assert not is_free(tmp_path, fcntl.LOCK_SH)
    assert is_free(tmp_path, fcntl.LOCK_EX)
