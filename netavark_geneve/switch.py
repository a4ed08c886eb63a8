# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch's side of an attach: bridge, tunnels and port in one OVSDB transaction."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from . import naming
from .errors import Deadline, GeneveError
from .log import timed
from .model import AttachPlan, Bridge, Tunnel
from .ovsdb import EVERY, Change, Pool, Replica, Transaction, connected, named, no_answer, tagged

FOLLOW_MAX = 5.0  # seconds that a detach waits for ovs-vswitchd, which will follow in its time
NOTICE_MAX = 1.0  # seconds that ovs-vswitchd takes at most, if it runs, to notice what has changed in the kernel
MANY_PORTS = 20  # on one bridge; a millisecond and more, as long as the kernel takes to make a pair of links
CROWD = 200  # on one bridge; longer than it takes to make the links when the port stands in the database
IN_THE_MAKING = ["ofport", "==", ["set", []]]
BROKEN = ["ofport", "==", -1]  # ovs-vswitchd could not set it up, mostly since there is no such device
FAULTY = ["error", "!=", ["set", []]]
_LOOK = "'netavark-geneve doctor' looks for the reason, and ovs-vswitchd.log has it"
_HINTS = {  # what ovs-vswitchd says, and what it means for us
    "File exists": "another tunnel has the same VNI, peer and port; choose another --opt vni=, the same on every host",
    "Invalid argument": "an interface of that name may exist already; choose another --interface-name",
}


class Switch:
    """A connection that sees one network's bridge and tunnels and one container's port."""

    def __init__(self, api: Replica, ports: Sequence[Any] = ()) -> None:
        self._api = api
        self._ports = ports  # the conditions of those that it sees

    def find_port(self, tags: Mapping[str, str]) -> str | None:
        """The name of this attachment's port, also one that an attempt left which was killed."""
        with self._api.ovsdb_connection.lock:
            row = self._api.find_tagged("Port", _identity(tags))
            return None if row is None else str(row.name)

    @contextmanager
    def attaching(self, plan: AttachPlan, deadline: Deadline) -> Iterator["Attach"]:
        """Ensure bridge and tunnels and add the container's port, whose interface is for the block to make.

        With a crowd of ports it is made when the port stands in the database: should ovs-vswitchd hear of it first, it
        would go through all of them for it alone. What containers left on any bridge before the last boot goes. It is
        seen by its interfaces, which are broken.
        """
        boot_id = plan.port_tags["boot-id"]
        with self._api.ovsdb_connection.lock:
            interfaces = self._api.all_tagged("Interface", naming.CONTAINER_ROLE)
            has_rebooted = any(_is_earlier(self._api, row, boot_id) for row in interfaces)
        everything = {"Bridge": EVERY, "Port": [*self._ports, tagged(naming.CONTAINER_ROLE)]}
        if has_rebooted and not self._api.look_at(everything, deadline):
            raise no_answer(deadline)
        change = Attach(self._api, plan)
        if self.count_ports(plan.bridge.name) >= CROWD:
            self._api.submit(change, deadline)
            yield change
        else:
            with self._api.submitting(change, deadline):
                yield change

    def wait_attached(self, plan: AttachPlan, next_cfg: int, deadline: Deadline) -> None:
        """Wait until ovs-vswitchd forwards for the container; raises GeneveError when it cannot."""
        names = [plan.veth.name, plan.bridge.name, *(tunnel.name for tunnel in plan.tunnels)]
        with timed("ovs-vswitchd"):
            self._wait_completed(next_cfg, deadline)
            faults = self._find_faults(names)
            if plan.veth.name in faults:  # it looked for the interface before that was there: again
                self._wait_completed(self._api.submit(_Nothing(self._api), deadline), deadline)
                faults = self._find_faults(names)
        for name, fault in faults.items():
            hint = next((hint for words, hint in _HINTS.items() if words in fault), _LOOK)
            raise GeneveError(f"ovs-vswitchd could not set up {name}: {fault}; {hint}")

    def detach(self, bridge: str, tags: Mapping[str, str], deadline: Deadline, *, wait: bool = True) -> bool:
        """Remove the port that carries `tags` if there is one; with the last port the bridge and its tunnels.

        A bridge that is not ours stays. Done once it stands in the database; False when ovs-vswitchd did not
        follow soon. Unless told to `wait`, only a bridge that goes is waited for.
        """
        followed = self._leave(bridge, tags, deadline, wait=wait)
        with self._api.ovsdb_connection.lock:
            deserted = _is_deserted(self._api, bridge, tags)
        if deserted:  # by several who left at once, none of whom was the last yet
            followed = self._leave(bridge, tags, deadline, wait=wait)
        return followed

    def _leave(self, bridge: str, tags: Mapping[str, str], deadline: Deadline, *, wait: bool) -> bool:
        change = _Detach(self._api, bridge, tags)
        next_cfg = self._api.submit(change, deadline)
        with timed("ovs-vswitchd"):
            patience = Deadline(min(FOLLOW_MAX, deadline.remaining()))
            return self._api.has_completed(next_cfg, patience) if wait or change.is_last else True

    def all_containers(self) -> list[tuple[str, dict[str, str]]]:
        """Name and tags of every container's port on this host; of a connection that `connect_all` made."""
        with self._api.ovsdb_connection.lock:
            rows = self._api.all_tagged("Port", naming.CONTAINER_ROLE)
            return sorted((str(row.name), dict(row.external_ids)) for row in rows)

    def drop_port(self, name: str, deadline: Deadline) -> None:
        """Remove a container's port whose device a crash took, before one of that name is made again.

        In one transaction with the new one ovs-vswitchd would take the new device for the old, and nothing passes.
        """
        with self._api.ovsdb_connection.lock:
            row = self._api.find_named("Port", name)
            is_left = row is not None and naming.CONTAINER_ROLE.items() <= row.external_ids.items()
        if is_left:
            self._wait_completed(self._api.submit(_Drop(self._api, name), deadline), deadline)

    def wait_noticed(self, deadline: Deadline) -> bool:
        """Whether ovs-vswitchd has noticed what changed in the kernel: after each configuration it reads of that."""
        next_cfg = self._api.submit(_Nothing(self._api), deadline)
        return self._api.has_completed(next_cfg, Deadline(min(NOTICE_MAX, deadline.remaining())))

    def find_datapath_type(self, bridge: str) -> str | None:
        """As the Bridge row says; None when there is none yet."""
        with self._api.ovsdb_connection.lock:
            row = self._api.find_named("Bridge", bridge)
            return None if row is None else str(row.datapath_type)

    def count_ports(self, bridge: str) -> int:
        """Of all kinds, its own and the tunnels, too; 0 where there is no such bridge."""
        with self._api.ovsdb_connection.lock:
            row = self._api.find_named("Bridge", bridge)
            # Of their number alone: a thousand would be converted first, to rows that are not replicated.
            return 0 if row is None else len(row._data["ports"].values)

    def has_bridge(self, name: str, network_id: str) -> bool:
        """Whether the network's bridge is there; somebody else's of the same name does not count."""
        with self._api.ovsdb_connection.lock:
            bridge = self._api.find_named("Bridge", name)
            return bridge is not None and bridge.external_ids.get("network-id") == network_id

    def _wait_completed(self, next_cfg: int, deadline: Deadline) -> None:
        if not self._api.has_completed(next_cfg, deadline):
            raise no_answer(deadline)

    def _find_faults(self, names: list[str]) -> dict[str, str]:
        """ovs-vswitchd accepts any row and reports in the row what it could not make of it; others we do not see."""
        faults = {}
        with self._api.ovsdb_connection.lock:
            ports = {self._api.value(row, "name") for row in self._api.tables["Port"].rows.values()}
            seen = {self._api.value(row, "name"): row for row in self._api.tables["Interface"].rows.values()}
            for name in names:
                error, ofport = (self._api.value(seen[name], c) if name in seen else None for c in ("error", "ofport"))
                if error or name not in ports or ofport in ([], [-1]):
                    faults[name] = str(error[0]) if error else "no OpenFlow port number"
        return faults


