# SPDX-License-Identifier: Apache-2.0
"""Packages whose `__init__` runs when somebody needs it, not when one of their modules is imported.

pyroute2's imports all that it has (NDB, a command line, an HTTP server), which takes longer than the rest of an
attach; its IPRoute imports unittest.mock, and with it asyncio, for its own tests; ovsdbapp's looks for its own version
among the installed packages; ovs could log to syslog. importlib.util.LazyLoader is no help: asking for a package's
`__path__` loads it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

LATER = ("pyroute2", "ovsdbapp", "unittest", "unittest.mock", "logging.handlers")


def postpone() -> None:
    """From now on, importing a module of these packages imports what that module needs, and no more."""
    for name in LATER:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            sys.modules[name] = _later(spec)
            package, _, own_name = name.rpartition(".")
            if package:  # `import package.name` binds the package, and expects to find the other in there
                setattr(sys.modules[package], own_name, sys.modules[name])


@contextmanager
def without(name: str) -> Iterator[None]:
    """As if this module could not be imported meanwhile, for the sake of somebody who does without it then."""
    there = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment] # so says importlib's documentation
    try:
        yield
    finally:
        del sys.modules[name]
        if there is not None:
            sys.modules[name] = there


def _later(spec: ModuleSpec) -> ModuleType:
    """The module, which executes its code when it is first asked for a name (PEP 562)."""
    module = module_from_spec(spec)

    def find(name: str) -> Any:
        if spec.submodule_search_locations and find_spec(f"{spec.name}.{name}") is not None:
            raise AttributeError(name)  # a module of its own, which the import system comes to next
        del module.__getattr__
        if spec.loader is not None:
            spec.loader.exec_module(module)
        return getattr(module, name)

    module.__getattr__ = find  # type: ignore[method-assign]
    return module
