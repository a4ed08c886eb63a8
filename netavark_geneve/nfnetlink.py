# SPDX-License-Identifier: Apache-2.0
"""Our nf_tables table as the kernel itself shows and forgets it: netlink(7), linux/netfilter/nf_tables.h.

Rules are made by `nft`, which compiles them. To find a chain, or to remove one with what leads there, takes a few
short messages and about a millisecond; with nft twice five, and as long as the kernel needs to forget what is gone.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from .aside import close_aside
from .errors import failing_to
from .naming import NFT_TABLE as TABLE
from .netlink import ACK, Kernel, attribute, attributes, message, text

_NETLINK_NETFILTER, _SUBSYSTEM = 12, 10  # linux/netlink.h, linux/netfilter/nfnetlink.h
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFPROTO_INET = 1  # linux/netfilter.h
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN, _GETSETELEM, _DELSETELEM = 0, 1, 2, 3, 4, 5, 13, 14
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 1, 3, 4
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEM, _ELEM_KEY = 1, 2, 3, 1, 1  # of messages about elements
_VERDICT_CHAIN = 2
_PORTION = 1000  # elements in a message; the length of an attribute has 16 bits
_TRIES = 100  # until nobody changes any rules of this namespace while we list them


def has_table() -> bool:
    """Whether our table is there."""
    return _exists(_GETTABLE, _NEWTABLE, text(_TABLE_NAME, TABLE))


def has_chain(name: str) -> bool:
    """Whether our table has this chain."""
    return _exists(_GETCHAIN, _NEWCHAIN, text(_CHAIN_TABLE, TABLE) + text(_CHAIN_NAME, name))


def list_chains(part: str = "") -> set[str]:
    """The chains of our table that no hook calls, and in whose names `part` is."""
    with failing_to("list our chains of the packet filter"), _kernel() as kernel:
        found = [dict(attributes(chain)) for chain in _dump(kernel, _GETCHAIN, b"") if part.encode() in chain]
    ours = (chain for chain in found if chain[_CHAIN_TABLE] == TABLE.encode() + b"\0" and _CHAIN_HOOK not in chain)
    names = (chain[_CHAIN_NAME].rstrip(b"\0").decode() for chain in ours)
    return {name for name in names if part in name}


def delete_chain(name: str, maps: Iterable[str]) -> None:
    """Remove a chain, and the elements of these verdict maps that jump there; all at once."""
    with failing_to(f"remove chain {name} of the packet filter"), _kernel() as kernel:
        removals = []
        for verdicts in maps:
            which = text(_LIST_TABLE, TABLE) + text(_LIST_SET, verdicts)
            keys = _keys(kernel, which, name)
            for at in range(0, len(keys), _PORTION):
                elements = b"".join(attribute(_LIST_ELEM, key) for key in keys[at : at + _PORTION])
                removals.append((_DELSETELEM, which + attribute(_LIST_ELEMENTS, elements)))
        _commit(kernel, *removals, (_DELCHAIN, text(_CHAIN_TABLE, TABLE) + text(_CHAIN_NAME, name)))


def delete_table() -> None:
    """Remove all that is ours."""
    with failing_to(f"remove table {TABLE} of the packet filter"), _kernel() as kernel:
        _commit(kernel, (_DELTABLE, text(_TABLE_NAME, TABLE)))


def _keys(kernel: Kernel, which: bytes, chain: str) -> list[bytes]:
    """Of the elements of a verdict map that jump to the chain: each its key, as the kernel wants it back."""
    target = text(_VERDICT_CHAIN, chain)
    lists = (dict(attributes(found)).get(_LIST_ELEMENTS, b"") for found in _dump(kernel, _GETSETELEM, which))
    jumps = [element for found in lists for _, element in attributes(found) if target in element]
    return [attribute(_ELEM_KEY, dict(attributes(element))[_ELEM_KEY]) for element in jumps]


def _exists(ask: int, found: int, which: bytes) -> bool:
    with failing_to("ask the packet filter for our rules"), Kernel(_NETLINK_NETFILTER) as kernel:
        kind, _ = kernel.ask(_SUBSYSTEM << 8 | ask, 0, _header() + which)
    return bool(kind == _SUBSYSTEM << 8 | found)


def _dump(kernel: Kernel, ask: int, which: bytes, tries: int = _TRIES) -> list[bytes]:
    """The attributes of each thing of the kind that is asked for."""
    try:
        return [body[len(_header()) :] for body in kernel.dump(_SUBSYSTEM << 8 | ask, _header() + which)]
    except InterruptedError:
        if tries == 1:
            raise
    return _dump(kernel, ask, which, tries - 1)


def _commit(kernel: Kernel, *changes: tuple[int, bytes]) -> None:
    """Make all changes or none; the kernel answers to the last, or to the first that it refuses."""
    batch = struct.pack("!BBH", 0, 0, _SUBSYSTEM)  # struct nfgenmsg of what encloses them
    last = len(changes) - 1
    messages = [
        message(_SUBSYSTEM << 8 | kind, ACK if index == last else 0, _header() + body)
        for index, (kind, body) in enumerate(changes)
    ]
    kernel.change([message(_BATCH_BEGIN, 0, batch), *messages, message(_BATCH_END, 0, batch)])


def _header() -> bytes:
    return struct.pack("!BBH", _NFPROTO_INET, 0, 0)  # struct nfgenmsg


@contextmanager
def _kernel() -> Iterator[Kernel]:
    """A socket that the kernel closes when it has forgotten what was deleted meanwhile by anybody: not waited for."""
    kernel = Kernel(_NETLINK_NETFILTER)
    try:
        yield kernel
    finally:
        close_aside(kernel.close)
