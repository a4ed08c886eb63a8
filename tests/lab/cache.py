"""What is built once per machine and kept: directories named by a hash of what went into them."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError

KEEP_SECONDS = 7 * 24 * 3600


def directory() -> Path:
    return Path(os.environ.get("LAB_CACHE") or "/var/cache/netavark-geneve-lab").resolve()


def digest(*parts: str | bytes) -> str:
    """A short name for exactly these parts, in this order."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]


def say(text: str) -> None:
    """A progress line."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def cached(kind: str, key: str, note: str, build: Callable[[Path], None]) -> Path:
    """The directory KIND-KEY, built now if there is none; never one that is half built."""
    base = directory()
    path = base / f"{kind}-{key}"
    if not path.is_dir():
        with locked("build of the lab"):
            _check_file_system(base)
            if not path.is_dir():
                say(note)
                _sweep(base, kind)
                _build(path, build)
    os.utime(path)  # _sweep() goes by the time of the last use
    return path


def _build(path: Path, build: Callable[[Path], None]) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as temporary:
        new = Path(temporary, path.name)
        new.mkdir(mode=0o755)
        build(new)
        new.rename(path)
    say(f"… done in {time.monotonic() - started:.0f} s")


def _sweep(base: Path, kind: str) -> None:
    """Remove what interrupted builds left, and what nobody has used for a week. The lock is held."""
    old = [path for path in base.glob(f"{kind}-*") if path.stat().st_mtime < time.time() - KEEP_SECONDS]
    for path in [*base.glob(".new-*"), *old]:
        shutil.rmtree(path, ignore_errors=True)


def _check_file_system(base: Path) -> None:
    """The kernel stacks two overlays and no more: the host's on this, and the container's on that."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", base], capture_output=True, text=True, check=True).stdout
    if kind.strip() == "overlayfs":
        raise LabError(f"containers cannot run from a cache on an overlay ({base}); set LAB_CACHE to a disk or tmpfs")


@contextmanager
def locked(work: str) -> Iterator[None]:
    """Nobody else on this machine does this work meanwhile."""
    base = directory()
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot make the cache {base}: {error.strerror}; set LAB_CACHE to another place") from error
    with (base / f".{work.replace(' ', '-')}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another {work} on this machine")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
