"""How hard each node has it: what nodes tell each other, so that the one that leads is well.

A node is *strained* while it stands on a rung of the memory ladder (GUARANTEES §7: 0 is calm, 1
sheds heavy commands, 2 refuses writes, 3 closes clients) or its event loop cannot keep up. It says
so when it changes and once a second while it lasts, and what it said holds for three seconds. So a
lost message costs a second, a node that died is forgotten, and nodes that are calm say nothing. A
node that is drained (`kvnode.node.draining`) says so in the same way.

Beyond the rungs of the ladder two more tell that memory ran out: 4 has to leave and waits for its
turn, 5 is going (`kvnode.admission.departure`). Who does not know them takes them for a high rung.

A node of wire version 3 can neither tell nor be told; it counts as calm. One of version 4 does not
know of draining: it is told of a rung that nobody leads from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from kvnode.limits import STRAIN_REPEAT_SECONDS, STRAIN_SECONDS
from kvnode.node.wire import Fitness, Strained

WIRE_VERSION_OF_STRAIN = 4
WIRE_VERSION_OF_DRAINING = 5

RUNG_UNFIT = 2
"""Who refuses writes cannot lead."""

RUNG_WAITS = 4
"""It has to leave and waits for its turn."""

RUNG_GOES = 5
"""It is leaving."""


class Strain(NamedTuple):
    """How hard a node has it; the greater, the harder."""

    rung: int = 0
    """Of the memory ladder, `RUNG_WAITS` or `RUNG_GOES`."""
    is_late: bool = False
    """Its event loop cannot keep up."""
    is_draining: bool = False
    """Somebody is about to stop it."""

    @property
    def may_lead(self) -> bool:
        """Leadership may be handed to it at all."""
        return self.rung < RUNG_UNFIT and not self.is_draining

    def why_not_lead(self) -> str:
        """What keeps it from leading, in words; "" if nothing does."""
        if self.rung >= RUNG_UNFIT:
            return "short of memory"
        return "draining" if self.is_draining else ""


CALM = Strain()


class Sender(Protocol):
    """The transport, as far as `Strains` knows it."""

    @property
    def peers(self) -> Sequence[int]:
        """Who is dialled."""

    def wire_version(self, peer: int) -> int:
        """The version that a peer is spoken to in; 0 while it is not connected."""

    def send(self, peer: int, message: Fitness | Strained) -> None:
        """Queue one message; it may get lost."""


class Strains:
    """This node's strain, and what is known of the others'.

    Args:
        transport: to tell the peers.
        wake: asks for a pass of the node, in which messages leave.
        monotonic: seconds.
    """

    def __init__(
        self, transport: Sender, wake: Callable[[], None], monotonic: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._wake = wake
        self._monotonic = monotonic
        self.own = CALM
        self._others: dict[int, tuple[Strain, float]] = {}
        """By peer, with the time at which it ceases to hold."""
        self._told_at = 0.0

    def change(self, own: Strain) -> None:
        """This node has it harder or easier now: tell the others at once."""
        if own != self.own:
            self.own = own
            self._tell()

    def _tell(self) -> None:
        self._told_at = self._monotonic()
        peers = self._transport.peers
        for peer in peers:
            self._tell_one(peer)
        if peers:
            self._wake()

    def _tell_one(self, peer: int) -> None:
        version, (rung, is_late, is_draining) = self._transport.wire_version(peer), self.own
        if version >= WIRE_VERSION_OF_DRAINING:
            self._transport.send(peer, Fitness(*self.own))
        elif version >= WIRE_VERSION_OF_STRAIN:
            unfit = max(rung, RUNG_UNFIT) if is_draining else rung
            self._transport.send(peer, Strained(unfit, is_late))

    def sweep(self) -> None:
        """Say it again if it is time to; forget what nobody said again."""
        now = self._monotonic()
        if self.own != CALM and now - self._told_at >= STRAIN_REPEAT_SECONDS:
            self._tell()
        for peer in [peer for peer, (_, until) in self._others.items() if now >= until]:
            del self._others[peer]

    def told(self, peer: int, message: Fitness | Strained) -> None:
        """A peer said how hard it has it."""
        if (strain := Strain(*message)) == CALM:
            self._others.pop(peer, None)
        else:
            self._others[peer] = strain, self._monotonic() + STRAIN_SECONDS

    def forget(self, peer: int) -> None:
        """A peer introduces itself: what its connection before this one said is over."""
        self._others.pop(peer, None)

    def connected(self, peer: int) -> None:
        """The way to a peer is open: it has heard nothing yet."""
        if self.own != CALM:
            self._tell_one(peer)

    def of(self, node_id: int) -> Strain:
        """What is known of a peer."""
        strain, until = self._others.get(node_id, (CALM, 0.0))
        return strain if self._monotonic() < until else CALM
