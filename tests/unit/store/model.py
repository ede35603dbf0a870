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
    ops.EXEC: "exec",
    ops.GET: "get",
    ops.MGET: "mget",
    ops.EXISTS: "exists",
    ops.TYPE: "type",
    ops.STRLEN: "strlen",
    ops.TTL: "ttl",
}
INT64 = range(-(2**63), 2**63)


class Model:
    """Values, deadlines and versions of all keys; a version is the count of visible changes."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.changes = 0
        self.keys: dict[tuple[int, bytes], tuple[bytes, int | None, int]] = {}

    def drop_expired(self) -> None:
        """What has expired is not there: a model need not remember it."""
        for place, (_, deadline, _) in list(self.keys.items()):
            if deadline is not None and deadline <= self.now_ms:
                del self.keys[place]

    def apply(self, op: Op) -> Result:
        """Run one op, a read or a write."""
        result: Result = getattr(self, NAMES[op[0]])(*op[1:])
        self.drop_expired()
        return result

    def put(self, db: int, key: bytes, value: bytes, deadline: int | None) -> None:
        self.keys[db, key] = (value, deadline, self.changes)

    # --- writes -----------------------------------------------------------------------------------

    def set(self, db: int, key: bytes, value: bytes, flags: int = 0, ms: int = 0) -> Result:
        old = self.keys.get((db, key))
        miss = (flags & 1 and old) or (flags & 2 and not old)
        if not miss:
            deadline = {16: self.now_ms + ms, 32: ms}.get(flags & 48)
            if flags & 8 and old:
                deadline = old[1]
            gone = deadline is not None and deadline <= self.now_ms
            self.changes += not gone or old is not None
            self.put(db, key, value, deadline)
        if flags & 4:
            return old[0] if old else None
        return None if miss else OK

    def mset(self, db: int, *pairs: bytes) -> Result:
        self.changes += 1
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.put(db, key, value, None)
        return OK

    def delete(self, db: int, *keys: bytes) -> Result:
        gone = [key for key in set(keys) if self.keys.pop((db, key), None)]
        self.changes += bool(gone)
        return len(gone)

    def incrby(self, db: int, key: bytes, delta: int) -> Result:
        value, deadline, _ = self.keys.get((db, key), (b"0", None, 0))
        if not re.fullmatch(rb"0|-?[1-9]\d*", value) or int(value) not in INT64:
            return CommandError("ERR value is not an integer or out of range")
        if int(value) + delta not in INT64:
            return CommandError("ERR increment or decrement would overflow")
        self.changes += 1
        self.put(db, key, str(int(value) + delta).encode(), deadline)
        return int(value) + delta

    def append(self, db: int, key: bytes, more: bytes) -> Result:
        value, deadline, _ = self.keys.get((db, key), (b"", None, 0))
        self.changes += 1
        self.put(db, key, value + more, deadline)
        return len(value + more)

    def expire(self, db: int, key: bytes, absolute: int, ms: int, flags: int) -> Result:
        if (db, key) not in self.keys:
            return 0
        value, deadline, _ = self.keys[db, key]
        new = ms if absolute else self.now_ms + ms
        for_ever = float("inf")
        now = for_ever if deadline is None else deadline
        passes = {1: now == for_ever, 2: now != for_ever, 4: new > now, 8: new < now}
        if not all(passes[flag] for flag in passes if flags & flag):
            return 0
        self.changes += 1
        self.put(db, key, value, new)
        return 1

    def persist(self, db: int, key: bytes) -> Result:
        value, deadline, _ = self.keys.get((db, key), (b"", None, 0))
        if deadline is None:
            return 0
        self.changes += 1
        self.put(db, key, value, None)
        return 1

    def flushdb(self, db: int) -> Result:
        for place in [place for place in self.keys if place[0] == db]:
            del self.keys[place]
        self.changes += 1  # versions only need to be new
        return OK

    def exec(self, _db: int, watches: list[Any], inner: list[Op]) -> Result:
        if any(self.version(db, key) != version for db, key, version in watches):
            return None
        return [self.apply(op) for op in inner]

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

    def ttl(self, db: int, key: bytes, in_ms: int) -> Result:
        if (db, key) not in self.keys:
            return -2
        deadline = self.keys[db, key][1]
        if deadline is None:
            return -1
        left = deadline - self.now_ms
        return left if in_ms else (left + 500) // 1000

    def version(self, db: int, key: bytes) -> int:
        return self.keys[db, key][2] if (db, key) in self.keys else 0

    def names(self, db: int) -> list[bytes]:
        """All keys of a database, sorted."""
        return sorted(key for number, key in self.keys if number == db)