@contextmanager
def connect(
    environ: Mapping[str, str],
    deadline: Deadline,
    bridge: str,
    tags: Mapping[str, str],
    port: str | None = None,
    *,
    pool: Pool | None = None,
) -> Iterator[Switch]:
    """Connect to this host's OVSDB for one attachment, which `tags` identify, and which is to have this `port`.

    Raises GeneveError when there is no server, or when it does not answer; who wants a port waits for it to come back.
    """
    tunnels = tagged(naming.tunnel_tags(tags["network-id"]))
    own = [named(bridge), tagged(_identity(tags)), tunnels, *([named(port)] if port else [])]
    bridges = [named(bridge), tagged({"owner": naming.OWNER})]
    # The same for all containers of a network: what is new the server looks for in all rows, 1.5 ms of a thousand.
    interfaces = [IN_THE_MAKING, BROKEN, FAULTY, tunnels]
    conditions: dict[str, list[Any]] = {"Bridge": bridges, "Port": own, "Interface": interfaces}
    with connected(environ, deadline, conditions, pool=pool, patient=port is not None) as api:
        yield Switch(api, own)


@contextmanager
def connect_all(environ: Mapping[str, str], deadline: Deadline) -> Iterator[Switch]:
    """Connect to look at everything that is ours."""
    ours = [tagged({"owner": naming.OWNER})]
    with connected(environ, deadline, {"Bridge": ours, "Port": ours, "Interface": ours}) as api:
        yield Switch(api)


