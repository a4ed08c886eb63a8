"""When the first packet is answered of a container that Podman starts, whose first act is to send one."""

import subprocess
import time

from tests.e2e.fabric import IMAGE, Fabric, run
from tests.lab import Host, Lab

from .attach import answers_table
from .common import helper

COUNTS = (1, 40, 200)  # containers attached
ROUNDS = 200
REST = 0.2  # seconds before a container that is new
AT_ONCE = 4  # containers that are started at the same time when there are to be many
LOST = 3  # seconds; an ARP request is repeated after one, an echo request never
HELPERS = "/usr/lib/podman"
DIRECTORY = "/run/starts"
# Podman runs this one, which says when a setup has returned.
WRAPPER = f"""#!/bin/bash
{HELPERS}/netavark "$@"
status=$?
case "$*" in *" setup "*) echo $EPOCHREALTIME >{DIRECTORY}/returned; esac
exit $status
"""
INSTALL = f"""
mkdir -p {DIRECTORY}/bin
ln -s {HELPERS}/* {DIRECTORY}/bin
rm {DIRECTORY}/bin/netavark
cat >{DIRECTORY}/bin/netavark
chmod 755 {DIRECTORY}/bin/netavark
echo '[engine]
helper_binaries_dir = ["{DIRECTORY}/bin"]' >{DIRECTORY}/containers.conf
"""


def sections() -> dict[str, list[str]]:
    with Lab(hosts=2, name="starts") as lab:
        host, other = lab.hosts
        fabric = Fabric(lab.hosts)
        fabric.configure()
        fabric.create("geneve", "--subnet", "10.90.0.0/16")
        host.sh(INSTALL, input=WRAPPER)
        remote = run(other, "geneve", name="remote").address
        answers: dict[int, dict[str, list[float]]] = {}
        with helper(host):
            for index, count in enumerate(COUNTS):
                _fill(host, count)
                answers[count] = _answers(host, f"10.90.{8 + index}", remote)
    return {"First answer, by Podman": [TEXT, "", *answers_table(answers)]}


def _fill(host: Host, count: int) -> None:
    """Have so many containers."""
    more = count - len(host.run("podman", "ps", "-q").stdout.split())
    host.sh(f"seq {more} | xargs -P{AT_ONCE} -I@ podman run -d --network geneve {IMAGE} sleep inf", timeout=600)


def _answers(host: Host, prefix: str, remote: str) -> dict[str, list[float]]:
    """A container with an address that nobody had lately, and as soon as it is gone another with the same."""
    found: dict[str, list[float]] = {"first, from the container": [], "again, from the container": []}
    for number in range(1, ROUNDS + 1):
        time.sleep(REST)
        for times in found.values():
            times.append(_start(host, f"{prefix}.{number}", remote))
    return found


def _start(host: Host, address: str, remote: str) -> float:
    """Milliseconds from the return of setup until Podman says that the container was answered."""
    script = f"ping -c1 -W{LOST} {remote} >/dev/null && echo answered"
    command = ("podman", "run", "--rm", "--network", "geneve", "--ip", address, IMAGE, "sh", "-c", script)
    environ = {"CONTAINERS_CONF_OVERRIDE": f"{DIRECTORY}/containers.conf"}
    start = time.time()
    with host.popen(*command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout
        said, end = process.stdout.readline(), time.time()
    returned = float(host.read(f"{DIRECTORY}/returned"))
    assert start < returned < end, (start, returned, end)
    return (end - returned) * 1e3 if said == "answered\n" else LOST * 1e3


TEXT = f"""As `podman run` has it, with the helper, {ROUNDS} rounds: milliseconds from the return of `setup`
until Podman passes on that the container, which asks as its first act, was answered across the tunnel. Before it can
ask, its process has to be made, which takes most of this time."""
