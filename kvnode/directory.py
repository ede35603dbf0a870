"""The data directory: who owns it, whose it is, and how its processes left.

Three small files beside the log:

* `LOCK` is locked with flock(2) for the life of the process, so that two nodes never write one
  log. The kernel drops the lock with the process, however it dies; the pid inside is for people.
* `identity` says which node of which cluster the directory belongs to. Its `storage_id` is drawn
  at random when the directory is made, its `incarnation` counts the starts. A node tells both to
  its peers; they remember them here (`bind_peer`), and so notice a wiped directory (another
  storage id) and an old copy put back (a lower incarnation) under a known name.
* `exits` is a journal of starts and exits, one JSON object per line. A start without an exit
  before the next start is a process that was killed.

`identity` is replaced as a whole: written under another name, synced, renamed, the directory
synced. It carries a SHA-256 of its own content; damage stops the node with exit 65, since a node
that is wrong about who it is could vote twice. `exits` is a note for people: damaged lines are
skipped and it is never synced when appended to, so that leaving cannot hang on a sick disk.

Everything here blocks. It runs before the event loop starts and when it has ended, except for
`bind_peer`, which writes only when a peer was started again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from kvnode import limits
from kvnode.errors import (
    ConfigurationError,
    DiskFailed,
    DiskFull,
    FatalError,
    KvnodeError,
    LogCorrupt,
    ResourceBusy,
)
from kvnode.exits import Exit, decode_exits, encode_exit, encode_line
from kvnode.identity_file import (
    Identity,
    KnownMember,
    PeerFacts,
    decode_identity,
    encode_identity,
    joined,
    new_identity,
)

MADE_BY_MKFS = "lost+found"
"""Stands in the root of every new ext file system, such as one that is mounted for the log."""


class PeerIdentityMismatch(KvnodeError):
    """A peer under a known name has another directory, or an old copy: it is refused."""


class DataDirectory:
    """An open, locked data directory. Make one with `open`; `close` gives the lock back."""

    __slots__ = (
        "_clock",
        "_counts",
        "_exit_lock",
        "_exit_recorded",
        "_lock_fd",
        "_unsaved",
        "exits",
        "identity",
        "path",
    )

    def __init__(self, path: Path, lock_fd: int, clock: Callable[[], float]) -> None:
        self.path = path
        self.identity: Identity
        self.exits: list[Exit] = []
        """How the newest of the processes before this one left, the oldest first."""
        self._counts: dict[str, int] = {}
        self._lock_fd = lock_fd
        self._clock = clock
        self._exit_lock = threading.Lock()
        self._exit_recorded = False
        self._unsaved = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        node: str,
        cluster_id: str | None,
        members: Mapping[str, str],
        join: str = "",
        replaces: str = "",
        clock: Callable[[], float] = time.time,
    ) -> DataDirectory:
        """Create or open the directory, lock it, check whose it is, and count this start.

        Args:
            path: of the directory.
            node: the name of the node.
            cluster_id: None accepts the id that is there and draws one for a new directory.
            members: the initial members, name to peer address.
            join: peers to ask for admission. A new directory then belongs to nobody until `admit`;
                while it does, these are asked before those that were given earlier. A member
                ignores it.
            replaces: with `join`, the member whose place this node shall take.
            clock: seconds since the epoch.

        Raises:
            ResourceBusy: another process holds the directory (exit 75).
            ConfigurationError: it belongs to another node or cluster, or cannot be used (exit 78).
            LogCorrupt: the identity is damaged, or gone while the log is there (exit 65).
            DiskFull, DiskFailed: the disk has no room (exit 10) or fails (exit 74).
        """
        with _disk_errors(path):
            _make(path)
            directory = cls(path, _lock(path), clock)
            try:
                directory._identify(node, cluster_id, members, join, replaces)
                directory._begin_exits()
            except BaseException:
                directory.close()
                raise
        return directory

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- identity -------------------------------------------------------------------------------

    def bind_peer(self, peer_id: int, storage_id: int, incarnation: int) -> None:
        """Remember which directory the peer has, or refuse it.

        Without room on the disk the facts are kept in memory and written at the next call.

        Raises:
            PeerIdentityMismatch: another directory, or an old copy, or our own id.
            DiskFailed: the facts could not be written (exit 74).
        """
        if peer_id == self.identity.node_id:
            raise PeerIdentityMismatch(f"a peer claims the id of this node, {peer_id:016x}")
        known = self.identity.peers.get(peer_id)
        if known is None and len(self.identity.peers) >= limits.PEERS_BOUND_MAX:
            raise PeerIdentityMismatch(f"too many peers are known to admit {peer_id:016x}")
        if known is not None:
            _check_peer(known, peer_id, storage_id, incarnation)
        facts = PeerFacts(storage_id, incarnation)
        if facts != known:
            peers = {**self.identity.peers, peer_id: facts}
            self.identity = replace(self.identity, peers=peers)
            self._unsaved = True
        self._save_if_there_is_room()

    def forget_peer(self, peer_id: int) -> None:
        """Forget the directory of a member that is gone for ever, so that others have room.

        Without room on the disk this is written at the next call. Nothing happens if it is unknown.

        Raises:
            DiskFailed: it could not be written (exit 74).
        """
        if peer_id in self.identity.peers:
            peers = {
                known: facts for known, facts in self.identity.peers.items() if known != peer_id
            }
            self.identity = replace(self.identity, peers=peers)
            self._unsaved = True
        self._save_if_there_is_room()

    def note_configuration(self, index: int, members: Mapping[int, tuple[str, str, str]]) -> None:
        """Remember the membership that the log entry `index` made.

        `members` are (name, peer address, role) by node id. An older one than is known is ignored.
        Without room on the disk it is written at the next call.

        Raises:
            DiskFailed: it could not be written (exit 74).
        """
        if index > self.identity.configuration_index:
            self.identity = replace(
                self.identity,
                configuration_index=index,
                configuration={number: KnownMember(*member) for number, member in members.items()},
            )
            self._unsaved = True
        self._save_if_there_is_room()

    def admit(self, node_id: int, cluster_id: str, origin: str) -> None:
        """Become the member `node_id` of a cluster, durably. The same once more changes nothing.

        Raises:
            ConfigurationError: this directory is another member's already (exit 78).
            DiskFull, DiskFailed: it could not be written (exit 10, 74); nothing has changed.
        """
        mine = self.identity
        if mine.is_admitted and (mine.node_id, mine.origin) != (node_id, origin):
            raise ConfigurationError(
                f"{self.path} belongs to member {mine.node_id:016x} of cluster {mine.cluster_id!r} "
                f"and cannot become member {node_id:016x} of {cluster_id!r}"
            )
        self._become(replace(mine, node_id=node_id, cluster_id=cluster_id, origin=origin))

    def _become(self, identity: Identity) -> None:
        before = self.identity
        if identity == before:
            return
        self.identity = identity
        try:
            self._save_identity()
        except BaseException:
            self.identity = before
            raise

    def _identify(
        self,
        node: str,
        cluster_id: str | None,
        members: Mapping[str, str],
        join: str,
        replaces: str,
    ) -> None:
        content = _read(self.path / "identity")
        if content is None:
            _check_never_used(self.path)
            identity = new_identity(node, cluster_id, members, join, replaces)
        else:
            identity = decode_identity(content, self.path)
            _check_owner(identity, node, cluster_id, self.path)
            if not identity.is_admitted:
                _check_set_aside(self.path)
                identity = replace(
                    identity,
                    join=joined(join, identity.join),
                    replaces=replaces or identity.replaces,
                )
        self.identity = replace(identity, incarnation=identity.incarnation + 1)
        self._save_identity()

    def _save_if_there_is_room(self) -> None:
        if self._unsaved:
            # A full disk must not stop a node that can still serve reads.
            with contextlib.suppress(DiskFull):
                self._save_identity()

    def _save_identity(self) -> None:
        with _disk_errors(self.path):
            _replace_file(self.path, "identity", encode_identity(self.identity))
        self._unsaved = False

    # --- ballast --------------------------------------------------------------------------------

    def keep_ballast(
        self,
        size: int = limits.BALLAST_BYTES,
        room_min: int = limits.BALLAST_ROOM_BYTES_MIN,
    ) -> bool:
        """Occupy some room with a file that may be deleted when the disk is full.

        That is the quickest way to let a full node write again. Only where there is plenty of room;
        a ballast that somebody deleted comes back at a later start.

        Returns:
            whether there is one now.
        """
        path = self.path / "ballast"
        if path.exists():
            return True
        room = os.statvfs(self.path)
        if room.f_bavail * room.f_frsize < room_min:
            return False
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            path.unlink()  # a file system that cannot reserve room does without
            return False
        finally:
            os.close(descriptor)
        return True

    # --- exits ----------------------------------------------------------------------------------

    @property
    def last_exit(self) -> Exit | None:
        """How the process before this one left; None at the first start."""
        return self.exits[-1] if self.exits else None

    @property
    def exit_counts(self) -> dict[str, int]:
        """Exits of all earlier processes, by code, in the order of their codes."""
        return dict(sorted(self._counts.items()))

    def record_exit(self, code: int, reason: str, *, start_threshold_bytes: int = 0) -> None:
        """Note why this process leaves. Only the first call counts; any thread may call; no sync.

        `start_threshold_bytes` is for one that leaves for memory before it has started.

        A process that is leaving cannot do anything about a note that it cannot write, so errors
        of the disk end here: the next start will call this one killed.
        """
        with self._exit_lock:
            if self._exit_recorded:
                return
            self._exit_recorded = True
        reason = reason[: limits.EXIT_REASON_CHARACTERS_MAX]
        line = encode_exit(Exit(str(int(code)), reason, self._now_ms(), start_threshold_bytes))
        with contextlib.suppress(OSError):
            fd = os.open(self.path / "exits", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)

    def _begin_exits(self) -> None:
        """Fold the journal into totals and the newest exits, and note that this process runs."""
        folded, exits = decode_exits(_read(self.path / "exits") or b"")
        self._counts = dict(folded)
        for past in exits:
            self._counts[past.code] = self._counts.get(past.code, 0) + 1
        self.exits = exits[-limits.EXITS_KEPT_MAX :]
        for past in exits[: -limits.EXITS_KEPT_MAX]:
            folded[past.code] = folded.get(past.code, 0) + 1
        lines = [
            encode_line({"earlier": dict(sorted(folded.items()))}),
            *map(encode_exit, self.exits),
            encode_line({"start": os.getpid(), "time_ms": self._now_ms()}),
        ]
        _replace_file(self.path, "exits", b"".join(lines))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


# --- for tools that look at a directory ---------------------------------------------------------


def read_identity(path: Path) -> Identity | None:
    """Read whose directory this is and change nothing; None if it has no identity file.

    Raises:
        LogCorrupt: the identity is damaged, or gone while a log is there (exit 65).
        DiskFailed: it cannot be read (exit 74).
    """
    try:
        content = _read(path / "identity")
        if content is None:
            _check_never_used(path)
            return None
    except OSError as error:
        raise DiskFailed(f"data directory {path}: {error.strerror}") from error
    return decode_identity(content, path)


def set_out_to_join(path: Path, node: str, join: str, replaces: str) -> None:
    """Make the directory that of a node which asks to join, durably; what it was is forgotten.

    Whatever else is there must be set aside before a node can start here.

    Raises:
        DiskFull, DiskFailed, ConfigurationError: it cannot be written; nothing has changed.
    """
    identity = new_identity(node, None, {}, join, replaces)
    with _disk_errors(path):
        _replace_file(path, "identity", encode_identity(identity))


def change_identity(path: Path, change: Callable[[Identity], Identity]) -> None:
    """Write another identity, made from the one that is there, durably.

    Raises:
        LogCorrupt: there is none, or it is damaged.
        DiskFull, DiskFailed, ConfigurationError: it cannot be written; nothing has changed.
    """
    known = read_identity(path)
    if known is None:
        raise LogCorrupt(f"{path} has no identity file")
    with _disk_errors(path):
        _replace_file(path, "identity", encode_identity(change(known)))


def copy_identity(path: Path, to: Path) -> None:
    """Copy the identity file into another directory, durably, damaged or not, if there is one.

    Raises:
        DiskFull, DiskFailed, ConfigurationError: it cannot be read or written.
    """
    with _disk_errors(path):
        content = _read(path / "identity")
        if content is not None:
            _replace_file(to, "identity", content)


def holder(path: Path) -> str | None:
    """Return the process that holds the directory, by its own words; None if nobody does.

    The lock is tried for a moment and given back, which writes nothing.
    """
    try:
        fd = os.open(path / "LOCK", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the directory of a node that does not run, without counting a start.

    Raises:
        ResourceBusy: another process holds the directory (exit 75).
        DiskFull, DiskFailed, ConfigurationError: the lock cannot be had.
    """
    with _disk_errors(path):
        fd = _lock(path)
    try:
        yield
    finally:
        os.close(fd)


