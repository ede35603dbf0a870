"""The bytes of a snapshot: blocks with checksums, a head that says what it is, a foot that says
that it is all there. Pure functions; DESIGN.md, §2 has the grammar and the offsets.

Each block's checksums are seeded with a value of the head, its *identity*. So a block of another
snapshot fails its check, and a length is checked before anything is read by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack

from kvnode.limits import (
    KEY_BYTES_MAX,
    KIB,
    SNAPSHOT_BLOCK_BYTES,
    SNAPSHOT_HEAD_BYTES_MAX,
    VALUE_BYTES_MAX,
)
from kvnode.store.members import Members
from wal.crc import extend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC: Final = b"KVSNAP"
VERSION: Final = 1

_PREAMBLE = Struct(">6sH")
_HEADER = Struct(">B3xIII")
_CRC = Struct(">I")
_FOOT = Struct(">QQI8s")

PREAMBLE_BYTES: Final = _PREAMBLE.size
HEADER_BYTES: Final = _HEADER.size + _CRC.size
FOOT_BLOCK_BYTES: Final = HEADER_BYTES + _FOOT.size

_ROWS_BYTES_MAX: Final = SNAPSHOT_BLOCK_BYTES + VALUE_BYTES_MAX + KEY_BYTES_MAX + 256 * KIB
"""A block is closed by the row that fills it; msgpack adds at most seven bytes per row."""


class Malformed(ValueError):
    """Bytes that are no part of a snapshot, or not of this one."""


class Unsupported(ValueError):
    """Good bytes of a version that this program does not read."""


class Block(IntEnum):
    """What a block holds."""

    HEAD = 1
    ROWS = 2
    FOOT = 3


_LENGTH_MAX = {
    Block.HEAD: SNAPSHOT_HEAD_BYTES_MAX,
    Block.ROWS: _ROWS_BYTES_MAX,
    Block.FOOT: _FOOT.size,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """What a snapshot says of itself.

    Attributes:
        cluster_number: unsigned 64 bits.
        index: log index of the last entry that is in it.
        term: of that entry.
        stamp_ms: the store's time, in milliseconds since the epoch.
        revision: of the newest write.
        state_hash: sixteen hex digits.
        databases: (number, keys, keys with a deadline) of those that are not empty.
        sessions: (node id, incarnation, last, nonce, storage id) of each node.
        members: the registry of members as the meta row has it, empty before it was founded.
        meta_row: the store's own; with the rows it is the state.
        store_format: of rows and meta row.
        level: the cluster's feature level.
        rows: number of rows, without the meta row.
        row_bytes: their keys and values.
        file_bytes: size of the file.
    """

    cluster_number: int
    index: int
    term: int
    stamp_ms: int
    revision: int
    state_hash: str
    databases: tuple[tuple[int, int, int], ...]
    sessions: tuple[tuple[int, int, int, int, int], ...]
    members: bytes
    meta_row: bytes
    store_format: int
    level: int
    rows: int = 0
    row_bytes: int = 0
    file_bytes: int = 0

    def describe(self) -> dict[str, object]:
        """The facts for people and tools, ready for JSON.

        Raises:
            ConfigurationError: the members are those of a cluster of a higher feature level.
        """
        return {
            "version": VERSION,
            "cluster_id": f"{self.cluster_number:016x}",
            "index": self.index,
            "term": self.term,
            "stamp_ms": self.stamp_ms,
            "revision": self.revision,
            "state_hash": self.state_hash,
            "databases": {
                str(number): {"keys": keys, "expires": expires}
                for number, keys, expires in self.databases
            },
            "sessions": [
                {"node_id": f"{node_id:016x}", "incarnation": incarnation, "last": last}
                for node_id, incarnation, last, *_ in self.sessions
            ],
            "members": self._describe_members(),
            "store_format": self.store_format,
            "level": self.level,
            "rows": self.rows,
            "row_bytes": self.row_bytes,
            "file_bytes": self.file_bytes,
        }

    def _describe_members(self) -> list[dict[str, object]]:
        members = Members.unpack(self.members) if self.members else Members()
        return [
            {
                "node_id": f"{member.node_id:016x}",
                "name": member.name,
                "role": member.role.name.lower(),
                "peer_address": member.peer_address,
            }
            for member in members.by_id.values()
        ]


class Header(NamedTuple):
    """A block header whose own checksum was good."""

    kind: Block
    number: int
    length: int
    crc: int


class Foot(NamedTuple):
    """What the last block says of all the others."""

    rows: int
    row_bytes: int
    chain: int
    state_hash: str


# --- blocks -------------------------------------------------------------------------------------


def preamble() -> bytes:
    """The first bytes of every file."""
    return _PREAMBLE.pack(MAGIC, VERSION)


def preamble_identity(data: bytes) -> int:
    """The identity that the head's checksums are seeded with. Raises `Malformed`."""
    if len(data) != PREAMBLE_BYTES or not data.startswith(MAGIC):
        raise Malformed("it does not begin as a snapshot does")
    return extend(0, data)


