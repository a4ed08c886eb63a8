"""The real netavark, called as Podman calls it, with networks of the plugin in its request."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.fabric import PLUGIN, plugin
from tests.lab import Host

NETAVARK = "/usr/lib/podman/netavark"
STATE = "/tmp/netavark"  # where netavark keeps what it must remember
TALK = (Path(__file__).parent / "talk.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Sandbox:
    """What netavark knows of a container: a name, an id, and a network namespace."""

    host: Host
    name: str

    @property
    def netns(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def id(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a tool of the host inside the namespace."""
        return self.host.run("nsenter", f"--net={self.netns}", "--", *command, **options)

    def ip(self, *arguments: str) -> list[dict[str, Any]]:
        """What `ip -json` shows inside the namespace."""
        return list(json.loads(self.run("ip", "-json", *arguments).stdout or "[]"))

    def pings(self, *addresses: str) -> set[str]:
        """Those of the addresses that answer, all asked at once."""
        script = 'for to; do { ping -n -q -c1 -W2 "$to" >&2 && echo "$to"; } & done; wait'
        return set(self.run("sh", "-c", script, "sh", *addresses).stdout.split())

    def resolves(self, name: str, server: str) -> set[str]:
        """The addresses of a name, of both families; none when there is no such name."""
        said = self.run("busybox", "nslookup", name, server, check=False).stdout
        return set(re.findall(r"^Address: (\S+)$", said.partition("\n\n")[2], re.MULTILINE))


@dataclass(frozen=True)
class Request:
    """What Podman tells netavark of one container: its networks, with options by network, and its ports.

    `env` is what Podman makes of containers.conf.
    """

    sandbox: Sandbox
    networks: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    ports: Sequence[Mapping[str, Any]] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def setup(self) -> dict[str, Any]:
        """`netavark setup`; the status block of each network."""
        return dict(json.loads(self._netavark("setup").stdout))

    def refusal(self) -> str:
        """The sentence of a setup that must fail."""
        result = self._netavark("setup", check=False)
        assert result.returncode, result.stdout
        return str(json.loads(result.stdout)["error"])

    def teardown(self) -> None:
        self._netavark("teardown")

    def call(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Call the plugin without netavark, for what this netavark does not pass on but later ones do."""
        (network,) = self.networks
        request = {
            "container_id": self.sandbox.id,
            "container_name": self.sandbox.name,
            "port_mappings": list(self.ports),
            "network": network,
            "network_options": self._options()[network["name"]],
        }
        return plugin(self.sandbox.host, verb, self.sandbox.netns, request=json.dumps(request))

    def _options(self) -> dict[str, Any]:
        return {
            network["name"]: {"interface_name": f"eth{index}", **self.options.get(network["name"], {})}
            for index, network in enumerate(self.networks)
        }

    def _netavark(self, verb: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        request = {
            "container_id": self.sandbox.id,
            "container_name": self.sandbox.name,
            "port_mappings": list(self.ports),
            "networks": self._options(),
            "network_info": {network["name"]: network for network in self.networks},
        }
        plugins = str(Path(PLUGIN).parent)
        command = (NETAVARK, "--config", STATE, "--plugin-directory", plugins, verb, self.sandbox.netns)
        return self.sandbox.host.run(*command, input=json.dumps(request), env=self.env, check=check)


@contextmanager
def sandboxes(host: Host, *names: str) -> Iterator[list[Sandbox]]:
    """Namespaces for containers, empty."""
    try:
        host.sh(f'mkdir {STATE}; for name; do ip netns add "$name"; done', *names)
        yield [Sandbox(host, name) for name in names]
    finally:
        host.sh(f'for name; do ip netns del "$name" || true; done; rm -rf {STATE}', *names)


@contextmanager
def attached(*requests: Request) -> Iterator[list[dict[str, Any]]]:
    """Set up for the length of a block; what netavark answered to each."""
    done: list[Request] = []
    try:
        answers = []
        for request in requests:
            answers.append(request.setup())
            done.append(request)
        yield answers
    finally:
        for request in done:
            request.teardown()


def define(host: Host, name: str, *subnets: str, **fields: Any) -> dict[str, Any]:
    """A network as Podman stores it: what a user asked for, completed by the plugin's `create`."""
    asked = {
        "name": name,
        "id": hashlib.sha256(name.encode()).hexdigest(),
        "driver": "geneve-ovs",
        "network_interface": name,
        "subnets": [{"subnet": subnet} for subnet in subnets],
        "ipv6_enabled": any(":" in subnet for subnet in subnets),
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
        **fields,
    }
    created = plugin(host, "create", request=json.dumps(asked))
    assert created.returncode == 0, created.stdout
    return dict(json.loads(created.stdout))


def gateways(network: Mapping[str, Any]) -> list[str]:
    return [subnet["gateway"] for subnet in network["subnets"]]


@contextmanager
def serving(where: Sandbox | Host, protocol: str, *ports: int) -> Iterator[None]:
    """A server for each of the ports, in a sandbox or on a host."""
    enter = ("nsenter", f"--net={where.netns}", "--") if isinstance(where, Sandbox) else ()
    host = where.host if isinstance(where, Sandbox) else where
    serve = ("python3", "-c", TALK, "serve", protocol, *map(str, ports))
    with host.popen(*enter, *serve, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n", "the server does not listen"
            yield
        finally:
            server.terminate()


def ask(where: Sandbox | Host, protocol: str, address: str, port: int, seconds: float = 5) -> tuple[int, str] | None:
    """The server's port, and the client's address as the server knows it; None when there is no answer."""
    command = ("python3", "-c", TALK, "ask", protocol, address, str(port), str(seconds))
    asked = where.run(*command, check=False)
    if asked.returncode:
        return None
    reached, peer = asked.stdout.split()
    return int(reached), peer