# --- whose it may be ----------------------------------------------------------------------------


def has_log(path: Path) -> str | None:
    """Return the name of a part of a log that is in the directory, None if there is none."""
    for name in ("state-a", "state-b", "wal"):
        part = path / name
        if part.is_file() or (part.is_dir() and not _is_empty(part)):
            return name
    return None


def _check_never_used(path: Path) -> None:
    """Refuse to become somebody new on top of somebody's log."""
    if (part := has_log(path)) is not None:
        raise LogCorrupt(
            f"{path} has a log ({part}) but no identity file; nothing was changed: restore "
            "the file, or replace this member"
        )


def _check_set_aside(path: Path) -> None:
    """Refuse to join on top of a log that is to be set aside."""
    if (part := has_log(path)) is not None:
        raise LogCorrupt(
            f"{path} still has the log ({part}) of the member that it was: a replacement was "
            f"interrupted, finish it with `kvnode member replace --data {path}`"
        )


def _is_empty(directory: Path) -> bool:
    """Whether nobody has put anything there; mkfs has, where a disk is mounted just there."""
    return all(entry.name == MADE_BY_MKFS for entry in directory.iterdir())


def _check_owner(identity: Identity, node: str, cluster_id: str | None, path: Path) -> None:
    if identity.node != node:
        raise ConfigurationError(f"{path} belongs to node {identity.node!r}, not to {node!r}")
    if not identity.is_admitted or cluster_id is None:
        return
    # After a `kvnode recover` the flags of before still name this node's cluster.
    if cluster_id not in {identity.cluster_id, identity.origin}:
        raise ConfigurationError(
            f"{path} belongs to cluster {identity.cluster_id!r}, not to {cluster_id!r} (without "
            "--cluster-id, the id follows from --cluster: give it the initial members, or "
            f"--cluster-id {identity.cluster_id})"
        )


