# SPDX-License-Identifier: Apache-2.0
"""The networks that Podman already has, read from its files: asking Podman itself would deadlock on its lock."""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .log import logger
from .model import Foreign
from .naming import is_interface_name

DEFAULT_NETWORK_DIR = "/etc/containers/networks"
DEFAULT_NAME = "podman"  # the network that is there without a file, until somebody edits it
DEFAULT_SUBNET = "10.88.0.0/16"
CONFIGURATION = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
PLUGIN_DIRS = (  # the default of netavark_plugin_dirs of containers.conf(5)
    "/usr/local/libexec/netavark",
    "/usr/libexec/netavark",
    "/usr/local/lib/netavark",
    "/usr/lib/netavark",
)
DROP_INS = "/etc/containers/containers.conf.d"
VARIABLES = {"firewall_driver": "NETAVARK_FW", "dns_bind_port": "NETAVARK_DNS_PORT"}


def find_networks(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The JSON of every network definition that can be read; Podman itself complains about the others."""
    settings = _network_settings(environ)
    yield {
        "name": settings.get("default_network", DEFAULT_NAME),
        "id": "",
        "driver": "bridge",
        "subnets": [{"subnet": settings.get("default_subnet", DEFAULT_SUBNET)}],
    }
    for path in sorted(Path(settings.get("network_config_dir", DEFAULT_NETWORK_DIR)).glob("*.json")):
        try:
            definition = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            logger.debug("skipping %s: %s", path, error)
            continue
        if isinstance(definition, dict):
            yield definition


def find_foreign(environ: Mapping[str, str]) -> Foreign:
    """The Linux bridges of Podman's other networks."""
    bridges = [network for network in find_networks(environ) if network.get("driver") == "bridge"]
    isolated = [network for network in bridges if _options(network).get("isolate") in ("true", "1", "strict")]
    return Foreign(bridges=_names(bridges), isolated=_names(isolated))


def find_plugin_dirs(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where Podman and netavark look for plugins; a list may have `{append=true}` among its directories."""
    value = _settings(environ).get("netavark_plugin_dirs", PLUGIN_DIRS)
    named = tuple(entry for entry in value if isinstance(entry, str))
    return named if len(named) == len(value) else (*PLUGIN_DIRS, *named)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What Podman tells its plugins of containers.conf, for a command of ours that Podman does not call."""
    settings = _settings(environ)
    return {name: str(settings[key]) for key, name in VARIABLES.items() if key in settings}


def _options(network: Mapping[str, Any]) -> Mapping[str, Any]:
    options = network.get("options")
    return options if isinstance(options, dict) else {}


def _names(networks: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    names = (network.get("network_interface") for network in networks)
    return tuple(sorted({name for name in names if isinstance(name, str) and is_interface_name(name)}))


def _network_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What is text in those settings."""
    return {key: value for key, value in _settings(environ).items() if isinstance(value, str) and value}


def _settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """The [network] table of containers.conf(5): later files win, CONTAINERS_CONF replaces them all."""
    if environ.get("CONTAINERS_CONF"):
        files = [Path(environ["CONTAINERS_CONF"])]
    else:
        files = [Path(path) for path in CONFIGURATION] + sorted(Path(DROP_INS).glob("*.conf"))
    if environ.get("CONTAINERS_CONF_OVERRIDE"):
        files.append(Path(environ["CONTAINERS_CONF_OVERRIDE"]))
    settings: dict[str, Any] = {}
    for path in files:
        try:
            network = tomllib.loads(path.read_text(encoding="utf-8")).get("network")
        except (OSError, ValueError):
            continue
        if isinstance(network, dict):
            settings |= {key: value for key, value in network.items() if value}
    return settings
