"""Labs that live as long as the test session, and a clean fabric of some of their hosts for each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import pytest

from tests.lab import Host, Lab
from tests.lab.snapshot import diff

from .fabric import CONFIG, Fabric

Libs = Literal["debian", "pypi"]
MakeFabric = Callable[..., Fabric]
SIZES = {("debian", 1500): 5, ("debian", 9000): 2, ("pypi", 1500): 3}


@pytest.fixture(scope="session")
def labs() -> Iterator[Callable[[Libs, int], Lab]]:
    """The lab with these libraries and this underlay MTU, started when first asked for."""
    running: dict[tuple[Libs, int], Lab] = {}
    with ExitStack() as stack:

        def get(libs: Libs, mtu: int) -> Lab:
            if (libs, mtu) not in running:
                running[libs, mtu] = stack.enter_context(Lab(hosts=SIZES[libs, mtu], mtu=mtu, libs=libs))
                Fabric(running[libs, mtu].hosts).each(_warm_up)
            return running[libs, mtu]

        yield get


@pytest.fixture
def make_fabric(labs: Callable[[Libs, int], Lab]) -> Iterator[MakeFabric]:
    """Some hosts of a lab, as clean as new; whatever a test leaves behind on them fails it."""
    with ExitStack() as stack:

        def make(hosts: int = 3, *, libs: Libs = "debian", mtu: int = 1500) -> Fabric:
            fabric = Fabric(labs(libs, mtu).hosts[:hosts])
            before = fabric.each(Host.snapshot)

            def check_clean() -> None:
                fabric.each(_clean)
                after = fabric.each(Host.snapshot)
                left = {h.name: diff(b, a) for h, b, a in zip(fabric.hosts, before, after, strict=True) if a != b}
                assert not left, "left behind:\n" + "\n".join(f"{name}\n{text}" for name, text in left.items())

            stack.callback(check_clean)
            return fabric

        yield make


@pytest.fixture
def fabric(make_fabric: MakeFabric) -> Fabric:
    """Three hosts that know each other by fabric.toml."""
    three = make_fabric(3)
    three.configure()
    return three


def _warm_up(host: Host) -> None:
    """Let Podman make what it makes once for each boot, or the first test would seem to leave it behind."""
    host.sh("podman network create warm >&2; podman network rm warm >&2")
    # Forwarding stays on once a network needed it, as with Podman's own bridges.
    host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")


def _clean(host: Host) -> None:
    """Remove what a user can remove; the rest is the plugin's to have removed."""
    host.sh(
        "podman rm -fa -t0 >&2; podman pod rm -fa >&2; podman network ls -q -f driver=geneve-ovs"
        f" | xargs -r podman network rm -f >&2; rm -f {CONFIG}"
    )
