"""Kill a process at a numbered stop: just before or just after one of its system calls that others can notice.

Runs as a program on a host: each line of its standard input is a job, as JSON: the `command`, its standard `input`
and `environment`, the number of the `stop` (0: none, count them), and the `pid` of a running process to kill in place
of the command. With `fail` nothing is killed: stops are only system calls of that description, and the one at that
number fails; with an empty one they are all that can fail, to be listed.
Prints, as JSON, what became of it. A tracer (ptrace(2)), so that what is killed needs to know nothing of it.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

GETREGS, SETREGS, RAX, ORIG_RAX, REGISTERS = 12, 13, 10, 15, 27  # and struct user_regs_struct, sys/user.h
SEIZE, INTERRUPT, SYSCALL, LISTEN, GET_SYSCALL_INFO = 0x4206, 0x4207, 24, 0x4208, 0x420E  # linux/ptrace.h
TRACESYSGOOD, TRACECLONE, EXITKILL = 0x1, 0x8, 0x100000  # options; children that are no threads go their own way
EVENT_STOP = 128
SYSCALL_STOP = signal.SIGTRAP | 0x80
ENTRY, EXIT = 1, 2
WALL = 0x40000000  # wait for threads, too
O_WRONLY, O_RDWR, O_CREAT = 0o1, 0o2, 0o100
DEADLINE = 60  # seconds; SIGALRM then ends us, and EXITKILL what we trace

# What others can notice: it sends, writes, makes, renames, removes, starts and signals (x86-64, arch/x86/entry).
NUMBERS = {
    **{1: "write", 18: "pwrite64", 20: "writev", 44: "sendto", 46: "sendmsg", 307: "sendmmsg", 40: "sendfile"},
    **{16: "ioctl", 42: "connect", 49: "bind", 50: "listen", 48: "shutdown", 2: "open", 257: "openat", 85: "creat"},
    **{76: "truncate", 77: "ftruncate", 82: "rename", 264: "renameat", 316: "renameat2", 83: "mkdir", 258: "mkdirat"},
    **{84: "rmdir", 87: "unlink", 263: "unlinkat", 86: "link", 265: "linkat", 88: "symlink", 266: "symlinkat"},
    **{90: "chmod", 91: "fchmod", 268: "fchmodat", 92: "chown", 93: "fchown", 260: "fchownat"},
    **{56: "clone", 57: "fork", 58: "vfork", 435: "clone3", 59: "execve", 62: "kill", 200: "tkill", 234: "tgkill"},
    **{424: "pidfd_send_signal", 165: "mount", 166: "umount2", 60: "exit", 231: "exit_group"},
}
PRIVATE = {0x5401, 0x5421, 0x5451, 0x8933}  # TCGETS, FIONBIO, FIOCLEX, SIOCGIFINDEX: nobody else sees these of ioctl(2)
SENDS = {"sendto", "sendmsg"}  # the first of them is the first word to anybody outside

# How they fail, and by which numbers those are known that only the caller notices. Files are opened for reading, too.
FAILURES = {
    **dict.fromkeys(("socket", "accept4", "openat", "pipe2", "dup"), errno.EMFILE),
    **dict.fromkeys(("sendto", "sendmsg", "recvfrom", "recvmsg"), errno.ENOBUFS),
    **dict.fromkeys(("bind", "setsockopt", "listen"), errno.ENOMEM),
    **dict.fromkeys(("ioctl", "setns"), errno.EPERM),
    **dict.fromkeys(("clone", "clone3", "vfork", "fork"), errno.EAGAIN),
    **dict.fromkeys(("write", "writev", "mkdir", "rename"), errno.ENOSPC),
    **dict.fromkeys(("unlink", "rmdir"), errno.EROFS),
    **{"connect": errno.ECONNREFUSED, "flock": errno.ENOLCK, "kill": errno.EPERM},
}
OWN = {41: "socket", 288: "accept4", 293: "pipe2", 32: "dup", 45: "recvfrom", 47: "recvmsg", 54: "setsockopt"}
OWN |= {308: "setns", 73: "flock"}
BEGIN = {"socket", "accept4"}  # the first of them is the first thing of ours that can fail
# Files of the libraries, which are no step of ours; libuuid's are opened once by each thread.
LIBRARIES = ("/usr/", "/lib", "/opt/", "/etc/ld.so", "/proc/net/psched", "/var/lib/libuuid")


class Info(ctypes.Structure):
    """struct ptrace_syscall_info, as far as it is needed."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


@dataclass
class Trace:
    """Counts the stops of one process, all its threads together, in the order in which they come."""

    pid: int
    stop: int
    fail: str | None
    stops: list[str] = field(default_factory=list)
    inside: dict[int, str] = field(default_factory=dict)  # the call that each thread is in, or that fails
    begun: bool = False
    ended: bool = False

    def follow(self, thread: int, status: int) -> None:
        """What wait(2) says of one of the threads; on it goes, or it is killed."""
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.ended |= thread == self.pid
            return
        number, event = os.WSTOPSIG(status), status >> 16
        with contextlib.suppress(ProcessLookupError):  # it is being killed: wait(2) will tell
            if number == SYSCALL_STOP:
                self._count(thread)
            if event == EVENT_STOP and number != signal.SIGTRAP:
                request(LISTEN, thread)
            else:
                request(SYSCALL, thread, 0, 0 if event or number == SYSCALL_STOP else number)

    def _count(self, thread: int) -> None:
        info = Info()
        request(GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.byref(info))
        if self.fail is not None:
            self._fail(thread, info)
        elif info.op == ENTRY:
            name = noticeable(info)
            if name and (self.stops or name in SENDS):
                self.inside[thread] = name
                self._stop(f"before {name}")
        elif info.op == EXIT and thread in self.inside:
            self._stop(f"after {self.inside.pop(thread)}")

    def _fail(self, thread: int, info: Info) -> None:
        if info.op == EXIT and thread in self.inside:
            set_register(thread, RAX, -FAILURES[self.inside.pop(thread)])
        elif info.op == ENTRY:
            call = can_fail(info, thread)
            name = call.partition(" ")[0]
            self.begun |= name in BEGIN
            if call and self.begun and self.fail in ("", call):
                self.stops.append(call)
                if len(self.stops) == self.stop:
                    self.inside[thread] = name
                    set_register(thread, ORIG_RAX, -1)  # no such call: the kernel does nothing

    def _stop(self, point: str) -> None:
        self.stops.append(point)
        if len(self.stops) == self.stop:
            os.kill(self.pid, signal.SIGKILL)


