# SPDX-License-Identifier: Apache-2.0
"""The networks that Podman already has, read from its files: asking Podman itself would deadlock on its lock."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .log import logger

DEFAULT_NETWORK_DIR = "/etc/containers/networks"
CONFIGURATION = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")


def find_networks(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The JSON of every network definition that can be read; Podman itself complains about the others."""
    for path in sorted(Path(_network_dir(environ)).glob("*.json")):
        try:
            definition = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            logger.debug("skipping %s: %s", path, error)
            continue
        if isinstance(definition, dict):
            yield definition


def _network_dir(environ: Mapping[str, str]) -> str:
    """containers.conf(5): later files win, and CONTAINERS_CONF replaces them all."""
    named = environ.get("CONTAINERS_CONF")
    if named:
        files = [Path(named)]
    else:
        files = [Path(path) for path in CONFIGURATION] + sorted(
            Path("/etc/containers/containers.conf.d").glob("*.conf")
        )
    directory = DEFAULT_NETWORK_DIR
    for path in files:
        try:
            network = tomllib.loads(path.read_text(encoding="utf-8")).get("network", {})
        except (OSError, ValueError):
            continue
        directory = network.get("network_config_dir") or directory
    return directory
