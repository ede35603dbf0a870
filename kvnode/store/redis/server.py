"""Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.store import ops
from kvnode.store.keyspace import DATABASES
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result


def dbsize(space: Keyspace, op: Op) -> Result:
    """DBSIZE: expired keys count until they are deleted, as in Redis."""
    return space.databases[op[1]].keys


def flushdb(space: Keyspace, op: Op) -> Result:
    """FLUSHDB, in constant time."""
    if space.flush(op[1]):
        space.advance()
    return OK


def flushall(space: Keyspace, _op: Op) -> Result:
    """FLUSHALL, in constant time."""
    flushed = [space.flush(number) for number in range(DATABASES)]
    if any(flushed):
        space.advance()
    return OK


def swapdb(space: Keyspace, op: Op) -> Result:
    """SWAPDB, in constant time: the databases exchange their generations."""
    _, _, first, second = op
    if first != second:
        space.advance()
        space.swap(first, second)
    return OK


READS: Final[dict[int, Meaning]] = {
    ops.DBSIZE: dbsize,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.FLUSHDB: flushdb,
    ops.FLUSHALL: flushall,
    ops.SWAPDB: swapdb,
}
