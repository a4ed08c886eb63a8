# SPDX-License-Identifier: Apache-2.0
"""The outcome of one check."""

from dataclasses import dataclass

from ..errors import GeneveError

OK, WARNING, FAULT, UNKNOWN = "ok", "warning", "fault", "unknown"


@dataclass(frozen=True)
class Finding:
    """What a check found and what it wants; unless all is well, why that matters and what mends it.

    A warning is about what works, but not as it should; unknown is what could not be looked at. A remedy that
    starts with a program's name is to be typed as it stands.
    """

    name: str
    found: str
    wanted: str = ""
    state: str = OK
    reason: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.name}: found {self.found}", f"wanted {self.wanted}" * bool(self.wanted), self.reason]
        return "; ".join([*filter(None, parts), *([f"remedy: {self.remedy}"] if self.remedy else [])])


def failed(name: str, error: GeneveError, *, wanted: str = "", state: str = FAULT) -> Finding:
    """What an error says: behind its last semicolon stands what to do."""
    reason, _, remedy = str(error).rpartition("; ")
    return Finding(name, "an error", wanted, state, reason or remedy, remedy if reason else "see the reason")


def unknown(name: str, error: GeneveError) -> Finding:
    """A look that failed."""
    return failed(name, error, state=UNKNOWN)
