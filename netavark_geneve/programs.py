# SPDX-License-Identifier: Apache-2.0
"""Ask another program, within a time."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from .errors import Deadline, GeneveError

SHORTEST = 0.5  # seconds that it gets, even when the deadline has passed


def ask(command: Sequence[str], deadline: Deadline) -> str:
    """What the command prints. Raises GeneveError, with what it says on stderr, when it fails or takes too long."""
    name = " ".join(command)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as error:
        raise GeneveError(f"cannot run '{name}': {error.strerror}; is it installed?") from error
    with child:
        try:
            output, errors = child.communicate(timeout=max(SHORTEST, deadline.remaining()))
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise GeneveError(f"'{name}' does not answer; look for what it waits for") from error
    if child.returncode:
        said = (errors.strip() or output.strip() or f"exit status {child.returncode}").splitlines()[-1]
        raise GeneveError(f"'{name}' fails: {said}; run it by hand")
    return output
