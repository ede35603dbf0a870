"""From a snapshot file to its facts, to a proof of it, or back to an engine.

Every byte is checked before it is believed. A file that cannot be read counts as damaged: whatever
the reason, an older snapshot and the log are the way out, never a repair.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from operator import lt
from typing import TYPE_CHECKING, Final

from kvnode.errors import ConfigurationError
from kvnode.limits import ENGINE_COMMIT_BYTES_MAX
from kvnode.snapshot.errors import SnapshotDamaged
from kvnode.snapshot.format import (
    FOOT_BLOCK_BYTES,
    HEADER_BYTES,
    PREAMBLE_BYTES,
    Block,
    Foot,
    Header,
    Malformed,
    SnapshotMeta,
    Unsupported,
    check_payload,
    check_version,
    decode_foot,
    decode_head,
    decode_rows,
    preamble_identity,
    read_header,
)
from kvnode.store.keyspace import FORMAT, FORMAT_WITH_MEMBERS, TAG_META
from kvnode.store.ops import check_level
from kvnode.store.state_machine import StateMachine
from wal.crc import extend
from wal.fs import FileSystem, PosixFileSystem, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kvnode.store.engine import Engine

_POSIX = PosixFileSystem()
_ABOVE_ALL_ROWS: Final = b"\xff"


def read_meta(path: Path, *, fs: FileSystem = _POSIX) -> SnapshotMeta:
    """Read head and foot: what the snapshot says, and whether its end is there.

    Raises:
        SnapshotDamaged: the head or the foot is not what was written; the rows were not looked at.
        ConfigurationError: it is of a newer format or feature level.
        FileNotFoundError: there is no such file.
    """
    with _opened(path, fs) as source:
        return source.meta


def verify(path: Path, *, fs: FileSystem = _POSIX) -> SnapshotMeta:
    """Read all of it and check all that can be checked. Raises as `read_meta` does."""
    with _opened(path, fs) as source:
        highest = b""
        for flat in source.blocks():
            keys = flat[::2]
            if keys[0] <= highest or not all(map(lt, keys, keys[1:])):
                raise Malformed("its rows are out of order")
            highest = keys[-1]
        return source.meta


def load(path: Path, engine: Engine, *, hash_key: bytes, fs: FileSystem = _POSIX) -> StateMachine:
    """Fill an empty engine, and make the state machine over it.

    The meta row comes last. An engine whose load failed, or did not come to its end, has the
    applied index 0 and rows that mean nothing: throw it away.

    Raises:
        SnapshotDamaged: use an older one, with another engine.
        ConfigurationError: it is of another cluster, a newer format or a higher feature level.
        EngineFull: no room in the engine.
        ValueError: the engine is not empty.
        FileNotFoundError: there is no such file.
    """
    if next(engine.keys(b"", _ABOVE_ALL_ROWS), None) is not None:
        raise ValueError("a snapshot can only be loaded into an empty engine")
    with _opened(path, fs) as source:
        try:
            _check_state(source.meta, engine, hash_key)
            _append_rows(source, engine)
            engine.put(TAG_META, source.meta.meta_row)
            engine.commit()
        except Exception as error:
            engine.abort()
            meaning = engine.translate(error)
            if meaning is not None:
                raise meaning from error
            raise
    return StateMachine(engine, hash_key=hash_key)


def _check_state(meta: SnapshotMeta, engine: Engine, hash_key: bytes) -> None:
    """Ask the store whether the meta row is its own and means what the head says."""
    engine.put(TAG_META, meta.meta_row)
    try:
        machine = StateMachine(engine, hash_key=hash_key)
        state = machine.applied, machine.state_hash()
        members = b"" if machine.members is None else machine.members.pack()
    finally:
        engine.abort()
    if state != (meta.index, meta.state_hash):
        raise Malformed(f"its meta row is of index {state[0]}, state hash {state[1]}")
    if members != meta.members:
        raise Malformed("its head and its meta row tell of different members")


def _check_readable(meta: SnapshotMeta) -> None:
    """Raises `Unsupported`: good bytes that this program must not go on from."""
    try:
        check_level(meta.level)
    except ConfigurationError as error:
        raise Unsupported(str(error)) from error
    if meta.store_format not in (FORMAT, FORMAT_WITH_MEMBERS):
        raise Unsupported(
            f"its rows have format {meta.store_format}, and this program knows {FORMAT} and "
            f"{FORMAT_WITH_MEMBERS}"
        )


def _append_rows(source: _Source, engine: Engine) -> None:
    uncommitted_bytes = 0
    for flat in source.blocks():
        items = iter(flat)
        try:
            engine.append(zip(items, items, strict=True))
        except ValueError as error:
            raise Malformed(str(error)) from error
        uncommitted_bytes += sum(map(len, flat))
        if uncommitted_bytes >= ENGINE_COMMIT_BYTES_MAX:
            engine.commit()
            uncommitted_bytes = 0
    engine.commit()


@contextmanager
def _opened(path: Path, fs: FileSystem) -> Iterator[_Source]:
    """An open snapshot; what goes wrong inside is said with the file's name and the offset."""
    fd = fs.open(path)
    source = _Source(fs, fd)
    try:
        source.read_ends()
        yield source
    except Malformed as error:
        raise SnapshotDamaged(path, source.offset, str(error)) from error
    except Unsupported as error:
        raise ConfigurationError(f"snapshot {path} cannot be read: {error}") from error
    finally:
        fs.close(fd)


