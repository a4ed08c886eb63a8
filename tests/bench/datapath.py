"""What the path of a packet costs: instructions of a kernel, counted in a virtual machine."""

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.vm.fabric import CONFIG, install, package
from tests.vm.machine import VirtualMachine, machines

from .common import table

# Time in there is instructions executed, two nanoseconds each, and idle time is skipped.
CLOCK = ("-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off,align=off")
SCRIPT = (Path(__file__).parent / "datapath.sh").read_text(encoding="utf-8")
ADDRESSES = ("192.168.0.10", "192.168.0.11")
TABLE = "table inet netavark_geneve"
ROUNDS = 3
SECONDS = 2
PINGS = 200
# By layout, the addresses of two guests of the first host, and of one of the second.
GUESTS = {
    "plugin": ("10.9.0.2", "10.9.0.3", "10.9.0.34"),
    "manual": ("10.8.0.1", "10.8.0.2", "10.8.0.3"),
    "vxlan": ("10.7.0.1", "10.7.0.2", "10.7.0.3"),
}
HOSTS = (0, 0, 1)
BARE, NOTHING = "plugin without its rules", "plugin without any rules"
PLACES = {"across hosts": 2, "on one host": 1}  # which guest is the client of the first one


@dataclass(frozen=True)
class Bench:
    """The machine with two hosts in it."""

    machine: VirtualMachine

    def script(self, function: str, *arguments: str, input: str | None = None) -> str:
        """Call a function of datapath.sh."""
        return self.machine.run("bash", "-c", SCRIPT, "datapath.sh", function, *arguments, input=input).stdout

    def inside(self, layout: str, guest: int, *command: str) -> str:
        """Run a command in a guest."""
        netns = f"--net=/run/netns/{layout}{guest}"
        return self.script("on", str(HOSTS[guest]), "nsenter", netns, "--", *command)

    def attach(self, host: int, network: str, guest: str, address: str) -> None:
        """Make a guest, and have netavark attach it."""
        self.script("guest", str(host), guest)
        definition = json.loads(self.script("on", str(host), "podman", "network", "inspect", network))[0]
        request = {
            "container_id": hashlib.sha256(guest.encode()).hexdigest(),
            "container_name": guest,
            "networks": {network: {"static_ips": [address], "interface_name": "eth0"}},
            "network_info": {network: definition},
        }
        netavark = ("env", "NETAVARK_FW=nftables", "/usr/lib/podman/netavark", "--config", "/run/netavark")
        options = ("--rootless", "false", "--plugin-directory", "/usr/libexec/netavark")
        setup = (*netavark, *options, "setup", f"/run/netns/{guest}")
        self.script("on", str(host), *setup, input=json.dumps(request))


def sections() -> dict[str, list[str]]:
    with _bench() as bench:
        figures = _measure(bench)
    return {"The path of a packet": [TEXT, "", *_table(figures)]}


@contextmanager
def two_hosts() -> Iterator[Bench]:
    """With the plugin installed, and configured for one another."""
    with machines(1, CLOCK) as (machine,):
        install(machine, package())
        machine.write(CONFIG, f"hosts = {json.dumps(ADDRESSES)}\n")
        bench = Bench(machine)
        bench.script("boot")
        yield bench


@contextmanager
def _bench() -> Iterator[Bench]:
    """The hosts, with every layout on them and a server in each."""
    with two_hosts() as bench:
        for host, peer in ((0, 1), (1, 0)):
            _by_plugin(bench, host)
            bench.script("manual", str(host), ADDRESSES[peer])
            bench.script("vxlan", str(host), ADDRESSES[peer])
            bench.attach(host, "podman", "default", "10.88.0.2")  # with that, a host has Podman's own rules
        for layout, bridge in (("manual", "lbr"), ("vxlan", "vbr")):
            for guest, address in enumerate(GUESTS[layout]):
                bench.script("plug", str(HOSTS[guest]), f"{layout}{guest}", bridge, address)
        for layout in GUESTS:
            bench.inside(layout, 0, "iperf3", "--server", "--daemon")
        yield bench


def _by_plugin(bench: Bench, host: int) -> None:
    """The network as `podman network create` makes it, and its guests by netavark."""
    create = ("podman", "network", "create", "-d", "geneve-ovs", "--subnet", "10.9.0.0/24", "net1")
    bench.script("on", str(host), *create)
    for guest, address in enumerate(GUESTS["plugin"]):
        if HOSTS[guest] == host:
            bench.attach(host, "net1", f"plugin{guest}", address)


Figures = Mapping[tuple[str, str, str], Sequence[float]]
"""Samples by place, measure and layout."""


