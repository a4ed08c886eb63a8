# SPDX-License-Identifier: Apache-2.0
"""How the tests call the netavark front end."""

import json
from typing import Any

import pytest

from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import Reply, handle, parse_container, parse_network
from netavark_geneve.model import Container, Network

from .makers import network_json, request_json

ARGUMENTS = {"create": ["create"], "setup": ["setup", "/run/netns/web"], "teardown": ["teardown", "/run/netns/web"]}
each_verb = pytest.mark.parametrize("verb", sorted(ARGUMENTS))


def call(verb: str, request: bytes, environ: dict[str, str] | None = None) -> Reply:
    return handle(ARGUMENTS[verb], request, environ or {})


def answer(reply: Reply) -> Any:
    """The one JSON document that a reply is."""
    assert reply.status == 0
    assert reply.output.endswith(b"\n")
    return json.loads(reply.output)


def parsed_network(**fields: Any) -> Network:
    return parse_network(Fields(network_json(**fields), "network"))


def parsed_request(**fields: Any) -> Container:
    """The container of a request with these fields."""
    return parse_container(Fields(request_json(**fields), "request"))


def parsed_container(**options: Any) -> Container:
    """The container of a request with these network_options."""
    return parsed_request(network_options={**request_json()["network_options"], **options})
