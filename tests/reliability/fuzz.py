# SPDX-License-Identifier: Apache-2.0
"""Call the plugin's main function with requests that are nearly right, and look at every answer.

In a process of its own, in network and mount namespaces of its own: a request that is quite right after all is
planned, and fails where the container's namespace would be entered. Prints how many calls ended how (JSON).
"""

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from pyroute2 import IPRoute

from netavark_geneve import ovsdb
from netavark_geneve.options import KNOWN
from tests.unit.frontend import judged, said_by_main
from tests.unit.makers import network_json, port_json, request_json

NOWHERE = "/run/netns/fuzz"
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    65536,
    2**70,
    0.5,
    "",
    " ",
    "a",
    "é\ud800",
    "\0",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
)
WORDS = (
    *("192.168.120.0/24", "192.168.120.2", "192.168.0.10,192.168.0.11", "192.168.0.10", "none", "0.0.0.0/0", "::/0"),
    *("fd00:120::/64", "fd00:120::2", "ff02::1", "255.255.255.255", "10.0.0.0/8", "10.0.0.0/31", "fe80::/10"),
    *("7", "16777216", "1450", "65535", "strict", "true", "eth0", "lo", "../../etc", "a/b", "0a:58:00:00:00:01"),
)
OPTIONS = (*sorted(KNOWN), "slot", "com.docker.network.driver.mtu")
Mutation = Callable[[random.Random, Any], Any]


def main(seed: int, count: int) -> None:
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        arguments, request = _call(chance)
        try:
            outcomes[f"{arguments[0]}: {judged(arguments, request)}"] += 1
        except BaseException:
            print(
                f"seed {seed}, input {number}: {arguments} {request!r}: {said_by_main(arguments, request)}",
                file=sys.stderr,
            )
            raise
    print(json.dumps(outcomes))


def _call(chance: random.Random) -> tuple[list[str], bytes]:
    verb = chance.choice(("create", "setup", "setup", "teardown"))
    document: Any = network_json(options={"hosts": "none"}) if verb == "create" else request_json()
    if verb != "create" and chance.random() < 0.5:
        document["port_mappings"] = [port_json()]
    for _ in range(chance.randrange(4)):
        document = chance.choice(MUTATIONS)(chance, document)
    request = json.dumps(document).encode()
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        request = _corrupted(chance, request)
    return [verb] if verb == "create" else [verb, NOWHERE], request


def _corrupted(chance: random.Random, request: bytes) -> bytes:
    start, length = chance.randrange(len(request) + 1), chance.randrange(8)
    return request[:start] + chance.randbytes(chance.randrange(4)) + request[start + length :]


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in the document, with each of its keys or indices."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield document, key
        yield from _places(value)


def _replaced(chance: random.Random, document: Any) -> Any:
    places = list(_places(document))
    if not places:
        return chance.choice(ODD)
    parent, key = chance.choice(places)
    parent[key] = deepcopy(chance.choice(ODD + WORDS))
    return document


def _dropped(chance: random.Random, document: Any) -> Any:
    places = list(_places(document))
    if places:
        parent, key = chance.choice(places)
        del parent[key]
    return document


def _swapped(chance: random.Random, document: Any) -> Any:
    """Two values change places."""
    places = list(_places(document))
    if places:
        (one, key), (other, name) = chance.choice(places), chance.choice(places)
        value = deepcopy(other[name])
        one[key] = value
    return document


def _with_option(chance: random.Random, document: Any) -> Any:
    """An option that exists, with a value that may make sense."""
    network = document.get("network", document) if isinstance(document, dict) else None
    if isinstance(network, dict) and isinstance(network.get("options"), dict):
        network["options"][chance.choice(OPTIONS)] = chance.choice(WORDS)
    return document


def _repeated(chance: random.Random, document: Any) -> Any:
    lists = [parent[key] for parent, key in _places(document) if isinstance(parent[key], list) and parent[key]]
    if lists:
        chosen = chance.choice(lists)
        chosen.extend(deepcopy(chance.choice(chosen)) for _ in range(chance.randrange(1, 4)))
    return document


MUTATIONS: tuple[Mutation, ...] = (_replaced, _replaced, _dropped, _swapped, _with_option, _with_option, _repeated)

if __name__ == "__main__":
    os.environ["OVS_RUNDIR"] = "/nonexistent"
    ovsdb.RESTART = 0.0  # no server comes back there
    with IPRoute() as ipr:  # the host that the requests are about
        ipr.addr("add", index=1, address="192.168.0.10", prefixlen=24)
    main(int(sys.argv[1]), int(sys.argv[2]))
