# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from netavark_geneve import interior

from .makers import created, planned, refused


def test_an_interface_that_has_gone_meanwhile_is_told_in_a_sentence() -> None:
    """By another call for the same container, which has taken it away."""
    veth = replace(planned(created(datapath_type="netdev")).veth, interface="nosuch0")
    with refused("checksum offload of nosuch0", "No such device"):
        interior.prepare(veth)
