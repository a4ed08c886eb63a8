# SPDX-License-Identifier: Apache-2.0
"""Names of this host's containers, answered by an aardvark-dns of our own, never netavark's.

aardvark-dns knows a directory: a file for each network, in it a line for each container. It reads them when it
starts and on SIGHUP, and exits when there is none left. A file that it cannot parse it skips, and after a SIGHUP
it tells nobody: so what it would not understand never gets there.

All changes are made under a lock on the parent directory. New files are made there too, for whatever is in
aardvark's own directory counts as a network.
"""

import errno
import fcntl
import ipaddress
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from . import files
from .addresses import Address
from .errors import Deadline, GeneveError
from .log import logger
from .model import Line, Names

DIRECTORY = Path("/run/netavark-geneve/aardvark-dns")
PROGRAM = "aardvark-dns"
PID_FILE = "aardvark.pid"  # in DIRECTORY, written by aardvark-dns
INTERNAL = "%int"  # ends a file's name: nothing is asked of other servers for this network's containers
SEARCH_DOMAIN = "dns.podman"  # aardvark-dns answers below it, and never asks others about it
PORT_VARIABLE = "NETAVARK_DNS_PORT"  # dns_bind_port of containers.conf(5)
RELEASE = 0.5  # seconds for the kernel to take its sockets back from an instance that has just died
IN_USE = os.strerror(errno.EADDRINUSE)
PORT_DEFAULT = "53"
HELPER_VARIABLE = "CONTAINERS_HELPER_BINARY_DIR"  # Podman looks there first
HELPER_DIRECTORIES = (  # the default of helper_binaries_dir of containers.conf(5)
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
)
SYSTEMD = Path("/run/systemd/system")  # there when systemd is the init system: sd_booted(3)
EXIT_PATIENCE = 2.0  # seconds; it takes some milliseconds


def find_program(environ: Mapping[str, str]) -> str | None:
    """Podman's aardvark-dns, which distributions package apart from netavark; None when it is not installed."""
    directories = filter(None, (environ.get(HELPER_VARIABLE), *HELPER_DIRECTORIES))
    return files.find_program(PROGRAM, directories)


def port(environ: Mapping[str, str]) -> int:
    """Where the resolver listens: 53, unless dns_bind_port of containers.conf(5) says otherwise."""
    text = environ.get(PORT_VARIABLE, PORT_DEFAULT)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 2**16:
        raise GeneveError(f"{PORT_VARIABLE} is {text!r}, not a port; set dns_bind_port in containers.conf to 1…65535")
    return int(text)


def search_domains() -> tuple[str, ...]:
    """The domain below which a container looks up a short name first.

    Without it the container's resolver goes through the host's search domains before it asks for the bare
    name, and one that answers to any name hides the container. netavark returns it too, in every version but
    1.15.0; Podman then leaves the host's search domains out.
    """
    return (SEARCH_DOMAIN,)


def ensure_names(names: Names, program: str, environ: Mapping[str, str], deadline: Deadline) -> None:
    """Have the container's names answered; its line is taken back when aardvark-dns does not start."""
    header, entry, number = _header(names), _entry(names), port(environ)
    with _lock():
        others = [line for path in _paths(names.network) for line in _read(path)[1:]]
        others = [line for line in others if not _is_of(line, names.container_id)]
        _write(_path(names.network, internal=names.internal), [header, *others, entry])
        _path(names.network, internal=not names.internal).unlink(missing_ok=True)
        try:
            _ensure_running(program, number, environ, deadline)
        except GeneveError:
            _drop(names.network, names.container_id)
            _settle()
            raise


def remove_names(network: str, container_id: str) -> None:
    """Forget one container; with the last of all, the instance and the directories go too. Gone is fine."""
    if not DIRECTORY.parent.exists():
        return
    with _lock():
        _drop(network, container_id)
        _settle()


def replace_all(entries: Sequence[Names], program: str, environ: Mapping[str, str], deadline: Deadline) -> None:
    """Have the names of exactly these containers answered."""
    number = port(environ)
    wanted: dict[Path, list[str]] = {}
    for names in entries:
        path = _path(names.network, internal=names.internal)
        wanted.setdefault(path, [_header(names)]).append(_entry(names))
    with _lock():
        for path in _files():
            if path not in wanted:
                path.unlink()
        for path, lines in wanted.items():
            _write(path, lines)
        if wanted:
            _ensure_running(program, number, environ, deadline)
        else:
            _settle()