@contextmanager
def connect_bridge(environ: Mapping[str, str], deadline: Deadline, bridge: str) -> Iterator[Switch]:
    """Connect to look at the bridge of that name, whoever's it is."""
    only = [named(bridge)]
    with connected(environ, deadline, {"Bridge": only, "Port": only, "Interface": only}) as api:
        yield Switch(api)


class Attach(Change):
    """What one container needs of the switch."""

    has_bridge = False  # one that ovs-vswitchd has made: what it has still to make replaces what there is

    def __init__(self, api: Replica, plan: AttachPlan) -> None:
        super().__init__(api)
        self.plan = plan

    def run(self, txn: Transaction) -> None:
        plan = self.plan
        txn.add_comment(f"geneve-ovs: attach {plan.veth.alias}")
        self._check_vni()
        bridge = self._ensure_bridge(txn)
        self._ensure_tunnels(txn, bridge)
        own, boot_id = _identity(plan.port_tags).items(), plan.port_tags["boot-id"]
        for row in self.api.all_tagged("Port", naming.CONTAINER_ROLE):
            if own <= row.external_ids.items() or _is_earlier(self.api, row, boot_id):
                _remove_port(self.api, row)  # an attempt that was killed half-way, or a boot, left it
        port = _insert_port(txn, plan.veth.name, plan.port_tags)
        # transient: Fedora's and RHEL's Open vSwitch drop such ports at boot by themselves
        port.other_config = {"transient": "true"}
        port.tag = [plan.veth.vlan]  # also 0: a port without a tag is a trunk, and hears and speaks in all VLANs
        port.interfaces[0].external_ids = {**plan.port_tags, "attached-mac": plan.veth.mac}
        bridge.addvalue("ports", port)

    def _check_vni(self) -> None:
        """A VNI that two networks share would join them, or OVS refuses the second tunnel."""
        wanted = self.plan.bridge
        if not wanted.managed:
            return
        for row in self.api.tables["Bridge"].rows.values():
            ids = row.external_ids
            if row.name != wanted.name and ids.get("owner") == naming.OWNER and ids.get("vni") == str(wanted.vni):
                raise GeneveError(
                    f"VNI {wanted.vni} is already used by network {ids.get('network-name')} (bridge {row.name});"
                    " create one of them again with another --opt vni=, the same on every host"
                )

    def _ensure_bridge(self, txn: Transaction) -> Any:
        wanted = self.plan.bridge
        bridge = self.api.find_named("Bridge", wanted.name)
        interface = self.api.find_named("Interface", wanted.name)
        self.has_bridge = bridge is not None and interface is None  # all is well with one that we do not see
        if not wanted.managed:
            if bridge is None:
                raise GeneveError(
                    f"there is no Open vSwitch bridge {wanted.name} on this host; with mode=unmanaged it is yours to"
                    f" make (ovs-vsctl add-br {wanted.name})"
                )
            return bridge
        if bridge is None:
            return self._insert_bridge(txn, wanted)
        if bridge.external_ids.get("network-id") != wanted.tags["network-id"]:
            raise GeneveError(
                f"OVS bridge {wanted.name} exists and is not this network's; create the network again with another"
                " --interface-name, or remove the bridge if a network that is gone left it"
                f" (ovs-vsctl del-br {wanted.name})"
            )
        bridge.verify("name")  # the detach of the last container may be removing it right now
        if bridge.other_config.get("hwaddr") != wanted.hwaddr:
            bridge.setkey("other_config", "hwaddr", wanted.hwaddr)
        return bridge

    def _insert_bridge(self, txn: Transaction, wanted: Bridge) -> Any:
        root = self.api.root
        root.verify("bridges")  # somebody may be adding it right now
        port = _insert_port(txn, wanted.name, wanted.tags)
        port.interfaces[0].type = "internal"
        port.interfaces[0].mtu_request = [wanted.mtu]
        port.tag = [wanted.vlan]
        bridge = txn.insert(self.api.tables["Bridge"])
        bridge.name = wanted.name
        bridge.datapath_type = wanted.datapath_type
        # Without hwaddr the bridge takes the lowest MAC of its ports, and changes it as they come and go.
        bridge.other_config = {"hwaddr": wanted.hwaddr}
        bridge.external_ids = dict(wanted.tags)
        bridge.addvalue("ports", port)
        root.addvalue("bridges", bridge)
        return bridge

    def _ensure_tunnels(self, txn: Transaction, bridge: Any) -> None:
        """Keep the tunnels that are as wanted, add the missing, remove those of hosts that have left."""
        tags = naming.tunnel_tags(self.plan.bridge.tags["network-id"])
        found = {self.api.value(row, "name"): row for row in self.api.all_tagged("Port", tags)}
        interfaces = {self.api.value(row, "name"): row for row in self.api.all_tagged("Interface", tags)}
        wanted = {tunnel.name: tunnel for tunnel in self.plan.tunnels}
        kept = {name for name in found if _equal(self.api, found[name], interfaces.get(name), wanted.get(name))}
        if not kept == found.keys() == wanted.keys():
            bridge.verify("ports")  # somebody may be adding the same tunnels right now
        for name in found.keys() - kept:
            bridge.delvalue("ports", found[name].uuid)
        for tunnel in self.plan.tunnels:
            if tunnel.name not in kept:
                bridge.addvalue("ports", _insert_tunnel(txn, tunnel))


