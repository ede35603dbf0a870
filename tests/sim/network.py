"""A network that delays, drops, repeats, reorders and cuts, in place of TCP between nodes.

kvnode's own transport runs on it unchanged: it dials, listens, and writes real frames. One write is
one frame, and frames are what the faults act upon. A connection's first frame each way (the hello
and its answer) is never touched: without it nothing is believed anyway. All later ones may arrive
late, twice, in another order or not at all, which is more than TCP does and what Raft must bear.

A node that dies does not take back what it sent: its frames arrive all the same, even after it has
dialled again. The transport must not believe them then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.loop import ProcessLoop, World
    from tests.sim.trace import Trace

DIAL_AGAIN_SECONDS = 0.1
"""A dial that finds no way is tried again after this long, until its caller loses patience."""


@dataclass(slots=True)
class Weather:
    """What happens to frames now. Probabilities per frame, delays in seconds."""

    delay_min: float = 0.0002
    delay_max: float = 0.001
    slow_chance: float = 0.0
    """A frame is late by up to `slow_delay_max`, and so is all behind it unless reordered."""
    slow_delay_max: float = 0.3
    loss: float = 0.0
    duplication: float = 0.0
    reorder: float = 0.0
    breaks: float = 0.0
    """The connection breaks at this frame."""


class Connection:
    """One connection: `ends[0]` dialled `ends[1]`."""

    __slots__ = ("acceptor", "dialler", "ends", "is_open")

    def __init__(self, dialler: str, acceptor: str) -> None:
        self.dialler = dialler
        self.acceptor = acceptor
        self.is_open = True
        self.ends: tuple[End, End]


class End(asyncio.Transport):
    """One end of a connection: the `asyncio.Transport` of the protocol that sits there."""

    __slots__ = (
        "arrives_at",
        "connection",
        "frames",
        "host",
        "loop",
        "network",
        "peer",
        "protocol",
        "was_closed",
    )

    def __init__(
        self, network: Network, connection: Connection, host: str, loop: ProcessLoop
    ) -> None:
        self.network = network
        self.connection = connection
        self.host = host
        self.loop = loop
        self.peer: End
        self.protocol: asyncio.Protocol
        self.arrives_at = 0.0
        self.frames = 0
        self.was_closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Send one frame."""
        if self.connection.is_open and not self.loop.is_dead:
            self.network.carry(self, data)

    def close(self) -> None:
        """Close behind what was written."""
        self.was_closed = True
        self.network.close(self.connection, after=self)

    def abort(self) -> None:
        """Close at once."""
        self.network.close(self.connection)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.was_closed or self.loop.is_dead or not self.connection.is_open

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def open(self) -> None:
        """The connection is there."""
        self.protocol.connection_made(self)

    def deliver(self, data: bytes) -> None:
        """Hand bytes to the protocol, unless the connection is gone by now."""
        if self.connection.is_open:
            self.network.delivered += 1
            self.network.trace.frame(self.peer.host, self.host, data)
            self.protocol.data_received(data)


class _Listener:
    """What `create_server` returns."""

    def __init__(self, network: Network, host: str) -> None:
        self._network = network
        self._host = host

    def close(self) -> None:
        """Accept nothing more."""
        self._network.listeners.pop(self._host, None)


class Network:
    """All hosts and what lies between them. A host's address is its name.

    Args:
        world: whose time it is.
        rng: decides about each frame.
        trace: notes what happens.
    """

    def __init__(self, world: World, rng: Random, trace: Trace) -> None:
        self.world = world
        self.rng = rng
        self.trace = trace
        self.weather = Weather()
        self.listeners: dict[str, tuple[ProcessLoop, Callable[[], asyncio.Protocol]]] = {}
        self.cut: set[tuple[str, str]] = set()
        """(from, to): nothing passes this way."""
        self.slow: dict[tuple[str, str], float] = {}
        """(from, to): seconds more."""
        self.lost = self.delivered = self.repeated = 0
        self._connections: list[Connection] = []

    # --- connections ------------------------------------------------------------------------------

    def listen(
        self, loop: ProcessLoop, factory: Callable[[], asyncio.Protocol], host: str
    ) -> _Listener:
        """A process accepts connections."""
        self.listeners[host] = (loop, factory)
        return _Listener(self, host)

    async def connect(
        self, loop: ProcessLoop, factory: Callable[[], asyncio.Protocol], address: str
    ) -> tuple[End, asyncio.Protocol]:
        """Dial; waits while the way is cut, as the handshake of TCP does.

        Raises:
            ConnectionRefusedError: nobody listens.
        """
        source, target = loop.name, address
        while (source, target) in self.cut or (target, source) in self.cut:
            await asyncio.sleep(DIAL_AGAIN_SECONDS)
        await asyncio.sleep(2 * self.weather.delay_max)
        if target not in self.listeners:
            raise ConnectionRefusedError(target)
        accepting, accept = self.listeners[target]
        connection = Connection(source, target)
        near = End(self, connection, source, loop)
        far = End(self, connection, target, accepting)
        near.peer, far.peer = far, near
        connection.ends = near, far
        self._connections.append(connection)
        near.protocol = factory()
        far.protocol = accept()
        accepting.input_at(self.world.now, far.open)
        near.protocol.connection_made(near)
        return near, near.protocol

    def close(self, connection: Connection, *, after: End | None = None) -> None:
        """End a connection; with `after`, behind what that end wrote."""
        if after is not None:
            at = max(self.world.now, after.arrives_at)
            after.peer.loop.call_at(at, self.close, connection)
            return
        if not connection.is_open:
            return
        connection.is_open = False
        self._connections.remove(connection)
        for end in connection.ends:
            end.loop.call_soon(end.protocol.connection_lost, None)

    def host_died(self, host: str) -> None:
        """A process is gone; what it sent arrives, and then the end of the stream."""
        self.listeners.pop(host, None)
        for connection in [c for c in self._connections if host in (c.dialler, c.acceptor)]:
            if connection.dialler == host:
                self.close(connection, after=connection.ends[0])
            else:
                self.close(connection)

    def break_connections(self) -> None:
        """All connections break at once."""
        for connection in list(self._connections):
            self.close(connection)

    # --- frames -----------------------------------------------------------------------------------

    def carry(self, sender: End, data: bytes) -> None:
        """Take a frame on its way."""
        rng, weather, receiver = self.rng, self.weather, sender.peer
        way = (sender.host, receiver.host)
        sender.frames += 1
        delay = weather.delay_min + rng.random() * (weather.delay_max - weather.delay_min)
        delay += self.slow.get(way, 0.0)
        if sender.frames > 1:
            chance = rng.random()
            if way in self.cut or chance < weather.loss:
                self.lost += 1
                return
            chance -= weather.loss
            if chance < weather.breaks:
                self.close(sender.connection)
                return
            chance -= weather.breaks
            if chance < weather.duplication:
                self.repeated += 1
                later = self.world.now + delay + rng.random() * weather.slow_delay_max
                receiver.loop.input_at(later, receiver.deliver, data)
            chance -= weather.duplication
            if 0 <= chance < weather.slow_chance:
                delay += rng.random() * weather.slow_delay_max
            chance -= weather.slow_chance
            if 0 <= chance < weather.reorder:
                late = self.world.now + delay + rng.random() * weather.slow_delay_max
                receiver.loop.input_at(late, receiver.deliver, data)
                return
        at = max(self.world.now + delay, sender.arrives_at)
        sender.arrives_at = at
        receiver.loop.input_at(at, receiver.deliver, data)
