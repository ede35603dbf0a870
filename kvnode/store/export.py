"""The rows that are the state, in key order, counted against the meta row on the way out.

A snapshot is these rows and the meta row. Rows of flushed generations are not among them, and no
row is left out quietly: the records of each database must add up to its counters and its hash sum,
its expiry rows to their count. So an engine that lost rows never becomes a snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from kvnode.errors import KvnodeError
from kvnode.store.keyspace import HASH_BYTES, PREFIX_BYTES, SUM_MASK, prefix_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.engine import Engine
    from kvnode.store.keyspace import Database

_HASH_END = PREFIX_BYTES + HASH_BYTES


class RowsMissing(KvnodeError):
    """The rows of an engine do not add up to its meta row: the engine must be rebuilt."""


def live_rows(engine: Engine, databases: list[Database]) -> Iterator[tuple[bytes, bytes]]:
    """All rows of the databases, ascending: records by generation, then expiry rows likewise.

    Raises:
        RowsMissing: after the last row of a database whose rows are not the ones that were counted.
    """
    # Generations are in the keys, so their order is the order of the rows.
    present = sorted((one for one in databases if one.keys), key=lambda one: one.generation)
    for database in present:
        yield from _records(engine, database)
    for database in present:
        yield from _deadlines(engine, database)


def _records(engine: Engine, database: Database) -> Iterator[tuple[bytes, bytes]]:
    prefix = database.record_prefix
    number = hash_sum = 0
    for row in engine.rows(prefix, prefix_end(prefix)):
        key, record = row
        number += 1
        hash_sum += xxh3_64_intdigest(record, int.from_bytes(key[PREFIX_BYTES:_HASH_END], "big"))
        yield row
    if number != database.keys or hash_sum & SUM_MASK != database.hash_sum:
        raise RowsMissing(
            f"generation {database.generation} has {number} records that do not add up to the "
            f"{database.keys} of its meta row"
        )


def _deadlines(engine: Engine, database: Database) -> Iterator[tuple[bytes, bytes]]:
    prefix = database.expiry_prefix
    number = 0
    for row in engine.rows(prefix, prefix_end(prefix)):
        number += 1
        yield row
    if number != database.expires:
        raise RowsMissing(
            f"generation {database.generation} has {number} expiry rows, its meta row counts "
            f"{database.expires}"
        )
