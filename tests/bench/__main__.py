"""`make bench`: measure, and write docs/performance.md. With names of parts, only those are measured anew."""

import platform
import re
import sys
from pathlib import Path

from tests.lab import Lab

from . import answers, attach, datapath, endurance, engine, growth, starts, steps

REPORT = Path(__file__).parents[2] / "docs" / "performance.md"
PARTS = {"attach": attach, "steps": steps, "starts": starts, "growth": growth, "engine": engine, "endurance": endurance}
ALL = {**PARTS, "datapath": datapath, "answers": answers}  # these, in a virtual machine, only when asked for


def main(names: list[str]) -> int:
    unknown = set(names) - ALL.keys()
    if unknown:
        print(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    text = REPORT.read_text(encoding="utf-8") if names and REPORT.exists() else ""
    known = dict(re.findall(r"^## (.+?)\n\n(.*?)\n*(?=^## |\Z)", text, re.M | re.S))
    for name in names or PARTS:
        measured = {title: "\n".join(lines) for title, lines in ALL[name].sections().items()}
        known |= measured
        print("\n\n".join(f"## {title}\n\n{body}" for title, body in measured.items()), flush=True)
        report = [head(), *(f"## {title}\n\n{body}" for title, body in known.items())]
        REPORT.write_text("\n\n".join(report) + "\n", encoding="utf-8")
    return 0


def head() -> str:
    with Lab(hosts=1, name="versions") as lab:
        asked = "nproc; podman --version; /usr/lib/podman/netavark --version; ovs-vswitchd --version"
        cores, *versions = lab.hosts[0].sh(asked).stdout.splitlines()
    kernel = platform.release().partition("-")[0]
    machine = f"{cores} cores, Linux {kernel}, {', '.join(versions[:3])}"
    return f"# Performance\n\nWritten by `make bench`; {machine}. The machine did nothing else."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
