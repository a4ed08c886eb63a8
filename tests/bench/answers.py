"""When the first packet of a container is answered, where the kernel forwards; in a virtual machine."""

import json

from .attach import answers_table
from .common import HERE
from .datapath import Bench, two_hosts

COUNT = 40  # containers attached
ROUNDS = 100
REMOTE = "10.90.16.2"  # the second host's first address
JOB = "/run/job"
FILES = "/etc/containers/networks"  # the first host's own; its /run is hidden from the machine
WORK = f"""
exec 9<"/proc/$(cat /run/hosts/1)/root/run/netns/remote"
exec nsenter --target="$(cat /run/hosts/0)" --net --mount -- sh -ec '
    netavark-geneve helper --idle 100000 & helper=$!
    until test -S /run/netavark-geneve/helper.sock; do sleep 0.1; done
    python3 {FILES}/worker.py answers "$(cat {FILES}/job)" || status=$?
    kill $helper
    exit ${{status:-0}}'
"""


def sections() -> dict[str, list[str]]:
    with two_hosts() as bench:
        for host in (0, 1):
            create = ("podman", "network", "create", "-d", "geneve-ovs", "--subnet", "10.90.0.0/16", "net1")
            bench.script("on", str(host), *create)
        bench.attach(1, "net1", "remote", REMOTE)
        answers = _measure(bench)
    return {"First answer, through the kernel": [TEXT, "", *answers_table({COUNT: answers})]}


def _measure(bench: Bench) -> dict[str, list[float]]:
    network = json.loads(bench.script("on", "0", "podman", "network", "inspect", "net1"))[0]
    job = {"network": network, "count": COUNT, "rounds": ROUNDS, "remote": [9, REMOTE]}
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in ("rivals/run.py", "worker.py"))
    for name, text in (("worker.py", script), ("job", json.dumps(job))):
        bench.script("on", "0", "sh", "-c", f"cat >{FILES}/{name}", input=text)
    said = bench.machine.run("bash", "-euc", WORK, timeout=3000.0).stdout
    return dict(json.loads(said.splitlines()[-1]))


TEXT = f"""The same in {ROUNDS} rounds, where the kernel forwards: two hosts in one virtual machine (see "The path of a
packet"). By its clock an attach takes some 200 ms, so compare only what is lost."""