def check_version(data: bytes) -> None:
    """Refuse a preamble of another version; call it when the head's header was good.

    Raises:
        Unsupported: so it was written, and so it cannot be read here.
    """
    version = _PREAMBLE.unpack(data)[1]
    if version != VERSION:
        raise Unsupported(f"it has version {version}, this program reads version {VERSION}")


def seal(kind: Block, number: int, payload: bytes, identity: int) -> bytes:
    """The header of a block."""
    head = _HEADER.pack(kind, number, len(payload), extend(identity, payload))
    return head + _CRC.pack(extend(identity, head))


def read_header(data: bytes, identity: int) -> Header:
    """Read a block header and check that it belongs to this snapshot. Raises `Malformed`."""
    if len(data) < HEADER_BYTES:
        raise Malformed("it ends inside a block header")
    if extend(identity, data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        raise Malformed("the checksum of a block header is wrong")
    kind, number, length, crc = _HEADER.unpack_from(data)
    if kind not in _LENGTH_MAX or length > _LENGTH_MAX[kind]:
        raise Malformed(f"a block has kind {kind} and {length} bytes")
    return Header(Block(kind), number, length, crc)


def check_payload(header: Header, payload: bytes, identity: int) -> None:
    """Check the payload that came after the header. Raises `Malformed`."""
    if len(payload) != header.length:
        raise Malformed("it ends inside a block")
    if extend(identity, payload) != header.crc:
        raise Malformed(f"the checksum of block {header.number} is wrong")


# --- payloads -----------------------------------------------------------------------------------


def encode_head(meta: SnapshotMeta) -> bytes:
    """Payload of the head; what the foot tells is left out."""
    payload: bytes = msgpack.packb(
        [
            *(meta.store_format, meta.level, meta.cluster_number, meta.index, meta.term),
            *(meta.stamp_ms, meta.revision, bytes.fromhex(meta.state_hash)),
            *(meta.databases, meta.sessions, meta.members, meta.meta_row),
        ]
    )
    if len(payload) > SNAPSHOT_HEAD_BYTES_MAX:
        raise ValueError(f"a snapshot's head of {len(payload)} bytes is too large")
    return payload


def decode_head(payload: bytes) -> SnapshotMeta:
    """Read the head's payload. Raises `Malformed`."""
    try:
        form, level, cluster, index, term, stamp, revision, state, databases, sessions, *rest = (
            msgpack.unpackb(payload, use_list=False, max_map_len=0, max_ext_len=0)
        )
        members, meta_row = rest
        return SnapshotMeta(
            cluster_number=cluster,
            index=index,
            term=term,
            stamp_ms=stamp,
            revision=revision,
            state_hash=state.hex(),
            databases=databases,
            sessions=sessions,
            members=members,
            meta_row=meta_row,
            store_format=form,
            level=level,
        )
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise Malformed(f"its head does not unpack: {error}") from error


def encode_rows(flat: list[bytes]) -> bytes:
    """Payload of a block of rows: keys and values by turns."""
    payload: bytes = msgpack.packb(flat)
    return payload


def decode_rows(payload: bytes) -> list[bytes]:
    """Keys and values by turns. Raises `Malformed`."""
    try:
        flat = msgpack.unpackb(payload, max_str_len=0, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed(f"a block of rows does not unpack: {error}") from error
    if type(flat) is not list or not flat or len(flat) % 2 or set(map(type, flat)) != {bytes}:
        raise Malformed("a block of rows holds something else")
    return flat


def blocks_of(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[list[bytes]]:
    """Cut rows into the contents of blocks: keys and values by turns."""
    flat: list[bytes] = []
    held = 0
    for key, value in rows:
        flat.append(key)
        flat.append(value)
        held += len(key) + len(value)
        if held >= SNAPSHOT_BLOCK_BYTES:
            yield flat
            flat, held = [], 0
    if flat:
        yield flat


def encode_foot(foot: Foot) -> bytes:
    """Payload of the foot."""
    return _FOOT.pack(foot.rows, foot.row_bytes, foot.chain, bytes.fromhex(foot.state_hash))


def decode_foot(payload: bytes) -> Foot:
    """Read the foot's payload. Raises `Malformed`."""
    if len(payload) != _FOOT.size:
        raise Malformed("its foot has the wrong size")
    rows, row_bytes, chain, state_hash = _FOOT.unpack(payload)
    return Foot(rows, row_bytes, chain, state_hash.hex())
