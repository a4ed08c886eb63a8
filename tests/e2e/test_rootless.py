"""Rootless Podman runs plugins where the host's Open vSwitch is out of reach: it says so, and what to do."""

from collections.abc import Iterator

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import IMAGE, PLUGIN, create, plugin_error, refusal
from .faults import wait_for
from .wire import wait_until

DEFINITION = "/home/user/.local/share/containers/storage/networks/net1.json"
WORDS = ("needs root", "rootless Podman cannot reach the host's Open vSwitch", "sudo podman")


@pytest.fixture
def host(make_fabric: MakeFabric) -> Iterator[Host]:
    """A host with a network of root's, on which rootless Podman works as such."""
    fabric = make_fabric(1)
    fabric.configure()
    (host,) = fabric.hosts
    create(host, "net1", "--subnet", "192.168.120.0/24")
    assert host.run(*as_user(f"podman run --rm --network none {IMAGE} echo works")).stdout == "works\n"
    # It is cleaned up after in the background.
    wait_until(lambda: host.run("pgrep", "--full", "podman|conmon", check=False).stdout == "", "Podman to finish")
    yield host
    # Stops the process that holds the user's namespace.
    host.run(*as_user("podman system migrate"))


def test_a_user_creates_a_network(host: Host) -> None:
    before = host.snapshot()

    sentence = refusal(host, *as_user("podman network create -d geneve-ovs --subnet 192.168.121.0/24 net2"))

    assert_needs_root(sentence)
    assert host.run(*as_user("podman network ls --format={{.Name}}")).stdout.split() == ["podman"]
    wait_for(host, before)


def test_a_user_runs_a_container_on_a_network_of_roots(host: Host) -> None:
    before = host.snapshot()
    host.sh('install -D -o user -g user -m 644 /etc/containers/networks/net1.json "$1"', DEFINITION)
    try:
        assert_needs_root(refusal(host, *as_user(f"podman run --rm --network net1 {IMAGE} true")))
    finally:
        host.run("rm", DEFINITION)

    assert host.run(*as_user("podman ps --all --quiet")).stdout == ""
    wait_for(host, before)


@pytest.mark.parametrize("verb", ["create", "setup", "teardown"])
def test_every_verb_knows_a_user_namespace(host: Host, verb: str) -> None:
    """To be root in there is not enough."""
    netns = [] if verb == "create" else ["/proc/self/ns/net"]

    inside = ("runuser", "--user", "user", "--", "unshare", "--user", "--map-root-user")
    result = host.run(*inside, PLUGIN, verb, *netns, input="{}", check=False)

    assert_needs_root(plugin_error(result))


def test_a_container_of_roots_may_have_a_user_namespace(host: Host) -> None:
    """It is Podman that must be root, not the container: this one is uid 100000 outside."""
    host.sh("mkdir -p /tmp/tree/bin; cp /bin/busybox /tmp/tree/bin; chown -R 100000:100000 /tmp/tree")
    try:
        shown = host.run(
            *("podman", "run", "--rm", "--network", "net1", "--uidmap", "0:100000:1000"),
            *(
                "--rootfs",
                "/tmp/tree",
                "/bin/busybox",
                "sh",
                "-c",
                "cat /proc/self/uid_map; ip -o -4 address show eth0",
            ),
        ).stdout
    finally:
        host.run("rm", "-r", "/tmp/tree")

    mapping, address = shown.splitlines()
    assert mapping.split() == ["0", "100000", "1000"]
    assert "192.168.120.2/24" in address


def as_user(line: str) -> tuple[str, ...]:
    """A login of the ordinary user's."""
    return ("runuser", "--login", "user", "--command", line)


def assert_needs_root(sentence: str) -> None:
    assert [word for word in WORDS if word not in sentence] == [], sentence
    assert len(sentence.splitlines()) == 1, sentence
