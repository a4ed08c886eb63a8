"""`make bench`: what an attach costs beside netavark's own bridge, written to docs/performance.md.

Whole processes, netavark from spawn to exit, interleaved in one run. The machine's speed drifts, so the
ratios are worth more than the figures.
"""

import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.e2e.fabric import Fabric, run
from tests.e2e.wire import wait_until
from tests.lab import Host, Lab

COUNTS = (1, 200)
SOCKET = "/run/netavark-geneve/helper.sock"
ROUNDS = 20
ANSWERS = 100
REPORT = Path(__file__).parents[2] / "docs" / "performance.md"
WORKER = Path(__file__).with_name("worker.py")


def main() -> int:
    with Lab(hosts=2, name="bench") as lab:
        fabric = Fabric(lab.hosts)
        fabric.configure()
        fabric.create("geneve", "--subnet", "10.90.0.0/16", "--disable-dns")
        fabric.create("full", "--subnet", "10.92.0.0/16")
        podman_network = ("podman", "network", "create", "--subnet")
        lab.hosts[0].run(*podman_network, "10.91.0.0/16", "--disable-dns", "bridge-nv")
        lab.hosts[0].run(*podman_network, "10.93.0.0/16", "full-nv")
        remote = run(lab.hosts[1], "geneve", name="remote")
        versions = lab.hosts[0].sh("podman --version; /usr/lib/podman/netavark --version; ovs-vswitchd --version")
        helper = lab.hosts[0].popen("netavark-geneve", "helper")
        try:
            wait_until(
                lambda: lab.hosts[0].run("test", "-S", SOCKET, check=False).returncode == 0, "the helper to listen"
            )
            results = work(lab.hosts[0], remote.host, remote.address)
            status = "/proc/$(pgrep -o -f 'netavark-geneve helper')/status"
            memory = lab.hosts[0].sh(f"grep VmRSS {status}").stdout.split()[1]
        finally:
            helper.terminate()
            helper.wait(30)
        cores = lab.hosts[0].run("nproc").stdout.strip()
    kernel = platform.release().partition("-")[0]
    report = render(results, f"{cores} cores, Linux {kernel}", versions.stdout.splitlines(), int(memory))
    REPORT.write_text(report, encoding="utf-8")
    print(report)
    return 0


def work(host: Host, remote: Host, address: str) -> dict[str, Any]:
    definitions = {name: json.loads(host.read(f"/etc/containers/networks/{name}.json")) for name in NETWORKS}
    # The remote container's namespace, seen through its host's root file system, for the worker to enter.
    with open(f"/proc/{remote.pid}/root{remote.netns('remote')}") as netns:
        job = {
            "networks": definitions,
            "counts": COUNTS,
            "rounds": ROUNDS,
            "answers": ANSWERS,
            "remote": [netns.fileno(), address],
        }
        command = ("python3", "-c", WORKER.read_text(encoding="utf-8"), json.dumps(job))
        done = host.run(*command, timeout=1200, pass_fds=[netns.fileno()])
    return dict(json.loads(done.stdout))


NETWORKS = ("geneve", "bridge-nv", "full", "full-nv")
PAIRS = {"plain": ("geneve", "bridge-nv"), "names, two ports": ("full", "full-nv")}


def render(results: dict[str, Any], machine: str, versions: list[str], memory: int) -> str:
    rows = [
        "# Performance",
        "",
        "Written by `make bench`. " + CONDITIONS.format(machine=machine, versions=", ".join(versions[:3])),
        "",
        "## Setup and teardown",
        "",
        f"Medians of {ROUNDS} interleaved rounds, 95th percentile in parentheses, in milliseconds.",
        "",
        "| containers attached | network | call | with the helper | without | netavark bridge | ratio with | without |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in COUNTS:
        samples = results[str(count)]["samples"]
        for kind, (ours, theirs) in PAIRS.items():
            for verb in ("setup", "teardown"):
                warm, cold = samples[f"{verb} {ours} warm"], samples[f"{verb} {ours} cold"]
                bridge = samples[f"{verb} {theirs} warm"]
                ratios = [statistics.median(own) / statistics.median(bridge) for own in (warm, cold)]
                figures = " | ".join([*map(shown, (warm, cold, bridge)), *(f"{ratio:.2f}" for ratio in ratios)])
                rows.append(f"| {count} | {kind} | {verb} | {figures} |")
    rows += ["", f"The helper has {memory / 1024:.0f} MB resident after all of this."]
    rows += ["", "## Where a setup's time goes", "", STEPS, "", *steps(results)]
    rows += ["", "## First answer", "", ANSWERED.format(rounds=ANSWERS), ""]
    rows += ["| echo request | median | maximum | over 500 ms |", "|---|---|---|---|"]
    for direction, answers in results["answers"].items():
        stalls = sum(answer > 500 for answer in answers)
        rows.append(f"| {direction} | {statistics.median(answers):.1f} | {max(answers):.1f} | {stalls} |")
    return "\n".join(rows) + "\n"


def steps(results: dict[str, Any]) -> list[str]:
    rows = [
        "| containers attached | | whole | netavark, interpreter, client | imports | own work | Open vSwitch |",
        "|---|---|---|---|---|---|---|",
    ]
    medians: dict[str, list[tuple[float, float]]] = {"warm": [], "cold": []}
    for count in COUNTS:
        for way, found in results[str(count)]["steps"].items():
            whole = [step["whole"] for step in found]
            imports = [step["imports"] for step in found]
            switch = [step["ovsdb-server and ovs-vswitchd"] for step in found]
            own = [step["attach"] - step["ovsdb-server and ovs-vswitchd"] for step in found]
            rest = [step["whole"] - step["imports"] - step["attach"] for step in found]
            medians[way].append((statistics.median(whole), statistics.median(own)))
            label = {"warm": "with the helper", "cold": "without"}[way]
            rows.append(f"| {count} | {label} | " + " | ".join(map(shown, (whole, rest, imports, own, switch))) + " |")
    (first_whole, first_own), *_, (last_whole, last_own) = medians["warm"]
    growth = (
        f"With the helper, from {COUNTS[0]} to {COUNTS[-1]} attached containers the whole setup grows by"
        f" {last_whole - first_whole:.1f} ms, our own work by {last_own - first_own:.1f} ms."
    )
    return [*rows, "", growth]


def shown(samples: list[float]) -> str:
    return f"{statistics.median(samples):.1f} ({statistics.quantiles(samples, n=20)[-1]:.1f})"


CONDITIONS = """Real `netavark setup` and `netavark teardown`, from spawn to exit, {machine}, {versions}.
Open vSwitch runs its userspace datapath and one tunnel for each network. "Plain" is without DNS and ports; "names, two
ports" has Podman's default DNS (aardvark-dns, on both sides), and each container publishes two ports. netavark's bridge
is the one with nftables. Without the helper every call pays for Python and its libraries."""

STEPS = """Milliseconds, from the plugin's own debug log. "Own work" is everything between the end of the imports and
the answer, but for the wait until ovsdb-server and ovs-vswitchd have taken the change."""

ANSWERED = """Milliseconds from the return of `setup` to the first answered ICMP echo across the tunnel, {rounds}
rounds; in every round a new container takes the address that the one before has just given back. Alternately it sends
first and is sent to first. A request that found no way would be repeated after a second."""


if __name__ == "__main__":
    sys.exit(main())