def _measure(bench: Bench) -> Figures:
    """Layouts alternate, so that whatever drifts does so under all of them."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for turn in range(ROUNDS):
        layouts = [*GUESTS, BARE, NOTHING]
        for place, client in PLACES.items():
            for measure, sample in MEASURES.items():
                for layout in layouts if turn % 2 else layouts[::-1]:
                    with nullcontext() if layout == "plugin" else _without_rules(bench, any=layout == NOTHING):
                        value = sample(bench, layout if layout in GUESTS else "plugin", client)
                    found.setdefault((place, measure, layout), []).append(value)
                    print(turn, place, measure, layout, f"{value:.4g}", flush=True)
    return found


@contextmanager
def _without_rules(bench: Bench, *, any: bool) -> Iterator[None]:
    """The hosts with the kernel's own settings and without the plugin's table, or without `any`."""
    what, gone = ("list ruleset", "flush ruleset") if any else (f"list {TABLE}", f"delete {TABLE}")
    saved = [bench.script("on", host, "nft", what) for host in "01"]
    settings = ("net.ipv4.ip_forward", "net.ipv4.conf.ovs_net1.rp_filter")
    values = [bench.script("on", host, "sysctl", *settings) for host in "01"]
    try:
        for host in "01":
            bench.script("on", host, "nft", gone)
            bench.script("on", host, "sysctl", "-qw", *(f"{setting}=0" for setting in settings))
        yield
    finally:
        for host, rules, value in zip("01", saved, values, strict=True):
            bench.script("on", host, "nft", "-f", "-", input=rules)
            bench.script("on", host, "sysctl", "-q", "-p", "-", input=value)


def _tcp(bench: Bench, layout: str, client: int) -> float:
    """Megabits a second."""
    return _iperf(bench, layout, client, "-O1")["sum_received"]["bits_per_second"] / 1e6


def _packets(bench: Bench, layout: str, client: int) -> float:
    """Small packets that arrive in a second."""
    total = _iperf(bench, layout, client, "-u", "-b0", "-l64")["sum"]
    return (total["packets"] - total["lost_packets"]) / total["seconds"]


def _iperf(bench: Bench, layout: str, client: int, *options: str) -> dict[str, dict[str, float]]:
    command = ("iperf3", "-c", GUESTS[layout][0], "-J", f"-t{SECONDS}", *options)
    return dict(json.loads(bench.inside(layout, client, *command))["end"])


def _round_trip(bench: Bench, layout: str, client: int) -> float:
    """Microseconds, the mean of the middle half: ping says no more than whole ones."""
    said = bench.inside(layout, client, "ping", f"-c{PINGS}", "-i0.005", GUESTS[layout][0])
    times = sorted(float(time) * 1e3 for time in re.findall(r"time=([\d.]+) ms", said))
    return statistics.fmean(times[len(times) // 4 : -len(times) // 4])


MEASURES: Mapping[str, Callable[[Bench, str, int], float]] = {
    "TCP, Mbit/s": _tcp,
    "64-byte packets/s": _packets,
    "round trip, µs": _round_trip,
}


def _table(figures: Figures) -> list[str]:
    rows = [("path", "measure", *GUESTS, "plugin / manual", "plugin / vxlan", "/ without its rules", "/ without any")]
    for place in PLACES:
        for measure in MEASURES:
            samples = {layout: figures[place, measure, layout] for layout in (*GUESTS, BARE, NOTHING)}
            median = {layout: statistics.median(values) for layout, values in samples.items()}
            ratios = (f"{median['plugin'] / median[other]:.2f}" for other in ("manual", "vxlan", BARE, NOTHING))
            rows.append((place, measure, *(_shown(samples[layout]) for layout in GUESTS), *ratios))
    return table(*rows)


def _shown(samples: Sequence[float]) -> str:
    """The median, and how far its neighbours are apart."""
    median = statistics.median(samples)
    return f"{median:,.0f} ± {(max(samples) - min(samples)) / 2 / median:.1%}"


TEXT = f"""Two hosts in one virtual machine, each with its own Open vSwitch on the kernel's datapath, whose clock counts
instructions: figures repeat, and say nothing of caches, locks and what a NIC does by itself. The plugin's network as
`podman network create` makes it, attached by netavark; the layout of the procedure by hand (a Linux bridge, a veth
to an Open vSwitch bridge, GENEVE); the kernel's VXLAN on a Linux bridge. {ROUNDS} alternations, {SECONDS} s for each
figure; median and half the range. Of a round trip less is better. Both hosts have a container on Podman's default
network, too, and so the rules that netavark makes for it. The last columns are the same network with the plugin's
rules and kernel settings taken away, and with netavark's, too: the kernel then tracks no connections, not even those
between the tunnels' ends.

On one host a Linux bridge looks up one address; Open vSwitch takes a packet's headers apart and looks up its flow.
Without its cache of masks a round trip took a tenth more, and it is a setting of all bridges of a host."""
