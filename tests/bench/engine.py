"""What Podman's user waits for: `podman run`, one at a time and many at once."""

import statistics
import time
from collections.abc import Callable

from tests.e2e.fabric import IMAGE, Fabric
from tests.lab import Host, Lab

from .common import helper, shown, table

ROUNDS = 20
AT_ONCE = 100
ALTERNATIONS = 5
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
            alone = _interleaved(host, _run, ROUNDS)
            many = _interleaved(host, _run_many, ALTERNATIONS)
            for network in NETWORKS.values():
                host.run("podman", "run", "-d", "--network", network, IMAGE, "sleep", "inf")
            beside = _interleaved(host, _run, ROUNDS)
    rows = []
    for name in NETWORKS:
        seconds = [milliseconds / 1e3 for milliseconds in many[name]]
        times = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        single = (figure for runs in (beside, alone) for figure in (shown(runs[name]), _share(runs, name)))
        rows.append((name, *single, times))
    head = ("network", "beside another, ms", "the network's share", "as the first, ms", "the network's share")
    return {
        "Through Podman": [TEXT.format(alternations=ALTERNATIONS), "", *table((*head, f"{AT_ONCE} at once, s"), *rows)]
    }


def _interleaved(host: Host, run: Callable[[Host, str], float], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for _ in range(rounds):
        for name, network in NETWORKS.items():
            found[name].append(run(host, network))
    return found


def _share(runs: dict[str, list[float]], name: str) -> str:
    return f"{statistics.median(runs[name]) - statistics.median(runs['none']):.0f}"


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
and 95th percentile of 20, on a network that another container of the host is on, and as its first and only one, which
makes the bridge and takes it away again; the network's share is what it takes more than with `--network none`. A
hundred containers started at the same moment on one host, which keeps both cores busy: seconds until all run, median
and range of {alternations} alternations."""
