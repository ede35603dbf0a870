"""The two state files: what must survive beside the log.

Term, vote and the recovering flag, and two witnesses outside the log: the highest position that is
known to be on disk, and the oldest segment that must be there. Each copy is one sector, written in
place and synced before the other is touched, so that a crash can damage one at most. The higher
generation holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from wal.crc import extend
from wal.errors import Corruption, IdentityMismatch, UnsupportedVersion, creating, disk
from wal.format import SECTOR_BYTES, Identity, Position
from wal.fs import FileSystem, read_all, write_all
from wal.observer import Observer

_MAGIC = b"WALSTATE"
_VERSION = 1
_BODY = Struct("<8sIIQQQQQQQQQ")
_CRC = Struct("<I")
_RECOVERING = 1


NOWHERE = Position(0, 0)
"""Before the first segment."""


@dataclass(frozen=True, slots=True)
class State:
    """The state files' content.

    Attributes:
        term: current Raft term.
        vote: who got this node's vote in `term`, 0 for nobody.
        commit: a log index known to be committed; a lower bound.
        recovering: this node lost synced records and counts in no quorum.
        synced: the log was durable up to here; it never goes back.
        oldest: sequence of the oldest segment that must exist; those before it were released.
    """

    term: int = 0
    vote: int = 0
    commit: int = 0
    recovering: bool = False
    synced: Position = NOWHERE
    oldest: int = 1


@dataclass(frozen=True, slots=True)
class StateCopy:
    """One decoded copy."""

    state: State
    identity: Identity
    generation: int
    version: int


def encode_state(state: State, identity: Identity, generation: int) -> bytes:
    """Return the sector of a state file."""
    body = _BODY.pack(
        _MAGIC,
        _VERSION,
        _RECOVERING if state.recovering else 0,
        identity.cluster_id,
        identity.node_id,
        generation,
        state.term,
        state.vote,
        state.commit,
        state.synced.segment,
        state.synced.offset,
        state.oldest,
    )
    return (body + _CRC.pack(extend(0, body))).ljust(SECTOR_BYTES, b"\0")


def decode_state(data: bytes) -> StateCopy | None:
    """Read one copy; None if it is damaged. The version is not judged."""
    if len(data) < SECTOR_BYTES:
        return None
    body = data[: _BODY.size]
    (crc,) = _CRC.unpack_from(data, _BODY.size)
    magic, version, flags, cluster, node, generation, *rest = _BODY.unpack(body)
    if magic != _MAGIC or crc != extend(0, body) or any(data[_BODY.size + _CRC.size :]):
        return None
    term, vote, commit, segment, offset, oldest = rest
    recovering = bool(flags & _RECOVERING)
    state = State(term, vote, commit, recovering, Position(segment, offset), oldest)
    return StateCopy(state, Identity(cluster, node), generation, version)


class StateFiles:
    """Both copies and what they hold.

    Attributes:
        state: of the newer copy.
        generation: how often it was written.
        faults: copies that were "missing", "damaged" or "older" when read, until `mend`.
    """

    __slots__ = ("_fs", "_identity", "_paths", "faults", "generation", "state")

    def __init__(
        self,
        fs: FileSystem,
        paths: tuple[Path, Path],
        identity: Identity,
        state: State,
        generation: int,
    ) -> None:
        """Use `create` or `read`."""
        self._fs = fs
        self._paths = paths
        self._identity = identity
        self.generation = generation
        self.state = state
        self.faults: dict[Path, str] = {}

    @classmethod
    def create(cls, fs: FileSystem, paths: tuple[Path, Path], identity: Identity) -> StateFiles:
        """Make both copies for a new log."""
        files = cls(fs, paths, identity, State(), 1)
        for path in paths:
            files._create(path)
        return files

    @classmethod
    def read(
        cls, fs: FileSystem, paths: tuple[Path, Path], identity: Identity
    ) -> StateFiles | None:
        """Read both copies, change nothing; None if there are none.

        Raises:
            Corruption: neither copy can be read.
            IdentityMismatch: they belong to another node.
        """
        with disk("looking for state files", paths[0]):
            present = [path for path in paths if fs.exists(path)]
        if not present:
            return None
        copies = {path: _read(fs, path, identity) for path in present}
        good = [copy for copy in copies.values() if copy is not None]
        if not good:
            raise Corruption("term and vote are lost: no state file can be read", present[0])
        newest = max(good, key=lambda copy: copy.generation)
        files = cls(fs, paths, identity, newest.state, newest.generation)
        for path in paths:
            if path not in copies:
                files.faults[path] = "missing"
            elif copies[path] != newest:
                files.faults[path] = "damaged" if copies[path] is None else "older"
        return files

    def mend(self, observer: Observer) -> None:
        """Make both copies equal again, if they were not when they were read."""
        for path, fault in self.faults.items():
            if fault == "missing":
                self._create(path)
            else:
                self._write(path)
            if fault != "older":  # what a crash between the two writes leaves is no damage
                observer.on_state_repaired(path, fault)
        self.faults = {}

    def save(self, state: State) -> None:
        """Write both copies, one after the other; on return both are on the disk."""
        self.generation += 1
        self.state = state
        for path in self._paths:
            self._write(path)

    def _write(self, path: Path) -> None:
        with disk("writing state", path):
            fd = self._fs.open(path)
            try:
                self._put(fd)
            finally:
                self._fs.close(fd)

    def _create(self, path: Path) -> None:
        """Make a copy under another name first, so that a file of this name is always whole."""
        temporary = path.with_name(path.name + ".tmp")
        with creating("creating state", path):
            fd = self._fs.open(temporary, create=True)
            try:
                self._put(fd)
            finally:
                self._fs.close(fd)
        with disk("creating state", path):
            self._fs.rename(temporary, path)
            self._fs.sync_directory(path.parent)

    def _put(self, fd: int) -> None:
        write_all(self._fs, fd, encode_state(self.state, self._identity, self.generation), 0)
        self._fs.fdatasync(fd)


def _read(fs: FileSystem, path: Path, identity: Identity) -> StateCopy | None:
    with disk("reading state", path):
        fd = fs.open(path)
        try:
            fs.drop_cache(fd)
            copy = decode_state(read_all(fs, fd, SECTOR_BYTES))
        finally:
            fs.close(fd)
    if copy is not None and copy.version != _VERSION:
        raise UnsupportedVersion(f"{path}: version {copy.version}, this code knows {_VERSION}")
    if copy is not None and copy.identity != identity:
        raise IdentityMismatch(f"{path}: belongs to {copy.identity}, this is {identity}")
    return copy
