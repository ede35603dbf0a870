"""The rows that are the state, in key order, counted against the meta row on the way out.

A snapshot is these rows and the meta row. Rows of flushed generations and of dropped collections
are not among them, and no row is left out quietly: the records of each database must add up to its
counters and its hash sum, its expiry rows to their count, and the rows of each collection to what
its record tells. So an engine that lost rows never becomes a snapshot.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from kvnode.errors import KvnodeError
from kvnode.store.collection import Totals, prefix_of, totals_of
from kvnode.store.keyspace import (
    COLLECTION_BITS,
    HASH_BYTES,
    KIND_MASK,
    PREFIX_BYTES,
    SUM_MASK,
    TAG_WAITER,
    collection_of,
    prefix_end,
)
from kvnode.store.waiting import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvnode.store.engine import Engine
    from kvnode.store.keyspace import Database
    from kvnode.store.waiting import WaitingTotals

_HASH_END = PREFIX_BYTES + HASH_BYTES
_EXPECTED = Struct(">QQQB")
"""Of a collection: number, sum, bytes, kind. Packed, they sort by number."""


class RowsMissing(KvnodeError):
    """The rows of an engine do not add up to its meta row: the engine must be rebuilt."""


def live_rows(
    engine: Engine,
    databases: list[Database],
    waiting: WaitingTotals,
    unplaced: Iterable[bytes] = (),
) -> Iterator[tuple[bytes, bytes]]:
    """All rows, ascending: records, expiry rows, then collections, then blocked clients.

    The former by generation. Of each collection some 60 bytes are kept in memory meanwhile.

    Args:
        engine: after a commit.
        databases: all of them.
        waiting: what the rows of blocked clients must add up to.
        unplaced: records of collections that no key tells of yet (`jobs`).

    Raises:
        RowsMissing: after the last row of a database or collection whose rows are not the ones that
            were counted.
    """
    # Generations are in the keys, so their order is the order of the rows.
    present = sorted((one for one in databases if one.keys), key=lambda one: one.generation)
    collections = [_expected(record) for record in unplaced]
    for database in present:
        yield from _records(engine, database, collections)
    for database in present:
        yield from _deadlines(engine, database)
    collections.sort()
    for expected in collections:
        yield from _elements(engine, *_EXPECTED.unpack(expected))
    yield from _waiters(engine, waiting)


def _expected(record: bytes) -> bytes:
    return _EXPECTED.pack(collection_of(record), *totals_of(record), record[0] & KIND_MASK)


def _records(
    engine: Engine, database: Database, collections: list[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    prefix = database.record_prefix
    number = hash_sum = 0
    for row in engine.rows(prefix, prefix_end(prefix)):
        key, record = row
        number += 1
        hash_sum += xxh3_64_intdigest(record, int.from_bytes(key[PREFIX_BYTES:_HASH_END], "big"))
        if record[0] & COLLECTION_BITS:
            collections.append(_expected(record))
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


def _elements(
    engine: Engine, generation: int, content_sum: int, content_bytes: int, kind: int
) -> Iterator[tuple[bytes, bytes]]:
    prefix = prefix_of(generation)
    totals = Totals(kind)
    for row in engine.rows(prefix, prefix_end(prefix)):
        totals.add(*row)
        yield row
    if (totals.content_sum, totals.content_bytes) != (content_sum, content_bytes):
        raise RowsMissing(
            f"collection {generation} has rows of {totals.content_bytes} bytes that do not add up "
            f"to the {content_bytes} of its record"
        )


def _waiters(engine: Engine, waiting: WaitingTotals) -> Iterator[tuple[bytes, bytes]]:
    number = hash_sum = 0
    for row in engine.rows(TAG_WAITER, prefix_end(TAG_WAITER)):
        number += 1
        hash_sum += hash_of(*row)
        yield row
    if (number, hash_sum & SUM_MASK) != (waiting.rows, waiting.hash_sum):
        raise RowsMissing(
            f"{number} rows of blocked clients do not add up to the {waiting.rows} of the meta row"
        )
