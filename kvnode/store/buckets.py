"""One version per bucket of keys: what can be remembered of keys that are gone, in fixed space.

WATCH of an absent key asks whether the key has come and gone again in the meantime. Remembering
every such key would grow for ever, so all keys share a fixed number of buckets, and each keeps the
highest version noted for any of its keys. A version is the revision of a write.

`Keyspace.removals` are such buckets: they note the version of each record that is removed. A
removed record that was written after the WATCH is the proof that the key came and went. What FLUSH
and SWAPDB take away at once is not noted there; see `kvnode.store.arrivals`.

Two keys of one bucket are mistaken for each other, so an EXEC may abort without need; it never
passes when it should not. The mistake takes a removal, between WATCH and EXEC, of another key that
was also written after the WATCH and falls into the same one of 1024 buckets.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

BUCKETS: Final = 1024

_VERSION = Struct(">Q")
_pack_into = _VERSION.pack_into
_unpack_from = _VERSION.unpack_from


class Buckets:
    """Replicated: kept in the meta row and the state hash as the bytes it is.

    Args:
        versions: what `bytes()` of an earlier one's `versions` gave.
    """

    __slots__ = ("versions",)

    def __init__(self, versions: bytes = bytes(BUCKETS * _VERSION.size)) -> None:
        self.versions = bytearray(versions)

    def note(self, number: int, key_hash: int, version: int) -> None:
        """Note a version for a key of database `number`."""
        offset = _offset(number, key_hash)
        if version > _unpack_from(self.versions, offset)[0]:
            _pack_into(self.versions, offset, version)

    def newest(self, number: int, key_hash: int) -> int:
        """No higher version was noted for this key; 0 if none was."""
        version: int = _unpack_from(self.versions, _offset(number, key_hash))[0]
        return version


def _offset(number: int, key_hash: int) -> int:
    return (key_hash + number) % BUCKETS * _VERSION.size
