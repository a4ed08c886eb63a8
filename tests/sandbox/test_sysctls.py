"""sysctls.py against the real kernel."""

import ipaddress
from dataclasses import replace
from pathlib import Path

from netavark_geneve import sysctls
from netavark_geneve.model import Gateway

from .conftest import ip

GATEWAY = Gateway("ovs_net9", ((ipaddress.ip_network("192.168.120.0/24"), None),))
FILE = Path("/run/sysctl.d/10-geneve-ovs-ovs_net9.conf")


def test_settings_are_applied_and_the_file_comes_back_when_somebody_who_left_removed_it() -> None:
    ip("link", "add", "ovs_net9", "type", "veth", "peer", "name", "peer9")
    try:
        sysctls.write(GATEWAY)
        text = FILE.read_text()
        sysctls.remove("ovs_net9")

        sysctls.apply(GATEWAY, localhost=True)

        assert FILE.read_text() == text
        assert Path("/proc/sys/net/ipv4/conf/ovs_net9/rp_filter").read_text().strip() == "2"
        assert Path("/proc/sys/net/ipv4/conf/ovs_net9/route_localnet").read_text().strip() == "1"
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    finally:
        ip("link", "del", "ovs_net9")
        sysctls.remove("ovs_net9")
        sysctls.remove("ovs_net9")  # twice is fine
    assert list(FILE.parent.glob("*ovs_net9*")) == []


def test_what_a_killed_writer_left_goes_with_the_bridge_and_what_is_being_written_stays() -> None:
    left, written, others = (
        FILE.with_name(f"10-geneve-ovs-{name}")
        for name in (f"ovs_net9.{2**22 + 1}", "ovs_net9.1", f"ovs_net8.{2**22 + 1}")
    )
    FILE.parent.mkdir(exist_ok=True)
    try:
        for path in (left, written, others):
            path.touch()
        sysctls.remove("ovs_net9")
        assert [path.exists() for path in (left, written, others)] == [False, True, True]
    finally:
        for path in (left, written, others):
            path.unlink(missing_ok=True)


def test_an_internal_network_does_not_forward() -> None:
    ip("link", "add", "ovs_net9", "type", "veth", "peer", "name", "peer9")
    try:
        sysctls.apply(replace(GATEWAY, forwards=False), localhost=False)
        assert Path("/proc/sys/net/ipv4/conf/ovs_net9/forwarding").read_text().strip() == "0"
    finally:
        ip("link", "del", "ovs_net9")
        sysctls.remove("ovs_net9")


def test_a_network_without_a_way_out_changes_nothing() -> None:
    sysctls.write(Gateway("ovs_net9", ()))
    sysctls.apply(Gateway("ovs_net9", ()), localhost=False)

    assert not FILE.exists()
