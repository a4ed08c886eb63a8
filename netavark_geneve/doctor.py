# SPDX-License-Identifier: Apache-2.0
"""Find what keeps networks from working on this host, and what mends it."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec

from .checks.finding import OK, Finding
from .checks.software import LIBRARIES, check_library, check_python
from .model import Network


def doctor(networks: Iterable[Network], environ: Mapping[str, str]) -> list[Finding]:
    """All findings, in the order of what depends on what; without the libraries there is no looking further.

    Raises GeneveError when this host cannot be looked at.
    """
    first = list(_libraries())
    if any(finding.state != OK for finding in first):
        return first
    from .examination import examine

    return [*first, *examine(networks, environ)]


def _libraries() -> Iterator[Finding]:
    yield check_python(sys.version_info[:3])
    for name in LIBRARIES:
        yield check_library(name, _version(name))


def _version(library: str) -> str | None:
    """What is installed; "" of what is there without saying its version, as a bundled library is."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None if find_spec(library) is None else ""
