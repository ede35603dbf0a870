"""Which function each op code means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from kvnode.store import ops
from kvnode.store.redis import keys, server, strings, transactions

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.reply import Result

Meaning: TypeAlias = "Callable[[Keyspace, ops.Op], Result]"

READS: Final[dict[int, Meaning]] = {
    ops.GET: strings.get,
    ops.MGET: strings.mget,
    ops.EXISTS: keys.exists,
    ops.TYPE: keys.type_,
    ops.STRLEN: strings.strlen,
    ops.TTL: keys.ttl,
    ops.KEYS: keys.keys,
    ops.SCAN: keys.scan,
    ops.DBSIZE: server.dbsize,
    ops.VERSION: transactions.version,
    ops.GETRANGE: strings.getrange,
    ops.LCS: strings.lcs,
    ops.RANDOMKEY: keys.randomkey,
    ops.EXPIRETIME: keys.expiretime,
    ops.OBJECT: keys.object_,
    ops.SIZE: keys.size,
}

SIMPLE_WRITES: Final[dict[int, Meaning]] = {
    ops.SET: strings.set_,
    ops.MSET: strings.mset,
    ops.DEL: keys.del_,
    ops.INCRBY: strings.incrby,
    ops.APPEND: strings.append,
    ops.EXPIRE: keys.expire,
    ops.PERSIST: keys.persist,
    ops.FLUSHDB: server.flushdb,
    ops.FLUSHALL: server.flushall,
    ops.GETDEL: strings.getdel,
    ops.GETEX: strings.getex,
    ops.MSETNX: strings.msetnx,
    ops.INCRBYFLOAT: strings.incrbyfloat,
    ops.SETRANGE: strings.setrange,
    ops.RENAME: keys.rename,
    ops.COPY: keys.copy,
    ops.MOVE: keys.move,
    ops.SWAPDB: server.swapdb,
}

WRITES: Final[dict[int, Meaning]] = {
    **SIMPLE_WRITES,
    ops.EXEC: transactions.exec_of({**READS, **SIMPLE_WRITES}, by_arrivals=False),
    ops.EXEC_WATCHED: transactions.exec_of({**READS, **SIMPLE_WRITES}, by_arrivals=True),
}
"""What may stand in a log entry by itself."""
