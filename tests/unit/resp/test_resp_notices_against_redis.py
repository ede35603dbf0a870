"""Keyspace notifications: a real redis-server and we tell the same of the same commands.

Each family adds its commands to `LINES`: a line per command, over keys of its own.
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import hiredis
import pytest

from kvnode.errors import CommandError
from kvnode.resp.commands.lookup import look_up
from kvnode.store import batch
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.notices import Event
from kvnode.store.ops import is_write
from kvnode.store.state_machine import StateMachine
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)

STRINGS_AND_KEYS = """
set a 1 | set a 2 | set a 3 ex 1000 | set a 4 nx | set b 5 xx | setnx b 1 | setnx b 2
setex c 1000 1 | psetex c 100000 1 | getset c 2 | get c | getdel c | getdel c
mset a 1 b 2 c 3 | msetnx a 1 z 2 | msetnx y 1 z 2
incr a | decr a | incrby a 5 | decrby a 2 | incrbyfloat a 1.5 | incr words
append d x | append d y | setrange d 3 zz | setrange d 0 "" | strlen d
getex a ex 100 | getex a persist | getex a persist | getex a
expire a 100 | expire a 100 nx | persist a | persist a | expire a -1 | expire a 10
del a b nothing | unlink c | rename y x | rename nothing x | renamenx x z | renamenx x w
copy w v | copy w v | copy w v replace | move w 2 | move w 2 | touch v | exists v
set a 1 | flushdb | set a 1
"""
LISTS = """
rpush l a b b c | lpush l x | lpushx l y | rpushx l z | rpushx none z | rpush l 1 2 3 4 5 6 7 8
lset l 0 new | linsert l after x y | linsert l after nothing y | lrem l 0 b | lrem l 0 nothing
ltrim l 0 9 | ltrim l 0 99 | lpop l | rpop l 2 | lpop l 0 | lpop none | lpop none 1
lmove l m left right | lmove l m right left | lmove l l left right | rpoplpush none l
lmpop 2 none m left | lmpop 1 m right count 5 | ltrim l 1 0 | rpush l a | rpoplpush l l
rpoplpush l m | lrem m 1 a | rpush l a b | rpop l 5 | rpush l a | set l v | lpush l a | del l
"""
HASHES = """
hset h f 1 g 2 | hset h f 1 | hsetnx h f 2 | hsetnx h i 2 | hmset h f 1 | hincrby h f 1
hincrby h f x | hincrbyfloat h f 1.5 | hset h t x | hincrby h t 1 | hincrbyfloat h t 1
hdel h none | hdel none none | hdel h f none | hget h f | hset a f 1 | hdel h g i t
hset h f 1 | rename h hh | set hh v | hdel hh f
"""
SETS = """
sadd s a b c | sadd s a | srem s a | srem s none | srem none a | sadd one a | srem one a
sadd s a b c d | spop s | spop s 0 | spop s 2 | spop s 9 | spop none | spop none 1
sadd s a b c | sadd one a | smove one t a | smove s t a | smove s s b | smove s t none
sadd one b | smove one s b | smove none t a | sunionstore d s t | sinterstore d s s
sdiffstore d s t | sunionstore s none | sunionstore none none | sinterstore d d none
set text v | sadd text a | sunionstore text t | sdiffstore text t t | sadd t x | set t v
"""
SORTING = """
rpush l 2 1 | sort l | sort l store d | sort none store d | sort none store d | sort l store l
set d x | sort l limit 5 5 store d | sort l by nosort store d | sort l get no* store l | sort l foo
"""
BITS = """
setbit i 3 1 | setbit i 3 1 | setbit i 900 0 | setbit i 3 0 | bitfield i get u8 0
bitfield i set u8 0 0 | bitfield i set u8 0 5 get u8 0 | bitfield i incrby u8 0 1 incrby u8 8 1
bitfield i overflow fail set u2 0 9 | bitfield newfield overflow fail set u2 0 9
bitfield i overflow fail set u2 0 9 set u2 0 1 | bitop or i2 i | bitop and i2 none
bitop and i2 none | bitop not i i | pfadd p | pfadd p | pfadd p x | pfadd p x | pfmerge q p
pfmerge q p | pfmerge r none | pfcount p q | setbit p 1 1 | pfadd p y
"""
LINES = [STRINGS_AND_KEYS, LISTS, HASHES, SETS, SORTING, BITS]

LETTERS = {b"__keyevent@0__": 0, b"__keyevent@2__": 2}


def commands() -> list[list[bytes]]:
    told = [line for block in LINES for line in block.split("\n") if line]
    return [
        [b"" if word == '""' else word.encode() for word in command.split()]
        for line in told
        for command in line.split("|")
    ]


class Ours:
    """A state machine that listens to itself."""

    def __init__(self) -> None:
        self.machine = StateMachine(MemoryEngine(), hash_key=bytes(16))
        self.machine.listen(to_events=True)
        self.machine.apply(1, batch.encode_register(1, 0, 1, 1, 1))
        self.sequence = 0

    def events(self, arguments: list[bytes]) -> list[Event]:
        try:
            op = look_up(arguments).parse(0, arguments)
        except CommandError:
            return []
        if not is_write(op):
            return []
        self.sequence += 1
        blob = batch.encode_ops([op])
        data = batch.encode_batch(1_700_000_000_000, 0, 1, 1, self.sequence, blob)
        return self.machine.apply(self.machine.applied + 1, data).events


class Theirs:
    """A connection that subscribed to all events, and one that asks."""

    def __init__(self, path: Path) -> None:
        self.asks, self.hears = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        for one in (self.asks, self.hears):
            one.connect(str(path))
        ask(self.asks, "CONFIG", "SET", "notify-keyspace-events", "EAn")
        self.hears.settimeout(5)
        self.hears.sendall(b"PSUBSCRIBE __keyevent@*__:* end\r\n")
        self.reader = hiredis.Reader(notEnoughData=Ellipsis)
        for _ in range(2):
            self._hear()

    def _hear(self) -> list[bytes]:
        while (message := self.reader.gets()) is Ellipsis:
            self.reader.feed(self.hears.recv(65536))
        assert isinstance(message, list)
        return message

    def events(self, arguments: list[bytes]) -> list[tuple[bytes, int, bytes]]:
        ask(self.asks, *arguments)
        ask(self.asks, "PUBLISH", "end", "")
        told = []
        while (message := self._hear())[2] != b"end":
            database, _, name = message[2].partition(b":")
            told.append((name, LETTERS[database], message[3]))
        return told

    def close(self) -> None:
        self.asks.close()
        self.hears.close()


def test_redis_and_we_tell_the_same_events(redis_socket: Path) -> None:
    ours, theirs = Ours(), Theirs(redis_socket)
    try:
        for arguments in commands():
            told = [(event.name, event.number, event.key) for event in ours.events(arguments)]
            assert (arguments, told) == (arguments, theirs.events(arguments))
    finally:
        theirs.close()


def test_nothing_is_noted_unless_somebody_listens() -> None:
    ours = Ours()
    ours.machine.listen(to_events=False)
    assert ours.events([b"set", b"a", b"1"]) == []
    ours.machine.listen(to_events=True)
    assert [event.name for event in ours.events([b"set", b"b", b"1"])] == [b"new", b"set"]
