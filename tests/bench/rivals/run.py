"""The rivals: other ways to attach a network namespace to an Open vSwitch bridge that exists, one command each.

Runs on a host of the lab, as a file or as text in front of another script. Standard library only.
"""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

GUEST_INTERFACE = "eth0"
CALL_TIMEOUT = 60.0

# One shell: it costs little beside the four programs that it starts.
BY_HAND_SETUP = """set -e
ip -batch - <<END
link add $PORT mtu $MTU type veth peer name $INTERFACE mtu $MTU address $MAC netns $NETNS
link set $PORT addrgenmode none
link set $PORT up
END
nsenter --net=$NETNS ip -batch - <<END
address add $ADDRESS dev $INTERFACE
link set $INTERFACE up
route add default via $GATEWAY
END
exec ovs-vsctl --timeout=10 add-port $BRIDGE $PORT"""
BY_HAND_TEARDOWN = """set -e
ovs-vsctl --timeout=10 del-port $BRIDGE $PORT
exec ip link delete $PORT"""


@dataclass(frozen=True)
class Site:
    """What the rivals find on the host."""

    programs: str
    """The directory that build.py has filled."""
    bridge: str
    gateway: str
    prefix: int
    """Length, of the subnet that the guests' addresses are in."""
    mtu: int = 1500


@dataclass(frozen=True)
class Guest:
    """A network namespace that stands for a container."""

    number: int
    """1 to 65535; names, MAC address and container id come from it."""
    netns: str
    address: str
    questions: tuple[str, ...] = ()
    """Addresses that nobody must have; of the rivals only the floor can look whether that is so."""

    @property
    def port(self) -> str:
        return f"rival{self.number}"

    @property
    def mac(self) -> str:
        return f"02:5a:00:00:{self.number >> 8:02x}:{self.number & 255:02x}"

    @property
    def container_id(self) -> str:
        return f"{self.number:064x}"


@dataclass(frozen=True)
class Call:
    """One process, start to end."""

    argv: tuple[str, ...]
    input: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    """On top of the environment that there is."""


@dataclass(frozen=True)
class Rival:
    """A way to attach, and to detach again."""

    name: str
    setup: Callable[[Guest], Call]
    teardown: Callable[[Guest], Call]
    attaches: bool = True
    """Not so those that only show what calling a plugin costs."""


def rivals(site: Site, *, ovs_cni: bool) -> tuple[Rival, ...]:
    """All of them; ovs-cni only where build.py has found it."""
    found = [
        floor(site),
        by_hand(site),
        nothing(site, "C", "nothing-c"),
        nothing(site, "Python", "nothing-python"),
    ]
    return (*found, cni(site)) if ovs_cni else tuple(found)


def floor(site: Site) -> Rival:
    program = f"{site.programs}/floor"

    def setup(guest: Guest) -> Call:
        names = (guest.netns, GUEST_INTERFACE, site.bridge, guest.port)
        values = (guest.mac, f"{guest.address}/{site.prefix}", site.gateway, str(site.mtu))
        questions = [word for address in guest.questions for word in ("ask", address)]
        return Call((program, *questions, "add", *names, *values))

    def teardown(guest: Guest) -> Call:
        return Call((program, "del", site.bridge, guest.port))

    return Rival("C floor", setup, teardown)


def by_hand(site: Site) -> Rival:
    def call(script: str, guest: Guest) -> Call:
        env = {
            "BRIDGE": site.bridge,
            "GATEWAY": site.gateway,
            "MTU": str(site.mtu),
            "NETNS": guest.netns,
            "INTERFACE": GUEST_INTERFACE,
            "PORT": guest.port,
            "MAC": guest.mac,
            "ADDRESS": f"{guest.address}/{site.prefix}",
        }
        return Call(("sh", "-c", script), env=env)

    return Rival(
        "ip + ovs-vsctl", lambda guest: call(BY_HAND_SETUP, guest), lambda guest: call(BY_HAND_TEARDOWN, guest)
    )


def nothing(site: Site, language: str, plugin: str) -> Rival:
    """netavark itself and a plugin's start, without a plugin's work."""

    def call(verb: str, guest: Guest) -> Call:
        options = ("--config", "/run/rivals-netavark", "--rootless", "false", "--plugin-directory", site.programs)
        argv = ("/usr/lib/podman/netavark", *options, verb, guest.netns)
        env = {"NETAVARK_FW": "nftables", "RUST_LOG": "netavark=warn"}
        return Call(argv, netavark_request(site, guest, plugin), env)

    return Rival(
        f"netavark, {language} plugin that does nothing",
        lambda guest: call("setup", guest),
        lambda guest: call("teardown", guest),
        attaches=False,
    )


def netavark_request(site: Site, guest: Guest, driver: str) -> str:
    """What Podman tells netavark of a container on one network of this driver."""
    subnet = {"subnet": f"{guest.address}/{site.prefix}", "gateway": site.gateway}
    network = {
        "name": driver,
        "id": "0" * 64,
        "driver": driver,
        "network_interface": site.bridge,
        "subnets": [subnet],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    options = {"interface_name": GUEST_INTERFACE, "static_ips": [guest.address], "static_mac": guest.mac, "aliases": []}
    request = {
        "container_id": guest.container_id,
        "container_name": guest.port,
        "networks": {driver: options},
        "network_info": {driver: network},
        "port_mappings": [],
    }
    return json.dumps(request)


def cni(site: Site) -> Rival:
    """ovs-cni as a container runtime calls it, with its own defaults.

    Some setups take 600 ms more, the more containers the more often: it asks once whether the port is up, and if
    not, sleeps (`link_state_check_interval`). A teardown does not wait for ovs-vswitchd.
    """

    def call(command: str, guest: Guest) -> Call:
        address = {"address": f"{guest.address}/{site.prefix}", "gateway": site.gateway}
        config = {
            "cniVersion": "1.0.0",
            "name": "rivals",
            "type": "ovs",
            "bridge": site.bridge,
            "mtu": site.mtu,
            "ipam": {"type": "static", "addresses": [address], "routes": [{"dst": "0.0.0.0/0"}]},
        }
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": guest.container_id,
            "CNI_NETNS": guest.netns,
            "CNI_IFNAME": GUEST_INTERFACE,
            "CNI_PATH": site.programs,
            "CNI_ARGS": f"IgnoreUnknown=true;MAC={guest.mac}",
        }
        return Call((f"{site.programs}/ovs",), json.dumps(config), env)

    return Rival("ovs-cni", lambda guest: call("ADD", guest), lambda guest: call("DEL", guest))


def timed(call: Call) -> float:
    """Milliseconds from spawn to exit."""
    environ = {**os.environ, **call.env}
    start = time.perf_counter()
    done = subprocess.run(
        call.argv, input=call.input, capture_output=True, text=True, env=environ, timeout=CALL_TIMEOUT, check=False
    )
    elapsed = (time.perf_counter() - start) * 1e3
    if done.returncode:
        raise SystemExit(f"{' '.join(call.argv)} exited with {done.returncode}: {done.stdout}{done.stderr}")
    return elapsed


def samples(contestants: Sequence[Rival], guest: Guest, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Name of the rival to verb to milliseconds; in random order within every round."""
    found: dict[str, dict[str, list[float]]] = {rival.name: {"setup": [], "teardown": []} for rival in contestants}
    for _ in range(rounds):
        for rival in random.sample(contestants, len(contestants)):
            found[rival.name]["setup"].append(timed(rival.setup(guest)))
            found[rival.name]["teardown"].append(timed(rival.teardown(guest)))
    return found