def _check_peer(known: PeerFacts, peer_id: int, storage_id: int, incarnation: int) -> None:
    if storage_id != known.storage_id:
        raise PeerIdentityMismatch(
            f"peer {peer_id:016x} has another data directory (storage id {storage_id:016x}, "
            f"known {known.storage_id:016x}): a directory that was wiped or belongs to another "
            "node must join as a new member (kvnode member replace)"
        )
    if incarnation < known.incarnation:
        raise PeerIdentityMismatch(
            f"peer {peer_id:016x} had {known.incarnation} starts and now tells of {incarnation}: "
            "an old directory was put back (kvnode member replace)"
        )


# --- files --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into kvnode's, by what the operator must do."""
    try:
        yield
    except OSError as error:
        raise _fatal(path, error) from error


def _fatal(path: Path, error: OSError) -> FatalError:
    sentence = f"data directory {path}: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(sentence)
    if error.errno in {errno.EIO, errno.EROFS}:
        return DiskFailed(sentence)
    return ConfigurationError(sentence)


def _make(path: Path) -> None:
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True)
    sync_directory(path.parent)


def _lock(path: Path) -> int:
    """Lock the directory and return the descriptor that holds the lock."""
    fd = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        process = _holder(fd)
        os.close(fd)
        raise ResourceBusy(f"data directory {path} is in use by process {process}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _holder(fd: int) -> str:
    return os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace_file(directory: Path, name: str, content: bytes) -> None:
    """Put `content` under `name` so that a crash leaves the old or the new content, whole."""
    temporary = directory / f"{name}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, directory / name)
    sync_directory(directory)


def sync_directory(path: Path) -> None:
    """Return when the names in the directory are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
