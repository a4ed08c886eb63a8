"""The labs of this machine: a directory for each under /run, and what they all share."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import LabError

RUN = Path("/run/netavark-geneve-lab")
# All network namespaces of a machine share one table of neighbours. Once it is full no ARP request
# leaves any of them, and that takes no more than a hundred containers that know each other.
NEIGHBOURS = Path("/proc/sys/net")
LIMITS = {
    str(NEIGHBOURS / family / "neigh/default" / f"gc_thresh{level}"): limit
    for family in ("ipv4", "ipv6")
    for level, limit in ((3, 65536), (2, 32768), (1, 16384))
}
SAVED = RUN / "limits.json"


def names() -> list[str]:
    return sorted(path.parent.name for path in RUN.glob("*/lab.json"))


def settings(name: str) -> dict[str, Any]:
    """What was written down when the lab was made."""
    try:
        found: dict[str, Any] = json.loads((RUN / name / "lab.json").read_text())
    except OSError as error:
        raise LabError(f"there is no lab {name!r}; start it with: lab up --name {name}") from error
    return found


def claim(name: str, facts: dict[str, Any]) -> None:
    """Take a name, with all that another process must know, in one step."""
    with _lock():
        RUN.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=RUN) as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            (new / "lab.json").write_text(json.dumps(facts))
            try:
                new.rename(RUN / name)
            except OSError as error:
                hint = f"use it, or take it down with: lab down --name {name}"
                raise LabError(f"there is a lab {name!r} already; {hint}") from error
        _raise_limits()


def release(name: str) -> None:
    """Give a name back; the last lab leaves the machine as the first one found it."""
    with _lock():
        shutil.rmtree(RUN / name, ignore_errors=True)
        if RUN.exists() and not names():
            _restore_limits()
            shutil.rmtree(RUN)


def _raise_limits() -> None:
    if SAVED.exists():
        return
    before = {path: int(Path(path).read_text()) for path in LIMITS if Path(path).exists()}
    SAVED.write_text(json.dumps(before))
    for path, value in before.items():
        Path(path).write_text(str(max(value, LIMITS[path])))


def _restore_limits() -> None:
    before = json.loads(SAVED.read_text()) if SAVED.exists() else {}
    for path, value in before.items():
        Path(path).write_text(str(value))


@contextmanager
def _lock() -> Iterator[None]:
    """One process at a time. The lock is on a directory that stays, so that no file has to."""
    handle = os.open(RUN.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