class _Source:
    """The blocks of one file. Raises `Malformed` and `Unsupported`.

    Attributes:
        meta: what head and foot say; set by `read_ends`.
        offset: of what was read last.
    """

    __slots__ = (
        "_chain",
        "_fd",
        "_foot",
        "_foot_number",
        "_fs",
        "_identity",
        "_rows_at",
        "meta",
        "offset",
    )

    def __init__(self, fs: FileSystem, fd: int) -> None:
        self._fs = fs
        self._fd = fd
        self.offset = 0
        self.meta: SnapshotMeta
        self._foot: Foot

    def read_ends(self) -> None:
        """Read preamble, head and foot."""
        size = self._fs.size(self._fd)
        preamble = self._read(PREAMBLE_BYTES, 0)
        identity = preamble_identity(preamble)
        raw = self._read(HEADER_BYTES, PREAMBLE_BYTES)
        header = read_header(raw, identity)
        check_version(preamble)
        meta = decode_head(self._payload(header, Block.HEAD, 0, identity))
        _check_readable(meta)
        self._identity = header.crc
        self._chain = extend(0, raw)
        self._rows_at = PREAMBLE_BYTES + HEADER_BYTES + header.length
        foot_header = read_header(self._read(HEADER_BYTES, size - FOOT_BLOCK_BYTES), header.crc)
        self._foot_number = foot_header.number
        payload = self._payload(foot_header, Block.FOOT, self._foot_number, header.crc)
        self._foot = decode_foot(payload)
        if self._foot.state_hash != meta.state_hash:
            raise Malformed("head and foot tell of different states")
        self.meta = replace(
            meta, rows=self._foot.rows, row_bytes=self._foot.row_bytes, file_bytes=size
        )

    def blocks(self) -> Iterator[list[bytes]]:
        """Keys and values by turns, block by block, each checked; the sums at the end."""
        chain, rows, row_bytes = self._chain, 0, 0
        number, at, end = 1, self._rows_at, self.meta.file_bytes - FOOT_BLOCK_BYTES
        while at < end:
            raw = self._read(HEADER_BYTES, at)
            header = read_header(raw, self._identity)
            flat = decode_rows(self._payload(header, Block.ROWS, number, self._identity))
            chain = extend(chain, raw)
            rows += len(flat) // 2
            row_bytes += sum(map(len, flat))
            yield flat
            at += HEADER_BYTES + header.length
            number += 1
        found = Foot(rows, row_bytes, chain, self.meta.state_hash)
        if at != end or number != self._foot_number or found != self._foot:
            raise Malformed("its blocks are not the ones that its foot counts")

    def _payload(self, header: Header, kind: Block, number: int, identity: int) -> bytes:
        """The payload behind the header that was just read."""
        if header.kind is not kind or header.number != number:
            raise Malformed(
                f"block {number} ({kind.name}) was expected, not {header.number} "
                f"({header.kind.name})"
            )
        payload = self._read(header.length, self.offset + HEADER_BYTES)
        check_payload(header, payload, identity)
        return payload

    def _read(self, size: int, offset: int) -> bytes:
        if offset < 0:
            raise Malformed("it is shorter than a foot")
        self.offset = offset
        try:
            return read_all(self._fs, self._fd, size, offset)
        except OSError as error:
            raise Malformed(f"it cannot be read: {error}") from error
