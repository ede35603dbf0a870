"""A network that can be told to misbehave: TCP proxies before every listener of every node.

Peers and clients connect to a `Front`; it connects to the node. What happens to the bytes is said
by a `Rule` for each ordered pair of names, (from, to): the rule for ("n1", "n2") governs what n1
sends to n2 on whatever connection, ("clients", "n1") what clients send to n1. A cut one way is one
rule, and a partition some of them. Who dials a peer is read from its first frame, which carries the
dialler's advertised address.

A cut is a black hole: bytes stay unread, so that who sends them feels it as back-pressure only,
new connections are accepted and lead nowhere, and not even an end or a reset gets through; when it
is healed, everything comes late. TCP hides loss, so that a lossy line is one that resets.

While a node is down its front does not listen either: who connects is refused, as by the node.

All of it lives in an event loop in a thread of its own; the public methods may be called from any
other thread, and return when what they say is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import random
import socket
import struct
import termios
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import uvloop

from kvnode.node.frames import FrameBuffer, MalformedFrame
from kvnode.node.hello import Refusal, decode_first

CLIENTS = "clients"
"""The name of everybody who is no node."""
STRANGER = "stranger"
"""Who dials as a peer from an address that no front has."""
QUEUE_BYTES_MAX = 256 * 1024
"""What a slow line holds of one connection; behind it the sender waits."""
POLL_SECONDS = 0.05
"""How often a node that is down is tried again."""
DIAL_SECONDS_MAX = 2.0
CALL_SECONDS_MAX = 10.0
BACKLOG = 512
LINGER_NOT = struct.pack("ii", 1, 0)
"""With it a socket is closed by a reset."""

Address = tuple[str, int]
Pair = tuple[str, str]
"""From, to."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to bytes that go one way.

    Attributes:
        blocked: nothing gets through.
        delay_s, jitter_s: each piece comes so much later, and up to so much more.
        bytes_per_s: how fast they come; 0 as fast as can be.
        piece_bytes: they come in pieces of this size, one every `piece_s`; 0 as they are.
        piece_s: see there.
        reset_odds: chance of each chunk to break its connection instead of coming through.
        duplicated: whoever dials anew dials twice, with the same first frame.
    """

    blocked: bool = False
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    piece_bytes: int = 0
    piece_s: float = 0.0
    reset_odds: float = 0.0
    duplicated: bool = False

    @property
    def holds_up(self) -> bool:
        """Bytes come later than without it."""
        return bool(
            self.blocked or self.delay_s or self.jitter_s or self.bytes_per_s or self.piece_bytes
        )


PASS = Rule()
BLOCK = Rule(blocked=True)


@dataclass(slots=True)
class Tally:
    """What the rules did to one ordered pair since the start.

    Attributes:
        bytes: passed on.
        late_bytes: of them those that a rule held up.
        resets: connections that were broken.
        duplicates: second connections that the node answered.
    """

    bytes: int = 0
    late_bytes: int = 0
    resets: int = 0
    duplicates: int = 0


class TallyBook(dict[Pair, Tally]):
    """A tally for every pair that is asked for."""

    def __missing__(self, pair: Pair) -> Tally:
        return self.setdefault(pair, Tally())


class Stream:
    """The bytes of one connection that go one way."""

    __slots__ = ("_due", "_network", "_queue", "_queued", "_timer", "ended", "full", "pair", "taps")

    def __init__(self, network: Network, pair: Pair) -> None:
        self._network = network
        self.pair = pair
        self.taps: tuple[asyncio.Transport, asyncio.Transport] | None = None
        """Where they come from, and where they go, once there is such a place."""
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.full = False
        """Who receives does not take any more just now."""
        self.ended = False
        """Who sends has closed."""

    @property
    def rule(self) -> Rule:
        """What happens to them now."""
        return self._network.rules.get(self.pair, PASS)

    def begin(self, source: asyncio.Transport, sink: asyncio.Transport) -> None:
        """There is somewhere to go."""
        self.taps = source, sink
        self.obey()

    def take(self, data: bytes) -> None:
        """Bytes have come."""
        rule = self.rule
        if rule.reset_odds and self._network.dice.random() < rule.reset_odds:
            self.break_off()
            return
        if not rule.holds_up and not self._queue and self.taps is not None:
            self._pass_on(data, late=False)
            return
        loop = self._network.loop
        size = rule.piece_bytes or len(data)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            wait = rule.delay_s + rule.jitter_s * self._network.dice.random()
            pace = len(piece) / rule.bytes_per_s if rule.bytes_per_s else rule.piece_s
            self._due = max(loop.time() + wait, self._due) + pace
            self._queue.append((self._due, piece))
        self._queued += len(data)
        self._release()

    def break_off(self) -> None:
        """Reset the connection, to both sides."""
        self._network.tallies[self.pair].resets += 1
        for transport in self.taps or ():
            reset(transport)

    def end(self) -> None:
        """Who sends has closed: who receives learns it behind all bytes, and not through a cut."""
        self.ended = True
        self._release()

    def obey(self) -> None:
        """The rule is another one, or the receiver takes bytes again."""
        if self.rule is PASS:
            self._queue = deque((0.0, piece) for _, piece in self._queue)
            self._due = 0.0
        self._release()

    def _release(self) -> None:
        """Pass on what is due, and set the clock for what is not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.taps is None:
            return
        source, sink = self.taps
        if not self.rule.blocked:
            now = self._network.loop.time()
            while self._queue and self._queue[0][0] <= now:
                _, piece = self._queue.popleft()
                self._queued -= len(piece)
                self._pass_on(piece, late=True)
            if self._queue:
                self._timer = self._network.loop.call_at(self._queue[0][0], self._release)
            elif self.ended:
                sink.close()
        if not source.is_closing():
            stop = self.rule.blocked or self.full or self._queued > QUEUE_BYTES_MAX
            (source.pause_reading if stop else source.resume_reading)()

    def _pass_on(self, data: bytes, *, late: bool) -> None:
        assert self.taps is not None
        tally = self._network.tallies[self.pair]
        tally.bytes += len(data)
        tally.late_bytes += len(data) if late else 0
        if not self.taps[1].is_closing():
            self.taps[1].write(data)

    def held_bytes(self) -> int:
        """Bytes that wait here, or in the kernel to be read."""
        if self.taps is None or self.taps[0].is_closing():
            return self._queued
        return self._queued + unread_bytes(self.taps[0])

    def forget(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()


class Half(asyncio.Protocol):
    """One end of a connection: what comes in goes to `inward`, `outward` goes out."""

    def __init__(self, made: Callable[[Half], None]) -> None:
        self._made = made
        self.transport: asyncio.Transport
        self.inward: Stream | None = None
        self.outward: Stream | None = None
        self.on_data: Callable[[bytes], None] | None = None
        """Takes what comes, as long as nobody knows where to."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self.inward is not None:
            self.inward.take(data)
        elif self.on_data is not None:
            self.on_data(data)

    def pause_writing(self) -> None:
        """Called by the event loop: who receives is slower than who sends."""
        if self.outward is not None:
            self.outward.full = True
            self.outward.obey()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        if self.outward is not None:
            self.outward.full = False
            self.outward.obey()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Called by the event loop."""
        if self.inward is not None:
            self.inward.end()
        if self.outward is not None:
            self.outward.forget()


class Front:
    """Listens for a node, for its peers or its clients.

    Attributes:
        name: the node behind it.
        address: where it listens; what the node tells others.
        target: where the node listens.
        held: new connections that a cut keeps from going anywhere, by who dials.
    """

    def __init__(
        self, network: Network, name: str, address: Address, target: Address, *, peers: bool
    ) -> None:
        self._network = network
        self.name = name
        self.address = address
        self.target = target
        self._peers = peers
        self._server: asyncio.Server | None = None
        self._links: dict[Half, tuple[Stream, ...]] = {}
        self.held: Counter[str] = Counter()
        self._looking: asyncio.Task[None] | None = None
        self._dials: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Accept connections for the node."""
        if self._server is None:
            self._server = await self._network.loop.create_server(
                lambda: Half(self._accepted), *self.address, backlog=BACKLOG, reuse_address=True
            )

    def streams(self) -> Iterable[Stream]:
        """Of all connections."""
        for streams in self._links.values():
            yield from streams

    def _accepted(self, near: Half) -> None:
        first = FirstFrame()

        def known(source: str) -> None:
            near.on_data = first.raw.extend
            near.transport.pause_reading()
            dial = self._network.loop.create_task(self._join(near, source, first))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

        def arrived(data: bytes) -> None:
            peer = first.feed(data)
            if peer is not None:
                known(self._network.name_at(peer))

        if self._peers:
            near.on_data = arrived
        else:
            known(CLIENTS)

    async def _join(self, near: Half, source: str, first: FirstFrame) -> None:
        """Connect who has dialled with the node, when no cut is in the way."""
        there, back = (source, self.name), (self.name, source)
        self.held[source] += 1
        try:
            await self._network.passable(there, back)
        finally:
            self.held[source] -= 1
        if near.transport.is_closing():
            return
        doubled = self._network.rules.get(there, PASS).duplicated
        before = doubled and self._network.dice.random() < 0.5
        if before:
            await self._duplicate(there, first.raw)
        far = await self._dial()
        if far is None:
            reset(near.transport)
            self._look_for_it()
            return
        self.forget_closed()
        to, fro = Stream(self._network, there), Stream(self._network, back)
        near.inward = far.outward = to
        far.inward = near.outward = fro
        self._links[near] = to, fro
        to.begin(near.transport, far.transport)
        fro.begin(far.transport, near.transport)
        if first.raw:
            to.take(bytes(first.raw))
        if doubled and not before:
            await self._duplicate(there, first.raw)

    async def _dial(self) -> Half | None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(DIAL_SECONDS_MAX):
                _, half = await self._network.loop.create_connection(
                    lambda: Half(lambda _: None), *self.target
                )
                return half
        return None

    async def _duplicate(self, pair: Pair, first: bytes | bytearray) -> None:
        """Say the same to the node on one more connection, and nothing after it."""
        twin = await self._dial()
        if twin is None:
            return

        def answered(_data: bytes) -> None:
            self._network.tallies[pair].duplicates += 1
            twin.on_data = None

        twin.on_data = answered
        twin.transport.write(bytes(first))
        self._network.twins.append(twin)

    def forget_closed(self) -> None:
        """Drop the connections of which nothing is left."""
        for near in [near for near in self._links if near.transport.is_closing()]:
            streams = self._links[near]
            if all(stream.taps is None or stream.taps[1].is_closing() for stream in streams):
                del self._links[near]

    def _look_for_it(self) -> None:
        """The node does not listen: nor does its front, until it does again."""
        if self._looking is None or self._looking.done():
            if self._server is not None:
                self._server.close()
                self._server = None
            self._looking = self._network.loop.create_task(self._until_it_listens())

    async def _until_it_listens(self) -> None:
        while (half := await self._dial()) is None:
            await asyncio.sleep(POLL_SECONDS)
        half.transport.abort()
        await self.listen()

    def close(self) -> None:
        """Listen no more and drop all connections."""
        for task in (self._looking, *self._dials):
            if task is not None:
                task.cancel()
        if self._server is not None:
            self._server.close()
        for stream in self.streams():
            stream.forget()
            for transport in stream.taps or ():
                transport.abort()


class FirstFrame:
    """Reads who dials from the first frame, and keeps the bytes."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self._frames = FrameBuffer()

    def feed(self, data: bytes) -> str | None:
        """Take bytes; the peer address of who dials, as soon as it is known ("" if it is not)."""
        self.raw += data
        try:
            bodies = self._frames.feed(data)
            if not bodies:
                return None
            hello = decode_first(bodies[0])
        except MalformedFrame:
            return ""
        return "" if isinstance(hello, Refusal) else hello.peer_address


@dataclass(slots=True)
class Network:
    """All fronts, and the rules between names.

    Attributes:
        rules: for ordered pairs; what is not in it passes.
        tallies: what became of the bytes.
        dice: decides about resets, jitter and duplicates.
    """

    seed: int = 0
    rules: dict[Pair, Rule] = field(default_factory=dict)
    tallies: dict[Pair, Tally] = field(default_factory=TallyBook)
    dice: random.Random = field(init=False)
    fronts: list[Front] = field(default_factory=list)
    twins: list[Half] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(init=False)
    _changed: asyncio.Event = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.loop = uvloop.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    # --- from any thread --------------------------------------------------------------------------

    def add(self, name: str, address: Address, target: Address, *, peers: bool) -> None:
        """Put a front before a listener of the node `name`.

        Raises:
            OSError: the address is taken.
        """
        front = Front(self, name, address, target, peers=peers)

        async def begin() -> None:
            self.fronts.append(front)
            await front.listen()

        self._run(begin())

    def remove(self, name: str) -> None:
        """The node `name` is gone for good."""

        async def end() -> None:
            for front in [front for front in self.fronts if front.name == name]:
                front.close()
                self.fronts.remove(front)

        self._run(end())

    def set(self, rules: Mapping[Pair, Rule]) -> None:
        """Let these rules hold for these pairs from now on; `PASS` takes one back."""

        async def change() -> None:
            for pair, rule in rules.items():
                if rule is PASS:
                    self.rules.pop(pair, None)
                else:
                    self.rules[pair] = rule
            if not any(rule.duplicated for rule in self.rules.values()):
                for twin in self.twins:
                    twin.transport.abort()
                self.twins.clear()
            for front in self.fronts:
                front.forget_closed()
                for stream in front.streams():
                    if stream.pair in rules:
                        stream.obey()
            self._changed.set()
            self._changed.clear()

        self._run(change())

    def break_lines(self, pairs: Iterable[Pair]) -> None:
        """Reset all connections between these that there are now."""
        wanted = set(pairs)

        async def break_them() -> None:
            for front in self.fronts:
                for stream in list(front.streams()):
                    if stream.pair in wanted:
                        stream.break_off()

        self._run(break_them())

    def held(self, pairs: Iterable[Pair]) -> tuple[int, int]:
        """How many bytes, and how many new connections, wait now for a cut between these to end."""
        wanted = set(pairs)

        async def count() -> tuple[int, int]:
            waiting = dials = 0
            for front in self.fronts:
                waiting += sum(s.held_bytes() for s in front.streams() if s.pair in wanted)
                for source, number in front.held.items():
                    if {(source, front.name), (front.name, source)} & wanted:
                        dials += number
            return waiting, dials

        return self._run(count())

    def tally(self, pairs: Iterable[Pair]) -> Tally:
        """What the rules have done to these pairs together."""
        total = Tally()
        for pair in pairs:
            one = self.tallies[pair]
            total.bytes += one.bytes
            total.late_bytes += one.late_bytes
            total.resets += one.resets
            total.duplicates += one.duplicates
        return total

    def close(self) -> None:
        """Drop everything and end the thread."""

        async def end() -> None:
            for front in self.fronts:
                front.close()
            for twin in self.twins:
                twin.transport.abort()
            await asyncio.sleep(0)

        self._run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CALL_SECONDS_MAX)
        self.loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_SECONDS_MAX)

    # --- in the loop ------------------------------------------------------------------------------

    async def passable(self, *pairs: Pair) -> None:
        """Wait until none of these is cut."""
        while any(self.rules.get(pair, PASS).blocked for pair in pairs):
            await self._changed.wait()

    def name_at(self, address: str) -> str:
        """The node whose front is at this address ("host:port")."""
        for front in self.fronts:
            if address == f"{front.address[0]}:{front.address[1]}":
                return front.name
        return STRANGER


def both_ways(pairs: Iterable[Pair]) -> list[Pair]:
    """These pairs and their opposites."""
    return [way for a, b in pairs for way in ((a, b), (b, a))]


def reset(transport: asyncio.Transport) -> None:
    """Close by a reset, not by an end."""
    if not transport.is_closing():
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        transport.abort()


def unread_bytes(transport: asyncio.Transport) -> int:
    """How many bytes the kernel has for whoever reads this socket."""
    number = transport.get_extra_info("socket").fileno()
    answer = fcntl.ioctl(number, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
