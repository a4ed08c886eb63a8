"""What does not grow: a thousand containers on one host, 64 peers."""

import statistics

from tests.e2e.fabric import Fabric
from tests.lab import Host, Lab

from .common import PROGRAMS, definition, helper, measure, rival_programs, shown, table

COUNTS = (1, 1000)
PEERS = 64
ROUNDS = 32  # with 16 one machine said +4 and +18 ms of the same
REST = 1.0  # seconds before each call; beside a thousand ports ovs-vswitchd takes long over what the last one left
IPV4, IPV6 = ("--subnet", "10.64.0.0/11"), ("--subnet", "fd00:64::/64")
BOTH = (*IPV4, *IPV6)
FAMILIES = {
    "IPv4": IPV4,
    "IPv6": IPV6,
    "both": BOTH,
    "both, without conflict detection": (*BOTH, "--opt", "conflict_detection=false"),
}


def sections() -> dict[str, list[str]]:
    rows = [row for family, subnets in FAMILIES.items() for row in _rows(family, subnets)]
    head = ("network", "containers attached", "setup", "C floor that asks", "ours − it", "C floor", "ours − it")
    return {
        "A thousand containers, 64 peers": [
            TEXT.format(rounds=ROUNDS),
            "",
            *table((*head, "teardown", "ovs-vswitchd when idle"), *rows),
        ]
    }


def _rows(family: str, subnets: tuple[str, ...]) -> list[tuple[str, ...]]:
    with Lab(hosts=2, name="growth") as lab:
        host, other = lab.hosts
        know_peers(host, other)
        create = ("podman", "network", "create", "-d", "geneve-ovs", *subnets, "--opt", "slots=128", "geneve")
        host.run(*create)
        rival_programs(host)
        with helper(host):
            job = {
                "network": definition(host, "geneve"),
                "programs": PROGRAMS,
                "counts": COUNTS,
                "rounds": ROUNDS,
                "rest": REST,
            }
            results = measure(host, "growth", job)
    rows: list[tuple[str, ...]] = []
    for count in COUNTS:
        samples = results[str(count)]["samples"]
        figures = [shown(samples["setup ours"])]
        for floor in ("setup asking", "setup floor"):
            difference = statistics.median(samples["setup ours"]) - statistics.median(samples[floor])
            figures += [shown(samples[floor]), f"{difference:.1f}"]
        figures.append(shown(samples["teardown ours"]))
        rows.append((family, str(count), *figures, f"{results[str(count)]['idle']:.1f} % of a core"))
    return rows


def know_peers(host: Host, other: Host) -> None:
    """So many peers; one host answers for all of them, so that every tunnel leads somewhere."""
    peers = [f"192.168.100.{number}" for number in range(1, PEERS)]
    other.sh("for peer; do ip address add $peer/32 dev br-phy; done", *peers)
    host.run("ip", "route", "add", "192.168.100.0/24", "via", other.address)
    Fabric([host]).configure(hosts=[host.address, other.address, *peers])


TEXT = """Milliseconds, medians of {rounds} interleaved rounds, each call begun a second after the one before, with the
helper and with names. The C floor (one veth pair, one OVSDB transaction, the wait for ovs-vswitchd; always IPv4) shows
what Open vSwitch itself takes at that number of ports: it goes through all of its ports for each change, and for each
link of the host that appears. Both make the link when the port stands in the database, so that one round does for both;
should ovs-vswitchd hear of the link first, it is three. Ours asks besides whether somebody has the address, and that
goes to each port: with the userspace datapath, as here, it is ovs-vswitchd's main thread that sends it a thousand times
for each family before it turns to the change. What that takes shows the C floor that asks the same for the same
addresses; what is ours is the difference to it. Without conflict detection nobody asks, and it is that to the other."""
