# SPDX-License-Identifier: Apache-2.0
"""Who is in the fabric now: the list of hosts, read and resolved anew for each request."""

from collections.abc import Collection

from . import config
from .addresses import Address
from .errors import Deadline, GeneveError
from .fabric.mesh import Mesh, join, split_hosts
from .options import HOSTS_FILE, HOSTS_NONE, Options


def find_mesh(options: Options, *, own: Collection[Address] | None, deadline: Deadline) -> Mesh | None:
    """This host's place among the hosts of a network; None when the network is this host's alone.

    `own` are the addresses that this host has, to find its endpoint by; None once that was recorded.
    """
    if options.hosts in (None, HOSTS_NONE):
        return None
    assert options.hosts is not None
    if options.hosts.startswith(HOSTS_FILE):
        path = options.hosts.removeprefix(HOSTS_FILE)
        if not path:
            raise GeneveError("option hosts=@ names no file; write @/etc/netavark-geneve/fabric.toml or leave it out")
        hosts = config.read(path).hosts
        if not hosts:
            raise GeneveError(f"{path} has no hosts, but this network takes its hosts from it; add them")
    else:
        hosts = split_hosts(options.hosts)

    def resolve(name: str) -> Address:
        from . import underlay

        return underlay.resolve(name, deadline)

    return join(hosts, resolve=resolve, local_ip=options.local_ip, own=own)
