"""Packages of this checkout, and of a later version of it, as `make` builds them."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from netavark_geneve import __version__
from tests.lab.topology import CHECKOUT

LATER = f"{__version__[:-1]}{int(__version__[-1]) + 1}"  # as long as the version it follows
RPM, SRPM, DEB = "netavark-geneve-*.noarch.rpm", "netavark-geneve-*.src.rpm", "netavark-geneve_*_all.deb"
TIMEOUT = 300.0


@dataclass(frozen=True)
class Build:
    """A directory with the packages of one build, and the source they were built from."""

    dist: Path
    source: Path = CHECKOUT

    def make(self, *arguments: str, offline: bool = False) -> None:
        """Run make; its intermediate files are of this build alone, and it fetches nothing."""
        variables = (f"DIST={self.dist}", f"BUILD={self.dist}/build", f"SOURCES={_inputs(self.dist)}")
        namespace = ("unshare", "--net") if offline else ()
        done = subprocess.run(
            [*namespace, "make", "-C", self.source, f"VENV={CHECKOUT}/.venv", *variables, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def file(self, pattern: str) -> Path:
        """The one package whose name matches."""
        (found,) = self.dist.glob(pattern)
        return found


def later_source(directory: Path) -> Path:
    """A copy of the checkout that is of another version, and has another fabric.toml."""
    left_out = shutil.ignore_patterns(".*", "build", "dist", "tests", "__pycache__")
    shutil.copytree(CHECKOUT, directory, ignore=left_out)
    for name in ("netavark_geneve/__init__.py", "packaging/netavark-geneve.spec"):
        text = (directory / name).read_text()
        assert __version__ in text
        (directory / name).write_text(text.replace(__version__, LATER))
    with (directory / "plugin-config/fabric.toml").open("a") as sample:
        sample.write("# A line that the earlier version does not have.\n")
    return directory


def _inputs(dist: Path) -> Path:
    """The fetched files, apart from those of other builds, whose tarball is another one."""
    return Path(shutil.copytree(CHECKOUT / "build/sources", dist / "sources", dirs_exist_ok=True))
