# SPDX-License-Identifier: Apache-2.0
"""Any standard input at all: a result or one sentence, never a traceback."""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.unit.conftest import PROJECT

from . import report

INPUTS = 120_000
PART = 10_000
TIMEOUT = 300.0
ALONE = ("unshare", "--net", "--mount")  # so that nothing of the machine can change


def fuzz(seed: int) -> Counter[str]:
    command = (*ALONE, sys.executable, "-m", "tests.reliability.fuzz", str(seed), str(PART))
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return Counter(json.loads(done.stdout))


def test_any_input_is_answered_with_a_result_or_a_sentence() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as parts:
        outcomes: Counter[str] = sum(parts.map(fuzz, range(INPUTS // PART)), Counter())
    assert outcomes.total() == INPUTS
    assert outcomes["create: done"] > 0  # some inputs are right after all, so the others are nearly right
    report.write(
        "Any input",
        [
            f"{INPUTS:,} requests that are nearly right (values replaced, dropped, swapped and repeated, options made",
            "up, bytes corrupted) through the plugin's main function. Each was answered with a result or with one",
            "sentence, none with a traceback.",
            "",
            "| call | ended | inputs |",
            "|---|---|---|",
            *(f"| {call} | {end} | {count:,} |" for (call, end), count in split(outcomes)),
        ],
    )


def split(outcomes: Counter[str]) -> list[tuple[list[str], int]]:
    return [(name.split(": "), count) for name, count in sorted(outcomes.items())]
