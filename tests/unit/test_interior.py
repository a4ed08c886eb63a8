# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from netavark_geneve import interior

from .makers import created, planned, refused


@pytest.mark.parametrize(("datapath", "step"), [("netdev", "checksum offload of"), ("system", "set up")])
def test_an_interface_that_has_gone_meanwhile_is_told_in_a_sentence(datapath: str, step: str) -> None:
    """By another call for the same container, which has taken it away."""
    veth = replace(planned(created(datapath_type=datapath)).veth, interface="nosuch0")
    with refused(f"{step} nosuch0", "No such device"):
        interior.prepare(veth)
