"""The network that can be told to misbehave does what it is told, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from kvnode.node.hello import Hello, Welcome, decode_answer, encode_hello, encode_welcome
from scripts.local_cluster import HOST, PortReservation
from tests.chaos.proxy import BLOCK, CLIENTS, PASS, Network, Rule

TO, FRO = (CLIENTS, "n1"), ("n1", CLIENTS)
SOON = 0.1
"""Long enough for bytes that are not stopped."""
LATE = 10.0


class Target:
    """What stands behind a front: notes who connects, and what arrives."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.accepted: list[asyncio.StreamWriter] = []
        self.readers: list[asyncio.StreamReader] = []
        self.arrived = asyncio.Condition()
        self.server: asyncio.Server

    async def serve(self, port: int) -> None:
        self.server = await asyncio.start_server(self._on_connection, HOST, port)

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with self.arrived:
            self.readers.append(reader)
            self.writers.append(writer)
            self.accepted.append(writer)
            self.arrived.notify_all()

    async def connections(self, count: int) -> None:
        async with asyncio.timeout(LATE), self.arrived:
            await self.arrived.wait_for(lambda: len(self.readers) >= count)

    async def dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with a connection that is closed with all others."""
        reader, writer = await asyncio.open_connection(HOST, port)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Of the front and of what is behind it."""
    reservations = [PortReservation(), PortReservation()]
    yield reservations[0].port, reservations[1].port
    for reservation in reservations:
        reservation.release()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(seed=7)
    yield network
    network.close()


@pytest.fixture
async def target(ports: tuple[int, int]) -> AsyncIterator[Target]:
    target = Target()
    await target.serve(ports[1])
    yield target
    await target.close()


