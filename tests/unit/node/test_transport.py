"""Peers over real loopback sockets: nothing before a hello, nothing from strangers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest

from kvnode.limits import KIB, MIB
from kvnode.node import wire
from kvnode.node.frames import FrameBuffer, encode_frame
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
    decode_joined,
    encode_hello,
    encode_join,
)
from kvnode.node.transport import Transport
from kvnode.node.wire import AnyMessage, Forward
from raft.messages import Heartbeat

CLUSTER = "c"


class Peer:
    """A receiver that remembers what it was told."""

    def __init__(self, node_id: int, cluster: str = CLUSTER) -> None:
        self.node_id = node_id
        self.cluster = cluster
        self.speaks = WIRE_VERSION
        """The newest wire version that it accepts."""
        self.listens = WIRE_VERSION_MIN
        """The oldest in which a node can tell all that it has to know."""
        self.inbox: asyncio.Queue[tuple[int, int, list[AnyMessage]]] = asyncio.Queue()
        self.connected: asyncio.Queue[int] = asyncio.Queue()
        self.refused: asyncio.Queue[Refusal] = asyncio.Queue()
        self.malformed: asyncio.Queue[str] = asyncio.Queue()
        self.unreachable: list[int] = []
        self.foreign_storages: set[int] = set()
        self.joins: asyncio.Queue[tuple[JoinRequest, Callable[[JoinAnswer], None]]]
        self.joins = asyncio.Queue()
        self.gave_up = asyncio.Event()
        self.is_recovering = False
        self.transport: Transport

    def on_messages(self, sender: int, stamp_ms: int, messages: list[AnyMessage]) -> None:
        self.inbox.put_nowait((sender, stamp_ms, messages))

    def check_welcome(self, peer: int, welcome: Welcome) -> Refusal | None:
        if welcome.storage_id in self.foreign_storages:
            return Refusal(RefusalReason.STORAGE_CHANGED, "another directory")
        return None

    def on_connected(self, peer: int, *, recovering: bool) -> None:
        self.connected.put_nowait(peer)

    def on_unreachable(self, peer: int) -> None:
        self.unreachable.append(peer)

    def on_refused(self, peer: int, refusal: Refusal) -> None:
        self.refused.put_nowait(refusal)

    def on_malformed(self, peer: int | None, reason: str) -> None:
        self.malformed.put_nowait(reason)

    def check_hello(self, hello: Hello) -> Refusal | None:
        if hello.wire_version > self.speaks:
            return Refusal(RefusalReason.WRONG_WIRE_VERSION, f"{self.speaks}, please")
        if hello.wire_version < self.listens:
            return Refusal(RefusalReason.TOO_OLD, "use a newer program")
        if hello.cluster_id != CLUSTER:
            return Refusal(RefusalReason.WRONG_CLUSTER, "another cluster")
        return None

    def hello(self) -> Hello:
        return hello_of(self.node_id, self.cluster)._replace(recovering=self.is_recovering)

    def on_join(
        self, request: JoinRequest, answer: Callable[[JoinAnswer], None]
    ) -> Callable[[], None]:
        self.joins.put_nowait((request, answer))
        return self.gave_up.set

    def clock_ms(self) -> int:
        return 42


def hello_of(node_id: int, cluster: str = CLUSTER, receiver: int = 0) -> Hello:
    return Hello(cluster, node_id, receiver, 100 + node_id, 1, "test", "client", recovering=False)


def free_port(taken: list[int]) -> int:
    """A port that the system just gave and took back."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    assert port not in taken
    return port


@contextlib.asynccontextmanager
async def pair(cluster_of_second: str = CLUSTER) -> AsyncIterator[tuple[Peer, Peer, list[int]]]:
    """Two peers that dial each other."""
    ports: list[int] = []
    for _ in range(2):
        ports.append(free_port(ports))
    peers = [Peer(1), Peer(2, cluster_of_second)]
    for peer, other, port in zip(peers, reversed(peers), reversed(ports), strict=True):
        peer.transport = Transport(peer, random.Random(1))
        peer.transport.add_peer(other.node_id, "127.0.0.1", port)
    for peer, port in zip(peers, ports, strict=True):
        await peer.transport.listen("127.0.0.1", port)
    dialling = [asyncio.create_task(peer.transport.dial()) for peer in peers]
    try:
        yield peers[0], peers[1], ports
    finally:
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for peer in peers:
            peer.transport.close()
        await asyncio.sleep(0)


