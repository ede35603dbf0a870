"""The state hash: 64 bits that are equal on all nodes at an equal applied index.

Each database keeps the sum of its records' hashes, each seeded with the hash of its key; a sum
needs no order, so a write costs one subtraction and one addition. This module folds the sums and
the rest of the replicated state into one number, and can count everything again from the rows. A
node takes the hash of every entry that it applies, so that nodes are compared at an equal index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from kvnode.store.collection import Totals, prefix_of, with_totals
from kvnode.store.keyspace import (
    COLLECTION_BITS,
    HAS_DEADLINE,
    HASH_BYTES,
    KIND_MASK,
    PREFIX_BYTES,
    SUM_MASK,
    TAG_WAITER,
    Database,
    bytes_of,
    collection_of,
    prefix_end,
)
from kvnode.store.waiting import WaitingTotals, count_of

if TYPE_CHECKING:
    from kvnode.store.engine import Engine
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.members import Members
    from kvnode.store.sessions import Sessions


def fold(
    applied: int,
    space: Keyspace,
    databases: list[Database],
    sessions: Sessions,
    members: Members,
    waiting: WaitingTotals,
) -> str:
    """Sixteen hex digits over all that replicas must agree on; generations are not part of it."""
    counted = [
        [number, *database.to_row()[1:]]
        for number, database in enumerate(databases)
        if database.newest or database.floor
    ]
    removals = xxh3_64_intdigest(space.removals.versions)
    state = [applied, space.stamp_ms, space.revision, counted, sessions.to_rows(), removals]
    if space.arrivals is not None:
        state.append(space.arrivals.to_hash())
    if members.is_founded:
        state.append(xxh3_64_intdigest(members.pack()))
    if space.jobs:
        state.append(xxh3_64_intdigest(space.jobs.pack()))
    if waiting.next_ticket > 1:
        state.append(waiting)
    return xxh3_64_hexdigest(msgpack.packb(state))


def recount(space: Keyspace) -> list[Database]:
    """Counters and sums from the rows themselves. Reads every record: for tests and for repair."""
    return [_recount(space, number) for number in range(len(space.databases))]


def _recount(space: Keyspace, number: int) -> Database:
    kept = space.databases[number]
    fresh = Database(kept.generation, newest=kept.newest, swapped=kept.swapped, floor=kept.floor)
    for key_hash, suffix, kept_record in space.walk(number):
        record = _recounted(space, kept_record)
        fresh.keys += 1
        fresh.record_bytes += PREFIX_BYTES + HASH_BYTES + len(suffix) + bytes_of(record)
        fresh.expires += bool(record[0] & HAS_DEADLINE)
        fresh.hash_sum = (fresh.hash_sum + xxh3_64_intdigest(record, key_hash)) & SUM_MASK
    return fresh


def _recounted(space: Keyspace, record: bytes) -> bytes:
    """The record as the rows of its collection say it should be."""
    if not record[0] & COLLECTION_BITS:
        return record
    totals = Totals(record[0] & KIND_MASK)
    prefix = prefix_of(collection_of(record))
    for row, value in space.engine.rows(prefix, prefix_end(prefix)):
        totals.add(row, value)
    return with_totals(record, totals.content_sum, totals.content_bytes)


def recount_waiters(engine: Engine, kept: WaitingTotals) -> WaitingTotals:
    """The same for the rows of blocked clients."""
    return WaitingTotals(
        kept.next_ticket, *count_of(engine.rows(TAG_WAITER, prefix_end(TAG_WAITER)))
    )
