# SPDX-License-Identifier: Apache-2.0
"""A stand-in for nftables: it keeps one table, takes batches whole or not at all, and refuses what nft refuses.

Not more than firewall.py uses of it. That nft itself takes these batches is seen in tests/sandbox.
"""

import copy
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from netavark_geneve.errors import Deadline, GeneveError


@dataclass
class Table:
    chains: dict[str, list[Any]] = field(default_factory=dict)  # the rules of each: expressions, and a comment
    hooks: set[str] = field(default_factory=set)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)  # key as JSON: chain
    sets: dict[str, set[str]] = field(default_factory=dict)


class Ruleset:
    def __init__(self) -> None:
        self.table: Table | None = None
        self.batches = 0
        self.is_locked = False

    def rules(self, chain: str) -> list[Any]:
        """The expressions of each rule."""
        assert self.table is not None
        return [expressions for expressions, _ in self.table.chains[chain]]

    def comments(self, chain: str) -> set[str | None]:
        assert self.table is not None
        return {comment for _, comment in self.table.chains[chain]}

    def elements(self, name: str) -> dict[Any, str]:
        """What a verdict map sends where; a key of several parts as a tuple."""
        assert self.table is not None
        return {_readable(json.loads(key)): chain for key, chain in self.table.maps[name].items()}

    def members(self, name: str) -> set[str]:
        assert self.table is not None
        return self.table.sets[name]

    def snapshot(self) -> Table | None:
        return copy.deepcopy(self.table)

    @contextmanager
    def lock(self) -> Iterator[None]:
        assert not self.is_locked
        self.is_locked = True
        try:
            yield
        finally:
            self.is_locked = False

    def run(self, commands: list[dict[str, Any]], deadline: Deadline) -> None:
        assert self.is_locked
        self.batches += 1
        before = self.snapshot()
        try:
            for command in commands:
                ((verb, objects),) = command.items()
                ((kind, attributes),) = objects.items()
                assert attributes["family"] == "inet"
                getattr(self, f"_{verb}_{kind}")(attributes)
        except GeneveError:
            self.table = before
            raise

    def has_table(self) -> bool:
        return self.table is not None

    def list_chains(self, part: str = "") -> set[str]:
        chains = self.table.chains.keys() - self.table.hooks if self.table is not None else set()
        return {name for name in chains if part in name}

    def delete_chain(self, name: str, maps: Iterable[str]) -> None:
        assert self.is_locked
        for verdicts in maps:
            found = self._there().maps[verdicts]
            self._there().maps[verdicts] = {key: chain for key, chain in found.items() if chain != name}
        self._delete_chain({"name": name})

    def delete_table(self) -> None:
        assert self.is_locked
        self._delete_table(None)

    def list_table(self, deadline: Deadline) -> list[dict[str, Any]]:
        """As `nft -j list table`: an empty map has no "elem"."""
        if self.table is None:
            return []
        chains = [
            {"chain": {"name": name, **({"hook": name} if name in self.table.hooks else {})}}
            for name in self.table.chains
        ]
        maps = [
            {"map": {"name": name, **_elem([[json.loads(key), _jump(chain)] for key, chain in found.items()])}}
            for name, found in self.table.maps.items()
        ]
        sets = [{"set": {"name": name, **_elem(sorted(found))}} for name, found in self.table.sets.items()]
        return [{"metainfo": {}}, {"table": {"name": "netavark_geneve"}}, *maps, *sets, *chains]

    def _there(self) -> Table:
        _check(self.table is not None, "no table")
        assert self.table is not None
        return self.table

    def _add_table(self, _: Any) -> None:
        self.table = self.table or Table()

    def _delete_table(self, _: Any) -> None:
        self._there()
        self.table = None

    def _add_chain(self, attributes: Any) -> None:
        self._there().chains.setdefault(attributes["name"], [])
        if "hook" in attributes:
            self._there().hooks.add(attributes["name"])

    def _flush_chain(self, attributes: Any) -> None:
        _check(attributes["name"] in self._there().chains, "no chain")
        self._there().chains[attributes["name"]] = []

    def _delete_chain(self, attributes: Any) -> None:
        name = attributes["name"]
        used = [chain for found in self._there().maps.values() for chain in found.values()]
        _check(name in self._there().chains and name not in used, "no chain, or in use")
        del self._there().chains[name]

    def _add_rule(self, attributes: Any) -> None:
        text = json.dumps(attributes["expr"])
        names = {*self._there().maps, *self._there().sets}
        _check(all(part.split('"')[0] in names for part in text.split('"@')[1:]), "no set or map")
        _check(attributes["chain"] in self._there().chains, "no chain")
        self._there().chains[attributes["chain"]].append((attributes["expr"], attributes.get("comment")))

    def _add_map(self, attributes: Any) -> None:
        self._there().maps.setdefault(attributes["name"], {})

    def _add_set(self, attributes: Any) -> None:
        self._there().sets.setdefault(attributes["name"], set())

    def _flush_set(self, attributes: Any) -> None:
        _check(attributes["name"] in self._there().sets, "no set")
        self._there().sets[attributes["name"]] = set()

    def _add_element(self, attributes: Any) -> None:
        name = attributes["name"]
        if name in self._there().sets:
            self._there().sets[name] |= set(attributes["elem"])
            return
        _check(name in self._there().maps, "no set or map")
        for key, verdict in attributes["elem"]:
            target = verdict["jump"]["target"]
            _check(target in self._there().chains, "no chain")
            _check(self._there().maps[name].setdefault(json.dumps(key), target) == target, "File exists")

    def _delete_element(self, attributes: Any) -> None:
        name = attributes["name"]
        for element in attributes["elem"]:
            if name in self._there().sets:
                _check(element in self._there().sets[name], "no element")
                self._there().sets[name].remove(element)
            else:
                _check(self._there().maps[name].pop(json.dumps(element[0]), None) is not None, "no element")


def _check(condition: bool, reason: str) -> None:
    if not condition:
        raise GeneveError(f"nft refused our rules: {reason}")


def _elem(items: list[Any]) -> dict[str, Any]:
    return {"elem": items} if items else {}


def _jump(chain: str) -> dict[str, Any]:
    return {"jump": {"target": chain}}


def _readable(key: Any) -> Any:
    return tuple(key["concat"]) if "concat" in key else f"{key['prefix']['addr']}/{key['prefix']['len']}"
