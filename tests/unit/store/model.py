"""The keyspace as a plain dict: what the rows must add up to, written without looking at them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kvnode.errors import CommandError
from kvnode.store import ops
from kvnode.store.reply import OK, Result, Status

if TYPE_CHECKING:
    from kvnode.store.ops import Op

NAMES = {
    ops.SET: "set",
    ops.MSET: "mset",
    ops.DEL: "delete",
    ops.INCRBY: "incrby",
    ops.APPEND: "append",
    ops.EXPIRE: "expire",
    ops.PERSIST: "persist",
    ops.FLUSHDB: "flushdb",
    ops.GETDEL: "getdel",
    ops.GETEX: "getex",
    ops.MSETNX: "msetnx",
    ops.SETRANGE: "setrange",
    ops.RENAME: "rename",
    ops.COPY: "copy",
    ops.MOVE: "move",
    ops.SWAPDB: "swapdb",
    ops.EXEC: "exec",
    ops.GET: "get",
    ops.MGET: "mget",
    ops.EXISTS: "exists",
    ops.TYPE: "type",
    ops.STRLEN: "strlen",
    ops.TTL: "ttl",
    ops.GETRANGE: "getrange",
    ops.EXPIRETIME: "expiretime",
    ops.SIZE: "size",
}
INT64 = range(-(2**63), 2**63)


Place = tuple[int, bytes]


class Model:
    """Values and deadlines of all keys, and which of them changed.

    Attributes:
        keys: (value, deadline) by database and key.
        touched: places that a client who watches them would see change; tests clear it.
        arrived: databases that SWAPDB has put in their place; tests clear it.
        doubtful: those of them that were swept again: there the store may take an absent key for a
            touched one; tests clear it.
        ghosts: keys that have expired, whose rows may still be there.
    """

    def __init__(self) -> None:
        self.now_ms = 0
        self.keys: dict[Place, tuple[bytes, int | None]] = {}
        self.touched: set[Place] = set()
        self.arrived: set[int] = set()
        self.doubtful: set[int] = set()
        self.ghosts: set[bytes] = set()

    def drop_expired(self) -> None:
        """What has expired is not there: a model need not remember it."""
        for place, (_, deadline) in list(self.keys.items()):
            if deadline is not None and deadline <= self.now_ms:
                self.drop(place)
                self.ghosts.add(place[1])

    def apply(self, op: Op) -> Result:
        """Run one op, a read or a write."""
        result: Result = getattr(self, NAMES[op[0]])(*op[1:])
        self.drop_expired()
        return result

    def put(self, db: int, key: bytes, value: bytes, deadline: int | None) -> None:
        self.keys[db, key] = (value, deadline)
        self.touched.add((db, key))

    def drop(self, place: Place) -> None:
        del self.keys[place]
        self.touched.add(place)

    # --- writes -----------------------------------------------------------------------------------

    def set(self, db: int, key: bytes, value: bytes, flags: int = 0, ms: int = 0) -> Result:
        old = self.keys.get((db, key))
        miss = (flags & 1 and old) or (flags & 2 and not old)
        if not miss:
            deadline = {16: self.now_ms + ms, 32: ms}.get(flags & 48)
            if flags & 8 and old:
                deadline = old[1]
            self.put(db, key, value, deadline)
        if flags & 4:
            return old[0] if old else None
        return None if miss else OK

    def mset(self, db: int, *pairs: bytes) -> Result:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.put(db, key, value, None)
        return OK

    def delete(self, db: int, *keys: bytes) -> Result:
        gone = [(db, key) for key in set(keys) if (db, key) in self.keys]
        for place in gone:
            self.drop(place)
        return len(gone)

    def incrby(self, db: int, key: bytes, delta: int) -> Result:
        value, deadline = self.keys.get((db, key), (b"0", None))
        if not re.fullmatch(rb"0|-?[1-9]\d*", value) or int(value) not in INT64:
            return CommandError("ERR value is not an integer or out of range")
        if int(value) + delta not in INT64:
            return CommandError("ERR increment or decrement would overflow")
        self.put(db, key, str(int(value) + delta).encode(), deadline)
        return int(value) + delta

    def append(self, db: int, key: bytes, more: bytes) -> Result:
        value, deadline = self.keys.get((db, key), (b"", None))
        self.put(db, key, value + more, deadline)
        return len(value + more)

    def expire(self, db: int, key: bytes, absolute: int, ms: int, flags: int) -> Result:
        if (db, key) not in self.keys:
            return 0
        value, deadline = self.keys[db, key]
        new = ms if absolute else self.now_ms + ms
        for_ever = float("inf")
        now = for_ever if deadline is None else deadline
        passes = {1: now == for_ever, 2: now != for_ever, 4: new > now, 8: new < now}
        if not all(passes[flag] for flag in passes if flags & flag):
            return 0
        self.put(db, key, value, new)
        return 1

    def persist(self, db: int, key: bytes) -> Result:
        value, deadline = self.keys.get((db, key), (b"", None))
        if deadline is None:
            return 0
        self.put(db, key, value, None)
        return 1

    def flushdb(self, db: int) -> Result:
        for place in [place for place in self.keys if place[0] == db]:
            self.drop(place)
        self.sweep(db)
        return OK

    def sweep(self, db: int) -> None:
        if db in self.arrived:
            self.doubtful.add(db)

    def exec(self, _db: int, _watches: list[Any], inner: list[Op]) -> Result:
        return [self.apply(op) for op in inner]

    def getdel(self, db: int, key: bytes) -> Result:
        value = self.get(db, key)
        self.delete(db, key)
        return value

    def getex(self, db: int, key: bytes, flags: int, ms: int) -> Result:
        if (db, key) not in self.keys:
            return None
        value, old = self.keys[db, key]
        new = {0: old, 16: self.now_ms + ms, 32: ms, 64: None}[flags]
        if new != old or flags & 48:
            self.put(db, key, value, new)
        return value

    def msetnx(self, db: int, *pairs: bytes) -> Result:
        if self.exists(db, *pairs[::2]):
            return 0
        self.mset(db, *pairs)
        return 1

    def setrange(self, db: int, key: bytes, offset: int, part: bytes) -> Result:
        value, deadline = self.keys.get((db, key), (b"", None))
        if not part:
            return len(value)
        padded = bytearray(value.ljust(offset + len(part), b"\0"))
        padded[offset : offset + len(part)] = part
        self.put(db, key, bytes(padded), deadline)
        return len(padded)

    def rename(self, db: int, key: bytes, new_key: bytes, only_if_absent: int) -> Result:
        if (db, key) not in self.keys:
            return CommandError("ERR no such key")
        if only_if_absent and (db, new_key) in self.keys:
            return 0
        if new_key != key:
            self.put(db, new_key, *self.keys[db, key])
            self.drop((db, key))
        return 1 if only_if_absent else OK

    def copy(self, db: int, key: bytes, new_db: int, new_key: bytes, replace: int) -> Result:
        if (db, key) not in self.keys or (not replace and (new_db, new_key) in self.keys):
            return 0
        self.put(new_db, new_key, *self.keys[db, key])
        return 1

    def move(self, db: int, key: bytes, new_db: int) -> Result:
        copied = self.copy(db, key, new_db, key, 0)
        if copied:
            self.drop((db, key))
        return copied

    def swapdb(self, _db: int, first: int, second: int) -> Result:
        if first != second:
            other = {first: second, second: first}
            moved = {(other.get(db, db), key): value for (db, key), value in self.keys.items()}
            for db, key in {*self.keys, *moved}:
                if db in other:
                    self.touched.add((db, key))
            self.keys = moved
            for db in other:
                self.sweep(db)
            self.arrived |= {first, second}
        return OK

    # --- reads ------------------------------------------------------------------------------------

    def get(self, db: int, key: bytes) -> Result:
        return self.keys.get((db, key), (None,))[0]

    def mget(self, db: int, *keys: bytes) -> Result:
        return [self.get(db, key) for key in keys]

    def exists(self, db: int, *keys: bytes) -> Result:
        return sum((db, key) in self.keys for key in keys)

    def type(self, db: int, key: bytes) -> Result:
        return Status("string" if (db, key) in self.keys else "none")

    def strlen(self, db: int, key: bytes) -> Result:
        return len(self.keys.get((db, key), (b"",))[0])

    def size(self, db: int, key: bytes) -> Result:
        return len(self.keys[db, key][0]) if (db, key) in self.keys else None

    def ttl(self, db: int, key: bytes, in_ms: int) -> Result:
        if (db, key) not in self.keys:
            return -2
        deadline = self.keys[db, key][1]
        if deadline is None:
            return -1
        left = deadline - self.now_ms
        return left if in_ms else (left + 500) // 1000

    def expiretime(self, db: int, key: bytes, in_ms: int) -> Result:
        if (db, key) not in self.keys:
            return -2
        deadline = self.keys[db, key][1]
        if deadline is None:
            return -1
        return deadline if in_ms else (deadline + 500) // 1000

    def getrange(self, db: int, key: bytes, first: int, last: int) -> Result:
        value = self.keys.get((db, key), (b"", None))[0]
        size = len(value)
        chosen = range(max(first + size * (first < 0), 0), max(last + size * (last < 0), 0) + 1)
        if first < 0 and last < 0 and first > last:
            return b""
        return bytes(value[at] for at in chosen if at < size)

    def names(self, db: int) -> list[bytes]:
        """All keys of a database, sorted."""
        return sorted(key for number, key in self.keys if number == db)
