"""Do the rivals do what they are measured for? `python -m tests.bench.rivals.check`, as root.

On a host of a lab: containers attached by each of them reach one another, and nothing is left of them afterwards.
"""

import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from tests.lab import Host, Lab, diff

from . import build
from .run import GUEST_INTERFACE, Call, Guest, Rival, Site, rivals

PROGRAMS = "/run/rivals"
SITE = Site(PROGRAMS, bridge="b0", gateway="10.90.0.1", prefix=16)
ROUNDS = 20
HELD, FREE, FREE6 = "fd00:90::1", "10.90.250.99", "fd00:90::99"
RUN = Path(__file__).with_name("run.py")
MEASURE = """
import sys
site, guest, ovs_cni, rounds = json.loads(sys.argv[1])
print(json.dumps(samples(rivals(Site(**site), ovs_cni=ovs_cni), Guest(**guest), rounds)))
"""


def main() -> int:
    """Check, and show roughly what each one takes."""
    with Lab(hosts=1, name="rivals") as lab:
        host = lab.hosts[0]
        for name, verbs in check(host).items():
            medians = (f"{verb} {statistics.median(times):.1f} ms" for verb, times in verbs.items())
            print(f"{name}: {', '.join(medians)}")
    return 0


def check(host: Host) -> dict[str, dict[str, list[float]]]:
    """Assert that the rivals work on this host; what a few rounds of each took, by name and verb."""
    # Through /proc: the host's /run is a file system of its own.
    programs = Path(f"/proc/{host.pid}/root{PROGRAMS}")
    build.programs(programs)
    ovs_cni = build.ovs_cni(programs) is not None
    host.run("ovs-vsctl", "add-br", SITE.bridge, "--", "set", "Bridge", SITE.bridge, "datapath_type=netdev")
    guests = [Guest(number, f"/run/netns/guest{number}", f"10.90.250.{number}") for number in (1, 2)]
    for guest in guests:
        host.run("ip", "netns", "add", Path(guest.netns).name)
    for rival in rivals(SITE, ovs_cni=ovs_cni):
        before = host.snapshot()
        check_rival(host, rival, guests)
        assert not ports(host), f"{rival.name} leaves {ports(host)} on the bridge"
        left = diff(before, host.snapshot())
        assert not left, f"{rival.name} leaves something behind:\n{left}"
    check_questions(host, guests)
    check_refusals(host, guests[0])
    job = json.dumps([vars(SITE), vars(guests[0]), ovs_cni, ROUNDS])
    done = host.run("python3", "-c", RUN.read_text(encoding="utf-8") + MEASURE, job, timeout=300)
    return dict(json.loads(done.stdout))


def check_rival(host: Host, rival: Rival, guests: list[Guest]) -> None:
    """Attach all, let each ping the others, detach all."""
    for guest in guests:
        perform(host, rival.setup(guest))
    if rival.attaches:
        assert len(ports(host)) == len(guests), f"{rival.name} attaches {ports(host)}"
        for guest in guests:
            check_guest(host, guest)
            for other in guests:
                if other != guest:
                    # At once, and without a second try: a rival that answers before packets pass is no rival.
                    inside(host, guest, "ping", "-c1", "-W0.5", other.address)
    for guest in guests:
        perform(host, rival.teardown(guest))
        links = json.loads(inside(host, guest, "ip", "-json", "link"))
        assert [link["ifname"] for link in links] == ["lo"], f"{rival.name} leaves {links}"


def check_guest(host: Host, guest: Guest) -> None:
    """MAC address, MTU, address, and the default route."""
    (link,) = json.loads(inside(host, guest, "ip", "-json", "address", "show", "dev", GUEST_INTERFACE))
    assert (link["address"], link["mtu"]) == (guest.mac, SITE.mtu), link
    addresses = [info for info in link["addr_info"] if info["family"] == "inet"]
    assert [(info["local"], info["prefixlen"]) for info in addresses] == [(guest.address, SITE.prefix)], link
    (route,) = json.loads(inside(host, guest, "ip", "-json", "route", "show", "default"))
    assert (route["gateway"], route["dev"]) == (SITE.gateway, GUEST_INTERFACE), route


def check_questions(host: Host, guests: list[Guest]) -> None:
    """The floor finds the holder of an address, of either family, and takes a free one for free."""
    floor = next(rival for rival in rivals(SITE, ovs_cni=False) if rival.name == "C floor")
    first, second = guests
    host.run("ip", "link", "set", SITE.bridge, "up")
    perform(host, floor.setup(first))
    inside(host, first, "ip", "address", "add", f"{HELD}/64", "dev", GUEST_INTERFACE, "nodad")
    for held in (first.address, HELD):
        done = host.run(*floor.setup(replace(second, questions=(FREE, FREE6, held))).argv, check=False)
        assert (done.returncode, "somebody has an address" in done.stderr) == (1, True), done
        perform(host, floor.teardown(second))  # the floor takes nothing back
    perform(host, floor.setup(replace(second, questions=(FREE, FREE6))))
    for guest in guests:
        perform(host, floor.teardown(guest))


def check_refusals(host: Host, guest: Guest) -> None:
    """The floor says in a sentence what is wrong."""
    floor = f"{PROGRAMS}/floor"
    settings = (guest.mac, f"{guest.address}/{SITE.prefix}", SITE.gateway, str(SITE.mtu))
    refusals = {
        (): "usage: ",
        ("add", guest.netns, "eth0", "nobridge", "p0", *settings): "ovsdb-server refuses: ",
        ("add", "/run/netns/nowhere", "eth0", SITE.bridge, "p0", *settings): "cannot open the network namespace ",
        ("add", guest.netns, "eth0", SITE.bridge, "a'b", *settings): "is not a name",
        ("ask", "10.90.250", "add"): "'10.90.250' is not an address",
        ("add", guest.netns, "eth0", SITE.bridge, "taken", *settings): "the kernel does not create a veth pair",
        ("del", SITE.bridge, "nowhere"): "there is no port nowhere",
        ("del", SITE.bridge, "p0", "/run/nowhere.sock"): "cannot reach ovsdb-server at /run/nowhere.sock",
    }
    host.run("ip", "link", "add", "taken", "type", "veth", "peer", "name", "other")
    for arguments, sentence in refusals.items():
        done = host.run(floor, *arguments, check=False)
        assert done.returncode == 1, done
        assert sentence in done.stderr, done
    host.run("ovs-vsctl", "del-port", SITE.bridge, "taken")  # the floor takes nothing back
    host.run("ip", "link", "delete", "taken")
    assert not ports(host)


def perform(host: Host, call: Call) -> None:
    host.run(*call.argv, input=call.input, env=call.env)


def inside(host: Host, guest: Guest, *command: str) -> str:
    """What a command says in a guest's network namespace."""
    return host.run("nsenter", f"--net={guest.netns}", "--", *command).stdout


def ports(host: Host) -> list[str]:
    return host.run("ovs-vsctl", "list-ports", SITE.bridge).stdout.split()


if __name__ == "__main__":
    sys.exit(main())
