"""Containers of which Podman knows nothing: it would let only one call of the plugin at a time through."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from tests.lab import Host

from .fabric import PLUGIN
from .faults import BOUND
from .wire import REACH

COME_AND_GO = """
for _ in $(seq "$1"); do
    "$2" setup "$3" <<<"$REQUEST" >/dev/null
    "$2" teardown "$3" <<<"$REQUEST"
done
"""


@dataclass(frozen=True)
class Guest:
    """A network namespace, and netavark's calls for it; `env` says, beside other things, who serves them."""

    host: Host
    network: Mapping[str, Any]
    name: str
    addresses: tuple[str, ...]
    life: int = 0  # a container that is made anew has another id
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, verb: str) -> tuple[str, ...]:
        return (PLUGIN, verb, f"/run/netns/{self.name}")

    def request(self) -> str:
        """What netavark sends."""
        return json.dumps(
            {
                "container_id": hashlib.sha256(f"{self.host.name} {self.name} {self.life}".encode()).hexdigest(),
                "container_name": self.name,
                "port_mappings": None,
                "network": self.network,
                "network_options": {"interface_name": "eth0", "static_ips": self.addresses, "static_mac": None},
            }
        )

    def call(self, verb: str) -> subprocess.CompletedProcess[str]:
        command = self.command(verb)
        return self.host.run(*command, input=self.request(), env=self.env, check=False, timeout=2 * BOUND)

    def must(self, verb: str) -> None:
        """A call that has to work, without a word to the user."""
        done = self.call(verb)
        assert (done.returncode, done.stderr) == (0, ""), f"{verb} of {self.name} on {self.host.name}: {done}"

    def come_and_go(self, times: int) -> None:
        """Attach and detach it so often, as fast as it goes; the first failure ends it."""
        env = {**self.env, "REQUEST": self.request()}
        self.host.sh(COME_AND_GO, str(times), PLUGIN, f"/run/netns/{self.name}", env=env, timeout=times + BOUND)

    def unreached(self, addresses: Sequence[str]) -> list[str]:
        """Those of the addresses that do not answer it, for a message."""
        command = ("ip", "netns", "exec", self.name, "sh", "-c", REACH, "sh", *addresses)
        silent = self.host.run(*command, timeout=10 * BOUND).stdout.split()
        return [f"{self.name} on {self.host.name} -> {address}" for address in silent]

    def is_reached(self) -> bool:
        """Whether the host reaches it, from the network's gateway."""
        ping = ("ping", "-n", "-q", "-c1", "-W2", self.addresses[0])
        return self.host.run(*ping, check=False).returncode == 0


def shares(network: Mapping[str, Any], count: int) -> list[tuple[str, ...]]:
    """So many times an address of each subnet, of those that are this host's, after its gateway."""
    starts = [ip_address(subnet["lease_range"]["start_ip"]) for subnet in network["subnets"]]
    return [tuple(str(start + number) for start in starts) for number in range(1, count + 1)]


@contextmanager
def namespaces(host: Host, names: Sequence[str]) -> Iterator[None]:
    """The guests' network namespaces, for as long as the block."""
    host.run("ip", "-batch", "-", input="".join(f"netns add {name}\n" for name in names))
    try:
        yield
    finally:
        host.run("ip", "-batch", "-", input="".join(f"netns del {name}\n" for name in names))
