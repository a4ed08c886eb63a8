"""What goes wrong in a lab, as one sentence that says what to do."""

import shlex
from collections.abc import Sequence


class LabError(Exception):
    """The lab cannot do what was asked."""


class CommandError(LabError):
    """A command on a machine of the lab failed."""

    def __init__(self, where: str, command: Sequence[str], what: str, stdout: str, stderr: str) -> None:
        self.stdout = stdout
        self.stderr = stderr
        outputs = (("stdout", stdout), ("stderr", stderr))
        said = "".join(f"\n--- {name}\n{text.rstrip()}" for name, text in outputs if text)
        super().__init__(f"{where}: `{shlex.join(command)}` {what}{said}")
