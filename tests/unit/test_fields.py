# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve.errors import GeneveError
from netavark_geneve.frontends.fields import Fields

from .makers import attempt, json_values, refused

Read = Callable[[Fields, str], Any]

READERS: dict[str, Read] = {
    "text": Fields.text,
    "optional_text": Fields.optional_text,
    "flag": Fields.flag,
    "optional_number": Fields.optional_number,
    "texts": Fields.texts,
    "mapping": Fields.mapping,
    "object": Fields.object,
    "optional_object": Fields.optional_object,
    "objects": Fields.objects,
    "address": Fields.address,
    "optional_address": Fields.optional_address,
    "addresses": Fields.addresses,
    "network": Fields.network,
}
REQUIRED = ("text", "object", "address", "network")


def read(kind: str, value: Any) -> Any:
    return READERS[kind](Fields({"key": value}, "network"), "key")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "net1", "net1"),
        ("optional_text", "net1", "net1"),
        ("optional_text", "", None),
        ("flag", True, True),
        ("flag", False, False),
        ("optional_number", 0, 0),
        ("optional_number", 2**32 - 1, 2**32 - 1),
        ("texts", ["a", "b"], ("a", "b")),
        ("texts", [], ()),
        ("mapping", {"a": "b"}, {"a": "b"}),
        ("objects", [], ()),
        ("address", "192.168.120.1", ip_address("192.168.120.1")),
        ("address", "FD00::1", ip_address("fd00::1")),
        ("optional_address", "fd00::1", ip_address("fd00::1")),
        ("optional_address", "", None),
        ("addresses", ["10.0.0.1", "fd00::1"], (ip_address("10.0.0.1"), ip_address("fd00::1"))),
        ("network", "192.168.120.0/24", ip_network("192.168.120.0/24")),
        ("network", "192.168.120.5/24", ip_network("192.168.120.0/24")),
        ("network", "fd00::/64", ip_network("fd00::/64")),
    ],
)
def test_field_is_read(kind: str, value: Any, expected: Any) -> None:
    assert read(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "nothing"),
    [
        ("optional_text", None),
        ("flag", False),
        ("optional_number", None),
        ("texts", ()),
        ("mapping", {}),
        ("optional_object", None),
        ("objects", ()),
        ("optional_address", None),
        ("addresses", ()),
    ],
)
def test_null_and_absent_are_the_same(kind: str, nothing: Any) -> None:
    assert read(kind, None) == nothing
    assert READERS[kind](Fields({}, "network"), "key") == nothing


@pytest.mark.parametrize("kind", REQUIRED)
@pytest.mark.parametrize("raw", [{}, {"key": None}], ids=["absent", "null"])
def test_field_that_must_be_there_is_missed_by_name(kind: str, raw: dict[str, Any]) -> None:
    with refused("network.key"):
        READERS[kind](Fields(raw, "network"), "key")


@pytest.mark.parametrize("kind", ["text", "address", "network"])
def test_text_that_must_be_there_must_not_be_empty(kind: str) -> None:
    with refused("network.key"):
        read(kind, "")


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("text", 1, ("a string", "1")),
        ("text", ["net1"], ("a string", "net1")),
        ("optional_text", 0, ("a string", "0")),
        ("flag", "true", ("true or false", "true")),
        ("flag", 1, ("true or false", "1")),
        ("flag", 0, ("true or false", "0")),
        ("optional_number", True, ("a number",)),
        ("optional_number", "1", ("a number", "1")),
        ("optional_number", 1.0, ("a number", "1.0")),
        ("optional_number", -1, ("from 0 to 4294967295", "-1")),
        ("optional_number", 2**32, ("from 0 to 4294967295", "4294967296")),
        ("texts", "ab", ("a list", "ab")),
        ("texts", ["a", 1], ("a list of strings", "1")),
        ("texts", ["a", None], ("a list of strings",)),
        ("mapping", [], ("an object",)),
        ("mapping", {"a": 1}, ("an object of strings", "1")),
        ("object", [], ("object", "[]")),
        ("optional_object", "{}", ("object",)),
        ("objects", {}, ("a list",)),
        ("objects", [{}, "x"], ("[1]", "object", "x")),
        ("address", "192.168.120.300", ("'192.168.120.300'", "IP address")),
        ("address", "192.168.120.1/24", ("'192.168.120.1/24'", "IP address")),
        ("addresses", ["10.0.0.1", "web"], ("'web'", "IP address")),
        ("network", "192.168.120.0/33", ("'192.168.120.0/33'", "subnet")),
        ("network", "net1", ("'net1'", "subnet")),
    ],
)
def test_field_of_a_wrong_type_is_refused_by_name_and_value(kind: str, value: Any, words: tuple[str, ...]) -> None:
    with refused("network.key", *words):
        read(kind, value)


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_only_an_object_has_fields(value: Any) -> None:
    with refused("network", "object"):
        Fields(value, "network")


def test_inner_object_is_called_by_its_path() -> None:
    outer = Fields({"subnets": [{"lease_range": {"start_ip": 1}}]}, "network")
    with refused("network.subnets[0].lease_range.start_ip"):
        outer.objects("subnets")[0].object("lease_range").text("start_ip")


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(GeneveError) as caught:
        read("text", ["x" * 1000])
    assert len(str(caught.value)) < 120


@given(st.sampled_from(sorted(READERS)), json_values)
def test_any_json_value_is_read_or_refused_in_a_sentence(kind: str, value: Any) -> None:
    result = attempt(lambda: read(kind, value))
    if isinstance(result, GeneveError):
        assert "network.key" in str(result)
        assert str(result).isprintable()
    else:
        assert result is not None or kind.startswith("optional")
