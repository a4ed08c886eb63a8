"""sysctls.py against the real kernel."""

import ipaddress
from pathlib import Path

from netavark_geneve import sysctls
from netavark_geneve.model import Egress

from .conftest import ip

EGRESS = Egress("ovs_net9", ((ipaddress.ip_network("192.168.120.0/24"), None),))
FILE = Path("/run/sysctl.d/10-geneve-ovs-ovs_net9.conf")


def test_settings_are_applied_and_the_file_comes_back_when_somebody_who_left_removed_it() -> None:
    ip("link", "add", "ovs_net9", "type", "veth", "peer", "name", "peer9")
    try:
        sysctls.write(EGRESS)
        text = FILE.read_text()
        sysctls.remove("ovs_net9")

        sysctls.apply(EGRESS)

        assert FILE.read_text() == text
        assert Path("/proc/sys/net/ipv4/conf/ovs_net9/rp_filter").read_text().strip() == "2"
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    finally:
        ip("link", "del", "ovs_net9")
        sysctls.remove("ovs_net9")
        sysctls.remove("ovs_net9")  # twice is fine
    assert list(FILE.parent.glob("*ovs_net9*")) == []


def test_a_network_without_a_way_out_changes_nothing() -> None:
    sysctls.write(Egress("ovs_net9", ()))
    sysctls.apply(Egress("ovs_net9", ()))

    assert not FILE.exists()