def find_lines() -> tuple[Line, ...]:
    """What the resolver is told of each container, of all networks; a file that names none is a line of its own."""
    found = []
    try:
        for path in sorted(_files()):
            entries = [line.split(" ") for line in _read(path)[1:]] or [[""]]
            found += [Line(_network(path), entry[0], entry[-1]) for entry in entries]
    except (OSError, ValueError) as error:
        raise GeneveError(f"cannot read the names of containers in {DIRECTORY}: {error}") from error
    return tuple(found)


def has_instance() -> bool:
    """Whether there is a resolver of ours, or at least the directory that it reads."""
    return DIRECTORY.exists()


def is_running() -> bool:
    """Whether the resolver answers for anybody."""
    return _find_instance() is not None


def find_unfinished() -> tuple[str, ...]:
    """A file that was being written when its writer was killed; or that is being written right now."""
    return tuple(str(path) for path in [_new()] if path.exists())


def remove_lines(find_stale: Callable[[Sequence[Line]], Iterable[Line]]) -> None:
    """Forget what `find_stale` names of all that the resolver is told; with the last of it the instance.

    It is asked under the lock: whoever starts a container right now comes after us.
    """
    if not DIRECTORY.parent.exists():
        return
    with _lock():
        for line in find_stale(find_lines()):
            _drop(line.network, line.container_id)
        _settle()


def _header(names: Names) -> str:
    """The first line: where to answer, and whom to ask about other names.

    An address of our own among the servers would have the resolver ask itself; it stands there when all hosts
    share a definition that names the resolver of one of them.
    """
    upstreams = [text for text in names.upstreams if _upstream(text) not in names.listen]
    listen = ",".join(str(address) for address in names.listen)
    return f"{listen} {','.join(upstreams)}" if upstreams else listen


def _upstream(text: str) -> Address:
    """aardvark-dns skips a network, with all its names, for one server that it cannot parse."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:
        raise GeneveError(
            f"DNS server {text!r} of the network is not an IP address; create the network with another --dns"
        )
    return address


def _entry(names: Names) -> str:
    """The container's line. It is never without a name: it also says that the network's rules hold for it."""
    carried = []
    for name in dict.fromkeys(names.names):
        if name and name.isprintable() and " " not in name and "," not in name:
            carried.append(name)
        else:
            logger.warning("ignoring the name %r: it is empty, or has a blank, a comma or a control character", name)
    lists = (
        [str(address) for address in names.addresses if address.version == 4],
        [str(address) for address in names.addresses if address.version == 6],
        carried or [names.container_id[:12]],
    )
    return " ".join((names.container_id, *(",".join(values) for values in lists)))


def _is_of(line: str, container_id: str) -> bool:
    return line.partition(" ")[0] == container_id


def _path(network: str, *, internal: bool) -> Path:
    """The network's file; Podman allows names with dots but none with "%"."""
    name = f"{network}%" if network == PID_FILE else network
    return DIRECTORY / (f"{name}{INTERNAL}" if internal else name)


def _paths(network: str) -> tuple[Path, Path]:
    return _path(network, internal=False), _path(network, internal=True)


def _network(path: Path) -> str:
    """Whose file it is."""
    return path.name.removesuffix(INTERNAL).removesuffix("%")


def _files() -> list[Path]:
    """The files of all networks."""
    try:
        return [path for path in DIRECTORY.iterdir() if path.name != PID_FILE]
    except FileNotFoundError:
        return []


def _read(path: Path) -> list[str]:
    """The lines of a network's file; none when there is no file."""
    try:
        return files.read(path).split("\n")[:-1]
    except FileNotFoundError:
        return []


def _new() -> Path:
    return DIRECTORY.with_name(f"{DIRECTORY.name}.new")


def _write(path: Path, lines: Sequence[str]) -> None:
    """Whole or not at all: aardvark-dns may be reading."""
    new = _new()
    files.create(new, "".join(f"{line}\n" for line in lines))
    new.replace(path)


def _drop(network: str, container_id: str) -> None:
    """Take a container's line out; a file without any other goes."""
    for path in _paths(network):
        lines = _read(path)
        kept = [line for line in lines if not _is_of(line, container_id)]
        if len(kept) <= 1:
            path.unlink(missing_ok=True)
        elif kept != lines:
            _write(path, kept)


