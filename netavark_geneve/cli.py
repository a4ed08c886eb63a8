# SPDX-License-Identifier: Apache-2.0
"""The operator's command, `netavark-geneve`."""

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from . import __version__, log, podman
from .errors import GeneveError
from .frontends.netavark import stored_networks
from .lean import postpone
from .rootless import check_root

if TYPE_CHECKING:
    from .stale import Thing


def main() -> int:
    """Entry point `netavark-geneve`. Results go to stdout; what failed to stderr, with exit status 1.

    Of `doctor` that status says that it found faults; it has another one for what kept it from looking.
    """
    log.install(os.environ)
    arguments = _parse(sys.argv[1:])
    try:
        check_root()
        postpone()  # not for speed alone: ovsdbapp's __init__ wants pbr, which is no part of a bundle
        return arguments.run(arguments) or 0
    except GeneveError as error:
        print(f"netavark-geneve {arguments.command}: {error}", file=sys.stderr)
        return int(arguments.failure)
    except KeyboardInterrupt:
        return 130  # as a shell says of SIGINT


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="netavark-geneve", description="Look after the networks of geneve-ovs.")
    parser.set_defaults(failure=1)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    reload = commands.add_parser(
        "reload",
        help="restore firewall rules, kernel settings and names of all running containers",
        description="Restore firewall rules, kernel settings and names of all running containers, without"
        " touching the containers. Run it after somebody flushed the firewall.",
    )
    reload.add_argument(
        "--watch", action="store_true", help="then stay, and do it again each time firewalld has reloaded"
    )
    reload.set_defaults(run=_run_reload)
    gc = commands.add_parser(
        "gc",
        help="find what crashes and reboots left, and remove it",
        description="Find what crashes and reboots left on this host: ports, bridges, interfaces, firewall rules,"
        " names and settings of containers that are gone. Exit status 1 when something stays.",
    )
    gc.add_argument("--apply", action="store_true", help="remove it")
    gc.add_argument("--json", action="store_true", help="say it as a JSON list")
    gc.set_defaults(run=_run_gc)
    doctor = commands.add_parser(
        "doctor",
        help="find what keeps networks from working on this host, and what mends it",
        description="Look once at all that networks need of this host, and say what is not well and what mends it."
        " Nothing is changed. Exit status 0: all is well, or nothing worse than warnings; 1: there are faults; 2:"
        " something could not be looked at.",
    )
    doctor.add_argument("--all", action="store_true", help="say also what is well")
    doctor.add_argument("--json", action="store_true", help="say all of it as a JSON list")
    doctor.set_defaults(run=_run_doctor, failure=2)
    helper = commands.add_parser(
        "helper",
        help="serve the plugin's calls with everything loaded",
        description="Serve the plugin's calls with everything loaded, until nobody asks any more. systemd starts it"
        " (netavark-geneve.socket); without systemd, start it by hand.",
    )
    helper.add_argument("--socket", metavar="PATH", help="listen here instead of on systemd's socket")
    helper.add_argument("--idle", metavar="SECONDS", type=float, default=300.0, help="end after so long (%(default)g)")
    helper.set_defaults(run=_run_helper)
    return parser.parse_args(argv)


def _run_helper(arguments: argparse.Namespace) -> None:
    from .helper.server import serve

    serve(arguments.socket, os.environ, idle=arguments.idle)


def _run_reload(arguments: argparse.Namespace) -> None:
    if arguments.watch:
        _watch()
    else:
        _reload()


def _run_gc(arguments: argparse.Namespace) -> None:
    from .gc import gc

    report = gc(stored_networks(os.environ), os.environ, apply=arguments.apply, wait=_wait)
    if arguments.json:
        print(json.dumps([_described(thing, report.removed) for thing in report.things], indent=2))
    else:
        for thing in report.things:
            print(f"removed {thing}" if thing in report.removed else thing)
        if not report.things:
            print("nothing is stale")
    sys.stdout.flush()
    if report.error is not None:
        raise report.error
    left = len(report.things) - len(report.removed)
    if left:
        raise GeneveError(
            f"{left} could not be removed; run it again"
            if arguments.apply
            else f"found {left} stale; 'netavark-geneve gc --apply' removes them"
        )


def _described(thing: "Thing", removed: "Collection[Thing]") -> dict[str, object]:
    return {
        "kind": thing.kind,
        "name": thing.name,
        "network": thing.network or None,
        "container": thing.short_id or None,
        "reason": thing.reason,
        "removed": thing in removed,
    }


def _run_doctor(arguments: argparse.Namespace) -> int:
    from .checks.finding import FAULT, OK, UNKNOWN, WARNING
    from .doctor import doctor

    environ = _environ()
    findings = doctor(stored_networks(environ), environ)
    counts = Counter(finding.state for finding in findings)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            if arguments.all or finding.state != OK:
                print(f"{finding.state:<8} {finding}")
        words = {FAULT: "fault(s)", UNKNOWN: "unknown", WARNING: "warning(s)"}
        told = [f"{counts[state]} {word}" for state, word in words.items() if counts[state]]
        print(f"{len(findings)} checks: {', '.join(told) or 'all is well'}")
    return 1 if counts[FAULT] else 2 if counts[UNKNOWN] else 0


def _environ() -> dict[str, str]:
    """Ours, and what Podman would put there if it called us."""
    return {**podman.variables(os.environ), **os.environ}


def _wait(seconds: float, things: int) -> None:
    print(
        f"netavark-geneve gc: {things} may be of a container that is just starting or ending; looking again in"
        f" {seconds:g} s",
        file=sys.stderr,
        flush=True,
    )
    time.sleep(seconds)


def _reload() -> None:
    from .reload import reload

    environ = _environ()
    attached = reload(stored_networks(environ), environ)
    networks = {network.name for network, _ in attached}
    print(f"restored {len(attached)} container(s) on {len(networks)} network(s)", flush=True)


def _watch() -> None:
    from .firewalld import reloads

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        events = reloads()  # listens from now on, so that none is missed meanwhile
        _reload()
        for _ in events:
            try:
                _reload()
            except GeneveError as error:  # Open vSwitch may be away just now; the next reload is another chance
                log.logger.warning("%s", error)


if __name__ == "__main__":
    sys.exit(main())
