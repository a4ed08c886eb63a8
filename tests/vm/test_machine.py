"""What the tests rest on: commands on a virtual machine say how they ended."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab import CommandError

from .machine import VirtualMachine


def test_a_command_gives_its_output_and_exit_status(pair: Sequence[VirtualMachine]) -> None:
    machine = pair[0]
    done = machine.sh("cat; echo grün >&2; exit 3", input="ein\nzwei", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "ein\nzwei", "grün\n")
    with pytest.raises(CommandError, match=r"host0: `false` exited with 1"):
        machine.run("false")
    with pytest.raises(CommandError, match=r"did not finish within 1 s"):
        machine.run("sleep", "60", timeout=1)
    assert machine.run("no-such-program", check=False).returncode == 127


def test_a_file_arrives_as_it_is(pair: Sequence[VirtualMachine], tmp_path: Path) -> None:
    source = tmp_path / "every-byte"
    source.write_bytes(bytes(range(256)) * 500)
    pair[1].put(source, "/run/every-byte")
    said = pair[1].run("sha256sum", "/run/every-byte").stdout
    assert said.split()[0] == hashlib.sha256(source.read_bytes()).hexdigest()