def noticeable(info: Info) -> str | None:
    """The call's name, unless it only reads."""
    name = NUMBERS.get(info.number)
    if name == "ioctl":
        return None if info.arguments[1] in PRIVATE else name
    if name in ("open", "openat"):
        flags = info.arguments[1 if name == "open" else 2]
        return name if flags & (O_WRONLY | O_RDWR | O_CREAT) else None
    return name


def can_fail(info: Info, thread: int) -> str:
    """The call's name, if it is one of ours that can fail, and the file that it is about, numbers left out.

    To write to anything but a file is how threads wake each other, or the answer.
    """
    name = OWN.get(info.number) or NUMBERS.get(info.number)
    if name not in FAILURES or (name == "ioctl" and info.arguments[1] in PRIVATE):
        return ""
    path = ""
    if name in ("write", "writev", "flock"):
        path = os.readlink(f"/proc/{thread}/fd/{info.arguments[0]}")
    elif name in ("openat", "mkdir", "rename", "unlink", "rmdir"):
        path = text(thread, info.arguments[1 if name == "openat" else 0])
    is_ours = path.startswith(("/proc/", "/run/")) if name.startswith("write") else not path.startswith(LIBRARIES)
    return f"{name} {re.sub('[0-9]{2,}', '#', path)}".strip() if is_ours else ""


def text(thread: int, address: int) -> str:
    """A string of the process."""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return os.fsdecode(memory.read(256).partition(b"\0")[0])


def set_register(thread: int, number: int, value: int) -> None:
    registers = (ctypes.c_long * REGISTERS)()
    request(GETREGS, thread, 0, ctypes.byref(registers))
    registers[number] = value
    request(SETREGS, thread, 0, ctypes.byref(registers))


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def request(kind: int, thread: int, address: int = 0, data: object = None) -> None:
    if LIBC.ptrace(kind, thread, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {kind:#x}: {os.strerror(number)}")


def seize(thread: int, *, lives_on: bool) -> None:
    """Trace it from its next system call on."""
    request(SEIZE, thread, 0, TRACESYSGOOD | TRACECLONE | (0 if lives_on else EXITKILL))
    request(INTERRUPT, thread)


def main(job: dict[str, object]) -> dict[str, object]:
    """Run it; what has become of it."""
    assert platform.machine() == "x86_64", "system calls have other numbers here"
    signal.alarm(DEADLINE)
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(str(job["input"]))
        given.seek(0)
        other, fail = job.get("pid"), job.get("fail")
        if isinstance(other, int):
            for thread in os.listdir(f"/proc/{other}/task"):
                seize(int(thread), lives_on=fail is not None)
        reading, writing = os.pipe()
        command = ["sh", "-c", 'read _ <&"$1"; shift; exec "$@"', "sh", str(reading), *map(str, job["command"])]  # type: ignore[call-overload]
        environment = {**os.environ, **job["environment"]}  # type: ignore[dict-item]
        process = subprocess.Popen(command, stdin=given, stdout=out, stderr=err, env=environment, pass_fds=[reading])
        trace = Trace(other if isinstance(other, int) else process.pid, int(str(job["stop"])), fail)  # type: ignore[arg-type]
        if trace.pid == process.pid:
            seize(process.pid, lives_on=False)
        os.write(writing, b"\n")
        status = wait(trace, process.pid)
        signal.alarm(0)
        out.seek(0)
        err.seek(0)
        texts = {"stdout": out.read(), "stderr": err.read()}
    if not trace.ended and fail is None:
        os.kill(trace.pid, signal.SIGKILL)
    point = trace.stops[trace.stop - 1] if 0 < trace.stop <= len(trace.stops) else None
    return {"point": point, "stops": trace.stops, "status": os.waitstatus_to_exitcode(status), **texts}


def wait(trace: Trace, process: int) -> int:
    """Until the command has ended, and whom we were to kill."""
    ended = None
    while ended is None or (trace.fail is None and 0 < trace.stop <= len(trace.stops) and not trace.ended):
        thread, status = os.waitpid(-1, WALL)
        if thread == process and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            ended = status
        if thread != process or trace.pid == process:
            trace.follow(thread, status)
    return ended


def serve() -> None:
    """Each job in a process of its own, which lets go what it traces when it ends."""
    for line in sys.stdin:
        if not os.fork():
            print(json.dumps(main(json.loads(line))), flush=True)
            os._exit(0)
        if os.wait()[1]:
            sys.exit("the job failed")


if __name__ == "__main__":
    serve()
