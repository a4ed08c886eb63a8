# SPDX-License-Identifier: Apache-2.0
"""What this host has for its running containers outside the switch: kernel settings, the resolver; and what is left."""

from ..stale import Thing
from .finding import FAULT, WARNING, Finding
from .packetfilter import RESTORE

REMOVE = "netavark-geneve gc --apply"


def check_setting(network: str, key: str, found: str, wanted: str) -> Finding:
    """A kernel setting that every attach makes."""
    name = key.replace("/", ".")
    if found == wanted:
        return Finding(name, found, wanted)
    reason = f"network {network} needs it, and somebody has set it back"
    return Finding(name, found, wanted, FAULT, reason, RESTORE)


def check_names(known: int, *, runs: bool) -> Finding:
    """The resolver, which runs while there are `known` containers with names."""
    if runs or not known:
        return Finding("names", f"{known} containers", "a resolver that runs while there are any")
    found, wanted = "no resolver", f"one that knows {known} containers"
    reason = "aardvark-dns has ended, so containers find neither each other nor the outside by name"
    return Finding("names", found, wanted, FAULT, reason, RESTORE)


def check_stale(thing: Thing) -> Finding:
    """What serves nobody. It may be of a container that is just starting or ending; ports and bridges for a moment."""
    state = FAULT if thing.is_of_switch else WARNING
    return Finding(f"{thing.kind} {thing.name}", "one", "none", state, f"left over: {thing.reason}", REMOVE)