async def test_messages_of_a_pass_arrive_in_one_frame_with_the_senders_stamp() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        beats = [Heartbeat(1, 2, 3), Heartbeat(1, 2, 4)]
        for beat in beats:
            first.transport.send(2, beat)
        first.transport.flush()
        assert await second.inbox.get() == (1, 42, beats)
        assert first.transport.stats.frames_sent == 1


async def test_what_cannot_leave_is_dropped_counted_and_reported() -> None:
    peer = Peer(1)
    peer.transport = Transport(peer, random.Random(1))
    peer.transport.add_peer(2, "127.0.0.1", 1)
    peer.transport.send(2, Heartbeat(1, 2, 3))
    peer.transport.flush()
    assert peer.unreachable == [2]
    assert peer.transport.stats.messages_dropped == 1


async def test_what_waits_for_a_peer_counts_and_more_than_its_room_is_dropped() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        first.transport.queue_bytes_max = 8 * MIB
        (inbox,) = second.transport.inboxes
        assert inbox._transport is not None
        inbox._transport.pause_reading()
        while not first.transport.stats.messages_dropped:
            first.transport.send(2, Forward(1, 1, bytes(4 * MIB)))
            first.transport.flush()
            await asyncio.sleep(0)
        assert 8 * MIB < first.transport.held_bytes <= 12 * MIB + KIB
        inbox._transport.resume_reading()
        await second.inbox.get()
        while first.transport.held_bytes:
            await asyncio.sleep(0)
        while second.transport.held_bytes:
            await asyncio.sleep(0)


async def test_a_peer_of_another_cluster_is_refused_with_the_reason() -> None:
    async with pair(cluster_of_second="other") as (first, second, _):
        refusal = await second.refused.get()
        assert refusal.reason is RefusalReason.WRONG_CLUSTER
        assert first.transport.stats.hellos_refused >= 1
        assert not second.transport.is_connected(1)


async def test_an_acceptor_with_a_foreign_storage_gets_no_messages() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        second.foreign_storages.add(101)
        for inbox in list(first.transport.inboxes):
            inbox.close()
        while not second.unreachable:
            await asyncio.sleep(0)
        second.transport.send(1, Heartbeat(1, 2, 3))
        second.transport.flush()
        assert second.transport.stats.messages_dropped == 1
        assert not second.transport.is_connected(1)


async def test_a_broken_connection_is_dialled_again() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        for inbox in list(second.transport.inboxes):
            inbox.close()
        await first.connected.get()
        first.transport.send(2, Heartbeat(1, 2, 3))
        first.transport.flush()
        assert (await second.inbox.get())[2] == [Heartbeat(1, 2, 3)]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        encode_frame(b"\xc1"),
        wire.encode_messages(1, [Heartbeat(1, 2, 3)]),
        (2**32 - 1).to_bytes(4, "big"),
    ],
    ids=["http", "no msgpack", "messages before a hello", "a frame of 4 GiB"],
)
async def test_a_stranger_who_says_no_hello_is_dropped_and_counted(nonsense: bytes) -> None:
    async with pair() as (first, _, ports):
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(nonsense)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await first.malformed.get()
        assert first.transport.stats.malformed == 1
        assert first.inbox.empty()


async def test_a_peer_that_comes_anew_is_not_heard_on_its_earlier_connection() -> None:
    async with pair() as (_, _, ports):
        hello = hello_of(2, receiver=1)
        readers = []
        for incarnation in (1, 2):
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            writer.write(encode_hello(hello._replace(incarnation=incarnation)))
            (answer,) = FrameBuffer().feed(await reader.read(1000))
            assert isinstance(decode_answer(answer), Welcome)
            readers.append((reader, writer))
        with contextlib.suppress(ConnectionResetError):
            assert await readers[0][0].read() == b""
        for _, writer in readers:
            writer.close()


async def test_a_welcome_tells_whether_a_node_is_recovering() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        first.is_recovering = True
        assert first.transport.welcome().recovering
        assert not second.transport.welcome().recovering


async def test_nonsense_after_a_good_hello_drops_the_connection() -> None:
    async with pair() as (first, second, ports):
        await second.connected.get()  # or its hello would end this connection, too
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(encode_hello(hello_of(2, receiver=1)))
        (answer,) = FrameBuffer().feed(await reader.read(1000))
        assert isinstance(decode_answer(answer), Welcome)
        writer.write(encode_frame(b"\x93\x01\x02\x03"))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await first.malformed.get()


