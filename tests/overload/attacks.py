"""Clients that would fill a node's memory, in a process of their own.

    python -m tests.overload.attacks NAME PORT SECONDS

Each attack holds every kind of value or buffer that a client can make a node keep: requests,
replies that nobody reads, transactions, blocked readers, whole collections, connections. They never
wait politely: what is refused or closed comes back. It prints one JSON object of what the attackers
got, by kind of answer.

The process runs at the lowest priority, as on a machine of its own it would not take the node's
processor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import json
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

HOST = "127.0.0.1"
MIB = 1024 * 1024
KIB = 1024
LATE_SECONDS = 10
"""Attackers that do not end by then are ended, and their stacks shown."""
LINGER_SECONDS = 0.2
"""Before somebody who was closed or refused comes back."""

BIG_KEY = b"attack:big"
BIG_BYTES = 4 * MIB
HASH_KEY = b"attack:hash"
HASH_FIELDS = 256
STREAM_KEY = b"attack:stream"

Answers = Counter[str]
Attack = Callable[[int, Answers], Awaitable[None]]
"""One attacker, from a connection to its end; it is called again and again."""


def command(*arguments: bytes) -> bytes:
    """One request."""
    parts = b"".join([b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments])
    return b"*%d\r\n%b" % (len(arguments), parts)


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, port, limit=16 * MIB)


async def _count_replies(reader: asyncio.StreamReader, answers: Answers) -> None:
    """Read until the end; simple replies are counted by their first word."""
    while line := await reader.readline():
        if line[:1] == b"-":
            answers[line[1:].split()[0].decode()] += 1
        elif line[:1] == b"+":
            answers["done"] += 1


# --- the attacks ----------------------------------------------------------------------------------


async def large_values(port: int, answers: Answers) -> None:
    """A pipeline of 1 MB values that never ends."""
    reader, writer = await _connect(port)
    key = b"attack:value:%d" % (id(writer) % 512)
    request = command(b"SET", key, os.urandom(16) + b"v" * (MIB - 16))
    reading = asyncio.ensure_future(_count_replies(reader, answers))
    try:
        while not reading.done():
            writer.write(request)
            await writer.drain()
    finally:
        reading.cancel()
        writer.close()


async def slow_readers(port: int, answers: Answers) -> None:
    """Asks for replies of 4 MB and reads none of them."""
    reader, writer = await _connect(port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    del reader
    try:
        writer.write(command(b"GET", BIG_KEY) * 16)
        while not writer.transport.is_closing():
            await asyncio.sleep(0.5)
            writer.write(command(b"PING"))
        answers["closed"] += 1
    finally:
        writer.transport.abort()


async def one_transaction(port: int, answers: Answers) -> None:
    """MULTI with 200 values of 1 MB."""
    reader, writer = await _connect(port)
    reading = asyncio.ensure_future(_count_replies(reader, answers))
    try:
        writer.write(command(b"MULTI"))
        for number in range(200):
            writer.write(command(b"SET", b"attack:multi:%d" % number, b"m" * MIB))
            await writer.drain()
        writer.write(command(b"EXEC") + command(b"QUIT"))
        await asyncio.wait([reading], timeout=10)
    finally:
        reading.cancel()
        writer.close()


async def blocked_readers(port: int, answers: Answers) -> None:
    """Waits for large entries of a stream, again and again, and reads nothing."""
    _, writer = await _connect(port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        ask = command(b"XREAD", b"BLOCK", b"0", b"STREAMS", STREAM_KEY, b"$")
        while not writer.transport.is_closing():
            writer.write(ask)
            await asyncio.sleep(0.05)
        answers["closed"] += 1
    finally:
        writer.transport.abort()


async def stream_producer(port: int, answers: Answers) -> None:
    """Adds the large entries that those readers wait for."""
    reader, writer = await _connect(port)
    entry = b"e" * (512 * KIB)
    try:
        while True:
            writer.write(command(b"XADD", STREAM_KEY, b"MAXLEN", b"64", b"*", b"f", entry))
            async with asyncio.timeout(30):  # wait_for may lose a cancellation (Python 3.11)
                line = await reader.readline()
            if not line:
                return
            answers["added" if line[:1] == b"$" else line[1:].split()[0].decode()] += 1
            if line[:1] == b"$":
                await reader.readline()
            await asyncio.sleep(0.02)
    finally:
        writer.close()


async def whole_collection(port: int, answers: Answers) -> None:
    """Reads a hash of 256 MB whole."""
    reader, writer = await _connect(port)
    try:
        while True:
            writer.write(command(b"HGETALL", HASH_KEY))
            line = await reader.readline()
            if not line:
                return
            if line[:1] == b"-":
                answers[line[1:].split()[0].decode()] += 1
                continue
            for _ in range(int(line[1:])):
                head = await reader.readline()
                await reader.readexactly(int(head[1:]) + 2)
            answers["read"] += 1
    finally:
        writer.close()


async def connection_storm(port: int, answers: Answers) -> None:
    """Opens connections and drops them, one after the other, some in the middle of a command."""
    loop = asyncio.get_running_loop()
    for number in range(1_000):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.setblocking(False)
            await loop.sock_connect(one, (HOST, port))
            if number % 3 == 1:
                await loop.sock_sendall(one, b"*2\r\n$3\r\nGET\r\n$4\r\nke")
            elif number % 3 == 2:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            answers["opened"] += 1


# --- running them ---------------------------------------------------------------------------------

ATTACKS: dict[str, tuple[tuple[Attack, int], ...]] = {
    "large-values": ((large_values, 200),),
    "slow-readers": ((slow_readers, 1_000),),
    "one-transaction": ((one_transaction, 1),),
    "blocked-readers": ((blocked_readers, 200), (stream_producer, 1)),
    "whole-collection": ((whole_collection, 50),),
    "connection-storm": ((connection_storm, 16),),
}
"""Who comes, and how many of them."""


def prepare(name: str, port: int) -> None:
    """Store what an attack asks for.

    Raises:
        OSError, AssertionError: the node does not take it.
    """
    with (
        socket.create_connection((HOST, port), timeout=30) as node,
        node.makefile("rb") as lines,
    ):

        def ask(*arguments: bytes) -> None:
            node.sendall(command(*arguments))
            answer = lines.readline()
            assert answer[:1] in (b"+", b":"), answer

        if name == "slow-readers":
            ask(b"SET", BIG_KEY, b"b" * BIG_BYTES)
        elif name == "whole-collection":
            for number in range(HASH_FIELDS):
                ask(b"HSET", HASH_KEY, b"field:%d" % number, b"h" * MIB)


async def _again(attack: Attack, port: int, answers: Answers, deadline: float) -> None:
    while time.monotonic() < deadline:  # a cancellation may come to light as a TimeoutError
        with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
            await attack(port, answers)
        await asyncio.sleep(LINGER_SECONDS)


async def run(name: str, port: int, seconds: float) -> Answers:
    """Attack for so long."""
    answers: Answers = Counter()
    deadline = time.monotonic() + seconds
    tasks = [
        asyncio.ensure_future(_again(attack, port, answers, deadline))
        for attack, count in ATTACKS[name]
        for _ in range(count)
    ]
    while time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return answers


def main() -> None:
    """Read the arguments, attack, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=sorted(ATTACKS))
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    faulthandler.dump_traceback_later(options.seconds + LATE_SECONDS, exit=True)
    answers = uvloop.run(run(options.name, options.port, options.seconds))
    print(json.dumps(dict(answers)))


if __name__ == "__main__":
    main()
