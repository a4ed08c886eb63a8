"""A machine: processes with namespaces and a root file system of their own."""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .commands import Commands
from .errors import CommandError, LabError

HERE = Path(__file__).parent
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": os.environ.get("TERM", "dumb"),
}
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
START_TIMEOUT = 30.0
KILL_TIMEOUT = 15.0


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same number by its start time."""

    pid: int
    start: str

    @classmethod
    def read(cls, path: Path) -> Self:
        pid, start = path.read_text().split()
        return cls(int(pid), start)

    def alive(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        state, *fields = stat.rpartition(")")[2].split()
        return fields[18] == self.start and state != "Z"


def kill(processes: Iterable[Process]) -> None:
    """Kill them all at once, then wait until the last one is gone."""
    with ExitStack() as stack:
        handles = []
        for process in processes:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                stack.callback(os.close, handle)
                if process.alive():  # asked now that the handle cannot become another process's
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    handles.append(handle)
        deadline = time.monotonic() + KILL_TIMEOUT
        for handle in handles:
            if not select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
                raise LabError(f"something of the lab is still there {KILL_TIMEOUT:g} s after it was killed; try again")


class Popen(subprocess.Popen[str]):
    """A command on a machine: nsenter, and below it the leader of a process group."""

    def send_signal(self, sig: int) -> None:
        """Signal the command and not nsenter, whose orphan it would be, left to a stranger to reap."""
        if self.poll() is None:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            try:
                os.killpg(int(children[0]), sig)
            except (IndexError, ProcessLookupError):  # so early that there is no such group yet
                super().send_signal(sig)


@dataclass(frozen=True)
class Machine(Commands):
    """Its pid 1 holds the namespaces; killing that kills everything in them."""

    name: str
    init: Process

    @classmethod
    def find(cls, state: Path) -> "Machine":
        """The running machine with this directory."""
        return Machine(state.name, Process.read(state / "pid"))

    @property
    def pid(self) -> int:
        return self.init.pid

    def enter(self, *command: str) -> list[str]:
        """The command line that runs `command` on this machine."""
        if not self.init.alive():
            raise LabError(f"{self.name} is not running any more; take the lab down and up again")
        return ["nsenter", f"--target={self.pid}", *NAMESPACES, "--net", "--", *command]

    def popen(self, *command: str, env: Mapping[str, str] | None = None, **options: Any) -> Popen:
        """Start a command; standard input is empty unless said otherwise."""
        options = {"stdin": subprocess.DEVNULL, "text": True, "errors": "replace", **options}
        # Both nsenter and the command in groups of their own: Ctrl-C on our terminal is for us alone.
        argv = self.enter("setsid", *command)
        return Popen(argv, env={**ENVIRONMENT, **(env or {})}, process_group=0, **options)

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a failing one raises an error that shows all of it."""
        pipe = subprocess.PIPE
        options |= {"stdin": subprocess.DEVNULL if input is None else pipe, "stdout": pipe, "stderr": pipe}
        with self.popen(*command, env=env, **options) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except subprocess.TimeoutExpired as error:
                stdout, stderr = _kill_and_drain(process)
                what = f"did not finish within {timeout:g} s"
                raise CommandError(self.name, command, what, stdout, stderr) from error
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            raise CommandError(self.name, command, f"exited with {process.returncode}", stdout, stderr)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _kill_and_drain(process: Popen) -> tuple[str, str]:
    """What a command had said before it was killed, however many of its children keep the pipes open."""
    process.kill()
    try:
        return process.communicate(timeout=1)
    except subprocess.TimeoutExpired as error:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
        return _text(error.stdout), _text(error.stderr)


def _text(output: bytes | str | None) -> str:
    """Output of a timed-out process: bytes even in text mode."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


class Starting:
    """A machine on its way up; `wait()` gives the machine, `abort()` leaves nothing of it."""

    def __init__(
        self,
        state: Path,
        lower: str,
        command: tuple[str, ...],
        binds: Mapping[Path, str] | None = None,
        network: bool = True,
    ) -> None:
        self.state = state
        state.mkdir()
        unshare = ["unshare", *NAMESPACES, *(["--net"] * network)]
        shell = ["sh", str(HERE / "root.sh"), str(state), lower, state.name]
        lines = "".join(f"{source}\t{destination}\n" for source, destination in (binds or {}).items())
        with (state / "log").open("w") as log:
            self.process = subprocess.Popen(
                # --kill-child: whoever kills unshare, before the pid of its child is known, kills the child.
                [*unshare, "--fork", "--kill-child", "--", *shell, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**ENVIRONMENT, "BINDS": lines},
                start_new_session=True,
                text=True,
            )

    def wait(self) -> Machine:
        """Wait until the root is in place."""
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT)
        if not ready or self.process.stdout.readline() != "ready\n":
            raise LabError(f"{self.state.name} did not start: {self.log() or 'no reason given'}")
        self.process.stdout.close()
        return Machine.find(self.state)

    def log(self) -> str:
        return (self.state / "log").read_text(errors="replace").strip()

    def abort(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.state)