@pytest.mark.parametrize("older", range(WIRE_VERSION_MIN, WIRE_VERSION))
async def test_a_node_of_an_older_wire_version_is_spoken_to_in_that_one(older: int) -> None:
    """Not in an older one still: there it would have no level, and be refused for it."""
    async with pair() as (first, second, _):
        await first.connected.get()
        second.speaks = older
        for inbox in list(second.transport.inboxes):
            inbox.close()
        for _version in range(older, WIRE_VERSION):
            assert (await first.refused.get()).reason is RefusalReason.WRONG_WIRE_VERSION
        await first.connected.get()
        assert first.transport.wire_version(2) == older
        second.speaks = WIRE_VERSION  # updated meanwhile
        for inbox in list(second.transport.inboxes):
            inbox.close()
        await first.connected.get()
        assert first.transport.wire_version(2) == WIRE_VERSION


async def test_a_peer_that_was_updated_is_not_spoken_to_as_the_older_one_for_ever() -> None:
    """It accepts a connection that was dialled for the older program: until it dials itself."""
    async with pair() as (first, second, _):
        await first.connected.get()
        second.speaks = WIRE_VERSION - 1
        for inbox in list(second.transport.inboxes):
            inbox.close()
        assert (await first.refused.get()).reason is RefusalReason.WRONG_WIRE_VERSION
        await first.connected.get()
        assert first.transport.wire_version(2) == WIRE_VERSION - 1
        second.speaks = WIRE_VERSION  # nobody broke the connection that it had accepted
        for inbox in list(first.transport.inboxes):
            inbox.close()  # so it dials anew, and says in its hello what it speaks
        await first.connected.get()
        assert first.transport.wire_version(2) == WIRE_VERSION


async def test_a_refusal_for_good_in_an_older_version_is_asked_for_once_more_in_the_own_one() -> (
    None
):
    """It was updated after it had asked for the older one, and took us for older (seed 26870)."""
    async with pair() as (first, second, _):
        await first.connected.get()
        second.speaks = WIRE_VERSION - 1
        for inbox in list(second.transport.inboxes):
            inbox.close()
        assert (await first.refused.get()).reason is RefusalReason.WRONG_WIRE_VERSION
        second.speaks = second.listens = WIRE_VERSION
        await first.connected.get()
        assert first.refused.empty()


async def test_a_refusal_for_good_is_believed_the_second_time() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        second.speaks, second.listens = WIRE_VERSION - 1, WIRE_VERSION
        for inbox in list(second.transport.inboxes):
            inbox.close()
        reasons = [(await first.refused.get()).reason for _ in range(3)]
        wrong_version = RefusalReason.WRONG_WIRE_VERSION
        assert reasons == [wrong_version, wrong_version, RefusalReason.TOO_OLD]


async def test_a_peer_that_is_removed_is_neither_dialled_nor_heard_any_more() -> None:
    async with pair() as (first, second, _):
        await first.connected.get()
        await second.connected.get()
        first.transport.remove_peer(2)
        assert first.transport.peers == []
        assert not first.transport.is_connected(2)
        while second.transport.is_connected(1):
            await asyncio.sleep(0)
        first.transport.send(2, Heartbeat(1, 2, 3))
        assert first.transport.stats.messages_dropped == 1


async def test_a_peer_that_comes_later_is_dialled_and_follows_to_another_address() -> None:
    async with pair() as (first, _, ports):
        await first.connected.get()
        third = Peer(3)
        third.transport = Transport(third, random.Random(1))
        port = free_port(ports)
        await third.transport.listen("127.0.0.1", port)
        first.transport.add_peer(3, "127.0.0.1", free_port([*ports, port]))
        assert not first.transport.is_connected(3)
        first.transport.add_peer(3, "127.0.0.1", port)
        assert await first.connected.get() == 3
        third.transport.close()


async def test_a_request_to_join_is_answered_when_it_is_decided() -> None:
    async with pair() as (first, _, ports):
        request = JoinRequest("d", "", "h:1", "h:2", 7, promote=True, level=3)
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(encode_join(request))
        asked, answer = await first.joins.get()
        assert asked == request
        answer(JoinAnswer("done", "welcome", 9, CLUSTER, CLUSTER))
        (frame,) = FrameBuffer().feed(await reader.read(1000))
        assert decode_joined(frame) == JoinAnswer("done", "welcome", 9, CLUSTER, CLUSTER)
        assert await reader.read() == b""
        writer.close()


async def test_who_asks_to_join_and_goes_is_not_waited_for() -> None:
    async with pair() as (first, _, ports):
        _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(encode_join(JoinRequest("d", "", "h:1", "h:2", 7, promote=True, level=3)))
        await first.joins.get()
        writer.close()
        await first.gave_up.wait()
