"""The door: how many connections are served, in all and of one peer, and what one more is told.

One machine that opens connections without end takes descriptors, memory and time from everybody,
and what it is answered costs time too. So a refusal is cheap, and the more of them, the cheaper:

* up to `REFUSALS_ANSWERED_PER_SECOND_MAX` a second the peer is told why;
* above that its connections are closed without a word;
* the log hears of each peer at most once a second, and of all peers together
  `REFUSAL_LINES_PER_SECOND_MAX` times; a line says how many refusals it stands for. The metric
  counts them all.

**Who is a peer.** The address it comes from, without the port: there is one user, "default", so a
login tells nobody from anybody. Loopback and Unix sockets count like any other. Who comes through a
proxy is the proxy. IPv4 mapped into IPv6 is IPv4; the many addresses of one IPv6 network are many
peers, and then it is the cap on all connections that holds.

**Bounded.** A peer is remembered while it has connections, of which there are at most
`connections_max`, and after that only if there is something to remember (refusals, heavy commands):
of those at most `PEERS_REMEMBERED_MAX`, and the one remembered longest is forgotten first. So who
opens and drops connections all day leaves nothing behind.

Pure: the clock is handed in, the caller closes, counts and logs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kvnode.limits import (
    HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX,
    PEERS_REMEMBERED_MAX,
    REFUSAL_LINES_PER_SECOND_MAX,
    REFUSALS_ANSWERED_PER_SECOND_MAX,
)

ALL: Final = "clients"
PEER: Final = "peer"
TEXTS: Final = {
    ALL: "ERR max number of clients reached",
    PEER: "ERR max number of connections from this address reached",
}
"""By reason; the first in Redis' words."""

UNIX: Final = "unix"
UNKNOWN: Final = "?"
MAPPED: Final = "::ffff:"


def peer_of(peername: object) -> str:
    """Who is at the other end of a socket: `peername` as transports tell it.

    "?" is somebody who was gone before we looked.
    """
    if isinstance(peername, tuple):
        host = str(peername[0])
        return host.removeprefix(MAPPED) if "." in host else host
    return UNKNOWN if peername is None else UNIX


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection that is not served.

    Attributes:
        reason: `ALL` or `PEER`.
        text: the error to send before closing; empty: close at once.
        untold: how many refusals a line in the log would stand for; 0: no line now.
    """

    reason: str
    text: str
    untold: int


class _Peer:
    __slots__ = ("connections", "heavy", "heavy_at", "refused", "second", "untold")

    def __init__(self, now: float) -> None:
        self.connections = 0
        self.second = 0
        self.refused = 0
        self.untold = 0
        self.heavy = float(HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX)
        self.heavy_at = now


class Door:
    """Counts the connections of each peer.

    Args:
        clock: monotonic time in seconds.

    Attributes:
        connections: how many there are.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.connections = 0
        self._clock = clock
        self._peers: dict[str, _Peer] = {}
        self._absent: dict[str, _Peer] = {}
        self._second = 0
        self._lines = 0

    @property
    def peers(self) -> int:
        """How many peers have connections."""
        return len(self._peers)

    @property
    def remembered(self) -> int:
        """How many peers without connections are remembered."""
        return len(self._absent)

    def connections_of(self, peer: str) -> int:
        """How many connections a peer has."""
        known = self._peers.get(peer)
        return 0 if known is None else known.connections

    def admit(self, peer: str, connections_max: int, per_peer_max: int) -> Refusal | None:
        """Count one more connection of `peer`, or refuse it. A `per_peer_max` of 0 is no limit."""
        known = self._peers.get(peer)
        if self.connections >= connections_max:
            return self._refuse(peer, ALL)
        if known is None:
            absent: _Peer | None = self._absent.pop(peer, None)
            known = self._peers[peer] = absent or _Peer(self._clock())
        elif per_peer_max and known.connections >= per_peer_max:
            return self._refuse(peer, PEER)
        known.connections += 1
        self.connections += 1
        return None

    def leave(self, peer: str) -> None:
        """A connection that was admitted is gone."""
        self.connections -= 1
        known = self._peers[peer]
        known.connections -= 1
        if not known.connections:
            del self._peers[peer]
            if known.refused or known.heavy < HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX:
                self._remember(peer, known)

    def admits_heavy(self, peer: str) -> bool:
        """Whether `peer` may run one more heavy command now; if so, it is counted.

        A bucket that holds one second's worth of them, and fills steadily.
        """
        now = self._clock()
        known = self._known(peer, now)
        full = HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX
        known.heavy = min(full, known.heavy + (now - known.heavy_at) * full)
        known.heavy_at = now
        if known.heavy < 1:
            return False
        known.heavy -= 1
        return True

    def _refuse(self, peer: str, reason: str) -> Refusal:
        now = self._clock()
        known = self._known(peer, now)
        second = int(now)
        if known.second != second:
            known.second = second
            known.refused = 0
        known.refused += 1
        known.untold += 1
        is_told = known.refused <= REFUSALS_ANSWERED_PER_SECOND_MAX
        return Refusal(reason, TEXTS[reason] if is_told else "", self._untold(known, second))

    def _untold(self, known: _Peer, second: int) -> int:
        """What the log should hear: with the first refusal of a second, if others left room."""
        if self._second != second:
            self._second = second
            self._lines = 0
        if known.refused > 1 or self._lines >= REFUSAL_LINES_PER_SECOND_MAX:
            return 0
        self._lines += 1
        untold, known.untold = known.untold, 0
        return untold

    def _known(self, peer: str, now: float) -> _Peer:
        """A peer, also one without connections."""
        known = self._peers.get(peer) or self._absent.get(peer)
        if known is None:
            known = _Peer(now)
            self._remember(peer, known)
        return known

    def _remember(self, peer: str, known: _Peer) -> None:
        if len(self._absent) >= PEERS_REMEMBERED_MAX:
            del self._absent[next(iter(self._absent))]
        self._absent[peer] = known
