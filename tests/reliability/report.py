"""docs/reliability.md: each test writes its own section, and leaves alone those of the others."""

import platform
import re
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import locked

REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = "# Reliability\n\nWritten by `make reliability` and `make storm`; Linux {kernel}, OVS's userspace datapath."


def write(title: str, lines: Sequence[str]) -> None:
    """Replace this section; a new one goes to the end."""
    with locked("report"):  # tests run side by side
        _write(title, lines)


def _write(title: str, lines: Sequence[str]) -> None:
    text = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    sections = dict(re.findall(r"^## (.+?)\n\n(.*?)\n*(?=^## |\Z)", text, re.M | re.S))
    sections[title] = "\n".join(lines)
    head = HEAD.format(kernel=platform.release().partition("-")[0])
    parts = [head, *(f"## {name}\n\n{body}" for name, body in sections.items())]
    REPORT.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
