# SPDX-License-Identifier: Apache-2.0
"""How the tests call the netavark front end."""

import io
import json
import sys
from typing import Any

import pytest

from netavark_geneve import __main__ as plugin
from netavark_geneve import log
from netavark_geneve.frontends.fields import Fields
from netavark_geneve.frontends.netavark import Reply, handle, parse_container, parse_network
from netavark_geneve.model import Container, Network

from .makers import check_style, network_json, request_json

ARGUMENTS = {"create": ["create"], "setup": ["setup", "/run/netns/web"], "teardown": ["teardown", "/run/netns/web"]}
each_verb = pytest.mark.parametrize("verb", sorted(ARGUMENTS))


def call(verb: str, request: bytes, environ: dict[str, str] | None = None) -> Reply:
    return handle(ARGUMENTS[verb], request, environ or {})


def answer(reply: Reply) -> Any:
    """The one JSON document that a reply is."""
    assert reply.status == 0
    assert reply.output.endswith(b"\n")
    return json.loads(reply.output)


def judged(arguments: list[str], request: bytes) -> str:
    """Whether the plugin's main function has "done" or "refused" it; AssertionError when neither as it should."""
    status, output, said = said_by_main(arguments, request)
    assert "Traceback" not in said, said
    assert status in (0, 1), status
    if arguments[0] == "teardown" and status == 0:
        assert output == b"", output
        return "done"
    document = json.loads(output)
    assert output.endswith(b"\n"), output
    assert output.count(b"\n") == 1, output
    if status == 0:
        assert document.keys() >= ({"interfaces"} if arguments[0] == "setup" else {"name", "id", "subnets"}), output
        return "done"
    assert document.keys() == {"error"}, output
    check_style(document["error"])
    assert "this is a bug" not in document["error"], output
    return "refused"


def said_by_main(arguments: list[str], request: bytes) -> tuple[int, bytes, str]:
    """Status, stdout and stderr of one call, in this process."""
    captured, said = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    streams, words = (sys.stdout, sys.stderr), sys.argv
    sys.stdout, sys.stderr, sys.argv = captured, said, ["geneve-ovs", *arguments]
    try:
        status = plugin.main(request)
    finally:
        (sys.stdout, sys.stderr), sys.argv = streams, words
        log.logger.handlers.clear()  # one process is one call otherwise
    written = captured.detach()
    written.seek(0)
    return status, written.read(), said.getvalue()


def parsed_network(**fields: Any) -> Network:
    return parse_network(Fields(network_json(**fields), "network"))


def parsed_request(**fields: Any) -> Container:
    """The container of a request with these fields."""
    return parse_container(Fields(request_json(**fields), "request"))


def parsed_container(**options: Any) -> Container:
    """The container of a request with these network_options."""
    return parsed_request(network_options={**request_json()["network_options"], **options})