async def talk(
    network: Network, ports: tuple[int, int], target: Target
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of a client through the front."""
    network.add("n1", (HOST, ports[0]), (HOST, ports[1]), peers=False)
    reader, writer = await target.dial(ports[0])
    await target.connections(1)
    return reader, writer


async def arrives(reader: asyncio.StreamReader, count: int, seconds: float = LATE) -> bytes | None:
    """So many bytes, or None if they do not come."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await reader.readexactly(count)
    return None


async def test_without_rules_bytes_pass_both_ways(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    reader, writer = await talk(network, ports, target)
    writer.write(b"ping")
    assert await arrives(target.readers[0], 4) == b"ping"
    target.accepted[0].write(b"pong")
    assert await arrives(reader, 4) == b"pong"
    writer.close()
    assert await target.readers[0].read() == b""


async def test_a_cut_one_way_holds_those_bytes_only_and_gives_them_back(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    reader, writer = await talk(network, ports, target)
    network.set({TO: BLOCK})
    writer.write(b"ping")
    assert await arrives(target.readers[0], 4, SOON) is None
    assert network.held([TO]) == (4, 0)
    assert network.held([FRO]) == (0, 0)
    target.accepted[0].write(b"pong")
    assert await arrives(reader, 4) == b"pong"
    network.set({TO: PASS})
    assert await arrives(target.readers[0], 4) == b"ping"


async def test_an_end_does_not_get_through_a_cut(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    _, writer = await talk(network, ports, target)
    network.set({TO: BLOCK, FRO: BLOCK})
    writer.transport.abort()
    assert await arrives(target.readers[0], 1, SOON) is None
    assert not target.readers[0].at_eof()
    network.set({TO: PASS, FRO: PASS})
    async with asyncio.timeout(LATE):
        with contextlib.suppress(ConnectionResetError):
            assert await target.readers[0].read() == b""


async def test_who_connects_during_a_cut_gets_through_when_it_is_healed(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    network.add("n1", (HOST, ports[0]), (HOST, ports[1]), peers=False)
    network.set({FRO: BLOCK})
    _, writer = await target.dial(ports[0])
    writer.write(b"ping")
    while network.held([FRO]) != (0, 1):
        await asyncio.sleep(0)
    assert not target.readers
    network.set({FRO: PASS})
    await target.connections(1)
    assert await arrives(target.readers[0], 4) == b"ping"


async def test_slow_bytes_come_late_and_in_order(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    _, writer = await talk(network, ports, target)
    network.set({TO: Rule(delay_s=0.2, jitter_s=0.2)})
    writer.write(b"one")
    await writer.drain()
    writer.write(b"two")
    assert await arrives(target.readers[0], 1, SOON) is None
    assert await arrives(target.readers[0], 6) == b"onetwo"
    assert network.tally([TO]).late_bytes == 6


async def test_dripping_bytes_come_piece_by_piece(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    _, writer = await talk(network, ports, target)
    network.set({TO: Rule(piece_bytes=1, piece_s=0.05)})
    writer.write(b"drip")
    seen = [await arrives(target.readers[0], 1) for _ in range(4)]
    assert seen == [b"d", b"r", b"i", b"p"]
    assert network.tally([TO]).late_bytes == 4


async def test_a_line_of_low_rate_takes_bytes_as_fast_as_it_passes_them(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    _, writer = await talk(network, ports, target)
    network.set({TO: Rule(bytes_per_s=64 * 1024)})
    writer.transport.set_write_buffer_limits(0)
    writer.write(bytes(64 << 20))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await writer.drain()
    network.set({TO: PASS})
    size = 0
    while size < 64 << 20:
        size += len(await target.readers[0].read(1 << 20))


async def test_a_lossy_line_resets(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    reader, writer = await talk(network, ports, target)
    network.set({TO: Rule(reset_odds=1.0)})
    writer.write(b"ping")
    with pytest.raises(ConnectionResetError):
        await arrives(reader, 1)
    assert network.tally([TO]).resets == 1


async def test_a_front_does_not_listen_while_its_node_is_down(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    await talk(network, ports, target)
    await target.close()

    async def refused() -> bool:
        try:
            await target.dial(ports[0])
        except ConnectionError:
            return True
        return False

    async with asyncio.timeout(LATE):
        while not await refused():
            await asyncio.sleep(0)
        target.readers.clear()
        await target.serve(ports[1])
        while await refused():
            await asyncio.sleep(0)


def hello_of(port: int) -> bytes:
    """The first frame of a peer whose front is at this port."""
    return encode_hello(
        Hello("c", 2, 1, 3, 4, "1", "", recovering=False, peer_address=f"{HOST}:{port}")
    )


async def test_a_peer_is_known_by_its_hello(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    other = PortReservation()
    network.add("n2", (HOST, other.port), (HOST, 1), peers=True)
    network.add("n1", (HOST, ports[0]), (HOST, ports[1]), peers=True)
    network.set({("n2", "n1"): BLOCK})
    _, writer = await target.dial(ports[0])
    hello = hello_of(other.port)
    writer.write(hello[:5])
    await writer.drain()
    writer.write(hello[5:])
    while network.held([("n2", "n1")]) != (0, 1):
        await asyncio.sleep(0)
    assert not target.readers
    network.set({("n2", "n1"): PASS})
    await target.connections(1)
    assert await arrives(target.readers[0], len(hello)) == hello
    other.release()


async def test_a_duplicated_connection_says_hello_twice(
    network: Network, ports: tuple[int, int], target: Target
) -> None:
    other = PortReservation()
    network.add("n2", (HOST, other.port), (HOST, 1), peers=True)
    network.add("n1", (HOST, ports[0]), (HOST, ports[1]), peers=True)
    network.set({("n2", "n1"): Rule(duplicated=True)})
    reader, writer = await target.dial(ports[0])
    hello = hello_of(other.port)
    writer.write(hello)
    await target.connections(2)
    answer = encode_welcome(Welcome(1, 2, "1", "", recovering=False))
    for back, there in zip(target.readers, target.accepted, strict=True):
        assert await arrives(back, len(hello)) == hello
        there.write(answer)
    told = await arrives(reader, len(answer))
    assert told is not None
    assert isinstance(decode_answer(told[4:]), Welcome)
    while network.tally([("n2", "n1")]).duplicates != 1:
        await asyncio.sleep(0)
    other.release()
