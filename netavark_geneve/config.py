# SPDX-License-Identifier: Apache-2.0
"""The host's configuration, fabric.toml: the defaults of all its networks, the same file on every host."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from . import files
from .errors import GeneveError

DEFAULT_PATH = "/etc/netavark-geneve/fabric.toml"
PATH_VARIABLE = "NETAVARK_GENEVE_CONFIG"


@dataclass(frozen=True)
class Fabric:
    """fabric.toml as read; None or () where it says nothing. Values are validated with the options."""

    path: str = DEFAULT_PATH
    hosts: tuple[str, ...] = ()
    local_ip: str | None = None
    slots: int | None = None
    subnet_pool: str | None = None
    mtu: int | None = None
    dst_port: int | None = None
    datapath_type: str | None = None


_KEYS = tuple(field.name for field in fields(Fabric) if field.name != "path")
_INTEGERS = ("slots", "mtu", "dst_port")


def load(environ: Mapping[str, str]) -> Fabric:
    """Read the file that NETAVARK_GENEVE_CONFIG names, or the default one, which need not exist."""
    named = environ.get(PATH_VARIABLE)
    if named:
        return read(os.path.abspath(named))
    return read(DEFAULT_PATH) if os.path.exists(DEFAULT_PATH) else Fabric()


def read(path: str) -> Fabric:
    """Read and check one fabric.toml. Raises GeneveError naming the file and the key."""
    try:
        table = tomllib.loads(files.read(path))
    except OSError as error:
        raise GeneveError(
            f"cannot read {path}: {error.strerror}; it must be there, the same as on the other hosts"
        ) from error
    except ValueError as error:  # TOML, UTF-8, or a path that no file can have
        raise GeneveError(f"{path} is not valid TOML: {error}; mend it") from error
    values = {key: _check(path, key, value) for key, value in table.items()}
    return Fabric(path=path, **values)


def _check(path: str, key: str, value: Any) -> Any:
    if key not in _KEYS:
        raise GeneveError(f"{path}: unknown key {key!r}; known keys are {', '.join(_KEYS)}")
    if key == "hosts":
        if not isinstance(value, list) or not all(isinstance(host, str) for host in value):
            raise GeneveError(f'{path}: hosts must be a list of strings, like ["192.168.0.10", "192.168.0.11"]')
        return tuple(value)
    wanted = int if key in _INTEGERS else str
    if type(value) is not wanted:
        raise GeneveError(f"{path}: {key} must be {'an integer' if wanted is int else 'a string'}, not {value!r}")
    return value
