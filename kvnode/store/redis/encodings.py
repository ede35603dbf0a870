"""OBJECT ENCODING and REFCOUNT: how Redis 7.0 would store a value, told from the value itself.

Tools and tests ask for it to see when a collection grew out of its compact form. Nothing here is
stored that way. Redis remembers what a value once was (a hashtable never becomes a listpack again);
here it follows from what is there now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.store.collection import Collection
from kvnode.store.keyspace import (
    COLLECTION_BITS,
    HASH,
    KIND_MASK,
    LIST,
    SET,
    ZSET,
    payload_of,
)
from kvnode.store.redis.strings import is_integer

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace

INTEGER_BYTES_MAX: Final = 20
EMBEDDED_BYTES_MAX: Final = 44
SHARED_REFERENCES: Final = 2**31 - 1
"""Redis' figures: the longest text that it stores as an integer, the longest that it stores within
the object, and the count of references that it shows for the integers below 10,000, which all
values share."""

HASH_LISTPACK_ENTRIES_MAX: Final = 512
INTSET_ENTRIES_MAX: Final = 512
ZSET_LISTPACK_ENTRIES_MAX: Final = 128
LISTPACK_VALUE_BYTES_MAX: Final = 64
"""Redis' defaults of `hash-max-listpack-entries`, `set-max-intset-entries` and so on."""


def encoding_of(space: Keyspace, number: int, key: bytes, record: bytes) -> bytes:
    """How Redis would store the value of a key that is there."""
    kind = record[0] & KIND_MASK
    if not kind & COLLECTION_BITS:
        return _of_string(payload_of(record))
    collection = Collection(space, number, key, b"", kind, record, record)
    if kind == HASH:
        return b"listpack" if _fits(collection, HASH_LISTPACK_ENTRIES_MAX) else b"hashtable"
    if kind == SET:
        return b"intset" if _is_intset(collection) else b"hashtable"
    if kind == ZSET:
        return b"listpack" if _fits(collection, ZSET_LISTPACK_ENTRIES_MAX) else b"skiplist"
    return b"quicklist" if kind == LIST else b"stream"


def references_of(record: bytes) -> int:
    """How many references Redis would show."""
    is_string = not record[0] & COLLECTION_BITS
    return SHARED_REFERENCES if is_string and _is_shared(payload_of(record)) else 1


def _of_string(value: bytes) -> bytes:
    """As if the string was just set."""
    if len(value) <= INTEGER_BYTES_MAX and is_integer(value):
        return b"int"
    return b"embstr" if len(value) <= EMBEDDED_BYTES_MAX else b"raw"


def _is_shared(value: bytes) -> bool:
    return len(value) < len(b"10000") and value.isdigit() and is_integer(value)


def _fits(collection: Collection, entries_max: int) -> bool:
    return collection.count <= entries_max and all(
        len(member) <= LISTPACK_VALUE_BYTES_MAX and len(value) <= LISTPACK_VALUE_BYTES_MAX
        for _, member, value in collection.members()
    )


def _is_intset(collection: Collection) -> bool:
    return collection.count <= INTSET_ENTRIES_MAX and all(
        len(member) <= INTEGER_BYTES_MAX and is_integer(member)
        for _, member, _ in collection.members()
    )
