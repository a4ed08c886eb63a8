# SPDX-License-Identifier: Apache-2.0
"""Names of hosts that no resolver is asked for; the rest needs a host."""

import pytest

from netavark_geneve.errors import Deadline
from netavark_geneve.underlay import resolve

from .makers import refused


@pytest.mark.parametrize("name", ["x" * 64, "a..b", "\ud800"])
def test_name_that_dns_cannot_have_is_refused_in_one_sentence(name: str) -> None:
    with refused("cannot resolve", "no DNS name"):
        resolve(name, Deadline(5.0))
