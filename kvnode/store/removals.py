"""What is remembered of keys that are gone, so that WATCH of an absent key can be judged.

A key that is there is judged by its version. A key that was absent at WATCH and is absent at EXEC
may have come and gone in between, and then Redis aborts the EXEC. Remembering every removed key
would grow for ever, so all keys share a fixed number of buckets, and each keeps the highest version
that a removed record of it had. A version is the revision of a write: a removed record written
after the WATCH is what proves that the key came and went.

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


class Removals:
    """Replicated: kept in the meta row and the state hash as the bytes it is.

    Args:
        versions: what `bytes()` of an earlier one gave.
    """

    __slots__ = ("versions",)

    def __init__(self, versions: bytes = bytes(BUCKETS * _VERSION.size)) -> None:
        self.versions = bytearray(versions)

    def note(self, number: int, key_hash: int, version: int) -> None:
        """A record of this version was removed from database `number`."""
        offset = _offset(number, key_hash)
        if version > _unpack_from(self.versions, offset)[0]:
            _pack_into(self.versions, offset, version)

    def newest(self, number: int, key_hash: int) -> int:
        """No removed record of this key had a higher version; 0 if none was removed."""
        version: int = _unpack_from(self.versions, _offset(number, key_hash))[0]
        return version


def _offset(number: int, key_hash: int) -> int:
    return (key_hash + number) % BUCKETS * _VERSION.size
