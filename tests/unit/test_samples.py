# SPDX-License-Identifier: Apache-2.0
"""The files of plugin-config/ are what the code says they are."""

import ipaddress
import json
import re
from dataclasses import fields
from pathlib import Path

from netavark_geneve import config
from netavark_geneve.definition import HostFacts, complete
from netavark_geneve.fabric.mesh import join
from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import parse_network, render_network
from netavark_geneve.options import parse, with_defaults

SAMPLES = Path(__file__).parents[2] / "plugin-config"
FABRIC = SAMPLES / "fabric.toml"


def test_sample_network_is_what_create_answers_on_the_second_of_the_sample_hosts() -> None:
    sample = json.loads((SAMPLES / "net1.json").read_text())
    asked = {
        **{key: sample[key] for key in ("name", "id", "driver", "created", "internal", "ipam_options")},
        "subnets": [{"subnet": sample["subnets"][0]["subnet"]}],
        "dns_enabled": True,
    }
    fabric = config.read(str(FABRIC))
    own = (ipaddress.ip_address("192.168.0.11"),)
    mesh = join(fabric.hosts, resolve=lambda name: ipaddress.ip_address(name), local_ip=None, own=own)
    facts = HostFacts(mesh=mesh, underlay_mtu=1500, networks=(), interfaces=())

    answer = complete(
        parse_network(Fields(asked, "network")), with_defaults(parse({}), fabric), facts, subnet_pool=fabric.subnet_pool
    )

    rendered = render_network(asked, answer)
    rendered["options"]["hosts"] = f"@{config.DEFAULT_PATH}"  # where the sample belongs
    assert rendered == sample


def test_sample_fabric_shows_every_key_and_each_is_accepted(tmp_path: Path) -> None:
    """Keys that are commented out are examples of valid values too."""
    text = re.sub(r"^#(\w+ = )", r"\1", FABRIC.read_text(), flags=re.MULTILINE)
    everything = tmp_path / "fabric.toml"
    everything.write_text(text)

    fabric = config.read(str(everything))

    assert with_defaults(parse({}), fabric).slots == 16
    assert [field.name for field in fields(fabric) if getattr(fabric, field.name) in (None, ())] == []
