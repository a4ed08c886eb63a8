# SPDX-License-Identifier: Apache-2.0
"""What OVSDB remembers of a container, from which `netavark-geneve reload` makes everything again."""

import re
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netavark_geneve import naming, tags
from netavark_geneve.model import Container, PublishedPort

from .makers import CONTAINER_ID, NETWORK_ID, addresses, container, ids, port, published_ports

dns_labels = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,20}[a-zA-Z0-9])?", fullmatch=True)
containers = st.builds(
    Container,
    id=ids,
    name=dns_labels,
    interface=st.sampled_from(["eth0", "eth1", "a.b-c_d"]),
    addresses=st.lists(addresses, max_size=4, unique=True).map(tuple),
    aliases=st.lists(dns_labels, max_size=4).map(tuple),
    ports=st.lists(published_ports, max_size=4).map(tuple),
)


def tagged(who: Container) -> dict[str, str]:
    return tags.of_container(NETWORK_ID, "net1", who, "boot")


@given(containers)
def test_any_container_comes_back_as_it_went(who: Container) -> None:
    assert tags.container(tagged(who)) == who


@given(containers)
def test_any_container_is_found_by_its_tags_which_are_text(who: Container) -> None:
    found = tagged(who)
    assert naming.container_tags(NETWORK_ID, who.id, who.interface).items() <= found.items()
    assert naming.CONTAINER_ROLE.items() <= found.items()
    assert all(isinstance(value, str) and value.isprintable() for value in found.values())


def test_tags_can_be_read_by_eye() -> None:
    who = container("192.168.120.2", "fd00::2", aliases=("www", "db"), ports=(port(), port(53, 53, protocol="udp")))
    assert tagged(who) == {
        "owner": "geneve-ovs",
        "network-id": NETWORK_ID,
        "network-name": "net1",
        "role": "container",
        "container-id": CONTAINER_ID,
        "container-interface": "eth0",
        "container-name": "web",
        "addresses": "192.168.120.2,fd00::2",
        "aliases": "www,db",
        "published": "8080:80/tcp,53:53/udp",
        "boot-id": "boot",
    }


def test_container_without_aliases_and_ports_has_no_tags_of_them() -> None:
    assert not {"aliases", "published"} & tagged(container()).keys()


def test_container_without_an_address_has_an_empty_tag_of_them() -> None:
    layer_2_only = container(addresses=())
    assert tagged(layer_2_only)["addresses"] == ""
    assert tags.container(tagged(layer_2_only)).addresses == ()


def test_what_was_asked_of_the_interface_alone_is_not_remembered() -> None:
    who = container(mac="02:00:00:00:00:01", options={"vlan": "7"})
    assert tags.container(tagged(who)) == replace(who, mac=None, options={})


@pytest.mark.parametrize(
    ("published", "text"),
    [
        (port(), "8080:80/tcp"),
        (port(on="127.0.0.1"), "127.0.0.1:8080:80/tcp"),
        (port(on="0.0.0.0"), "0.0.0.0:8080:80/tcp"),
        (port(on="::"), "[::]:8080:80/tcp"),
        (port(on="fd00::1", protocol="sctp"), "[fd00::1]:8080:80/sctp"),
        (port(count=3), "8080-8082:80/tcp"),
        (port(8080, 8080, on="::1", count=2, protocol="udp"), "[::1]:8080-8081:8080/udp"),
    ],
)
def test_published_port_is_told_as_podman_takes_it(published: PublishedPort, text: str) -> None:
    who = container(ports=(published,))
    assert tagged(who)["published"] == text
    assert tags.container(tagged(who)).ports == (published,)


def test_container_from_before_there_were_names_and_ports_is_understood() -> None:
    """Its port has the tags by which it is found, and the addresses."""
    old = naming.container_tags(NETWORK_ID, CONTAINER_ID, "eth0") | {"addresses": "192.168.120.2"}
    assert tags.container(old) == Container(
        id=CONTAINER_ID, name="", interface="eth0", addresses=(ip_address("192.168.120.2"),)
    )


@pytest.mark.parametrize(
    ("tag", "text", "wrong"),
    [
        ("addresses", "192.168.120.2,", "''"),
        ("addresses", "192.168.120.256", "192.168.120.256"),
        ("addresses", "192.168.120.2/24", "192.168.120.2/24"),
        ("published", "8080", "published=8080"),
        ("published", "8080:80", "published=8080:80"),
        ("published", "8080:80/", "published=8080:80/"),
        ("published", "8080-:80/tcp", "published=8080-:80/tcp"),
        ("published", "8081:80/tcp,,8080:80/tcp", "published="),
        ("published", "localhost:8080:80/tcp", "published=localhost:8080:80/tcp"),
        ("published", "1:8080:80/tcp", "'1'"),
        ("published", "8080:80/tcp 8081:80/tcp", "published=8080:80/tcp 8081:80/tcp"),
    ],
)
def test_tag_that_somebody_changed_is_an_error_of_its_own(tag: str, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        tags.container({**tagged(container()), tag: text})


@pytest.mark.parametrize("tag", ["container-id", "container-interface"])
def test_tag_that_somebody_removed_is_an_error_of_the_same_kind(tag: str) -> None:
    found = tagged(container())
    del found[tag]
    with pytest.raises(ValueError, match=tag):
        tags.container(found)


FULL = tagged(container(aliases=("www",), ports=(port(),)))


def understood(found: dict[str, str]) -> Container | ValueError:
    try:
        return tags.container(found)
    except ValueError as error:
        return error


@given(st.sampled_from(sorted(FULL)), st.text() | st.from_regex(r"[0-9a-f.:\[\]-]{1,30}(/[a-z]+)?", fullmatch=True))
def test_any_text_in_any_tag_is_understood_or_an_error_of_that_kind(tag: str, text: str) -> None:
    assert isinstance(understood({**FULL, tag: text}), Container | ValueError)


def test_alias_with_a_comma_in_it_does_not_come_back_as_two() -> None:
    """The resolver refuses it, and must not learn its halves when everything is made again."""
    again = tags.container(tagged(container(aliases=("www,db", "api")))).aliases
    assert set(again) <= {"www,db", "api"}
