"""Run these tests on a host of the lab, once with Debian's libraries and once with the newest from PyPI."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.lab import Lab

HERE = Path(__file__).parent
PYTHON = "/opt/netavark-geneve/bin/python"
VERSIONS = "from importlib.metadata import version as v; print('pyroute2', v('pyroute2'), 'ovsdbapp', v('ovsdbapp'))"
TIMEOUT = 300


def main() -> int:
    status = 0
    for libs in ("debian", "pypi"):
        with Lab(hosts=1, libs=libs) as lab:
            (host,) = lab.hosts
            print(f"sandbox, {libs} libraries:", host.run(PYTHON, "-c", VERSIONS).stdout.strip(), flush=True)
            subprocess.run(host.enter("tar", "-x", "-C", "/tmp"), input=_archive(), check=True, timeout=TIMEOUT)
            command = host.enter(PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "/tmp/tests/sandbox")
            status |= subprocess.run(command, check=False, timeout=TIMEOUT).returncode
    return status


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        scripts = (HERE.parent / "__init__.py", HERE.parent / "lab" / "firewalld.sh")
        for path in (*scripts, *sorted(HERE.glob("*.py"))):
            archive.add(path, str(path.relative_to(HERE.parents[1])))
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
