"""`make demo`: three hosts, the same commands on each, shown as the terminal session that it is."""

import subprocess
import sys

from tests.lab import Host, Lab
from tests.lab.errors import LabError

FABRIC = """\
hosts = ["192.168.0.10", "192.168.0.11", "192.168.0.12"]
datapath_type = "netdev"
"""
SUBNET = "192.168.120.0/24"
SIZE_MB = 20
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> int:
    try:
        with Lab(hosts=3, name="demo") as lab:
            show(lab.hosts)
    except (LabError, subprocess.SubprocessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def show(hosts: list[Host]) -> None:
    """The whole story. Every command is run on its host, every line of output is its own."""
    say("Three hosts with Podman and Open vSwitch, on one underlay, 192.168.0.0/24.")
    say("They know each other by a file that is the same on all of them:")
    for host in hosts:
        host.write("/etc/netavark-geneve/fabric.toml", FABRIC)
    run(hosts[0], "cat /etc/netavark-geneve/fabric.toml")
    say('("netdev" is the userspace datapath, for a lab in namespaces; leave it out on a real host.)')

    say("One network: the same line on every host.")
    for host in hosts:
        run(host, f"podman network create -d geneve-ovs --subnet {SUBNET} net1")
    run(hosts[0], "podman network inspect net1")

    say("A container on each. Every host leases from its own slice of the subnet.")
    addresses = {}
    for host in hosts:
        run(host, f"podman run -d --name web{host.index} --network net1 alpine sleep 1000")
        shown = run(host, f"podman exec web{host.index} ip -4 -o address show dev eth0")
        addresses[host] = shown.split("inet ")[1].split("/")[0]

    say("Every container reaches every other one.")
    for host in hosts:
        for other in hosts:
            if other is not host:
                run(host, f"podman exec web{host.index} ping -c 1 {addresses[other]}")

    say(f"{SIZE_MB} MB over HTTP, from a container on host0 to a container on host2.")
    run(hosts[0], f"podman exec web0 sh -c 'dd if=/dev/urandom of=/tmp/file bs=1M count={SIZE_MB}; httpd -h /tmp'")
    sent = run(hosts[0], "podman exec web0 sha256sum /tmp/file").split()[0]
    run(hosts[2], f"podman exec web2 wget -q -O /tmp/file http://{addresses[hosts[0]]}/file")
    if run(hosts[2], "podman exec web2 sha256sum /tmp/file").split()[0] != sent:
        raise LabError("the file that arrived is not the file that was sent")
    say("The checksums are equal.")

    say("No Linux bridge: the container's interface is a port of the OVS bridge, beside a tunnel to every peer.")
    say("(br-phy stands for the network card of this lab's hosts.)")
    run(hosts[0], "ovs-vsctl show")
    run(hosts[0], "ip link show type bridge")

    say("With its last container a network is gone from the host, tunnels and all.")
    for host in hosts:
        run(host, f"podman rm -f -t 0 web{host.index}")
        run(host, "podman network rm net1")
    run(hosts[0], "ovs-vsctl show")
    say("Nothing is left but the lab's network card.")


def say(text: str) -> None:
    print(f"\n{DIM}# {text}{PLAIN}", flush=True)


def run(host: Host, command: str) -> str:
    """Show the prompt and the command, run it, show what it prints on either stream."""
    print(f"{BOLD}{host.name}#{PLAIN} {command}", flush=True)
    result = host.sh(f"({command}) 2>&1", check=False)
    print(result.stdout, end="", flush=True)
    if result.returncode:
        raise LabError(f"on {host.name}, {command!r} exited with {result.returncode}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