class _Detach(Change):
    is_last = False  # whether the bridge goes too

    def __init__(self, api: Replica, bridge: str, tags: Mapping[str, str]) -> None:
        super().__init__(api)
        self.bridge = bridge
        self.tags = tags

    def run(self, txn: Transaction) -> None:
        bridge = self.api.find_named("Bridge", self.bridge)
        if bridge is None:
            return
        txn.add_comment(f"geneve-ovs: detach {self.tags['container-id']} from {self.bridge}")
        port = self.api.find_tagged("Port", _identity(self.tags))
        self.is_last = _is_deserted(self.api, self.bridge, self.tags)
        if self.is_last:
            bridge.verify("ports")  # somebody may be joining right now
            # delete() is what brings the row, and so the check, into the transaction: without it
            # ovs.db.idl (3.5, 4.0) drops the check silently. The row itself goes with its last reference.
            self.api.root.delvalue("bridges", bridge.uuid)
            bridge.delete()
        elif port is not None and port.uuid in bridge.ports:
            bridge.delvalue("ports", port.uuid)


class _Nothing(Change):
    def run(self, txn: Transaction) -> None:
        """Take away a bridge that there is not: without any change the configuration would get no number."""
        self.api.root.delvalue("bridges", uuid4())


class _Drop(Change):
    def __init__(self, api: Replica, port: str) -> None:
        super().__init__(api)
        self.port = port

    def run(self, txn: Transaction) -> None:
        port = self.api.find_named("Port", self.port)
        if port is not None:
            _remove_port(self.api, port)


def _is_deserted(api: Replica, bridge_name: str, tags: Mapping[str, str]) -> bool:
    """Whether the network's bridge has nothing but tunnels, its own port, and at most the one that leaves."""
    bridge = api.find_named("Bridge", bridge_name)
    if bridge is None or bridge.external_ids.get("network-id") != tags["network-id"]:
        return False
    leaving = {row.uuid for row in api.all_tagged("Port", _identity(tags))}
    return set(bridge.ports) <= api.own_ports(bridge) | leaving


def _is_earlier(api: Replica, row: Any, boot_id: str) -> bool:
    """Whether a container's row is of an earlier boot."""
    return bool(api.value(row, "external_ids").get("boot-id", boot_id) != boot_id)


def _remove_port(api: Replica, port: Any) -> None:
    """Off whatever bridge it is on."""
    for bridge in api.tables["Bridge"].rows.values():
        if port.uuid in bridge.ports:
            bridge.delvalue("ports", port.uuid)


def _insert_port(txn: Transaction, name: str, tags: Mapping[str, str]) -> Any:
    """A Port with its one Interface, both tagged."""
    interface = txn.insert(txn.idl.tables["Interface"])
    interface.name = name
    interface.external_ids = dict(tags)
    port = txn.insert(txn.idl.tables["Port"])
    port.name = name
    port.external_ids = dict(tags)
    port.interfaces = [interface]
    return port


def _insert_tunnel(txn: Transaction, tunnel: Tunnel) -> Any:
    port = _insert_port(txn, tunnel.name, tunnel.tags)
    # Split horizon: nothing goes from one tunnel to another. Every host has a tunnel to every other, so
    # a broadcast that was passed on would come back, for ever.
    port.protected = True
    port.interfaces[0].type = "geneve"
    port.interfaces[0].options = _tunnel_options(tunnel)
    return port


def _tunnel_options(tunnel: Tunnel) -> dict[str, str]:
    return {
        "remote_ip": tunnel.remote,
        "local_ip": tunnel.local,
        "key": str(tunnel.vni),
        "dst_port": str(tunnel.dst_port),
    }


def _equal(api: Replica, port: Any, interface: Any, tunnel: Tunnel | None) -> bool:
    if interface is None or tunnel is None:
        return False
    return (
        api.value(interface, "type") == "geneve"
        and api.value(interface, "options") == _tunnel_options(tunnel)
        and bool(api.value(port, "protected"))
        and api.value(port, "external_ids") == tunnel.tags
    )


def _identity(tags: Mapping[str, str]) -> dict[str, str]:
    return naming.container_tags(tags["network-id"], tags["container-id"], tags["container-interface"])
