"""The server's own commands, answered by a real redis-server and by us: the same bytes."""

from __future__ import annotations

import shlex
import shutil
import socket
from pathlib import Path

import pytest

from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)

# One conversation; what a line does lasts for those after it.
LINES = """
    CLIENT PAUSE | CLIENT PAUSE 1 x | CLIENT PAUSE x | CLIENT PAUSE -1 | CLIENT REPLY x |
    CLIENT REPLY | CLIENT KILL | CLIENT KILL x | CLIENT KILL id 0 | CLIENT KILL id x |
    CLIENT KILL type foo | CLIENT KILL user foo | CLIENT KILL foo bar |
    CLIENT KILL id 99 skipme | CLIENT KILL skipme maybe | CLIENT KILL ID 99 TYPE normal |
    CLIENT KILL ADDR 1.2.3.4:5 LADDR x SKIPME yes | CLIENT UNBLOCK | CLIENT UNBLOCK x |
    CLIENT UNBLOCK 99 | CLIENT UNBLOCK 1 foo | CLIENT UNPAUSE | CLIENT UNPAUSE x |
    CLIENT TRACKING | CLIENT TRACKING off | CLIENT TRACKING foo | CLIENT GETREDIR |
    CLIENT REPLY ON | SLOWLOG | SLOWLOG GET x | SLOWLOG GET -2 | SLOWLOG RESET | SLOWLOG LEN |
    SLOWLOG GET | SLOWLOG LEN x | SLOWLOG FOO | LATENCY LATEST | LATENCY HISTORY x |
    LATENCY HISTORY | LATENCY RESET x | LATENCY RESET | LATENCY FOO |
    LATENCY HISTOGRAM nosuch | MEMORY USAGE | MEMORY USAGE zz | MEMORY USAGE a SAMPLES x |
    MEMORY USAGE a SAMPLES -1 | MEMORY USAGE a FOO | MEMORY USAGE a SAMPLES | MEMORY FOO |
    MODULE LIST | MODULE LIST x | WAIT | WAIT x 0 | WAIT 1 x | WAIT 1 -1 | WAIT 0 0 |
    BGSAVE foo | SHUTDOWN foo | SHUTDOWN ABORT | SHUTDOWN SAVE NOSAVE | SHUTDOWN NOW ABORT |
    READONLY x | READWRITE x | ROLE x | SAVE x | LASTSAVE x | MULTI | SAVE | EXEC | MULTI |
    SHUTDOWN NOSAVE | DISCARD | COMMAND LIST FILTERBY | COMMAND LIST FILTERBY foo bar |
    COMMAND LIST FILTERBY PATTERN get | COMMAND LIST FILTERBY MODULE x |
    COMMAND LIST FILTERBY ACLCAT nosuch | COMMAND GETKEYS MEMORY USAGE k |
    COMMAND GETKEYS CLIENT FOO | COMMAND GETKEYS CLIENT ID | COMMAND INFO client|foo |
    CONFIG SET maxclients abc | CONFIG SET maxclients 1.5 | CONFIG SET foo 1 |
    CONFIG SET timeout 5 timeout 6 | CONFIG SET timeout -1 | CONFIG SET timeout 0 foo 1 |
    CONFIG SET slowlog-log-slower-than abc | CONFIG SET slowlog-log-slower-than 5 TIMEOUT 7 |
    CONFIG GET slowlog-log-slower-than | CONFIG GET timeout | CONFIG SET timeout 8 maxclients no |
    CONFIG GET timeout | CONFIG SET timeout 0 slowlog-log-slower-than -1 |
    CONFIG SET latency-monitor-threshold 100 | CONFIG GET latency-monitor-threshold |
    MULTI | WAIT 3 0 | CLIENT UNBLOCK 99 | CONFIG FOO | EXEC | MULTI | CLIENT UNPAUSE |
    WAIT 3 0 | CLIENT TRACKING OFF | EXEC | SLOWLOG GET 1 x | Slowlog gEt abc x |
    CLIENT UNBLOCK 1 TIMEOUT x | CLIENT UNBLOCK abc foo x | CLIENT PAUSE 1 ALL x |
    CLIENT PAUSE 1 foo x | CLIENT TRACKING OFF x | CLIENT TRACKING OFF BCAST NOLOOP |
    CLIENT TRACKING OFF PREFIX | CLIENT TRACKING OFF PREFIX a optin | CLIENT TRACKING foo x |
    CLIENT TRACKING OFF REDIRECT | CLIENT TRACKING OFF REDIRECT x |
    CLIENT TRACKING OFF REDIRECT 99999 | COMMAND GETKEYS EXEC x | COMMAND GETKEYS CONFIG GET |
    COMMAND GETKEYS SELECT 1 2 | COMMAND GETKEYS MSET a | CONFIG GET DATABASES |
    CONFIG GET DataBases databases | CONFIG GET DATABASES database[s] | CONFIG GET DATABASE* |
    CONFIG SET client-output-buffer-limit 'normal 1mb 512kb 10' |
    CONFIG GET client-output-buffer-limit | CONFIG SET client-output-buffer-limit 'normal 1 2' |
    CONFIG SET client-output-buffer-limit 'foo 1 2 3' |
    CONFIG SET client-output-buffer-limit 'normal x 2 3' |
    CONFIG SET client-output-buffer-limit 'normal 1 2 -3' |
    CONFIG SET client-output-buffer-limit 'normal -1 2 3' |
    CONFIG SET client-output-buffer-limit 'normal 1.5mb 0 0' |
    CONFIG SET client-output-buffer-limit 'normal 1k 0 x' |
    CONFIG SET client-output-buffer-limit 'normal 1 1 1 bogus 1 1 1' |
    CONFIG SET client-output-buffer-limit '  normal 1 2' |
    CONFIG GET client-output-buffer-limit | CONFIG SET client-output-buffer-limit '' |
    CONFIG SET client-output-buffer-limit 'replica 1g 1m 3 PUBSUB 0 0 0' |
    CONFIG GET client-output-buffer-limit |
    CONFIG SET client-output-buffer-limit 'normal 1 1 1 Normal 1K 2Kb 3' |
    CONFIG GET client-output-buffer-limit | CONFIG SET client-output-buffer-limit 'normal 0 0 0' |
    CONFIG GET client-output-buffer-* | CONFIG SET a b c |
    WATCH zz | MULTI | EXEC | WATCH zz | SET other x | SWAPDB 0 1 | MULTI |
    EXEC | WATCH zz | SET other x | FLUSHALL | MULTI | EXEC | WATCH zz | SET zz x | FLUSHALL |
    MULTI | EXEC | WATCH zz | SET zz x | SWAPDB 0 1 | MULTI | EXEC | FLUSHALL | WATCH zz |
    SET other x | SWAPDB 0 1 | SWAPDB 0 1 | MULTI | EXEC
"""


def conversation() -> list[list[str]]:
    lines = " | ".join(line.strip().removesuffix("|") for line in LINES.strip().splitlines())
    return [shlex.split(line) for line in lines.replace("client|", "client#").split(" | ")]


@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(redis_socket: Path, protocol: str) -> None:
    service = FakeService()
    service.matches = []
    client = MemoryClient(serve(service, service, lambda: None))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for words in conversation():
            line = [word.replace("#", "|") for word in words]
            assert (line, await client.call_raw(*line)) == (line, ask(redis, *line))
