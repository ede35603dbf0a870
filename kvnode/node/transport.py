"""Messages between nodes over TCP: framed, bounded, one connection per direction.

A node dials every peer and sends on the connection that it dialled; what a peer sends arrives on
the connection that the peer dialled. Nothing passes before a hello was accepted
(`kvnode.node.hello`). Messages of one loop pass to one peer travel in one frame, written with one
system call. Peers come and go with the membership (`add_peer`, `remove_peer`).

Raft tolerates loss, so nothing here is ever retried: a message to a peer that is not connected, or
whose buffer is full, is dropped, counted and reported (`on_unreachable`); Raft sends it again when
it makes sense.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from kvnode.errors import ResourceBusy
from kvnode.limits import (
    PEER_BACKOFF_MS_MAX,
    PEER_BACKOFF_MS_MIN,
    PEER_FRAME_BYTES_MAX,
    PEER_HELLO_BYTES_MAX,
    PEER_HELLO_TIMEOUT_MS,
    PEER_QUEUE_BYTES_MAX,
    PEER_USER_TIMEOUT_MS,
)
from kvnode.node.frames import FrameBuffer, MalformedFrame
from kvnode.node.hello import (
    WIRE_VERSION,
    WIRE_VERSION_MIN,
    Hello,
    JoinAnswer,
    JoinRequest,
    Refusal,
    RefusalReason,
    Welcome,
    decode_answer,
    decode_first,
    encode_hello,
    encode_joined,
    encode_refusal,
    encode_welcome,
)
from kvnode.node.wire import AnyMessage, decode_messages, encode_messages


class Receiver(Protocol):
    """What the transport tells the node."""

    def on_messages(self, sender: int, stamp_ms: int, messages: list[AnyMessage]) -> None:
        """A frame of an accepted peer."""

    def check_welcome(self, peer: int, welcome: Welcome) -> Refusal | None:
        """Decide whether the acceptor is who this node takes it for."""

    def on_connected(self, peer: int, *, recovering: bool) -> None:
        """The way to a peer is open."""

    def on_unreachable(self, peer: int) -> None:
        """Messages to a peer were dropped."""

    def on_refused(self, peer: int, refusal: Refusal) -> None:
        """A peer will not talk to this node."""

    def on_malformed(self, peer: int | None, reason: str) -> None:
        """A connection was dropped because what came on it is not the protocol."""

    def hello(self) -> Hello:
        """Who this node is now, to nobody in particular."""

    def check_hello(self, hello: Hello) -> Refusal | None:
        """Decide whether to talk to the dialler."""

    def on_join(
        self, request: JoinRequest, answer: Callable[[JoinAnswer], None]
    ) -> Callable[[], None]:
        """Somebody wants to become a member; returns what to call when it waits no more."""

    def clock_ms(self) -> int:
        """The stamp to put on an outgoing frame."""


@dataclass(slots=True)
class TransportStats:
    """Counters since the start."""

    frames_sent: int = 0
    frames_received: int = 0
    messages_dropped: int = 0
    malformed: int = 0
    hellos_refused: int = 0
    connects: int = 0


class PeerLink(asyncio.Protocol):
    """The outgoing half: dials one peer, says hello, sends frames, dials again when it breaks."""

    def __init__(self, owner: Transport, peer: int, host: str, port: int) -> None:
        self._owner = owner
        self._peer = peer
        self._address = (host, port)
        self._transport: asyncio.Transport | None = None
        self._frames = FrameBuffer(PEER_HELLO_BYTES_MAX)
        self._answered = asyncio.Event()
        self._lost = asyncio.Event()
        self._outgoing: list[AnyMessage] = []
        self._wire_version = WIRE_VERSION
        self._has_doubted = False
        self.connected = False
        self.task: asyncio.Task[None] | None = None
        """Runs `run`, once the transport dials."""

    @property
    def wire_version(self) -> int:
        """In which the peer is, or was last, spoken to."""
        return self._wire_version

    def move_to(self, host: str, port: int) -> None:
        """The peer is to be found elsewhere now."""
        if (host, port) != self._address:
            self._address = (host, port)
            self.close()

    def speak(self, wire_version: int) -> None:
        """The peer speaks this version, if not a newer one: never mind what it spoke before.

        A peer that was updated may accept a connection that was dialled for the older program.
        """
        if wire_version > self._wire_version:
            self._wire_version = wire_version
            self.close()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        backoff_ms = PEER_BACKOFF_MS_MIN
        while True:
            if await self._connect():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PEER_HELLO_TIMEOUT_MS / 1000):
                        await self._answered.wait()
                if self.connected:
                    backoff_ms = PEER_BACKOFF_MS_MIN
                    await self._lost.wait()
                self.close()
            await asyncio.sleep(backoff_ms / 1000 * (1 + self._owner.jitter.random() / 4))
            backoff_ms = min(backoff_ms * 2, PEER_BACKOFF_MS_MAX)

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        self._answered.clear()
        self._lost.clear()
        self._frames = FrameBuffer(PEER_HELLO_BYTES_MAX)
        try:
            async with asyncio.timeout(PEER_HELLO_TIMEOUT_MS / 1000):
                await loop.create_connection(lambda: self, *self._address)
        except (OSError, TimeoutError):
            return False
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce this node."""
        self._transport = cast("asyncio.Transport", transport)
        _tune(self._transport)
        hello = self._owner.receiver.hello()
        self._transport.write(
            encode_hello(hello._replace(receiver=self._peer, wire_version=self._wire_version))
        )

    def data_received(self, data: bytes) -> None:
        """Only the answer to the hello ever comes this way."""
        try:
            for body in self._frames.feed(data):
                self._take_answer(decode_answer(body))
        except MalformedFrame as error:
            self._owner.malformed(self._peer, error)
            self.close()

    def _take_answer(self, answer: Welcome | Refusal) -> None:
        if self.connected:
            raise MalformedFrame("a second answer to one hello")
        if isinstance(answer, Refusal):
            if not self._is_in_doubt(answer):
                self._owner.receiver.on_refused(self._peer, answer)
            self.close()
            return
        if self._owner.receiver.check_welcome(self._peer, answer) is not None:
            self.close()
            return
        self.connected = True
        self._has_doubted = False
        self._answered.set()
        self._owner.stats.connects += 1
        self._owner.receiver.on_connected(self._peer, recovering=answer.recovering)

    def _is_in_doubt(self, refusal: Refusal) -> bool:
        """Choose the version of the next hello; whether the refusal may mean that of this one only.

        A peer that asked for an older version may be a newer program by the time it is dialled in
        that. It refuses it then, and for good, since an older hello cannot tell all that this node
        is: not the level that it knows, to begin with. So it is asked once more, in our own.
        """
        if refusal.reason is RefusalReason.WRONG_WIRE_VERSION:
            # Next time in the one before: it is older, or it was and has been updated.
            oldest = self._wire_version == WIRE_VERSION_MIN
            self._wire_version = WIRE_VERSION if oldest else self._wire_version - 1
            return False
        if self._wire_version == WIRE_VERSION or self._has_doubted or not refusal.reason.is_final:
            return False
        self._has_doubted = True
        self._wire_version = WIRE_VERSION
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        """Wake `run`, which dials again."""
        if self.connected:
            self.connected = False
            self._wire_version = WIRE_VERSION  # it may come back as a newer program
            self._owner.receiver.on_unreachable(self._peer)
        self._transport = None
        self._answered.set()
        self._lost.set()

    def send(self, message: AnyMessage) -> None:
        """Queue a message for the frame of this pass."""
        self._outgoing.append(message)

    @property
    def queued_bytes(self) -> int:
        """Frames that the kernel has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def flush(self, stamp_ms: int) -> None:
        """Write what was queued as one frame, or drop it."""
        messages, self._outgoing = self._outgoing, []
        if not messages:
            return
        transport = self._transport
        if (
            not self.connected
            or transport is None
            or transport.get_write_buffer_size() > self._owner.queue_bytes_max
        ):
            self._owner.stats.messages_dropped += len(messages)
            self._owner.receiver.on_unreachable(self._peer)
            return
        self._owner.stats.frames_sent += 1
        transport.write(encode_messages(stamp_ms, messages))

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


class PeerInbox(asyncio.Protocol):
    """The incoming half: checks one hello, then hands over every frame."""

    def __init__(self, owner: Transport) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._frames = FrameBuffer(PEER_HELLO_BYTES_MAX)
        self.sender: int | None = None
        """Who said hello, if it was believed."""
        self.is_closed = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stop_waiting: Callable[[], None] | None = None
        """Ends the wait for the answer to a request to join."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a peer that connects says hello soon or goes."""
        self._transport = cast("asyncio.Transport", transport)
        _tune(self._transport)
        self._owner.inboxes[self] = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(PEER_HELLO_TIMEOUT_MS / 1000, self.close)

    @property
    def held_bytes(self) -> int:
        """Of the frame that is not complete."""
        return self._frames.held_bytes

    def data_received(self, data: bytes) -> None:
        """Cut frames; anything wrong drops the connection and is counted."""
        try:
            for body in self._frames.feed(data):
                if self.is_closed:
                    return
                if self.sender is None:
                    self._greeted(decode_first(body))
                else:
                    self._owner.stats.frames_received += 1
                    stamp_ms, messages = decode_messages(body)
                    self._owner.receiver.on_messages(self.sender, stamp_ms, messages)
        except MalformedFrame as error:
            self._owner.malformed(self.sender, error)
            self.close()

    def _greeted(self, first: Hello | JoinRequest | Refusal) -> None:
        assert self._transport is not None
        if isinstance(first, JoinRequest):
            self._asked_to_join(first)
            return
        refusal = first if isinstance(first, Refusal) else self._owner.receiver.check_hello(first)
        if refusal is not None or isinstance(first, Refusal):
            assert refusal is not None
            self._owner.stats.hellos_refused += 1
            spoken = WIRE_VERSION if isinstance(first, Refusal) else first.wire_version
            self._transport.write(encode_refusal(refusal, spoken))
            self._transport.close()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._owner.drop_inboxes(first.sender)
        self.sender = first.sender
        self._frames.frame_bytes_max = PEER_FRAME_BYTES_MAX
        self._transport.write(encode_welcome(self._owner.welcome(), first.wire_version))
        self._owner.speak(first.sender, first.wire_version)

    def _asked_to_join(self, request: JoinRequest) -> None:
        if self._stop_waiting is not None:
            raise MalformedFrame("a second request to join")
        assert self._deadline is not None
        self._deadline.cancel()
        self._stop_waiting = self._owner.receiver.on_join(request, self._answer_join)

    def _answer_join(self, answer: JoinAnswer) -> None:
        if self._transport is not None:
            self._transport.write(encode_joined(answer))
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the connection; the peer dials again when it can."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._stop_waiting is not None:
            self._stop_waiting()
        self._transport = None
        self._owner.inboxes.pop(self, None)

    def close(self) -> None:
        """Drop the connection."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()


def _tune(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_USER_TIMEOUT_MS)


class Transport:
    """All connections to and from peers.

    Args:
        receiver: the node.
        jitter: spreads reconnects.
        queue_bytes_max: what may wait for one peer; above it messages to it are dropped.
    """

    def __init__(
        self,
        receiver: Receiver,
        jitter: random.Random,
        queue_bytes_max: int = PEER_QUEUE_BYTES_MAX,
    ) -> None:
        self.receiver = receiver
        self.queue_bytes_max = queue_bytes_max
        self.jitter = jitter
        self.stats = TransportStats()
        self.inboxes: dict[PeerInbox, None] = {}
        """In the order in which they came."""
        self._links: dict[int, PeerLink] = {}
        self._dirty: set[int] = set()
        self._server: asyncio.Server | None = None
        self._dialling: asyncio.TaskGroup | None = None

    async def listen(self, host: str, port: int) -> None:
        """Accept peers.

        Raises:
            ResourceBusy: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: PeerInbox(self), host, port)
        except OSError as error:
            raise ResourceBusy(f"cannot listen for peers on {host}:{port}: {error}") from error

    async def dial(self) -> None:
        """Keep a connection to every peer until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._dialling = group
            for link in self._links.values():
                link.task = group.create_task(link.run())
            await asyncio.get_running_loop().create_future()

    # --- peers come and go ------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Frames that wait for peers, snapshot chunks among them, and parts of frames that came."""
        waiting = sum([link.queued_bytes for link in self._links.values()])
        return waiting + sum([inbox.held_bytes for inbox in self.inboxes])

    @property
    def peers(self) -> list[int]:
        """Whom this node dials."""
        return sorted(self._links)

    def add_peer(self, peer: int, host: str, port: int) -> None:
        """Dial a peer from now on, or dial it at another address."""
        link = self._links.get(peer)
        if link is not None:
            link.move_to(host, port)
            return
        link = self._links[peer] = PeerLink(self, peer, host, port)
        if self._dialling is not None:
            link.task = self._dialling.create_task(link.run())

    def speak(self, peer: int, wire_version: int) -> None:
        """A peer has said hello in this version: it is spoken to in no older one."""
        link = self._links.get(peer)
        if link is not None:
            link.speak(wire_version)

    def remove_peer(self, peer: int) -> None:
        """Dial a peer no more, and hear no more of it."""
        link = self._links.pop(peer, None)
        self._dirty.discard(peer)
        if link is not None:
            link.close()
            if link.task is not None:
                link.task.cancel()
        self.drop_inboxes(peer)

    def wire_version(self, peer: int) -> int:
        """In which version a peer is spoken to; 0 if it is not connected."""
        link = self._links.get(peer)
        return link.wire_version if link is not None and link.connected else 0

    def welcome(self) -> Welcome:
        """This node's answer to a good hello."""
        own = self.receiver.hello()
        return Welcome(
            own.storage_id,
            own.incarnation,
            own.version,
            own.client_address,
            own.recovering,
            own.level,
        )

    def drop_inboxes(self, sender: int) -> None:
        """A peer came anew: what it sent before, perhaps in an earlier life, is not read any more.

        Its present hello may have taken back what an earlier acknowledgement said.
        """
        for inbox in [inbox for inbox in self.inboxes if inbox.sender == sender]:
            inbox.close()

    def malformed(self, peer: int | None, error: MalformedFrame) -> None:
        """A peer spoke nonsense: counted and told; the caller drops the connection."""
        self.stats.malformed += 1
        self.receiver.on_malformed(peer, str(error))

    def is_connected(self, peer: int) -> bool:
        """Messages to this peer would leave now."""
        link = self._links.get(peer)
        return link is not None and link.connected

    def send(self, peer: int, message: AnyMessage) -> None:
        """Queue a message; it leaves with the next `flush`."""
        link = self._links.get(peer)
        if link is None:
            self.stats.messages_dropped += 1
            return
        link.send(message)
        self._dirty.add(peer)

    def flush(self) -> None:
        """Write one frame to every peer that has messages waiting."""
        if self._dirty:
            stamp_ms = self.receiver.clock_ms()
            for peer in sorted(self._dirty):
                self._links[peer].flush(stamp_ms)
            self._dirty.clear()

    def stop_listening(self) -> None:
        """Accept no more peers."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Drop every connection."""
        self.stop_listening()
        for inbox in list(self.inboxes):
            inbox.close()
        for link in self._links.values():
            link.close()
