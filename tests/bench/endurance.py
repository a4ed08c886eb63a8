"""A helper that has served ten thousand requests, and one that nobody asks."""

from tests.e2e.fabric import Fabric
from tests.lab import Lab

from .common import definition, helper, measure, table

PAIRS = (500, 2000, 2500)  # setups and teardowns, 10,000 requests in all


def sections() -> dict[str, list[str]]:
    with Lab(hosts=1, name="endurance") as lab:
        (host,) = lab.hosts
        fabric = Fabric(lab.hosts)
        fabric.configure()
        fabric.create("geneve", "--subnet", "10.90.0.0/16")
        with helper(host):
            results = measure(host, "endurance", {"network": definition(host, "geneve"), "pairs": PAIRS})
    rows = [(f"{requests:,}", f"{memory:.1f}") for requests, memory in results["memory"]]
    idle = f"When nobody asks it takes {results['idle']:.2f} % of a core."
    return {"The helper": [*table(("requests served", "resident memory, MB"), *rows), "", idle]}
