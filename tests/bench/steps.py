"""Where a setup's time goes."""

from tests.e2e.fabric import Fabric
from tests.lab import Lab

from .attach import COUNTS, WAYS
from .common import definition, helper, measure, shown, table

ROUNDS = 20


def sections() -> dict[str, list[str]]:
    with Lab(hosts=2, name="steps") as lab:
        fabric = Fabric(lab.hosts)
        fabric.configure()
        fabric.create("geneve", "--subnet", "10.90.0.0/16")
        host = lab.hosts[0]
        with helper(host):
            job = {"network": definition(host, "geneve"), "counts": COUNTS, "rounds": ROUNDS}
            results = measure(host, "steps", job)
    parts = ("whole", "outside", "imports", "own", "switch")
    rows = []
    for count in COUNTS:
        for way, label in WAYS.items():
            found = results[str(count)][way]
            rows.append((str(count), label, *(shown([step[part] for step in found]) for part in parts)))
    head = ("containers attached", "", "whole", "netavark, interpreter, client", "imports", "own work", "Open vSwitch")
    return {"Where a setup's time goes": [TEXT, "", *table(head, *rows)]}


TEXT = """Milliseconds, from the plugin's own debug log, every time with another address. "Own work" is everything
between the end of the imports and the answer, but for the wait until ovsdb-server and ovs-vswitchd have taken the
change. Published ports are opened meanwhile, and on a bridge with twenty ports or more the links are made."""
