"""The measuring half of the benchmarks. Runs on a host of the lab, so that no time is spent on the way.

Called with the name of a part and its job (JSON); prints results (JSON). Standard library only; the text of
rivals/run.py stands in front of it.
"""

import contextlib
import ipaddress
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.bench.rivals.run import Call, Guest, Rival, Site, rivals, timed

NETAVARK = "/usr/lib/podman/netavark"
COMMAND = (
    *(NETAVARK, "--config", "/run/bench", "--rootless", "false", "--plugin-directory", "/usr/libexec/netavark"),
    *("--aardvark-binary", "/usr/lib/podman/aardvark-dns"),
)
PLUGIN = "/usr/libexec/netavark/geneve-ovs"
NO_HELPER = {"NETAVARK_GENEVE_SOCKET": "/nonexistent"}
EXTRA = 3000  # the container that comes and goes; its address is still in the slice of this host
FRESH = 1000  # addresses after its own, one for each time it comes; long before one comes again it is forgotten
REST = 0.2  # seconds before each call that is measured, in which what the one before left to do gets done
YOUTH = 15.0  # seconds in which a helper takes every address for one that may have been here lately
FILLERS = 4  # containers that are attached at the same time when there are to be many
PING_TIMEOUT = 3.0  # seconds; an ARP request that is lost costs one
STEP = re.compile(r"\[DEBUG geneve-ovs\] (.+): ([0-9.]+) ms")
OPEN_VSWITCH = ("ovsdb-server", "ovs-vswitchd")  # the steps that are not our own work
Samples = dict[str, list[float]]


class Containers:
    """Network namespaces that stand for containers of one network, and netavark's view of them."""

    def __init__(self, network: dict[str, Any]) -> None:
        self.network = network
        self.attached = 0
        self.latest: list[str] = []
        """The addresses that were chosen last, one of each subnet."""
        self._fresh = 0

    def name(self, number: int) -> str:
        """Of the network namespace."""
        return f"{self.network['name']}{number}"

    def netns(self, number: int) -> str:
        return f"/run/netns/{self.name(number)}"

    def address(self, number: int) -> list[str]:
        """One of each subnet."""
        return [str(ipaddress.ip_address(subnet["gateway"]) + number) for subnet in self.network["subnets"]]

    def calls(self, number: int, *, ports: bool = False, cold: bool = False, debug: bool = False) -> list["Call"]:
        """Setup and teardown of container `number`, with an address that nobody has had: as Podman chooses them."""
        self._fresh += 1
        address = EXTRA + 1 + self._fresh % FRESH
        self.latest = self.address(address)
        verbs = ("setup", "teardown")
        return [self.call(verb, number, ports=ports, cold=cold, debug=debug, address=address) for verb in verbs]

    def call(
        self, verb: str, number: int, *, ports: bool = False, cold: bool = False, debug: bool = False, address: int = 0
    ) -> "Call":
        request = {
            "container_id": f"{number:064x}",
            "container_name": self.name(number),
            "networks": {self.network["name"]: self._options(number, address)},
            "network_info": {self.network["name"]: self.network},
            "port_mappings": self._ports(number) if ports else [],
        }
        environ = {"NETAVARK_FW": "nftables", "RUST_LOG": "netavark=debug" if debug else "netavark=warn"}
        argv = (*COMMAND, verb, self.netns(number))
        return Call(argv, json.dumps(request), environ | (NO_HELPER if cold else {}))

    def plugin_request(self, number: int) -> str:
        """What netavark gives the plugin."""
        return json.dumps(
            {
                "container_id": f"{number:064x}",
                "container_name": self.name(number),
                "port_mappings": None,
                "network": self.network,
                "network_options": self._options(number, number),
            }
        )

    def fill(self, count: int) -> None:
        """Have so many attached."""
        numbers = range(self.attached + 1, count + 1)
        namespaces("add", map(self.name, numbers))
        with ThreadPoolExecutor(FILLERS) as pool:
            list(pool.map(lambda number: timed(self.call("setup", number)), numbers))
        self.attached = count

    def _options(self, number: int, address: int) -> dict[str, Any]:
        addresses = self.address(address or number)
        return {"interface_name": f"{self.network['name']}0", "static_ips": addresses, "aliases": []}

    @staticmethod
    def _ports(number: int) -> list[dict[str, Any]]:
        """Two published ports of the container's own."""
        mapping = {"protocol": "tcp", "host_ip": "", "container_port": 80, "range": 1}
        return [{**mapping, "host_port": 10000 + 2 * number + offset} for offset in range(2)]


