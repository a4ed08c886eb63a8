# SPDX-License-Identifier: Apache-2.0
"""Read a JSON object by fields of known types; null and absent are the same."""

import ipaddress
import json
from typing import Any

from ..addresses import Address
from ..addresses import Network as IPNetwork
from ..errors import GeneveError

SHOWN_MAX = 40  # characters of a value that a message shows


class Fields:
    """A JSON object and the name it has in messages. Every method raises GeneveError on a wrong type."""

    def __init__(self, raw: Any, name: str) -> None:
        if not isinstance(raw, dict):
            raise GeneveError(f"{name} must be an object, but is {_kind(raw)}")
        self._raw = raw
        self._name = name

    def text(self, key: str) -> str:
        """A string that must be there and not be empty."""
        value = self.optional_text(key)
        if value is None:
            raise self._wrong(key, "a string")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string; None when absent or empty."""
        return self._typed(key, str, "a string") or None

    def flag(self, key: str) -> bool:
        """A boolean; False when absent."""
        return bool(self._typed(key, bool, "true or false"))

    def optional_number(self, key: str) -> int | None:
        """An unsigned 32-bit integer."""
        value: int | None = self._typed(key, int, "a number")
        if value is not None and not 0 <= value < 2**32:
            raise self._wrong(key, "a number from 0 to 4294967295")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty when absent."""
        values = self._typed(key, list, "a list") or []
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key, "a list of strings")
        return tuple(values)

    def mapping(self, key: str) -> dict[str, str]:
        """An object whose values are all strings; empty when absent."""
        values = self._typed(key, dict, "an object") or {}
        if not all(isinstance(value, str) for value in values.values()):
            raise self._wrong(key, "an object of strings")
        return dict(values)

    def object(self, key: str) -> "Fields":
        """An object that must be there."""
        return Fields(self._raw.get(key), f"{self._name}.{key}")

    def optional_object(self, key: str) -> "Fields | None":
        """An object, or None."""
        return None if self._raw.get(key) is None else self.object(key)

    def objects(self, key: str) -> "tuple[Fields, ...]":
        """A list of objects; empty when absent."""
        values = self._typed(key, list, "a list") or []
        return tuple(Fields(value, f"{self._name}.{key}[{index}]") for index, value in enumerate(values))

    def address(self, key: str) -> Address:
        """An IP address that must be there."""
        return self._address(key, self.text(key))

    def optional_address(self, key: str) -> Address | None:
        """An IP address, or None."""
        text = self.optional_text(key)
        return None if text is None else self._address(key, text)

    def addresses(self, key: str) -> tuple[Address, ...]:
        """A list of IP addresses; empty when absent."""
        return tuple(self._address(key, text) for text in self.texts(key))

    def network(self, key: str) -> IPNetwork:
        """A subnet in CIDR notation that must be there; host bits are cut off, as netavark does."""
        text = self.text(key)
        try:
            return ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise GeneveError(f"{self._name}.{key} {text!r} is not a subnet like 192.168.120.0/24") from error

    def _address(self, key: str, text: str) -> Address:
        try:
            return ipaddress.ip_address(text)
        except ValueError as error:
            raise GeneveError(f"{self._name}.{key} {text!r} is not an IP address") from error

    def _typed(self, key: str, kind: type, words: str) -> Any:
        value = self._raw.get(key)
        # bool is an int in Python, not in JSON.
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise self._wrong(key, words)
        return value

    def _wrong(self, key: str, words: str) -> GeneveError:
        return GeneveError(f"{self._name}.{key} must be {words}, but is {_kind(self._raw.get(key))}")


def _kind(value: Any) -> str:
    """A JSON value, cut short."""
    if value is None:
        return "missing"
    try:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
    except RecursionError:  # json.loads() can nest deeper than json.dumps()
        return "nested too deep"
