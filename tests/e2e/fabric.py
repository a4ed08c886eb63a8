"""What a test does on several hosts at once, in the words of the story that it tells."""

import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.lab import Host

CONFIG = "/etc/netavark-geneve/fabric.toml"
IMAGE = "alpine"
PLUGIN = "/usr/libexec/netavark/geneve-ovs"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Container:
    """A running container, and the address it got on the network of the test."""

    host: Host
    name: str
    address: str

    def ping(self, address: str, *options: str) -> bool:
        """One echo request, answered within two seconds; `options` are those of iputils' ping."""
        command = ("ping", "-n", "-q", "-c1", "-W2", *options, address)
        return self.host.netns_run(self.name, *command, check=False).returncode == 0

    def sh(self, script: str, timeout: float = 60) -> str:
        """Shell text inside the container; what it prints."""
        return self.host.run("podman", "exec", self.name, "sh", "-euc", script, timeout=timeout).stdout.strip()

    def link(self, interface: str = "eth0") -> dict[str, Any]:
        """The container's interface as `ip -json -details address` shows it."""
        shown = self.host.netns_run(self.name, "ip", "-json", "-details", "address", "show", interface).stdout
        return dict(json.loads(shown)[0])


@dataclass(frozen=True)
class Fabric:
    """Hosts that are to share networks. What is done to the fabric is done, alike, on every host."""

    hosts: Sequence[Host]

    def configure(self, hosts: Sequence[str] | None = None, **settings: str | int) -> None:
        """Write the same fabric.toml on every host; `hosts` are by default these hosts."""
        listed = [host.address for host in self.hosts] if hosts is None else list(hosts)
        values = {"hosts": listed, "datapath_type": "netdev", **settings}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        self.each(lambda host: host.write(CONFIG, text))

    def create(self, name: str, *options: str) -> list[dict[str, Any]]:
        """`podman network create -d geneve-ovs …`, the same line everywhere; the definitions that Podman then keeps."""
        return self.each(lambda host: create(host, name, *options))

    def run(self, network: str, *options: str, name: str = "c") -> list[Container]:
        """One container on every host."""
        return self.each(lambda host: run(host, network, *options, name=f"{name}{host.index}"))

    def each(self, action: Callable[[Host], Result]) -> list[Result]:
        """Do it on all hosts side by side; results in the order of the hosts."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return list(pool.map(action, self.hosts))


def create(host: Host, name: str, *options: str) -> dict[str, Any]:
    """Create a network on one host; the definition that Podman then keeps."""
    host.run("podman", "network", "create", "-d", "geneve-ovs", *options, name)
    return dict(json.loads(host.read(f"/etc/containers/networks/{name}.json")))


def inspect(host: Host, network: str) -> dict[str, Any]:
    return dict(json.loads(host.run("podman", "network", "inspect", network).stdout)[0])


def run(host: Host, network: str, *options: str, name: str, command: Sequence[str] = ("sleep", "1000")) -> Container:
    """Start a container on `network` (which may carry per-container options, `net1:ip=…`)."""
    host.run("podman", "run", "-d", "--name", name, "--network", network, *options, IMAGE, *command)
    return Container(host, name, address(host, name, network.partition(":")[0]))


def address(host: Host, container: str, network: str) -> str:
    """The container's IPv4 address on a network, else its IPv6 address, as Podman reports it."""
    networks = json.loads(
        host.run("podman", "inspect", "--format", "{{json .NetworkSettings.Networks}}", container).stdout
    )
    return str(networks[network]["IPAddress"] or networks[network]["GlobalIPv6Address"])


def refusal(host: Host, *command: str, timeout: float = 30) -> str:
    """Run a command that must fail; the sentence that the user reads."""
    result = host.run(*command, check=False, timeout=timeout)
    assert result.returncode != 0, f"{command} succeeded: {result.stdout}"
    return result.stderr.strip()


def plugin(host: Host, *arguments: str, request: str = "", timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Call the plugin's executable as netavark and Podman do, with the request on standard input."""
    return host.run(PLUGIN, *arguments, input=request, check=False, timeout=timeout)


def plugin_error(result: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a call that failed as the protocol has it: exit status 1, one object with one key."""
    assert result.returncode == 1, result
    reply = json.loads(result.stdout)
    assert list(reply) == ["error"], result.stdout
    assert "\n" not in reply["error"], result.stdout
    return str(reply["error"])


def pairs(containers: Sequence[Container]) -> list[tuple[Container, Container]]:
    """Every container with every other one, both ways."""
    return [(one, other) for one in containers for other in containers if one is not other]


def unreachable(containers: Sequence[Container], *options: str) -> list[str]:
    """Pairs of which one does not reach the other, for a message; empty when all is well."""
    with ThreadPoolExecutor(4) as pool:
        wanted = pairs(containers)
        reached = pool.map(lambda pair: pair[0].ping(pair[1].address, *options), wanted)
        return [f"{one.name} -> {other.name}" for (one, other), ok in zip(wanted, reached, strict=True) if not ok]
