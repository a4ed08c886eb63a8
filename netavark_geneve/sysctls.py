# SPDX-License-Identifier: Apache-2.0
"""The host's kernel settings without which a network has no way out.

They are written for the running kernel, and into a file of sysctl.d(5), so that systemd-sysctl, which runs
again whenever an interface appears, does not set them back.
"""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import files
from .errors import GeneveError, failing_to
from .model import Gateway, Settings

KERNEL = "/proc/sys"
DIRECTORY = "/run/sysctl.d"
PREFIX = "10-geneve-ovs-"
_NAME = rf"{PREFIX}(?P<bridge>.+)\.(?:conf|(?P<writer>[0-9]+))"


def write(gateway: Gateway) -> None:
    """Write the file; before the bridge's interface appears, or systemd-sysctl would miss it."""
    if gateway.subnets:
        _write_file(_path(gateway.bridge), _settings(gateway))


def apply(gateway: Gateway, *, localhost: bool) -> None:
    """Let the host forward, and take packets for the containers on any interface; the bridge must exist.

    With `localhost`, connections to 127.0.0.1 may be translated to the containers.
    """
    if not gateway.subnets:
        return
    write(gateway)  # again: who left the network last may have removed the file since
    settings = _settings(gateway)
    if localhost:
        settings[f"net/ipv4/conf/{gateway.bridge}/route_localnet"] = "1"
    for key, value in settings.items():
        file = f"{KERNEL}/{key}"
        try:
            if files.read(file).strip() != value:
                files.write(file, value)
        except OSError as error:
            raise GeneveError(f"cannot set {file} to {value}: {error.strerror}") from error


def find_settings(gateway: Gateway) -> tuple[tuple[str, str, str], ...]:
    """Each setting of `apply`, what it is now, and what it should be."""
    wanted = _settings(gateway) if gateway.subnets else {}
    return tuple((key, read(key), value) for key, value in wanted.items())


def read(key: str) -> str:
    """A setting of the kernel; "none" where there is none."""
    try:
        return files.read(f"{KERNEL}/{key}").strip()
    except OSError:
        return "none"


def remove(bridge: str) -> None:
    """Forget the bridge's file. Forwarding stays on, as with any network of Podman's: others may need it."""
    for path in (_path(bridge), *_unfinished(bridge)):
        _unlink(path)


def find_files() -> tuple[Settings, ...]:
    """The files of all bridges."""
    found = (re.fullmatch(_NAME, path.name) for path in _ours())
    return tuple(
        Settings(str(Path(DIRECTORY, name[0])), name["bridge"]) for name in found if name and not name["writer"]
    )


def find_unfinished() -> tuple[str, ...]:
    """Files whose writers were killed before they had written them."""
    return tuple(map(str, _unfinished()))


def remove_file(file: Settings, is_needed: Callable[[], bool]) -> None:
    """Remove a bridge's file, unless somebody joins the network right now.

    Such a one leaves alone the file that is there, so it is taken away first, then asked about, and put back.
    """
    path = Path(file.path)
    taken, needed = _new(path), True
    try:
        path.rename(taken)
        try:
            needed = is_needed()
        finally:
            if needed:
                taken.rename(path)
            else:
                taken.unlink()
    except FileNotFoundError:
        pass  # whoever left the network last was faster
    except OSError as error:
        raise GeneveError(f"cannot remove {path}: {error.strerror}") from error


def remove_unfinished(path: str) -> None:
    """Remove what `find_unfinished` found; gone is fine."""
    _unlink(Path(path))


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise GeneveError(f"cannot remove {path}: {error.strerror}") from error


def _unfinished(bridge: str | None = None) -> list[Path]:
    """Of this bridge, or of all, what nobody writes any more."""
    found = ((path, re.fullmatch(_NAME, path.name)) for path in _ours())
    return [
        path
        for path, name in found
        if name and name["writer"] and not _runs(name["writer"]) and bridge in (None, name["bridge"])
    ]


def _ours() -> list[Path]:
    return sorted(Path(DIRECTORY).glob(f"{PREFIX}*"))


def _new(path: Path) -> Path:
    """What the file is called until it is whole. It tells who writes it, of a helper's threads, too: gettid(2)."""
    return path.with_suffix(f".{threading.get_native_id()}")


def _runs(writer: str) -> bool:
    return Path("/proc", writer).exists()


def boot_id() -> str:
    """It tells this run of the kernel from any other: proc(5)."""
    path = f"{KERNEL}/kernel/random/boot_id"
    with failing_to(f"read {path}"):
        return files.read(path).strip()


def _settings(gateway: Gateway) -> dict[str, str]:
    versions = {subnet.version for subnet, _ in gateway.subnets}
    settings = {f"net/ipv4/conf/{gateway.bridge}/rp_filter": "2"}  # loose: replies may come by another way
    if 6 in versions:
        settings |= {
            f"net/ipv6/conf/{gateway.bridge}/accept_ra": "0",
            f"net/ipv6/conf/{gateway.bridge}/accept_dad": "0",
        }
    for version in versions:
        if gateway.forwards:
            settings["net/ipv4/ip_forward" if version == 4 else "net/ipv6/conf/all/forwarding"] = "1"
        else:
            settings[f"net/ipv{version}/conf/{gateway.bridge}/forwarding"] = "0"
    return settings


def _write_file(path: Path, settings: dict[str, str]) -> None:
    """Whole or not at all; what is there is this network's, from an earlier attach."""
    if path.exists():
        return
    text = "# written by geneve-ovs\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
    new = _new(path)
    try:
        path.parent.mkdir(exist_ok=True)
        new.write_text(text, encoding="utf-8")
        new.rename(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise GeneveError(f"cannot write {path}: {error.strerror}") from error


def _path(bridge: str) -> Path:
    return Path(DIRECTORY, f"{PREFIX}{bridge}.conf")
