"""What the parts of the benchmark share: hosts that are ready, and figures as text."""

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.wire import wait_until
from tests.lab import Host

from .rivals import build

HERE = Path(__file__).parent
SOCKET = "/run/netavark-geneve/helper.sock"
PROGRAMS = "/run/rivals"
WORKER = "/run/bench-worker.py"
TIMEOUT = 3000.0  # seconds for one part


@contextmanager
def helper(host: Host) -> Iterator[None]:
    """A warm helper that listens."""
    process = host.popen("netavark-geneve", "helper", "--idle", "100000")
    try:
        wait_until(lambda: host.run("test", "-S", SOCKET, check=False).returncode == 0, "the helper to listen")
        yield
    finally:
        process.terminate()
        process.wait(60)


def measure(host: Host, part: str, job: dict[str, Any], pass_fds: tuple[int, ...] = ()) -> dict[str, Any]:
    """Have the worker do it, on the host itself."""
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in ("rivals/run.py", "worker.py"))
    host.write(WORKER, script)
    done = host.run("python3", WORKER, part, json.dumps(job), timeout=TIMEOUT, pass_fds=pass_fds)
    return dict(json.loads(done.stdout))


def rival_programs(host: Host) -> bool:
    """Put the rivals' programs on the host; whether ovs-cni is among them."""
    directory = Path(f"/proc/{host.pid}/root{PROGRAMS}")
    build.programs(directory)
    return build.ovs_cni(directory) is not None


def definition(host: Host, network: str) -> dict[str, Any]:
    return dict(json.loads(host.read(f"/etc/containers/networks/{network}.json")))


def shown(samples: list[float]) -> str:
    """Median, and the 95th percentile in parentheses."""
    return f"{statistics.median(samples):.1f} ({statistics.quantiles(samples, n=20)[-1]:.1f})"


def ratio(samples: list[float], others: list[float]) -> str:
    return f"{statistics.median(samples) / statistics.median(others):.2f}"


def table(*rows: tuple[str, ...]) -> list[str]:
    """A Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *body]
