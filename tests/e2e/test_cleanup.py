"""A setup or teardown that is interrupted, repeated, or comes too late leaves nothing, and nobody cut off.

The plugin is called directly, as netavark calls it: Podman would not pass on what goes wrong here.
"""

import signal
from collections.abc import Iterator

import pytest

from tests.lab import Host

from .conftest import MakeFabric
from .fabric import inspect, plugin_error
from .faults import DAEMONS, NETNS, Act, Caller, assert_says, fault, host_with_network, ports, wait_for

# What happens between setup and teardown, and how the host is mended after teardown.
BEFORE_TEARDOWN: dict[str, tuple[Act, Act]] = {
    "in peace": (lambda host: None, lambda host: None),
    "the namespace gone": (
        lambda host: host.run("ip", "netns", "del", "c1"),
        lambda host: host.run("ip", "netns", "add", "c1"),
    ),
    "the port gone": (lambda host: host.run("ovs-vsctl", "del-port", *ports(host)), lambda host: None),
    "the bridge gone": (lambda host: host.run("ovs-vsctl", "del-br", "ovs_net1"), lambda host: None),
    "the veth gone": (lambda host: host.run("ip", "-n", "c1", "link", "del", "eth0"), lambda host: None),
    "ovs-vswitchd stopped": DAEMONS["ovs-vswitchd stopped"][:2],
    "ovs-vswitchd frozen": DAEMONS["ovs-vswitchd frozen"][:2],
}


@pytest.fixture
def host(make_fabric: MakeFabric) -> Host:
    return host_with_network(make_fabric)


@pytest.fixture
def caller(host: Host) -> Iterator[Caller]:
    host.run("ip", "netns", "add", "c1")
    caller = Caller(host, inspect(host, "net1"))
    yield caller
    caller.teardown()  # or a test that fails would fail all that follow
    host.run("ip", "netns", "del", "c1")
    host.run("ip", "link", "del", "ovs_net1", check=False)


def test_the_interface_name_is_taken_in_the_container(host: Host, caller: Caller) -> None:
    """Podman gives no name twice, and never forgets a `network connect` that failed: called directly."""
    inside = ("ip", "-n", "c1", "link")

    with fault(
        host,
        lambda: host.run(*inside, "add", "eth0", "type", "bridge"),
        lambda: host.run(*inside, "del", "eth0", "type", "bridge"),  # no other eth0 than this one
    ):
        assert_says(plugin_error(caller.setup()), ["eth0", "already taken"])

    assert caller.setup().returncode == 0
    assert caller.ping_gateway()


def test_the_namespace_has_vanished_before_setup(host: Host, caller: Caller) -> None:
    before = host.snapshot()
    host.run("ip", "netns", "del", "c1")

    sentence = plugin_error(caller.setup())

    assert_says(sentence, [NETNS, "No such file", "is the container still running?"])
    host.run("ip", "netns", "add", "c1")
    wait_for(host, before)


@pytest.mark.parametrize(
    ("address", "words"),
    [("192.168.121.5", ["192.168.121.5", "net1", "192.168.120.0/24"]), ("192.168.120.256", ["192.168.120.256"])],
    ids=["of another subnet", "of no network"],
)
def test_a_bad_address_in_the_request(host: Host, caller: Caller, address: str, words: list[str]) -> None:
    """Podman allocates another one instead of passing these on."""
    before = host.snapshot()

    assert_says(plugin_error(caller.setup(address)), words)

    wait_for(host, before)


def test_a_setup_that_is_asked_to_stop_undoes_what_it_did(host: Host, caller: Caller) -> None:
    with fault(host, lambda: host.freeze("ovs-vswitchd"), lambda: host.thaw("ovs-vswitchd")):
        process = caller.signal_in_mid_setup("TERM")

    assert process.returncode == 1
    assert "interrupted" in plugin_error(process)
    assert caller.setup().returncode == 0
    assert caller.ping_gateway()


@pytest.mark.cold(reason="a helper outlives its caller and undoes the setup itself; test_helper.py kills both")
def test_a_setup_that_is_killed_is_repeated_and_removed(host: Host, caller: Caller) -> None:
    before = host.snapshot()
    host.freeze("ovs-vswitchd")
    try:
        assert caller.signal_in_mid_setup("KILL").returncode == 128 + signal.SIGKILL
    finally:
        host.thaw("ovs-vswitchd")
    (left,) = ports(host)

    assert caller.setup().returncode == 0
    (port,) = ports(host)
    assert port != left
    assert caller.ping_gateway()

    assert caller.teardown().returncode == 0
    wait_for(host, before)


@pytest.mark.parametrize(("fail", "mend"), BEFORE_TEARDOWN.values(), ids=BEFORE_TEARDOWN)
def test_teardown_leaves_nothing_and_may_be_repeated(host: Host, caller: Caller, fail: Act, mend: Act) -> None:
    with fault(host, lambda: caller.setup_and(fail), lambda: mend(host)):
        for _ in ("first", "second"):
            result = caller.teardown()
            assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("daemon", ["ovsdb-server stopped", "ovsdb-server frozen", "disk full"])
def test_teardown_without_a_database_does_what_it_can(host: Host, caller: Caller, daemon: str) -> None:
    fail, mend, words = DAEMONS[daemon]
    before = host.snapshot()
    caller.setup_and(fail)
    try:
        assert_says(plugin_error(caller.teardown()), words)
        assert host.run("ip", "-n", "c1", "link", "show", "eth0", check=False).returncode != 0
    finally:
        mend(host)

    assert caller.setup().returncode == 0
    assert caller.ping_gateway()
    assert caller.teardown().returncode == 0
    wait_for(host, before)
