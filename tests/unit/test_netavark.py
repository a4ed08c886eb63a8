# SPDX-License-Identifier: Apache-2.0
"""The protocol: arguments, standard input, errors. What each verb takes and answers is in test_netavark_*.py."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netavark_geneve import __version__
from netavark_geneve.errors import GeneveError
from netavark_geneve.frontends.netavark import failure, handle

from .conftest import Calls
from .frontend import answer, call, each_verb
from .makers import attempt, check_style, encoded, json_values, network_json, port_json, refused, request_json

REQUESTS = {"create": network_json(), "setup": request_json(), "teardown": request_json()}


@pytest.mark.parametrize("arguments", [["info"], []], ids=["info", "no argument"])
def test_info_tells_both_versions(arguments: list[str]) -> None:
    assert answer(handle(arguments, b"", {})) == {"version": __version__, "api_version": "1.0.0"}


@pytest.mark.parametrize("verb", ["remove", "", "Setup", "--help", "info "])
def test_unknown_subcommand_is_refused_with_the_known_ones(verb: str) -> None:
    with refused(repr(verb), "create, setup, teardown, info"):
        handle([verb], b"{}", {})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "x"], ("info", "no argument", "not x")),
        (["create", "x"], ("create", "no argument", "not x")),
        (["setup"], ("setup", "network namespace", "not nothing")),
        (["setup", "a", "b"], ("setup", "network namespace", "not a b")),
        (["teardown"], ("teardown", "network namespace", "not nothing")),
    ],
    ids=" ".join,
)
def test_wrong_number_of_arguments_is_refused(verbs: Calls, arguments: list[str], words: tuple[str, ...]) -> None:
    with refused(*words):
        handle(arguments, encoded(request_json()), {})
    assert verbs == []


@each_verb
@pytest.mark.parametrize("request_", [b"", b" \n"], ids=["nothing", "blanks"])
def test_empty_stdin_is_refused(verbs: Calls, verb: str, request_: bytes) -> None:
    with refused("nothing on standard input"):
        call(verb, request_)
    assert verbs == []


@each_verb
@pytest.mark.parametrize(
    "request_",
    [
        b"{",
        b"{'name': 'net1'}",
        b'{"name": "net1"} trailing',
        b"net1",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"[" * 100_000,
    ],
    ids=["cut off", "single quotes", "trailing text", "bare word", "no text", "no UTF-8", "too deep"],
)
def test_malformed_json_is_refused(verbs: Calls, verb: str, request_: bytes) -> None:
    with refused("standard input", "not valid JSON"):
        call(verb, request_)
    assert verbs == []


@each_verb
@pytest.mark.parametrize("request_", [b"[]", b"null", b'"x"', b"1", b"true"])
def test_json_that_is_no_object_is_refused(verbs: Calls, verb: str, request_: bytes) -> None:
    with refused("standard input", "not a JSON object"):
        call(verb, request_)
    assert verbs == []


@each_verb
def test_other_users_than_root_are_refused(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    def check_root() -> None:
        raise GeneveError("needs root")

    monkeypatch.setattr("netavark_geneve.frontends.netavark.check_root", check_root)
    with refused("needs root"):
        call(verb, encoded(REQUESTS[verb]))


def test_failure_has_the_one_key_that_podman_takes() -> None:
    reply = failure(GeneveError('no "such"\nhost'))
    assert reply.status == 1
    assert json.loads(reply.output) == {"error": 'no "such" host'}
    assert reply.output.count(b"\n") == 1


ODD_TEXTS = ("", "0.0.0.0/0", "10.0.0.0/31", "10.0.0.0/32", "::/127", "fd00::1%eth0", "10.0.0.1", "\ud800", "\0", "lo")
odd_values = json_values | st.sampled_from(ODD_TEXTS)


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON document."""
    if so_far:
        yield so_far
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*so_far, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(document)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


FULL_NETWORK = network_json(
    subnets=[
        {
            "subnet": "192.168.120.0/24",
            "gateway": "192.168.120.1",
            "lease_range": {"start_ip": "192.168.120.1", "end_ip": "192.168.120.126"},
        }
    ],
    routes=[
        {"destination": "10.0.0.0/8", "gateway": "192.168.120.9", "metric": 50, "route_type": "unicast"},
        {"destination": "10.1.0.0/16", "route_type": "blackhole"},
    ],
    network_dns_servers=["9.9.9.9"],
    options={"vni": "7", "com.docker.network.driver.mtu": "1400"},
    labels={"owner": "ops", "geneve-ovs.isolate": "true"},
)
FULL_REQUEST = request_json(network=FULL_NETWORK, port_mappings=[port_json(host_ip="127.0.0.1")])
FULL_REQUESTS = {"create": FULL_NETWORK, "setup": FULL_REQUEST, "teardown": FULL_REQUEST}


@each_verb
def test_full_request_is_served(verbs: Calls, verb: str) -> None:
    """So that what follows is about the one value that is replaced, and nothing else."""
    assert call(verb, encoded(FULL_REQUESTS[verb])).status == 0
    assert len(verbs) == 1


@each_verb
@given(json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_on_stdin_is_refused_in_a_sentence(verbs: Calls, verb: str, value: Any) -> None:
    with pytest.raises(GeneveError) as caught:
        call(verb, encoded(value))
    check_style(str(caught.value))
    assert verbs == []


@each_verb
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_request_with_any_one_value_replaced_is_served_or_refused(verbs: Calls, verb: str, data: st.DataObject) -> None:
    whole = FULL_REQUESTS[verb]
    path = data.draw(st.sampled_from(list(paths(whole))))
    request = encoded(replaced(whole, path, data.draw(odd_values)))
    verbs.clear()
    result = attempt(lambda: call(verb, request))
    if isinstance(result, GeneveError):
        assert str(result).isprintable()
        assert verbs == []
    else:
        assert result.status == 0
        assert len(verbs) == 1
