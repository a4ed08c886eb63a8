# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest

from netavark_geneve import podman
from netavark_geneve.model import Foreign
from netavark_geneve.podman import PLUGIN_DIRS, find_foreign, find_networks, find_plugin_dirs, variables


def names(environ: dict[str, str]) -> list[str]:
    """The networks that have a file; the default one, which needs none, comes before them."""
    default, *others = (definition["name"] for definition in find_networks(environ))
    assert default == "podman"
    return others


def define(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.json").write_text(json.dumps({"name": name}))
    return directory


def configure(file: Path, directory: object) -> Path:
    file.write_text(f"[network]\nnetwork_config_dir = {json.dumps(str(directory))}\n")
    return file


@pytest.fixture
def without_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host without any containers.conf, whose default directory of networks is the returned one."""
    monkeypatch.setattr(podman, "CONFIGURATION", ())
    monkeypatch.setattr(podman, "DEFAULT_NETWORK_DIR", str(tmp_path / "default"))
    return tmp_path / "default"


def test_networks_are_found_where_containers_conf_says(environ: dict[str, str], tmp_path: Path) -> None:
    define(tmp_path / "networks", "b", "a")
    assert names(environ) == ["a", "b"]


def test_definition_is_given_whole(environ: dict[str, str], tmp_path: Path) -> None:
    definition = {"name": "a", "subnets": [{"subnet": "10.0.0.0/24"}], "labels": {"x": "y"}}
    (tmp_path / "networks" / "a.json").write_text(json.dumps(definition))
    assert list(find_networks(environ))[1:] == [definition]


def test_default_network_is_there_without_a_file(without_conf: Path) -> None:
    (default,) = find_networks({})
    assert (default["name"], default["driver"]) == ("podman", "bridge")
    assert default["subnets"] == [{"subnet": "10.88.0.0/16"}]


def test_default_network_has_the_subnet_that_containers_conf_says(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_text('[network]\ndefault_subnet = "10.77.0.0/16"\n')
    default, *_ = find_networks({**environ, "CONTAINERS_CONF": str(tmp_path / "own.conf")})
    assert default["subnets"] == [{"subnet": "10.77.0.0/16"}]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"a"', b"null", b"\xff\xfe\xfd", b"[" * 100_000],
    ids=["empty", "cut off", "list", "string", "null", "no text", "too deep"],
)
def test_file_that_is_no_definition_is_skipped(environ: dict[str, str], tmp_path: Path, content: bytes) -> None:
    define(tmp_path / "networks", "a", "c")
    (tmp_path / "networks" / "b.json").write_bytes(content)
    assert names(environ) == ["a", "c"]


def test_what_is_not_a_json_file_is_skipped(environ: dict[str, str], tmp_path: Path) -> None:
    networks = define(tmp_path / "networks", "a")
    (networks / "lock").write_text('{"name": "lock"}')
    (networks / "directory.json").mkdir()
    (networks / "dangling.json").symlink_to(networks / "gone")
    assert names(environ) == ["a"]


def test_host_without_networks_has_none(without_conf: Path) -> None:
    assert names({}) == []


def test_default_directory_is_read_without_containers_conf(without_conf: Path) -> None:
    define(without_conf, "a")
    assert names({}) == ["a"]


def test_default_directory_is_the_one_of_rootful_podman() -> None:
    assert podman.DEFAULT_NETWORK_DIR == "/etc/containers/networks"


@pytest.mark.parametrize(
    "text",
    ["", "[network]\n", "[network]\nnetwork_config_dir = ''\n", "[engine]\n", "[network", "network = 5\n"],
    ids=["empty", "no key", "empty key", "other table", "broken", "no table"],
)
def test_containers_conf_that_says_nothing_leaves_the_default(without_conf: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "containers.conf").write_text(text)
    define(without_conf, "a")
    assert names({"CONTAINERS_CONF": str(tmp_path / "containers.conf")}) == ["a"]


def test_later_containers_conf_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    define(tmp_path / "first", "first")
    define(tmp_path / "second", "second")
    files = [configure(tmp_path / f"{name}.conf", tmp_path / name) for name in ("first", "second")]
    monkeypatch.setattr(podman, "CONFIGURATION", tuple(map(str, files)))
    assert names({}) == ["second"]


def test_containers_conf_of_the_environment_replaces_all_others(
    monkeypatch: pytest.MonkeyPatch, without_conf: Path, tmp_path: Path
) -> None:
    define(without_conf, "default")
    define(tmp_path / "system", "system")
    monkeypatch.setattr(podman, "CONFIGURATION", (str(configure(tmp_path / "system.conf", tmp_path / "system")),))
    (tmp_path / "own.conf").write_text("")
    assert names({}) == ["system"]
    assert names({"CONTAINERS_CONF": str(tmp_path / "own.conf")}) == ["default"]


def test_containers_conf_override_is_read_last(environ: dict[str, str], tmp_path: Path) -> None:
    define(tmp_path / "networks", "a")
    define(tmp_path / "override", "override")
    file = configure(tmp_path / "override.conf", tmp_path / "override")
    assert names({**environ, "CONTAINERS_CONF_OVERRIDE": str(file)}) == ["override"]


def bridge(name: str, interface: Any, options: Any = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "driver": "bridge", "network_interface": interface, "options": options, **fields}


class TestForeign:
    """The Linux bridges of other networks, from which ours are kept apart."""

    @pytest.fixture
    def found(self, environ: dict[str, str], tmp_path: Path) -> Any:
        def of(*networks: dict[str, Any]) -> Foreign:
            for network in networks:
                (tmp_path / "networks" / f"{network['name']}.json").write_text(json.dumps(network))
            return find_foreign(environ)

        return of

    def test_host_without_other_networks_has_none(self, found: Any) -> None:
        """The default network has no file and says no name; it is a podman*."""
        assert found() == Foreign()

    def test_bridges_are_told_by_name_and_ours_are_none_of_them(self, found: Any) -> None:
        ours = {"name": "ours", "driver": "geneve-ovs", "network_interface": "ovs_ours"}
        macvlan = {"name": "mac", "driver": "macvlan", "network_interface": "eth0"}
        assert found(bridge("b", "podman2"), bridge("a", "br-a"), ours, macvlan) == Foreign(("br-a", "podman2"))

    @pytest.mark.parametrize(
        ("isolate", "isolated"), [("true", True), ("1", True), ("strict", True), ("false", False), ("0", False)]
    )
    def test_bridges_that_are_isolated_are_told(self, found: Any, isolate: str, isolated: bool) -> None:
        assert found(bridge("a", "br-a", {"isolate": isolate}), bridge("b", "br-b", {})) == Foreign(
            ("br-a", "br-b"), ("br-a",) if isolated else ()
        )

    @pytest.mark.parametrize("interface", [None, "", 5, ["br-a"], "x" * 16, "a/b", 'a"; drop'], ids=ascii)
    def test_name_that_no_interface_has_is_passed_over(self, found: Any, interface: Any) -> None:
        assert found(bridge("a", interface), bridge("b", "br-b")) == Foreign(("br-b",))

    @pytest.mark.parametrize("options", [None, [], "isolate", 5], ids=ascii)
    def test_options_that_are_none_isolate_nothing(self, found: Any, options: Any) -> None:
        assert found(bridge("a", "br-a", options)) == Foreign(("br-a",))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", PLUGIN_DIRS),
        ('netavark_plugin_dirs = ["/a", "/b"]', ("/a", "/b")),
        ('netavark_plugin_dirs = ["/a", {append = true}]', (*PLUGIN_DIRS, "/a")),
    ],
    ids=["default", "own", "more"],
)
def test_plugins_are_looked_for_where_containers_conf_says(tmp_path: Path, text: str, wanted: tuple[str, ...]) -> None:
    (tmp_path / "own.conf").write_text(f"[network]\n{text}\n")
    assert find_plugin_dirs({"CONTAINERS_CONF": str(tmp_path / "own.conf")}) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ('firewall_driver = "none"', {"NETAVARK_FW": "none"}),
        ("dns_bind_port = 1053", {"NETAVARK_DNS_PORT": "1053"}),
        ('dns_bind_port = 0\nfirewall_driver = ""', {}),  # as if they were not there
    ],
    ids=["defaults", "no packet filter", "other port", "empty"],
)
def test_plugin_would_be_told_of_containers_conf(tmp_path: Path, text: str, wanted: dict[str, str]) -> None:
    (tmp_path / "own.conf").write_text(f"[network]\n{text}\n")
    assert variables({"CONTAINERS_CONF": str(tmp_path / "own.conf")}) == wanted
