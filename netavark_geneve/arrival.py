# SPDX-License-Identifier: Apache-2.0
"""Addresses arrive in the network: nobody else has them, and every switch learns where they are now.

What can be done from the bridge's own port is begun before the container has a port, so that the answers come in
while the switch is at it.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress

from .errors import GeneveError
from .model import AttachPlan
from .neighbours import Neighbours, open_socket
from .revalidation import Rounds

CONFLICT_WAIT = 0.005  # seconds in which another holder of an address has to answer; the steps meanwhile take longer
CONFLICT_WAIT_COLD = 0.025  # the same, over new tunnels of the userspace datapath, which ask for their peers first


@contextmanager
def arriving(
    plan: AttachPlan, environ: Mapping[str, str], *, was_here: bool, has_bridge: bool, is_userspace: bool
) -> Iterator["Arrival"]:
    """The addresses of one container, which may have been in the network a moment ago (`was_here`)."""
    with ExitStack() as sockets:
        rounds = sockets.enter_context(closing(Rounds(environ)))
        comes_back = was_here and has_bridge  # a new bridge has no flows
        yield Arrival(plan, sockets, rounds, was_here=was_here, comes_back=comes_back, is_userspace=is_userspace)


class Arrival:
    """Its steps are taken in the order in which they stand here; each raises GeneveError."""

    def __init__(
        self,
        plan: AttachPlan,
        sockets: ExitStack,
        rounds: Rounds,
        *,
        was_here: bool,
        comes_back: bool,
        is_userspace: bool,
    ) -> None:
        self._plan = plan
        self._sockets = sockets
        self._rounds = rounds
        self._was_here = was_here  # other hosts' switches may remember
        self._comes_back = comes_back  # our own may, too
        self._is_userspace = is_userspace
        self._bystander: Neighbours | None = None
        self._container: Neighbours

    def look_from_bridge(self, prober: bytes | None) -> None:
        """Look at the container from the bridge's own port, and so ask for its addresses before its port is there.

        Under the MAC of a `prober` whom the switches know, if there is one. Where an address has been they are to
        look at all of their flows, which they do for a MAC that is new to them.
        Not where the bridge is not there yet, has no address, is not ours, or in another VLAN.
        """
        bridge = self._plan.bridge
        if bridge.managed and bridge.vlan == self._plan.veth.vlan:
            with suppress(GeneveError):  # it is not there, or going right now, with its last container
                bystander = self._sockets.enter_context(open_socket(self._plan.veth, bridge.name))
                if bystander.is_cut_off():
                    return
                if self._plan.detect_conflicts:
                    bystander.probe(prober)
                self._bystander = bystander

    def listen(self) -> None:
        """On the container's interface; the current namespace has it, and it is up."""
        self._container = self._sockets.enter_context(open_socket(self._plan.veth))

    def ask(self) -> None:
        """Ask who has the addresses, unless it was asked from the bridge; the switch forwards for the container."""
        if self._bystander is not None and self._bystander.is_cut_off():
            self._bystander = None  # the bridge went with its last container, and is back with this one
        if self._plan.detect_conflicts and self._bystander is None:
            self._container.probe()
        if self._comes_back:
            self._rounds.ask()

    def check_free(self) -> None:
        """Read the answers; raises GeneveError when somebody else has one of the addresses."""
        if self._plan.detect_conflicts:
            is_cold = self._is_userspace and self._bystander is None
            (self._bystander or self._container).check_free(CONFLICT_WAIT_COLD if is_cold else CONFLICT_WAIT)

    def announce(self) -> None:
        """Tell everybody where the addresses are, and wait until our own switch has forgotten where they were.

        The round that ends first may have begun before the port was there; what is announced makes it begin another.
        """
        if self._comes_back:
            self._rounds.wait(self._container.nudge)
            self._rounds.ask()
        self._container.announce(was_here=self._was_here)
        self._rounds.wait(self._container.nudge)