def namespaces(verb: str, names: Iterable[str]) -> None:
    batch = "".join(f"netns {verb} {name}\n" for name in names)
    subprocess.run(("ip", "-batch", "-"), input=batch, text=True, check=True)


@contextlib.contextmanager
def extra(*networks: Containers) -> Iterator[None]:
    """The namespaces of the container that comes and goes."""
    names = [containers.name(EXTRA) for containers in networks]
    namespaces("add", names)
    yield
    namespaces("delete", names)


def measured(call: "Call", rest: float = REST) -> float:
    time.sleep(rest)
    return timed(call)


def attach(job: dict[str, Any]) -> dict[str, Any]:
    """Setup and teardown of one more container, in every way, in random order within every round."""
    ours, theirs = (Containers(network) for network in job["networks"])
    site = Site(job["programs"], ours.network["network_interface"], ours.network["subnets"][0]["gateway"], 16)
    others = rivals(site, ovs_cni=job["ovs_cni"])
    time.sleep(YOUTH)
    results: dict[str, Any] = {}
    for count in job["counts"]:
        ours.fill(count)
        theirs.fill(count)
        with extra(ours, theirs):
            samples: Samples = {}
            for _ in range(job["rounds"]):
                ways = [*_ways(ours, theirs), *_rival_ways(others, ours)]
                for name, calls in random.sample(ways, len(ways)):
                    for verb, call in zip(("setup", "teardown"), calls, strict=True):
                        samples.setdefault(f"{verb} {name}", []).append(measured(call))
        answers = _first_answers(ours, job["answers"], *job["remote"])
        results[str(count)] = {"samples": samples, "answers": answers}
    return results


def _ways(ours: Containers, theirs: Containers) -> Iterator[tuple[str, list["Call"]]]:
    """Each way's name, and its setup and teardown."""
    for label, ports in (("", False), (" ports", True)):
        for name, containers, cold in (("warm", ours, False), ("cold", ours, True), ("bridge", theirs, False)):
            yield f"{name}{label}", containers.calls(EXTRA, ports=ports, cold=cold)


def _rival_ways(others: "Iterable[Rival]", ours: Containers) -> Iterator[tuple[str, list["Call"]]]:
    guest = Guest(EXTRA, ours.netns(EXTRA), ours.address(EXTRA)[0])
    for rival in others:
        yield rival.name, [rival.setup(guest), rival.teardown(guest)]


def _first_answers(containers: Containers, rounds: int, netns: int, address: str) -> Samples:
    """Milliseconds from the return of `setup` to the first answered echo, from the container and to it.

    Every round is a container with an address that nobody had lately, and at once another with the same.
    """
    answers: Samples = {}
    for number in range(rounds):
        setup, teardown = containers.calls(EXTRA)
        for attach in ("first", "again"):
            with extra(containers):
                timed(setup)
                if number % 2:
                    with open(containers.netns(EXTRA)) as container:
                        answers.setdefault(f"{attach}, from the container", []).append(
                            echo(container.fileno(), address)
                        )
                else:
                    answers.setdefault(f"{attach}, to the container", []).append(echo(netns, containers.latest[0]))
                time.sleep(REST)
                timed(teardown)
        time.sleep(REST)
    return answers


def answers(job: dict[str, Any]) -> Samples:
    """First answers alone."""
    containers = Containers(job["network"])
    containers.fill(job["count"])
    return _first_answers(containers, job["rounds"], *job["remote"])


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """Where the time goes of a setup beside so many others, with the helper and without."""
    containers = Containers(job["network"])
    time.sleep(YOUTH)
    results: dict[str, Any] = {}
    for count in job["counts"]:
        containers.fill(count)
        with extra(containers):
            ways = results[str(count)] = {"warm": [], "cold": []}
            for _ in range(job["rounds"]):
                for name in random.sample(list(ways), len(ways)):
                    ways[name].append(_steps(containers, cold=name == "cold"))
    return results


def _steps(containers: Containers, *, cold: bool) -> dict[str, float]:
    """By the plugin's own debug log, in milliseconds."""
    setup, teardown = containers.calls(EXTRA, cold=cold, debug=True)
    time.sleep(REST)
    start = time.perf_counter()
    done = subprocess.run(
        setup.argv, input=setup.input, env={**os.environ, **setup.env}, capture_output=True, text=True, check=True
    )
    whole = (time.perf_counter() - start) * 1e3
    logged = {name: float(value) for name, value in STEP.findall(done.stderr)}
    measured(teardown)
    switch = sum(logged[step] for step in OPEN_VSWITCH)
    return {
        "whole": whole,
        "outside": whole - logged["imports"] - logged["attach"],
        "imports": logged["imports"],
        "own": logged["attach"] - switch,
        "switch": switch,
    }


