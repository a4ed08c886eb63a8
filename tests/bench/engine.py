"""What Podman's user waits for: `podman run`, one at a time and many at once."""

import statistics
import time

from tests.e2e.fabric import IMAGE, Fabric
from tests.lab import Host, Lab

from .common import helper, shown, table

ROUNDS = 20
AT_ONCE = 100
ALTERNATIONS = 2
NETWORKS = {"none": "none", "bridge": "plain", "geneve-ovs": "geneve"}
TIMEOUT = 600.0


def sections() -> dict[str, list[str]]:
    with Lab(hosts=2, name="engine") as lab:
        host = lab.hosts[0]
        fabric = Fabric(lab.hosts)
        fabric.configure()
        fabric.create("geneve", "--subnet", "10.90.0.0/16")
        host.run("podman", "network", "create", "--subnet", "10.91.0.0/16", "plain")
        with helper(host):
            single: dict[str, list[float]] = {name: [] for name in NETWORKS}
            many: dict[str, list[float]] = {name: [] for name in NETWORKS}
            for _ in range(ROUNDS):
                for name, network in NETWORKS.items():
                    single[name].append(_run(host, network))
            for _ in range(ALTERNATIONS):
                for name, network in NETWORKS.items():
                    many[name].append(_run_many(host, network))
    base = statistics.median(single["none"])
    rows = []
    for name in NETWORKS:
        share = statistics.median(single[name]) - base
        seconds = [milliseconds / 1e3 for milliseconds in many[name]]
        times = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        rows.append((name, shown(single[name]), f"{share:.0f}", times))
    head = ("network", "`podman run --rm`, ms", "the network's share, ms", f"{AT_ONCE} at once, s")
    return {"Through Podman": [TEXT, "", *table(head, *rows)]}


def _run(host: Host, network: str) -> float:
    time.sleep(0.5)
    start = time.perf_counter()
    host.run("podman", "run", "--rm", "--network", network, IMAGE, "true")
    return (time.perf_counter() - start) * 1e3


def _run_many(host: Host, network: str) -> float:
    """Milliseconds until so many containers run that were started at the same time."""
    script = f"seq {AT_ONCE} | xargs -P {AT_ONCE} -I@ podman run -d --network {network} {IMAGE} sleep inf >/dev/null"
    start = time.perf_counter()
    host.sh(script, timeout=TIMEOUT)
    elapsed = (time.perf_counter() - start) * 1e3
    host.sh("podman rm -fa -t0 >/dev/null", timeout=TIMEOUT)
    return elapsed


TEXT = """Interleaved in one run, with the helper. `podman run --rm` of a trivial container from start to end, median
and 95th percentile of 20; the network's share is what it takes more than with `--network none`. A hundred containers
started at the same moment on one host: seconds until all run, mean and range of two alternations."""
