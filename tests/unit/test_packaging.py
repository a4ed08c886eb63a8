# SPDX-License-Identifier: Apache-2.0
"""Man pages, completion and package names are what the code says they are."""

import re
import subprocess
from dataclasses import fields

import pytest

from netavark_geneve import __version__, cli
from netavark_geneve.config import PATH_VARIABLE, Fabric
from netavark_geneve.helper.wire import FORWARDED, SHARED, SOCKET_VARIABLE
from netavark_geneve.options import KNOWN, KNOWN_TO_CONTAINERS

from .conftest import PROJECT

PACKAGING = PROJECT / "packaging"
UNITS = sorted(path.name for path in (PACKAGING / "systemd").iterdir())
COMPLETE = """
source packaging/netavark-geneve.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_netavark_geneve
printf '%s\\n' "${COMPREPLY[@]}"
"""
Usage = dict[str, set[str]]


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str]) -> Usage:
    """Long options of each verb, and of the command itself under its name "", as --help lists them."""

    def shown(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            cli._parse([*arguments, "--help"])
        return capsys.readouterr().out

    verbs = re.findall(r"^    (\w+)", shown(), re.MULTILINE)
    assert {"reload", "gc", "helper"} <= set(verbs)
    return {verb: set(re.findall(r"--[a-z]+", shown(*filter(None, [verb])))) for verb in ("", *verbs)}


def page(name: str) -> str:
    """The source of a man page with plain hyphens."""
    return (PROJECT / "docs/man" / name).read_text().replace("\\-", "-")


def headings(text: str, *macros: str) -> set[str]:
    """The words of all lines of bold text, or of these macros."""
    lines = re.findall(rf"^\.(?:{'|'.join(macros)}) (.*)$", text, re.MULTILINE)
    return {word.strip('",') for line in lines for word in line.split()}


def test_every_option_of_a_network_and_of_a_container_is_in_the_manual() -> None:
    text = page("geneve-ovs.7")
    network, container = text.split(".SH OPTIONS OF A CONTAINER")
    tagged = re.findall(r"^\.TP\n(\.BR? .*)$", network, re.MULTILINE)
    assert headings("\n".join(tagged), "B", "BR") >= set(KNOWN)
    assert headings(container.split(".SH")[0], "B") >= set(KNOWN_TO_CONTAINERS)


def test_keys_of_fabric_toml_are_those_of_the_manual() -> None:
    keys = page("fabric.toml.5").split(".SH KEYS")[1].split(".SH")[0]
    named = re.findall(r"^\.TP\n\.B (\w+)$", keys, re.MULTILINE)
    assert sorted(named) == sorted(field.name for field in fields(Fabric) if field.name != "path")


def test_verbs_and_their_options_are_those_of_the_manual(usage: Usage) -> None:
    text = page("netavark-geneve.8")
    sections = dict(re.findall(r"^\.SS (\w+)$(.*?)(?=^\.S)", text, re.MULTILINE | re.DOTALL))
    sections[""] = text.split(".SH OPTIONS")[1].split(".SH")[0]
    everywhere = {"--help"}
    assert {
        verb: set(re.findall(r"--[a-z]+", " ".join(re.findall(r"^\.TP\n(.*)$", section, re.MULTILINE))))
        for verb, section in sections.items()
    } == {verb: options if verb == "" else options - everywhere for verb, options in usage.items()}


def test_verbs_and_their_options_are_completed(usage: Usage) -> None:
    for verb, options in usage.items():
        expected = options | (usage.keys() - {""} if verb == "" else set())
        assert set(completed(*filter(None, [verb]), "")) == expected
    assert completed("gc", "--a") == ["--apply"]
    assert completed("helper", "--idle", "") == [""]


def completed(*words: str) -> list[str]:
    command = ["bash", "-euc", COMPLETE, "bash", "netavark-geneve", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=10, check=True)
    return done.stdout.splitlines()


def test_every_unit_and_variable_is_in_a_manual() -> None:
    command, plugin = page("netavark-geneve.8"), page("geneve-ovs.7")
    for unit in UNITS:
        assert unit in command
    for variable in {PATH_VARIABLE, SOCKET_VARIABLE, *FORWARDED, *SHARED} - {"CONTAINERS_CONF_OVERRIDE"}:
        assert variable in plugin + command, variable


def test_spec_has_the_versions_of_the_package_and_of_what_it_bundles() -> None:
    spec = (PACKAGING / "netavark-geneve.spec").read_text()
    pinned = re.findall(r"^(\w+)==(\S+)", (PACKAGING / "requirements.txt").read_text(), re.MULTILINE)
    assert re.findall(r"^Version: +(\S+)$", spec, re.MULTILINE) == [__version__]
    assert re.findall(r"^%global (\w+) ([0-9.]+)$", spec, re.MULTILINE) == pinned


def test_packages_handle_every_unit() -> None:
    for name in ("netavark-geneve.spec", "debian/prerm"):
        text = (PACKAGING / name).read_text().replace("%{name}", "netavark-geneve")
        assert [unit for unit in UNITS if unit not in text] == [], name
