"""What an attach costs, beside netavark's own bridge and others; where its time goes; when a packet is answered.

Whole processes, netavark from spawn to exit, interleaved in one run. The machine's speed drifts, so the
ratios are worth more than the figures.
"""

import statistics
from collections.abc import Mapping
from typing import Any

from tests.e2e.fabric import Fabric, run
from tests.lab import Lab

from .common import PROGRAMS, definition, helper, measure, ratio, rival_programs, shown, table

COUNTS = (1, 40, 200)
ROUNDS = 24
ANSWERS = 200
LOST = 1000.0  # milliseconds; an ARP request is repeated then, an echo request never
BESIDE = 40  # containers; the count at which others are shown
WAYS = {"warm": "with the helper", "cold": "without"}


def sections() -> dict[str, list[str]]:
    with Lab(hosts=2, name="bench") as lab:
        fabric = Fabric(lab.hosts)
        host, other = lab.hosts
        fabric.configure()
        fabric.create("geneve", "--subnet", "10.90.0.0/16")
        host.run("podman", "network", "create", "--subnet", "10.91.0.0/16", "plain")
        remote = run(other, "geneve", name="remote")
        # The remote container's namespace, seen through its host's root file system, for the worker to enter.
        with helper(host), open(f"/proc/{other.pid}/root{other.netns('remote')}") as netns:
            job = {
                "networks": [definition(host, "geneve"), definition(host, "plain")],
                "programs": PROGRAMS,
                "ovs_cni": rival_programs(host),
                "counts": COUNTS,
                "rounds": ROUNDS,
                "answers": ANSWERS,
                "remote": [netns.fileno(), remote.address],
            }
            results = measure(host, "attach", job, (netns.fileno(),))
    return {
        "Setup and teardown": [CONDITIONS.format(rounds=ROUNDS), "", *_verbs(results)],
        "Beside others": [BESIDE_OTHERS.format(count=BESIDE), "", *_others(results[str(BESIDE)]["samples"])],
        "First answer": [
            ANSWERED.format(rounds=ANSWERS),
            "",
            *answers_table({count: results[str(count)]["answers"] for count in COUNTS}),
        ],
    }


def _verbs(results: dict[str, Any]) -> list[str]:
    head = ("containers attached", "published", "call", *WAYS.values(), "netavark bridge", "ratio with", "without")
    rows = []
    for count in COUNTS:
        samples = results[str(count)]["samples"]
        for label, published in (("", "nothing"), (" ports", "two ports")):
            for verb in ("setup", "teardown"):
                warm, cold, bridge = (samples[f"{verb} {way}{label}"] for way in ("warm", "cold", "bridge"))
                figures = (*map(shown, (warm, cold, bridge)), ratio(warm, bridge), ratio(cold, bridge))
                rows.append((str(count), published, verb, *figures))
    return table(head, *rows)


def _others(samples: dict[str, list[float]]) -> list[str]:
    names = {"bridge": "netavark bridge", "warm": "geneve-ovs with the helper", "cold": "geneve-ovs without"}
    labels = [name.removeprefix("setup ") for name in samples if name.startswith("setup ") and "ports" not in name]
    rows = []
    for label in sorted(labels, key=lambda label: statistics.median(samples[f"setup {label}"])):
        setup, teardown = samples[f"setup {label}"], samples[f"teardown {label}"]
        ratios = (ratio(setup, samples["setup bridge"]), ratio(teardown, samples["teardown bridge"]))
        rows.append((names.get(label, label), shown(setup), ratios[0], shown(teardown), ratios[1]))
    return table(("as run", "setup", "× netavark bridge", "teardown", "×"), *rows)


def answers_table(answers: Mapping[int, Mapping[str, list[float]]]) -> list[str]:
    """By the number of containers that are attached."""
    rows = []
    for count, samples in answers.items():
        for label, times in samples.items():
            high = statistics.quantiles(times, n=100, method="inclusive")[-1]
            figures = (f"{figure:.1f}" for figure in (statistics.median(times), high, max(times)))
            rows.append((str(count), label, *figures, f"{sum(time >= LOST for time in times)} of {len(times)}"))
    head = ("containers attached", "attach and echo request", "median", "99th percentile", "maximum", "lost")
    return table(head, *rows)


CONDITIONS = """Medians of {rounds} interleaved rounds, 95th percentile in parentheses, in milliseconds. Real `netavark
setup` and `netavark teardown`, from spawn to exit, each begun 0.2 s after the call before, of one container beside so
many that are attached, every time with another address, as Podman gives them. Both networks are as `podman network
create` makes them: with names (aardvark-dns) and nftables. Open vSwitch runs its userspace datapath and one tunnel.
Without the helper every call pays for Python and its libraries."""

BESIDE_OTHERS = """The same rounds, {count} containers attached, nothing published. None of the others has names,
a packet filter or a look at whether the address is free. The C floor makes the veth pair by raw netlink, the port by
one OVSDB transaction, and waits for ovs-vswitchd; its teardown waits for ovs-vswitchd and then for the kernel, which
we do not. ovs-cni is there when `OVS_CNI_DIRECTORY` names a directory with its program and the CNI project's
`static`."""

ANSWERED = """Milliseconds from the return of `setup` to the first answered ICMP echo across the tunnel, in {rounds}
rounds. In each a container comes with an address that nobody had lately, and as soon as it is gone another with the
same. In half of the rounds it sends first, in the others it is sent to. A request that found no way would be repeated
after a second. In that moment a container that Podman starts has no process yet that could ask, see "First answer, by
Podman".

What is lost here is not the container's alone. This is the userspace datapath: after each change of a link of the host,
whoever's it is, ovs-vswitchd reads all routes anew, and what arrives through any tunnel meanwhile, some milliseconds
with 40 ports, goes to the host, which refuses it (`udp port 6081 unreachable`). The kernel's datapath has no such gap,
see below."""
