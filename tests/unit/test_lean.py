# SPDX-License-Identifier: Apache-2.0
"""Packages that are there when asked for, and not before; each case in an interpreter of its own."""

import subprocess
import sys

import pytest

from .conftest import PROJECT

LOADED = "import sys; print(*sorted(sys.modules))"
ALL_OF_PYROUTE2 = ("pyroute2.ndb.main", "pyroute2.ndb.objects.interface", "unittest.mock")


def run(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, cwd=PROJECT
    )
    return done.stdout.split()


def postponed(script: str) -> list[str]:
    return run(f"from netavark_geneve.lean import postpone; postpone(); {script}")


def test_pyroute2_imports_all_it_has() -> None:
    assert set(run(f"import pyroute2.iproute; {LOADED}")) >= set(ALL_OF_PYROUTE2)


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_a_verb_imports_what_it_needs(verb: str) -> None:
    loaded = set(postponed(f"import netavark_geneve.{verb}; {LOADED}"))
    assert "ovsdbapp.backend.ovs_idl" in loaded
    assert loaded & {"pyroute2.netlink.rtnl", "pyroute2.iproute", "pbr.version", "unittest.case"} == set()
    assert loaded & {"ssl", "_ssl"} == set()


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_a_verb_cannot_log_to_syslog_yet(verb: str) -> None:
    there = "vars(sys.modules['logging.handlers'])"  # imported by ovs, and not executed
    assert postponed(f"import netavark_geneve.{verb}, sys; print('SysLogHandler' in {there})") == ["False"]


def test_look_at_interfaces_imports_what_it_needs() -> None:
    loaded = set(postponed(f"import netavark_geneve.linklist; {LOADED}"))
    assert "pyroute2.iproute.linux" in loaded
    assert loaded & {*ALL_OF_PYROUTE2, "unittest.case"} <= {"unittest.mock"}  # there, not executed


@pytest.mark.parametrize(
    "script",
    [
        "import pyroute2; print(pyroute2.NDB.__name__)",
        "from pyroute2 import NDB; print(NDB.__name__)",
        "from pyroute2 import NDB, netlink; print(NDB.__name__)",
        "import pyroute2.netlink; print(pyroute2.NDB.__name__)",
        "from netavark_geneve import linklist; import pyroute2; print(pyroute2.NDB.__name__)",
    ],
)
def test_what_is_postponed_comes_when_asked_for(script: str) -> None:
    assert postponed(script) == ["NDB"]


def test_also_a_module_and_the_package_around_it() -> None:
    script = (
        "from unittest import mock; from unittest import TestCase; print(mock.MagicMock.__name__, TestCase.__name__)"
    )
    assert postponed(script) == ["MagicMock", "TestCase"]


def test_also_a_module_whose_package_is_there() -> None:
    script = "import logging.handlers; print(logging.handlers.SysLogHandler.__name__, logging.Handler.__name__)"
    assert postponed(script) == ["SysLogHandler", "Handler"]


@pytest.mark.parametrize("before", ["", "import ssl; "], ids=["", "imported before"])
def test_what_somebody_does_without_is_there_for_others(before: str) -> None:
    script = (
        f"from netavark_geneve.lean import without; {before}\n"
        "with without('ssl'):\n"
        "    try: import ssl as missing\n"
        "    except ImportError: print('ImportError')\n"
        "import ssl; print(ssl.SSLContext.__name__)"
    )
    assert run(script) == ["ImportError", "SSLContext"]


def test_what_is_not_there_fails_as_ever() -> None:
    script = "import pyroute2\ntry: pyroute2.nothing\nexcept AttributeError as error: print('AttributeError')"
    assert postponed(f"exec({script!r})") == ["AttributeError"]


def test_what_is_loaded_already_stays() -> None:
    script = "import pyroute2; from netavark_geneve.lean import postpone; postpone(); print(pyroute2.NDB.__name__)"
    assert run(script) == ["NDB"]