def _settle() -> None:
    """Have what was removed forgotten; after the last network nothing of ours stays."""
    if _files():
        _reload()
        return
    _end()
    (DIRECTORY / PID_FILE).unlink(missing_ok=True)
    for directory in (DIRECTORY, DIRECTORY.parent):
        with suppress(OSError):  # something else is in it
            directory.rmdir()


def _ensure_running(program: str, port: int, environ: Mapping[str, str], deadline: Deadline) -> None:
    if not _reload():
        _start(program, port, environ, deadline)


def _reload() -> bool:
    """Have the instance read its directory again; False when none runs."""
    pid = _find_instance()
    return pid is not None and _signal(pid, signal.SIGHUP)


def _end() -> None:
    """See the instance off, which has no network left. It must be gone before another one wants its port."""
    pid = _find_instance()
    if pid is None:
        return
    for number in (signal.SIGHUP, signal.SIGTERM):
        if not _signal(pid, number) or _ends_within(pid, EXIT_PATIENCE):
            return


def _ends_within(pid: int, seconds: float) -> bool:
    patience = Deadline(seconds)
    while _is_instance(pid):
        if not patience.remaining():
            return False
        time.sleep(0.002)
    return True


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _find_instance() -> int | None:
    """Its process; None when it does not run. The number in the file may by now be somebody else's.

    Zero and negative numbers are many processes to kill(2), -1 all of them: they are no process here.
    """
    try:
        text = files.read(DIRECTORY / PID_FILE)
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) and _is_instance(int(text)) else None


def _is_instance(pid: int) -> bool:
    try:
        arguments = files.read_bytes(f"/proc/{pid}/cmdline").split(b"\0")
    except OSError:
        return False
    return os.path.basename(arguments[0]) == PROGRAM.encode() and arguments[1:3] == [b"--config", bytes(DIRECTORY)]


def _start(program: str, port: int, environ: Mapping[str, str], deadline: Deadline) -> None:
    """Start the instance and return when it listens. It keeps nothing of ours: no terminal, pipe or directory."""
    command = [program, "--config", str(DIRECTORY), "-p", str(port), "run"]
    systemd_run = files.find_program("systemd-run", environ.get("PATH", os.defpath).split(os.pathsep))
    if SYSTEMD.exists() and systemd_run:  # else it would end with the service that happened to start a container
        command = [systemd_run, "-q", "--scope", *command]
    patience = Deadline(RELEASE)
    while (reason := _run(command, environ, deadline)) and IN_USE in reason and patience.remaining():
        time.sleep(RELEASE / 10)
    if reason is not None:
        raise GeneveError(
            f"{PROGRAM} did not start: {reason}; see 'ss -lntup sport = :{port}' for a program that has its port,"
            " or create the network with --disable-dns"
        )


def _run(command: list[str], environ: Mapping[str, str], deadline: Deadline) -> str | None:
    """Run the command until its first process ends; None when that went well, else the reason."""
    import subprocess

    try:
        child = subprocess.Popen(
            command,
            cwd="/",
            env={**environ, "RUST_LOG": "warn"},  # to syslog
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    with child:
        try:
            if child.wait(max(1.0, deadline.remaining())) == 0:
                return None
            said = child.communicate(timeout=1)[1]
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            return "it did not finish in time"
    # The parent and the child that serves both write, in no order, sometimes into one line.
    lines = said.replace("Error from child process", "\n").splitlines()
    reasons = [line.removeprefix("Error starting server ").strip() for line in lines]
    return "; ".join(filter(None, reasons)) or "it gives no reason"


@contextmanager
def _lock() -> Iterator[None]:
    """One of us at a time, and DIRECTORY is there."""
    try:
        descriptor = _open_parent()
        try:
            files.make_directory(DIRECTORY)
            _new().unlink(missing_ok=True)  # of one who was killed: whoever writes has the lock
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise GeneveError(f"cannot keep the names of containers in {DIRECTORY}: {error.strerror}") from error


def _open_parent() -> int:
    """The parent directory, locked; once more when whom we waited for has removed it."""
    while True:
        files.make_directory(DIRECTORY.parent)
        try:
            descriptor = os.open(DIRECTORY.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
