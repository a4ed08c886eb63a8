"""A virtual machine: QEMU without hardware help, a disk of its own, and an agent that takes commands."""

import base64
import json
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.lab.commands import Commands
from tests.lab.errors import CommandError, LabError
from tests.lab.rootfs import need
from tests.lab.signals import terminable

from .image import DISK, KERNEL, image

Result = TypeVar("Result")

# Far more than it takes: the machine may be busy, and whoever measures on it may stop us for minutes.
BOOT_TIMEOUT = 900.0
TIMEOUT = 600.0
KILL_TIMEOUT = 30.0
ATTEMPT = 5.0
# QEMU 7.2 has a bug in cmpxchg16b that 6.12 trips over; the others are slow to emulate, or unused.
CPU = "max,la57=off,cx16=off,svm=off,erms=off"
MEMORY = 1024
WITH_US = ("setpriv", "--pdeathsig", "KILL")  # so that nothing outlives a test run that is killed
CLOCK = ("-accel", "tcg,thread=multi")
CMDLINE = (
    *("root=/dev/nvme0n1", "rw", "rootfstype=ext4", "net.ifnames=0", "console=ttyS0", "quiet", "TERM=dumb"),
    *("mitigations=off", "nokaslr", "audit=0", "random.trust_cpu=on", "init_on_alloc=0", "clearcpuid=rep_good"),
    *("systemd.show_status=0", "systemd.gpt_auto=0"),
)
# A switch in a network namespace of its own, with an interface for each machine that keeps segments whole and leaves
# checksums to whoever needs them: so the machines' NICs have offloads.
UNDERLAY = """
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link add underlay type bridge
ip link set underlay up
for machine in "$@"; do
    ip tuntap add "$machine" mode tap vnet_hdr
    ip link set "$machine" master underlay up
done
echo ready
exec sleep infinity
"""


