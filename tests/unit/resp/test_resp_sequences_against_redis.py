"""Random sequences of commands on strings and keys: a real redis-server and we say the same."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_service import FakeService
from tests.support.redis_grammar import DATABASES, KEYS, LINE, Line, comparable
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)

DUMP: list[Line] = [
    step
    for number in DATABASES
    for step in (
        [b"SELECT", b"%d" % number],
        [b"DBSIZE"],
        *([name, key] for key in KEYS for name in (b"GET", b"PEXPIRETIME")),
    )
]


def decoded(raw: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(raw)
    return reader.gets()


def seen(arguments: Line, raw: bytes) -> tuple[bytes, object]:
    """The type on the wire, and what of the value must be equal."""
    kind = raw[:3] if raw[:3] in (b"$-1", b"*-1") else raw[:1]
    return kind, comparable(arguments[0], decoded(raw))


async def play(redis: socket.socket, protocol: bytes, lines: list[Line]) -> None:
    """Send the lines to both, and compare reply by reply; then all keys."""
    client = MemoryClient(serve(FakeService()))
    ask(redis, b"FLUSHALL")
    for arguments in ([b"HELLO", protocol], [b"SELECT", b"0"]):
        await client.call(*arguments)
        ask(redis, *arguments)
    for arguments in [*lines, *DUMP]:
        ours, theirs = await client.call_raw(*arguments), ask(redis, *arguments)
        assert (arguments, seen(arguments, ours)) == (arguments, seen(arguments, theirs))


@given(protocol=st.sampled_from([b"2", b"3"]), lines=st.lists(LINE, min_size=20, max_size=40))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_redis_and_we_answer_random_lines_alike(
    redis_socket: Path, protocol: bytes, lines: list[Line]
) -> None:
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        asyncio.run(play(redis, protocol, lines))
