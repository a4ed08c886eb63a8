"""The command line."""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from . import registry
from .cache import directory
from .errors import LabError
from .host import Host
from .layer import lower_directories
from .machine import ENVIRONMENT
from .signals import terminable
from .topology import CHECKOUT, Lab, need_root

EXAMPLE = """\
  lab up 3
  lab run host0 -- podman run -d --name web alpine httpd -f
  lab shell host1
  lab down"""


def main() -> int:
    options = _parser().parse_args()
    try:
        need_root()
        with terminable():
            options.verb(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Several Podman hosts with Open vSwitch on one machine.",
        epilog=f"example:\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    name = argparse.ArgumentParser(add_help=False)
    name.add_argument("--name", default="lab", help="which lab, if there are several (default: %(default)s)")
    plugin = argparse.ArgumentParser(add_help=False)
    plugin.add_argument("--libs", choices=("debian", "pypi"), default="debian", help="whose libraries the plugin gets")
    plugin.add_argument("--checkout", type=Path, default=CHECKOUT, help="where the plugin is (default: %(default)s)")

    up = verbs.add_parser("up", parents=[name, plugin], help="start hosts")
    up.add_argument("hosts", nargs="?", type=int, default=2, metavar="N", help="how many (default: %(default)s)")
    up.add_argument("--mtu", type=int, default=1500, help="MTU of the underlay (default: %(default)s)")
    up.set_defaults(verb=_up)
    verbs.add_parser("down", parents=[name], help="take them down without a trace").set_defaults(verb=_down)
    verbs.add_parser("status", help="list running labs").set_defaults(verb=_status)
    verbs.add_parser("build", parents=[plugin], help="fill the cache only").set_defaults(verb=_build)
    shell = verbs.add_parser("shell", parents=[name], help="a shell on a host")
    shell.add_argument("host")
    shell.set_defaults(verb=_shell)
    run = verbs.add_parser("run", parents=[name], help="run a command on a host; its exit status is ours")
    run.add_argument("host")
    run.add_argument("command", nargs="+", metavar="-- COMMAND")
    run.set_defaults(verb=_run)
    return parser


def _up(options: argparse.Namespace) -> None:
    lab = Lab(options.hosts, options.mtu, options.libs, options.name, options.checkout)
    lab.up()
    _show(lab)


def _down(options: argparse.Namespace) -> None:
    Lab.find(options.name).down()


def _status(_: argparse.Namespace) -> None:
    for name in registry.names():
        _show(Lab.find(name))
    if not registry.names():
        print("no lab is up; start one with: lab up")


def _show(lab: Lab) -> None:
    print(f"lab {lab.name}: MTU {lab.mtu}, {lab.libs} libraries")
    for host in lab.hosts:
        state = "" if host.init.alive() else "  DEAD"
        print(f"  {host.name}  {host.address}  {host.address6}  pid {host.pid}{state}")


def _build(options: argparse.Namespace) -> None:
    lower_directories(options.checkout, options.libs)
    print(f"all is in {directory()}")


def _shell(options: argparse.Namespace) -> NoReturn:
    _become(_host(options), "bash", "-c", "cd; exec bash -i")


def _run(options: argparse.Namespace) -> NoReturn:
    _become(_host(options), *options.command)


def _host(options: argparse.Namespace) -> Host:
    hosts = {host.name: host for host in Lab.find(options.name).hosts}
    if options.host not in hosts:
        raise LabError(f"there is no {options.host!r} in lab {options.name!r}; it has {', '.join(hosts)}")
    return hosts[options.host]


def _become(host: Host, *command: str) -> NoReturn:
    argv = host.enter(*command)
    os.execvpe(argv[0], argv, ENVIRONMENT)


if __name__ == "__main__":
    sys.exit(main())
