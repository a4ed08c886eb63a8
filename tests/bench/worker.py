"""The measuring half of the attach benchmark. Runs on a host of the lab, so that no time is spent on the way.

Reads a job (JSON) from its argument, prints results (JSON). Standard library only.
"""

import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NETAVARK = "/usr/lib/podman/netavark"
COMMAND = (
    *(NETAVARK, "--config", "/run/bench", "--rootless", "false", "--plugin-directory", "/usr/libexec/netavark"),
    *("--aardvark-binary", "/usr/lib/podman/aardvark-dns"),
)
EXTRA = 900  # the container that comes and goes
PING_TIMEOUT = 3.0  # seconds; an ARP request that is lost costs one
STEP = re.compile(r"\[DEBUG geneve-ovs\] (.+): ([0-9.]+) ms")


class Containers:
    """Network namespaces that stand for containers, and netavark's view of them."""

    def __init__(self, networks: dict[str, dict[str, Any]]) -> None:
        self.networks = networks

    def setup(
        self, network: str, number: int, *, cold: bool = False, steps: bool = False
    ) -> tuple[float, dict[str, float]]:
        return self._netavark("setup", network, number, cold=cold, steps=steps)

    def teardown(self, network: str, number: int, *, cold: bool = False) -> tuple[float, dict[str, float]]:
        return self._netavark("teardown", network, number, cold=cold, steps=False)

    def _netavark(
        self, verb: str, network: str, number: int, *, cold: bool, steps: bool
    ) -> tuple[float, dict[str, float]]:
        """Milliseconds from spawn to exit; with `steps` also those that the plugin logs. `cold` finds no helper."""
        definition = self.networks[network]
        gateway = definition["subnets"][0]["gateway"].split(".")
        request = {
            "container_id": f"{number:064x}",
            "container_name": f"bench{number}",
            "networks": {
                network: {
                    "interface_name": f"{network}0",
                    "static_ips": [self.address(gateway, number)],
                    "aliases": [],
                }
            },
            "network_info": {network: definition},
            "port_mappings": self.ports(number) if network.startswith("full") else [],
        }
        environ = {**os.environ, "NETAVARK_FW": "nftables", "RUST_LOG": "netavark=debug" if steps else "netavark=warn"}
        if cold:
            environ["NETAVARK_GENEVE_SOCKET"] = "/nonexistent"
        start = time.perf_counter()
        done = subprocess.run(
            (*COMMAND, verb, f"/run/netns/bench{number}"),
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=environ,
            timeout=60,
            check=False,
        )
        elapsed = (time.perf_counter() - start) * 1e3
        if done.returncode:
            raise SystemExit(f"netavark {verb} on {network} failed: {done.stdout}{done.stderr}")
        return elapsed, {name: float(value) for name, value in STEP.findall(done.stderr)}

    @staticmethod
    def ports(number: int) -> list[dict[str, Any]]:
        """Two published ports of the container's own."""
        mapping = {"protocol": "tcp", "host_ip": "", "container_port": 80, "range": 1}
        return [{**mapping, "host_port": 10000 + 2 * number + offset} for offset in range(2)]

    @staticmethod
    def address(gateway: list[str], number: int) -> str:
        low = int(gateway[3]) + number
        return f"{gateway[0]}.{gateway[1]}.{int(gateway[2]) + low // 250}.{low % 250 + 1}"


def namespaces(verb: str, numbers: range) -> None:
    batch = "".join(f"netns {verb} bench{number}\n" for number in numbers)
    subprocess.run(("ip", "-batch", "-"), input=batch, text=True, check=True)


@contextmanager
def attached(containers: Containers, numbers: range) -> Iterator[None]:
    """These containers, on every network, for the duration of the block."""
    namespaces("add", numbers)
    for number in numbers:
        for network in containers.networks:
            containers.setup(network, number)
    yield
    for number in numbers:
        for network in containers.networks:
            containers.teardown(network, number)
    namespaces("delete", numbers)


def measure(containers: Containers, rounds: int) -> dict[str, Any]:
    """Setup and teardown of one more container on each network, in random order within every round."""
    ways = [(network, cold) for network in containers.networks for cold in (False, True)]
    ways = [(network, cold) for network, cold in ways if not cold or is_ours(containers.networks[network])]
    samples: dict[str, list[float]] = {}
    steps: dict[str, list[dict[str, float]]] = {"warm": [], "cold": []}
    namespaces("add", range(EXTRA, EXTRA + 1))
    for _ in range(rounds):
        for network, cold in random.sample(ways, len(ways)):
            way = f"{network} {'cold' if cold else 'warm'}"
            samples.setdefault(f"setup {way}", []).append(containers.setup(network, EXTRA, cold=cold)[0])
            samples.setdefault(f"teardown {way}", []).append(containers.teardown(network, EXTRA, cold=cold)[0])
        for name, found in steps.items():
            whole, logged = containers.setup("geneve", EXTRA, cold=name == "cold", steps=True)
            found.append({"whole": whole, **logged})
            containers.teardown("geneve", EXTRA)
    namespaces("delete", range(EXTRA, EXTRA + 1))
    return {"samples": samples, "steps": steps}


def is_ours(definition: dict[str, Any]) -> bool:
    return bool(definition["driver"] == "geneve-ovs")


def first_answers(containers: Containers, rounds: int, remote: tuple[int, str]) -> dict[str, list[float]]:
    """Milliseconds from the return of `setup` to the first answered echo, from the container and to it.

    Every round is a new container with the same address, attached as soon as the one before is gone.
    """
    netns, address = remote
    answers: dict[str, list[float]] = {"from the container": [], "to the container": []}
    own = Containers.address(containers.networks["geneve"]["subnets"][0]["gateway"].split("."), EXTRA)
    for number in range(rounds):
        namespaces("add", range(EXTRA, EXTRA + 1))
        containers.setup("geneve", EXTRA)
        with open(f"/run/netns/bench{EXTRA}") as container:
            if number % 2:
                answers["from the container"].append(echo(container.fileno(), address))
            else:
                answers["to the container"].append(echo(netns, own))
        containers.teardown("geneve", EXTRA)
        namespaces("delete", range(EXTRA, EXTRA + 1))
    return answers


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
    job = json.loads(sys.argv[1])
    os.makedirs("/run/bench", exist_ok=True)
    containers = Containers(job["networks"])
    results: dict[str, Any] = {}
    for count in job["counts"]:
        with attached(containers, range(1, count)):
            results[str(count)] = measure(containers, job["rounds"])
    if job["answers"]:
        results["answers"] = first_answers(containers, job["answers"], tuple(job["remote"]))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
