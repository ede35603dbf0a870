"""Every line below answered by a real redis-server and by us: the same bytes, in both protocols."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, serve

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)

# One conversation; what a line does lasts for those after it.
LINES = """
    FOO | FOO a b c | foo "a b" 'q' | GET | GET a b | SET | SET a | SET a b c | SET a b EX |
    SET a b EX 0 | SET a b EX -1 | SET a b EX abc | SET a b EX 9223372036854775807 |
    SET a b PX 9223372036854775807 | SET a b EX 10 PX 10 | SET a b EX 10 EX 20 |
    SET a b NX XX | SET a b XX NX | SET a b KEEPTTL EX 5 | SET a b EX 5 KEEPTTL |
    SET a b NX GET | SET a b GET | SET a b XX GET | SET a b PXAT 0 | SET a b EXAT 99999999999 |
    SET n 5 | INCR n | DECR n | INCRBY n abc | INCRBY n 9223372036854775807 | INCRBY n 1.5 |
    DECRBY n -9223372036854775808 | DECRBY n 3 | APPEND n x | STRLEN n | INCR n | MSET |
    MSET a | MSET a b c | MSET a 1 b 2 | MGET a b zz | MGET | DEL | DEL a b zz | EXISTS a a n |
    EXISTS | TYPE n | TYPE zz | TYPE | EXPIRE n | EXPIRE n abc | EXPIRE n 10 FOO |
    EXPIRE n 10 NX XX | EXPIRE n 10 NX GT | EXPIRE n 10 GT LT | EXPIRE n 100 NX |
    EXPIRE n 100 NX | EXPIRE n 50 GT | EXPIRE n 9223372036854775807 |
    EXPIRE n -9223372036854775808 | PEXPIRE n 9223372036854775807 | EXPIREAT n 99999999999 |
    PEXPIREAT n abc | TTL zz | PTTL zz | PERSIST n | PERSIST n | TTL n | KEYS | KEYS zzz* |
    SCAN | SCAN abc | SCAN 0 MATCH | SCAN 0 COUNT 0 | SCAN 0 COUNT abc | SCAN 0 FOO bar |
    SCAN 0 TYPE hash | SCAN 99999999999999999999999 | DBSIZE x | FLUSHDB FOO | FLUSHDB ASYNC |
    FLUSHALL SYNC | FLUSHDB SYNC ASYNC | DBSIZE | PING | PING a | PING a b | ECHO | ECHO hi |
    SELECT | SELECT abc | SELECT 99 | SELECT 99999999999 | SELECT -1 | SELECT 1 | SELECT 0 |
    AUTH | AUTH x | AUTH default x | AUTH foo x | AUTH a b c | HELLO 4 | HELLO abc | HELLO 3 FOO |
    HELLO 3 AUTH a | HELLO 3 AUTH a b | HELLO 3 SETNAME "a b" | CLIENT | CLIENT FOO |
    CLIENT SETNAME | CLIENT SETNAME "a b" | CLIENT SETNAME ok | CLIENT GETNAME |
    CLIENT SETNAME "" | CLIENT GETNAME | CLIENT LIST FOO | CLIENT LIST TYPE foo |
    CLIENT LIST ID abc | CLIENT LIST TYPE master | CLIENT LIST ID | CLIENT LIST "" | CLIENT ID x |
    CLIENT NO-EVICT foo | CLIENT NO-EVICT on | CONFIG | CONFIG FOO | CONFIG GET |
    CONFIG GET save | CONFIG GET databases appendfsync_none | CONFIG SET foo bar |
    CONFIG SET a | CONFIG RESETSTAT | CONFIG REWRITE | COMMAND FOO | COMMAND GETKEYS |
    COMMAND GETKEYS GET | COMMAND GETKEYS get a | COMMAND GETKEYS FOO a |
    COMMAND GETKEYS PING x | COMMAND GETKEYS MSET a b c d | COMMAND GETKEYS PING |
    COMMAND INFO foo | COMMAND DOCS foo | COMMAND COUNT x | COMMAND LIST FOO | TIME x | EXEC |
    DISCARD | MULTI | MULTI | WATCH a | SET a 1 | GET | EXEC | MULTI | FOO | EXEC | MULTI |
    SET a 1 | INCR a | PING | ECHO x | SELECT 99 | SELECT 1 | SET b 2 | SELECT 0 | GET b |
    APPEND | DISCARD | MULTI | SET a 1 | INCR a | SELECT 99 | SELECT 1 | GET a | SELECT 0 |
    GET a | SET s x | INCR s | PING hi | EXEC | WATCH | WATCH a | UNWATCH | UNWATCH x | MULTI |
    EXEC | WATCH a | SET a 9 | MULTI | PING | EXEC | MULTI x | RESET | RESET x |
    CLIENT GETNAME | MULTI | RESET | EXEC | INFO nosuch | SET a | SELECT 15 | SELECT 0 |
    COMMAND GETKEYS SET k v | GETKEYS | MULTI | HELLO 9 | EXEC |
    CONFIG GET appendonl[z] | TTL none | APPEND n y | FLUSHALL |
    SETEX k 0 v | SETEX k -1 v | SETEX k abc v | PSETEX k 0 v | PSETEX k x v | SETEX k 9 |
    SETEX k 9223372036854775807 v | SETEX k 100 v | SETNX k w | SETNX l w | SETNX l |
    GETSET k 1 | TTL k | GETSET new 1 | GETSET k | GETEX k EX 0 | GETEX k EX abc |
    GETEX zz EX 0 | GETEX zz EX abc | GETEX k EX 10 PX 10 | GETEX k EX 10 PERSIST |
    GETEX k PERSIST EX 10 | GETEX k FOO | GETEX k EX | GETEX k PERSIST PERSIST |
    GETEX k ex 10 EX 20 | TTL k | GETEX k PERSIST | TTL k | GETEX k | GETEX k NX |
    GETEX k EX 9223372036854775807 | GETEX k PXAT 1 | EXISTS k | GETEX zz | GETDEL l |
    GETDEL l | GETDEL | MSETNX a | MSETNX a b c | MSETNX a 1 b 2 a 3 | MSETNX c 1 a 2 |
    MGET a b c | INCRBYFLOAT f 1.10 | INCRBYFLOAT f abc | INCRBYFLOAT f inf |
    INCRBYFLOAT f nan | INCRBYFLOAT f 0x10 | INCRBYFLOAT f 1e5000 | INCRBYFLOAT f " 1" |
    INCRBYFLOAT f 1e-5000 | INCRBYFLOAT f 1e30 | INCRBYFLOAT f | INCRBYFLOAT f "" | SET f x |
    INCRBYFLOAT f 1 | SET s "This is a string" | GETRANGE s 0 3 | GETRANGE s -3 -1 |
    GETRANGE s -1 -5 | GETRANGE s -100 -50 | GETRANGE s -50 -100 | GETRANGE s 5 100 |
    GETRANGE s a 1 | GETRANGE s 0 9223372036854775808 | GETRANGE zz 0 -1 | SUBSTR s 1 2 |
    SUBSTR s a 1 | SUBSTR s | SETRANGE s -1 x | SETRANGE s a x | SETRANGE s 536870912 x |
    SETRANGE s 9223372036854775807 x | SETRANGE s 9223372036854775807 "" | SETRANGE s 5 WAS |
    GET s | SETRANGE zz 3 "" | EXISTS zz | SETRANGE zz 3 x | GET zz | SET m ohmytext |
    SET n mynewtext | LCS m n | LCS m n LEN | LCS m n IDX | LCS m n idx MINMATCHLEN 4 |
    LCS m n IDX MINMATCHLEN 4 WITHMATCHLEN | LCS m n IDX WITHMATCHLEN | LCS m n WITHMATCHLEN |
    LCS m none | LCS none m IDX | LCS none n LEN | LCS m n LEN IDX | LCS m n FOO | LCS m |
    LCS m n MINMATCHLEN | LCS m n MINMATCHLEN x | LCS m n MINMATCHLEN -5 IDX | UNLINK zz yy |
    UNLINK | TOUCH m n n none | TOUCH | RENAME none y | RENAMENX none y | RENAME none none |
    RENAME m m | RENAMENX m m | RENAMENX m n | RENAMENX m mm | RENAME mm m | RENAME m |
    COPY m m | COPY m m DB 0 | COPY none none | COPY none x | COPY m y DB 99 | COPY m y DB abc |
    COPY m y DB -1 | COPY m y DB 99999999999 | COPY m y DB | COPY m y FOO | COPY m n |
    COPY m n REPLACE | COPY m y REPLACE replace DB 1 db 0 | COPY m m DB 3 | COPY m m DB 3 |
    COPY m | MOVE m 99 | MOVE m abc | MOVE m 0 | MOVE m 99999999999 | MOVE m 0x1 | MOVE m 3 |
    MOVE none 3 | MOVE m 4 | MOVE m 4 | MOVE m | SWAPDB a 1 | SWAPDB 0 b | SWAPDB 0 99 |
    SWAPDB 99999999999 1 | SWAPDB -1 0 | SWAPDB 99 99999999999 | SWAPDB 0 0 |
    SWAPDB 0 3 | DBSIZE | GET m | SWAPDB 3 0 | SWAPDB 0 | RANDOMKEY x | SELECT 9 | RANDOMKEY |
    SET only 1 | RANDOMKEY |
    FLUSHDB | SELECT 0 | EXPIRETIME | EXPIRETIME none | EXPIRETIME n | PEXPIRETIME none |
    EXPIREAT n 33177117420 | EXPIRETIME n | PEXPIRETIME n | PEXPIREAT n 33177117420500 |
    EXPIRETIME n | PEXPIREAT n 33177117420400 LT | PEXPIREAT n 33177117420400 LT |
    EXPIREAT n 33177117421 GT | EXPIREAT n 1 NX | EXPIREAT m 1 XX | EXPIREAT m 33177117420 NX |
    RENAME n renamed | PEXPIRETIME renamed | COPY renamed copied | PEXPIRETIME copied |
    MOVE copied 5 | SELECT 5 | PEXPIRETIME copied | SELECT 0 | OBJECT | OBJECT FOO |
    OBJECT ENCODING | OBJECT ENCODING a b | OBJECT ENCODING none | OBJECT ENCODING m |
    OBJECT encoding a | OBJECT FREQ m | OBJECT FREQ none | OBJECT REFCOUNT m |
    OBJECT REFCOUNT a | OBJECT IDLETIME none | OBJECT REFCOUNT none | OBJECT HELP x |
    MULTI | OBJECT ENCODING a | RENAMENX a aa | LCS m m LEN | SETNX aa 1 | GETEX aa EX abc |
    RENAME none x | INCRBYFLOAT aa 1.5 | SWAPDB 0 7 | DBSIZE | EXEC | SWAPDB 7 0 |
    MULTI | SET aa v EX abc | MSET a b c | INCRBY aa x | COPY aa aa | SET aa 5 | EXEC |
    MULTI | SET aa v EX abc | EXEC | MULTI | OBJECT FOO | SET aa 6 | EXEC | GET aa |
    COMMAND GETKEYS LCS a b | COMMAND GETKEYS MSETNX a 1 b 2 | COMMAND GETKEYS SWAPDB 0 1