class VirtualMachine(Commands):
    """It has a disk from the beginning, and power between `power_on()` and `power_off()`."""

    def __init__(self, image: Path, directory: Path, index: int, underlay: int, clock: Sequence[str]) -> None:
        self.name = f"host{index}"
        self.address = f"192.168.0.{10 + index}"
        self.image = image
        self.directory = directory
        self.index = index
        self.underlay = underlay
        self.clock = clock
        self.process: subprocess.Popen[bytes] | None = None
        self.boot_id = ""
        self._one_at_a_time = threading.Lock()
        call = ("cp", "--sparse=always", str(image / DISK), str(directory / self._file("disk")))
        subprocess.run(call, check=True)

    def power_on(self) -> None:
        """Switch it on; `wait_for_boot()` waits until it is of use."""
        for name in ("agent", "qmp"):
            (self.directory / self._file(name)).unlink(missing_ok=True)
        with (self.directory / self._file("console")).open("ab") as console:
            self.process = subprocess.Popen(
                [*WITH_US, "nsenter", f"--net=/proc/{self.underlay}/ns/net", "nice", "-n10", *self._qemu()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self.directory,
                start_new_session=True,
            )

    def power_off(self) -> None:
        """Pull the plug: what it had not yet written to its disk is lost."""
        if self.process:
            self.process.kill()
            self.process.wait(KILL_TIMEOUT)
            self.process = None

    def wait_for_boot(self) -> None:
        """Wait until a boot that was not there before takes commands."""
        before, deadline = self.boot_id, time.monotonic() + BOOT_TIMEOUT
        while self.boot_id in ("", before):
            if time.monotonic() > deadline or not self.process or self.process.poll() is not None:
                raise LabError(f"{self.name} does not boot; its console says:\n{self._console()}")
            try:
                self.boot_id = self._call(["cat", "/proc/sys/kernel/random/boot_id"], b"", ATTEMPT)["stdout"].strip()
            except OSError:
                time.sleep(0.2)

    def wait_until_up(self) -> None:
        """Wait for the boot's end; every unit of it must have started."""
        state = self.run("systemctl", "is-system-running", "--wait", timeout=BOOT_TIMEOUT, check=False).stdout.strip()
        if state != "running":
            failed = self.run("systemctl", "--failed", "--no-legend", "--plain").stdout
            raise LabError(f"{self.name} is {state} after its boot:\n{failed}")

    def reboot(self) -> None:
        """Have systemd do it; `wait_for_boot()` waits for the result."""
        self.run("systemctl", "reboot", "--no-block")

    def cable(self, plugged: bool) -> None:
        """Plug the underlay's cable in or pull it out."""
        self._monitor("set_link", name="underlay", up=plugged)

    def run(
        self, *command: str, check: bool = True, timeout: float = TIMEOUT, input: str | bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, one at a time; a failing one raises an error that shows all of it."""
        data = input.encode() if isinstance(input, str) else input or b""
        try:
            reply = self._call(list(command), data, timeout)
        except OSError as error:
            raise CommandError(self.name, command, f"got no answer: {error}", "", self._console()) from error
        done = subprocess.CompletedProcess(command, reply["status"], reply["stdout"], reply["stderr"])
        if done.returncode is None:
            raise CommandError(self.name, command, f"did not finish within {timeout:g} s", done.stdout, done.stderr)
        if check and done.returncode:
            raise CommandError(self.name, command, f"exited with {done.returncode}", done.stdout, done.stderr)
        return done

    def put(self, source: Path, destination: str) -> None:
        """Copy a file into the machine, over the wire that commands go."""
        self.run("dd", f"of={destination}", "status=none", input=source.read_bytes())

    def _call(self, command: list[str], data: bytes, timeout: float) -> dict[str, Any]:
        """One request to the agent, and its reply."""
        identity, text = uuid.uuid4().hex, base64.b64encode(data).decode()
        request = {"id": identity, "command": command, "input": text, "timeout": timeout}
        deadline = time.monotonic() + timeout + ATTEMPT
        with self._one_at_a_time, socket.socket(socket.AF_UNIX) as port:
            port.settimeout(ATTEMPT)
            port.connect(str(self.directory / self._file("agent")))
            port.sendall(json.dumps(request).encode() + b"\n")
            received = b""
            while True:
                port.settimeout(max(0.01, deadline - time.monotonic()))
                if not (more := port.recv(1 << 16)):
                    raise ConnectionResetError("the machine is off")
                *lines, received = (received + more).split(b"\n")
                for line in lines:  # others are of requests that were given up
                    if identity.encode() in line:
                        return dict(json.loads(line[line.index(b"{") :]))

    def _monitor(self, command: str, **arguments: Any) -> None:
        """One command to QEMU itself."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(KILL_TIMEOUT)
            connection.connect(str(self.directory / self._file("qmp")))
            with connection.makefile("rw") as lines:
                for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    while not {"return", "error"} & (reply := json.loads(lines.readline())).keys():
                        pass
                    if "error" in reply:
                        raise LabError(f"QEMU does not do {command} for {self.name}: {reply['error']['desc']}")

    def _qemu(self) -> list[str]:
        """The command line; paths are short, relative to the directory: those of sockets have 107 bytes at most."""
        address = 10 + self.index
        identity = (f"systemd.hostname={self.name}", f"systemd.machine_id={address:032x}")
        return [
            *("qemu-system-x86_64", "-name", self.name, "-machine", "pc", *self.clock, "-cpu", CPU),
            *("-smp", "1", "-m", str(MEMORY), "-nodefaults", "-no-user-config", "-display", "none"),
            *("-chardev", f"file,id=console,path={self._file('console')},append=on", "-serial", "chardev:console"),
            *("-kernel", str(self.image / KERNEL), "-append", " ".join((*CMDLINE, *identity))),
            *("-drive", f"file={self._file('disk')},if=none,id=disk,format=raw,cache=unsafe"),
            *("-device", "nvme,drive=disk,serial=disk", "-device", "virtio-rng-pci"),
            *("-netdev", f"tap,id=underlay,ifname={self.name},script=no,downscript=no,vhost=off"),
            *("-device", f"virtio-net-pci,netdev=underlay,romfile=,mac=52:54:00:00:00:{address:02x}"),
            *("-chardev", f"socket,id=agent,path={self._file('agent')},server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"),
            *("-qmp", f"unix:{self._file('qmp')},server=on,wait=off"),
        ]

    def _file(self, name: str) -> str:
        return f"{name}{self.index}"

    def _console(self) -> str:
        return (self.directory / self._file("console")).read_text(errors="replace")[-2000:]


@contextmanager
def machines(count: int, clock: Sequence[str] = CLOCK) -> Iterator[list[VirtualMachine]]:
    """So many machines that have booted; nothing is left of them afterwards."""
    need("qemu-system-x86_64", "qemu-system-x86")
    need("ip", "iproute2")
    disk_and_kernel = image()
    with terminable(), tempfile.TemporaryDirectory(prefix="vm-") as directory, _underlay(count) as underlay:
        running = [VirtualMachine(disk_and_kernel, Path(directory), index, underlay, clock) for index in range(count)]
        try:
            for machine in running:
                machine.power_on()
            each(running, VirtualMachine.wait_for_boot)
            each(running, VirtualMachine.wait_until_up)
            yield running
        finally:
            for machine in running:
                machine.power_off()


@contextmanager
def _underlay(count: int) -> Iterator[int]:
    """The machines' switch; the number of the process that holds its namespace."""
    names = (f"host{index}" for index in range(count))
    command = (*WITH_US, "unshare", "--net", "sh", "-ec", UNDERLAY, "sh", *names)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise LabError("the underlay of the virtual machines cannot be made; the reason is above")
            yield process.pid
        finally:
            process.kill()


def each(running: Sequence[VirtualMachine], action: Callable[[VirtualMachine], Result]) -> list[Result]:
    """Do it on all of them side by side; results in their order."""
    with ThreadPoolExecutor(len(running)) as pool:
        return list(pool.map(action, running))
