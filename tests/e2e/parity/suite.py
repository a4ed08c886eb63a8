"""netavark's own tests of its bridge driver, unmodified, with the plugin in the driver's place.

usage: python -m tests.e2e.parity.suite NETAVARK

NETAVARK is a checkout of netavark v1.14.0: its tests are neither copied here nor fetched. They make namespaces
for a host and its containers, call netavark, and look with `ip` and `nc`; `shims/` stand in front of these
programs. Those that can pass are run: no other reads but netavark's own rules and files, or its sentences.
"""

import subprocess
import sys
from pathlib import Path

from tests.lab import Lab

SHIMS = Path(__file__).with_name("shims")
FILE = "250-bridge-nftables.bats"
NEEDED = ("bats", "jq", "ncat")
THERE = "/opt/parity"
PASS = (
    "check nftables driver is in use",
    "bridge with static routes",
    "bridge with no default route",
    "run netavark update - no-op",
    "ipv6 bridge with static routes",
    "port (range )?forwarding .*",
    "bridge ipam none",
    "bridge static mac",
    "route metric from config",
    "default route metric",
)


def main() -> int:
    if len(sys.argv) != 2 or not (tests := Path(sys.argv[1], "test")).joinpath(FILE).is_file():
        print((__doc__ or "").split("\n\n")[1], file=sys.stderr)
        return 2
    with Lab(hosts=1) as lab:
        (host,) = lab.hosts
        missing = [program for program in NEEDED if host.run("which", program, check=False).returncode]
        if missing:
            print(f"the hosts of the lab have no {', '.join(missing)}; see PACKAGES in tests/lab", file=sys.stderr)
            return 2
        for file in (*SHIMS.iterdir(), *tests.rglob("*")):
            if file.is_file():
                base = SHIMS.parent if file.is_relative_to(SHIMS) else tests.parent
                host.write(f"{THERE}/{file.relative_to(base)}", file.read_text(encoding="utf-8"))
        host.sh(f"chmod +x {THERE}/shims/*")
        environ = {
            "PATH": f"{THERE}/shims:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "NETAVARK": f"{THERE}/shims/netavark",
        }
        titles = f"^([^ ]+ - )?({'|'.join(PASS)})$"
        bats = ("bats", "--tap", "--filter", titles, f"{THERE}/test/{FILE}")
        with host.popen(*bats, env=environ, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
        return process.wait()


if __name__ == "__main__":
    sys.exit(main())
