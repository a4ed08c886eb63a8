# SPDX-License-Identifier: Apache-2.0
"""Where firewalld runs, our subnets are sources of its zone "trusted", as those of netavark's own networks are.

Otherwise it rejects what containers send to the host and through it, whatever our own table lets pass. Only
its running configuration is changed; the permanent one is the administrator's. So a reload of firewalld
forgets us, and `reloads` tells when to come again.

A firewalld that refuses or does not answer costs a warning and a bounded wait, not the container.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple, Self

from . import files
from .addresses import Network as IPNetwork
from .errors import Deadline, GeneveError
from .log import logger

ZONE = "trusted"
SOCKET = "/run/dbus/system_bus_socket"
DIRECTORIES = ("/usr/sbin", "/usr/bin", "/usr/local/sbin")
PATIENCE = 3.0  # seconds that firewalld may take; while it reloads it answers nobody
SHORTEST = 0.001  # seconds; a timeout of 0 would make the socket non-blocking, whose errors are others

FIREWALLD = "org.fedoraproject.FirewallD1"
BUS = "org.freedesktop.DBus"


class _Object(NamedTuple):
    """What a call is sent to."""

    name: str
    path: str
    interface: str


_BUS = _Object(BUS, "/org/freedesktop/DBus", BUS)
_ZONES = _Object(FIREWALLD, "/org/fedoraproject/FirewallD1", f"{FIREWALLD}.zone")
_CONFIG = _Object(FIREWALLD, "/org/fedoraproject/FirewallD1/config", f"{BUS}.Properties")
_SIGNALS = (
    f"type='signal',sender='{FIREWALLD}',interface='{FIREWALLD}',member='Reloaded'",
    f"type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{FIREWALLD}'",
)


def is_installed() -> bool:
    """Whether firewalld can run on this host; costs a few system calls and asks nobody."""
    return os.path.exists(SOCKET) and files.find_program("firewalld", DIRECTORIES) is not None


def ensure_trusted(subnets: Iterable[IPNetwork], deadline: Deadline) -> None:
    """Make the subnets sources of the zone, if firewalld runs; as with netavark, also those of another zone."""
    _change(subnets, _trust, deadline)


def remove_trusted(subnets: Iterable[IPNetwork], deadline: Deadline) -> None:
    """Take the subnets out of the zone, if firewalld runs; not there, or in another zone, is fine."""
    _change(subnets, _distrust, deadline)


def find_untrusted(subnets: Iterable[IPNetwork], deadline: Deadline) -> tuple[str, ...]:
    """Which of the subnets are not sources of the zone; none where firewalld does not run."""
    if not is_installed():
        return ()
    with _Bus(_patience(deadline)) as bus:
        if not bus.is_running():
            return ()
        zones = {str(subnet): bus.call(_ZONES, "getZoneOfSource", str(subnet)) for subnet in subnets}
    return tuple(subnet for subnet, zone in zones.items() if zone != (ZONE,))


def check_can_publish(deadline: Deadline) -> None:
    """Refuse where firewalld is told to let in what it forwards itself, and nothing else; so does netavark."""
    if _is_strict(deadline):
        raise GeneveError(
            "cannot publish ports, since firewalld has StrictForwardPorts=yes; change that in"
            " /etc/firewalld/firewalld.conf and run 'firewall-cmd --reload', or start the container without -p"
        )


def reloads() -> Iterator[None]:
    """Yield whenever firewalld has been reloaded or started, for ever; in between it sleeps.

    It listens from the moment it is called: call it, restore everything, then iterate, and no reload is
    missed. Raises GeneveError when the system bus is not there, or goes away.
    """
    bus = _Bus(Deadline(PATIENCE))
    for rule in _SIGNALS:
        bus.call(_BUS, "AddMatch", rule)
    return _events(bus)


def _events(bus: "_Bus") -> Iterator[None]:
    with bus:
        while True:
            if _is_event(bus.receive(None)):
                yield


def _is_event(message: Any) -> bool:
    """Broadcasts only: the bus answers for who has sent them, whereas anybody may write to us alone."""
    from jeepney import HeaderFields

    fields = message.header.fields
    match fields.get(HeaderFields.destination), fields.get(HeaderFields.member):
        case None, "Reloaded":
            return True
        case None, "NameOwnerChanged":
            return bool(message.body[2])  # the new owner; none when firewalld has ended
    return False


def _change(subnets: Iterable[IPNetwork], change: Callable[["_Bus", str], None], deadline: Deadline) -> None:
    """Change each subnet, if firewalld runs; as with netavark, a failure is a warning."""
    if not is_installed():
        return
    with _warned(), _Bus(_patience(deadline)) as bus:
        if bus.is_running():
            for subnet in subnets:
                with _warned():
                    change(bus, str(subnet))


@contextmanager
def _warned() -> Iterator[None]:
    try:
        yield
    except GeneveError as error:
        logger.warning("cannot change firewalld's zone %s: %s; see 'firewall-cmd --get-active-zones'", ZONE, error)


def _trust(bus: "_Bus", subnet: str) -> None:
    (zone,) = bus.call(_ZONES, "getZoneOfSource", subnet)
    if zone != ZONE:
        if zone:
            logger.info("subnet %s moves from firewalld's zone %s to %s", subnet, zone, ZONE)
        bus.call(_ZONES, "changeZoneOfSource", ZONE, subnet)


def _distrust(bus: "_Bus", subnet: str) -> None:
    if bus.call(_ZONES, "getZoneOfSource", subnet) == (ZONE,):
        bus.call(_ZONES, "removeSource", ZONE, subnet)


def _is_strict(deadline: Deadline) -> bool:
    """No firewalld, one that does not know the setting, one that does not answer: not strict, as for netavark."""
    if not is_installed():
        return False
    try:
        with _Bus(_patience(deadline)) as bus:
            if not bus.is_running():
                return False
            ((_, value),) = bus.call(_CONFIG, "Get", f"{FIREWALLD}.config", "StrictForwardPorts")
    except GeneveError as error:
        logger.debug("firewalld does not tell StrictForwardPorts: %s", error)
        return False
    return str(value).lower() == "yes"


def _patience(deadline: Deadline) -> Deadline:
    """A firewalld that hangs must leave time for the rest of the request."""
    return Deadline(min(PATIENCE, deadline.remaining()))


class _Bus:
    """A connection to the system bus. jeepney's own has no time limit for its greeting."""

    def __init__(self, deadline: Deadline) -> None:
        from jeepney import Parser
        from jeepney.io.blocking import prep_socket

        self._deadline = deadline
        self._serials = count(1)
        self._parser = Parser()
        with _explained():
            self._socket = prep_socket(SOCKET, timeout=max(SHORTEST, deadline.remaining()))
        try:
            self.call(_BUS, "Hello")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def is_running(self) -> bool:
        """Whether firewalld is on the bus; asking does not start it."""
        return self.call(_BUS, "NameHasOwner", FIREWALLD) == (True,)

    def call(self, target: _Object, method: str, *arguments: str) -> tuple[Any, ...]:
        """The answer to one method call; whatever else comes in before is dropped."""
        from jeepney import DBusAddress, HeaderFields, new_method_call
        from jeepney.wrappers import unwrap_msg

        address = DBusAddress(target.path, target.name, target.interface)
        message = new_method_call(address, method, "s" * len(arguments) or None, arguments)
        serial = next(self._serials)
        with _explained():
            self._socket.settimeout(max(SHORTEST, self._deadline.remaining()))
            self._socket.sendall(message.serialise(serial=serial))
            while True:
                answer = self.receive(self._deadline)
                if answer.header.fields.get(HeaderFields.reply_serial) == serial:
                    return tuple(unwrap_msg(answer))

    def receive(self, deadline: Deadline | None) -> Any:
        """The next message. Without a deadline it may take for ever."""
        with _explained():
            while (message := self._parser.get_next_message()) is None:
                self._socket.settimeout(None if deadline is None else max(SHORTEST, deadline.remaining()))
                data = self._socket.recv(4096)
                if not data:
                    raise GeneveError("the system bus has closed the connection; look after its service")
                self._parser.add_data(data)
        return message


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of the socket, of jeepney and of whoever was called, in words."""
    from jeepney import DBusErrorResponse
    from jeepney.auth import AuthenticationError

    try:
        yield
    except DBusErrorResponse as error:
        raise GeneveError(" ".join(map(str, error.data)) or str(error.name)) from error
    except TimeoutError as error:
        raise GeneveError("no answer in time over the system bus") from error
    except OSError as error:
        raise GeneveError(f"the system bus at {SOCKET} fails: {error.strerror}; look after its service") from error
    except AuthenticationError as error:
        raise GeneveError(f"the system bus turns us away: {error}") from error
