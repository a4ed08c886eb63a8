"""What commands can be run on: a machine made of namespaces, or a virtual one."""

import subprocess
from abc import ABC, abstractmethod
from typing import Any

# Of the container that is called $1. conmon's command line tells as much as `podman inspect`, which takes five times as
# long; of two that have been given the same name, the younger one is meant.
NETNS = r"""
pidfile=$(pgrep -ax conmon | sed -n "s|.* -p \([^ ]*/pidfile\) -n $1 .*|\1|p" | tail -n 1)
netns=/proc/$(cat "${pidfile:?no container $1 is running}")/ns/net
"""


class Commands(ABC):
    """`run()` is all that a kind of machine has to bring; the rest is said with it."""

    @abstractmethod
    def run(
        self, *command: str, check: bool = True, timeout: float = 60, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a failing one raises an error that shows all of it."""

    def sh(self, script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run shell text; it stops at the first command that fails."""
        return self.run("bash", "-euc", script, "sh", *arguments, **options)

    def write(self, path: str, text: str) -> None:
        """Write a file, with the directories above it."""
        self.sh('mkdir -p "$(dirname "$1")"; cat >"$1"', path, input=text)

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run("cat", path).stdout

    def netns(self, container: str) -> str:
        """The path of a running container's network namespace."""
        return self.sh(f"{NETNS} echo $netns", container).stdout.strip()

    def netns_run(self, container: str, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a tool of the host inside a running container's network namespace."""
        return self.sh(f'{NETNS} shift; exec nsenter --net=$netns -- "$@"', container, *command, **options)