"""


def conversation(lines: str = LINES) -> list[list[str]]:
    joined = " | ".join(line.strip().removesuffix("|") for line in lines.strip().splitlines())
    return [shlex.split(line) for line in joined.split("|")]


@pytest.fixture
def redis_socket(tmp_path: Path) -> Iterator[Path]:
    """A redis-server of version 7.0 that listens on a Unix socket."""
    path = tmp_path / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if b"Redis version=" in line and b"Redis version=7.0." not in line:
                    pytest.skip("another version of Redis has other texts")
                if b"Ready to accept connections" in line or b"ready to accept" in line:
                    break
            yield path
        finally:
            process.terminate()
            process.stdout.close()


def ask(connection: socket.socket, *arguments: str | bytes) -> bytes:
    """The bytes of one reply."""
    connection.sendall(encode(*arguments))
    reader = hiredis.Reader(notEnoughData=Ellipsis)
    answer = b""
    while reader.gets() is Ellipsis:
        chunk = connection.recv(65536)
        assert chunk, f"closed after {answer!r}"
        reader.feed(chunk)
        answer += chunk
    return answer


@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(redis_socket: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for arguments in conversation():
            assert (arguments, await client.call_raw(*arguments)) == (
                arguments,
                ask(redis, *arguments),
            )