def growth(job: dict[str, Any]) -> dict[str, Any]:
    """One more container beside so many, and the C floor's, which asks for the same addresses or does not.

    And what an idle ovs-vswitchd costs then.
    """
    containers = Containers(job["network"])
    bridge = containers.network["network_interface"]
    rival = floor_of(Site(job["programs"], bridge, "10.250.0.1", 16))
    guest = Guest(EXTRA, containers.netns(EXTRA), "10.250.0.2")
    results: dict[str, Any] = {}
    for count in job["counts"]:
        containers.fill(count)
        time.sleep(5)
        idle = cpu_share("ovs-vswitchd", 20)
        samples: Samples = {}
        with extra(containers):
            for _ in range(job["rounds"]):
                ways = [("ours", containers.calls(EXTRA))]
                asking = replace(guest, questions=tuple(containers.latest))
                ways += [
                    (name, [rival.setup(g), rival.teardown(g)]) for name, g in (("floor", guest), ("asking", asking))
                ]
                for name, calls in random.sample(ways, len(ways)):
                    for verb, call in zip(("setup", "teardown"), calls, strict=True):
                        samples.setdefault(f"{verb} {name}", []).append(measured(call, job["rest"]))
        results[str(count)] = {"samples": samples, "idle": idle}
    return results


def floor_of(site: "Site") -> "Rival":
    return next(rival for rival in rivals(site, ovs_cni=False) if rival.name == "C floor")


def endurance(job: dict[str, Any]) -> dict[str, Any]:
    """The helper's memory in MB after so many requests, and its share of a core when nobody asks."""
    containers = Containers(job["network"])
    script = f"{PLUGIN} setup $NETNS <<<$REQUEST >/dev/null; {PLUGIN} teardown $NETNS <<<$REQUEST"
    environ = {"REQUEST": containers.plugin_request(EXTRA), "NETNS": containers.netns(EXTRA)}
    memory: list[tuple[int, float]] = []
    containers.fill(1)
    with extra(containers):
        for pairs in job["pairs"]:
            loop = f"for _ in $(seq {pairs}); do {script}; done"
            subprocess.run(("bash", "-euc", loop), env={**os.environ, **environ}, check=True)
            memory.append(((memory[-1][0] if memory else 0) + 2 * pairs, resident("netavark-geneve")))
    time.sleep(5)
    return {"memory": memory, "idle": cpu_share("netavark-geneve", 30)}


def pid_of(program: str) -> int:
    return int(subprocess.run(("pgrep", "-of", f"{program}"), capture_output=True, check=True).stdout)


def resident(program: str) -> float:
    with open(f"/proc/{pid_of(program)}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def cpu_share(program: str, seconds: float) -> float:
    """Per cent of a core."""
    pid = pid_of(program)

    def used() -> float:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds * 100


def echo(netns: int, address: str) -> float:
    """Milliseconds until `address` answers an echo request sent from inside `netns`."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    setns(netns)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.settimeout(PING_TIMEOUT)
            identifier = random.randrange(2**16)
            head = struct.pack("!BBHHH", 8, 0, 0, identifier, 1)
            checksum = -sum(struct.unpack("!4H", head)) % 65535
            start = time.perf_counter()
            raw.sendto(struct.pack("!BBHHH", 8, 0, checksum, identifier, 1), (address, 0))
            while True:
                packet = raw.recv(2048)
                if packet[20] == 0 and packet[24:26] == struct.pack("!H", identifier):
                    return (time.perf_counter() - start) * 1e3
    except TimeoutError:
        return PING_TIMEOUT * 1e3
    finally:
        setns(home)
        os.close(home)


def setns(netns: int) -> None:
    os.setns(netns, os.CLONE_NEWNET)  # type: ignore[attr-defined] # Python 3.12; the lab's hosts have 3.13


def main() -> None:
    os.makedirs("/run/bench", exist_ok=True)
    part, job = sys.argv[1], json.loads(sys.argv[2])
    parts = (attach, steps, answers, growth, endurance)
    print(json.dumps({function.__name__: function for function in parts}[part](job)))


if __name__ == "__main__":
    main()
