# SPDX-License-Identifier: Apache-2.0
"""The layers of the package: arrows point down only."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import netavark_geneve

from .conftest import PROJECT
from .makers import encoded, network_json, request_json

PACKAGE = Path(netavark_geneve.__file__).parent

# From the top down. A new module gets its place here.
LAYERS = {
    "entries": ("cli", "helper.client"),
    "edges": ("__main__", "helper.server"),
    "front ends": ("frontends.netavark", "frontends.fields"),
    "verbs": ("create", "attach", "detach", "reload", "gc", "doctor"),
    "decide": (
        *(
            "definition",
            "plan",
            "membership",
            "fabric.mesh",
            "leave",
            "tap",
            "arrival",
            "stale",
            "survey",
            "examination",
        ),
        *(
            "checks.software",
            "checks.openvswitch",
            "checks.peers",
            "checks.ruleset",
            "checks.packetfilter",
            "checks.host",
        ),
    ),
    "apply": (
        *(
            "links",
            "switch",
            "sweep",
            "neighbours",
            "revalidation",
            "sysctls",
            "firewall",
            "firewalld",
            "dns",
            "underlay",
            "podman",
        ),
        *("kept", "engine", "kernel"),
    ),
    "wrap": ("nftables", "nfnetlink", "ovsdb", "interior", "programs", "linklist"),
    "speak": ("netlink",),
    "vocabulary": ("model", "found", "options", "tags", "addresses", "naming", "config", "schema", "checks.finding"),
    "floor": ("errors", "log", "aside", "files", "rootless", "lean", "helper.wire"),
}
DEPTH = {module: depth for depth, modules in enumerate(LAYERS.values()) for module in modules}
INDEPENDENT = (
    *LAYERS["entries"],
    *LAYERS["edges"],
    *LAYERS["verbs"],
    *LAYERS["apply"],
    *LAYERS["wrap"],
)  # of the others in their layer
PURE = ("definition", "plan", "fabric.mesh", "stale", *(name for name in DEPTH if name.startswith("checks.")))
LIBRARIES = {
    "jeepney": {"firewalld"},
    "pyroute2": {"linklist", "links", "underlay"},
    "ovsdbapp": {"ovsdb"},
    "ovs": {"ovsdb"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
PACKAGES = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
MODULES = sorted(SOURCES.keys() - PACKAGES)
each_module = pytest.mark.parametrize("module", MODULES)


def imported(module: str) -> Iterator[str]:
    """Absolute names of all that `module` imports, anywhere in it; "from x import y" gives "x.y"."""
    package = ["netavark_geneve", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def own_imports(module: str) -> set[str]:
    """The modules of this package that `module` imports; not the packages that they are in."""
    found = set()
    for name in imported(module):
        head, _, rest = name.partition(".")
        if head == "netavark_geneve":
            found.add(rest if rest in SOURCES else rest.rpartition(".")[0])
    return found - {""}


def test_parser_of_imports_sees_every_kind() -> None:
    assert own_imports("__main__") >= {"log", "errors", "frontends.netavark"}
    assert own_imports("fabric.mesh") >= {"naming", "addresses", "errors", "model", "options"}
    assert own_imports("frontends.netavark") >= {"create", "attach", "detach", "podman", "rootless", "frontends.fields"}
    assert "pyroute2.iproute.IPRoute" in set(imported("linklist"))


def test_every_module_has_its_layer() -> None:
    assert sorted(DEPTH) == MODULES


@each_module
def test_imports_point_down(module: str) -> None:
    assert {name for name in own_imports(module) if DEPTH[name] < DEPTH[module]} == set()


@pytest.mark.parametrize("module", INDEPENDENT)
def test_siblings_do_not_know_each_other(module: str) -> None:
    assert {name for name in own_imports(module) if DEPTH[name] == DEPTH[module]} == set()


@pytest.mark.parametrize("module", PURE)
def test_decisions_are_made_without_touching_the_host(module: str) -> None:
    touching = {*LAYERS["apply"], *LAYERS["wrap"], "config", "membership"}
    assert own_imports(module) & touching == set()
    assert {name.partition(".")[0] for name in imported(module)} & {
        "os",
        "socket",
        "pathlib",
        "subprocess",
        "time",
    } == set()


def test_modules_import_each_other_in_no_circle() -> None:
    order = list(TopologicalSorter({module: own_imports(module) for module in MODULES}).static_order())
    assert sorted(order) == MODULES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_import_nothing_so_that_importing_one_module_costs_no_other(package: str) -> None:
    assert list(imported(package)) == []


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_library_is_imported_only_by_the_modules_that_wrap_it(library: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == library for name in imported(module))}
    assert users == LIBRARIES[library]


PROBE = """
import json, sys
from importlib import import_module
from netavark_geneve import rootless
rootless.check_root = lambda: None
entry = sys.argv.pop(1)
try:
    status = import_module(f"netavark_geneve.{entry}").main()
except SystemExit as stopped:
    status = stopped.code
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print("", json.dumps({"status": status, "loaded": loaded}), sep="\\n", file=sys.stderr)
"""


def run_probe(entry: str, arguments: list[str], stdin: bytes = b"") -> tuple[int, set[str]]:
    """Exit status of the entry point in this module, and the top-level packages that it had loaded by then."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, entry, *arguments],
        input=stdin,
        capture_output=True,
        cwd=PROJECT,
        timeout=30,
        check=True,
    )
    report = json.loads(done.stderr.splitlines()[-1])
    return report["status"], set(report["loaded"])


NETNS = "/run/netns/none"


@pytest.mark.parametrize(
    ("arguments", "stdin", "status"),
    [
        (["info"], b"", 0),
        (["remove"], b"", 1),
        (["create"], b"", 1),
        (["teardown", NETNS], b"{", 1),
        (["create"], encoded(network_json(name=1)), 1),
        (["setup", NETNS], encoded(request_json(container_id=None)), 1),
        (["create"], encoded(network_json(options={"slot": "1"})), 1),
    ],
    ids=[
        "info",
        "unknown verb",
        "create: empty stdin",
        "teardown: malformed",
        "create: wrong type",
        "setup: no container",
        "create: slot",
    ],
)
def test_info_and_a_request_that_is_refused_cost_no_library(arguments: list[str], stdin: bytes, status: int) -> None:
    found, loaded = run_probe("__main__", arguments, stdin)
    assert found == status
    assert loaded & LIBRARIES.keys() == set()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["gc", "--help"], 0),
        (["reload", "--help"], 0),
        (["doctor", "--help"], 0),
        ([], 2),
        (["relaod"], 2),
        (["reload", "x"], 2),
    ],
    ids=[
        "version",
        "help",
        "help of gc",
        "help of reload",
        "help of doctor",
        "nothing",
        "unknown command",
        "unknown argument",
    ],
)
def test_operators_command_costs_no_library_unless_it_does_something(arguments: list[str], status: int) -> None:
    found, loaded = run_probe("cli", arguments)
    assert found == status
    assert loaded & LIBRARIES.keys() == set()


def test_probe_would_see_the_libraries() -> None:
    """An attach that gets as far as its namespace, which is not there, has loaded what it speaks OVSDB by."""
    status, loaded = run_probe("__main__", ["setup", NETNS], encoded(request_json()))
    assert status == 1
    assert loaded >= {"ovsdbapp", "ovs"}
