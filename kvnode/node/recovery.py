"""Start-up: from the data directory back to a Raft state and a store that agree.

Truth is snapshot and log; the engine is a cache of them that is reused when it can be trusted and
rebuilt otherwise. What needs more than the log alone is checked here:

* a log that ends below what its state files remember has lost acknowledged entries: several nodes
  heal such a one, which starts *recovering*; one that is alone is refused (`kvnode.node.loss`);
* a log that was cut must begin at or below the end of a snapshot that is still there;
* an engine that is ahead of the log is thrown away, and so is any engine of a recovering node.

Everything here blocks; it runs in the log's thread while the loop stays free.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random

from kvnode.admission.budget import AMPLE, Budget
from kvnode.errors import DiskFull, LogCorrupt
from kvnode.limits import TICK_MS
from kvnode.node.faults import as_fatal
from kvnode.node.log_writer import WalStorage, decode_entry
from kvnode.node.loss import loss_policy
from kvnode.node.roster import conf_state_of
from kvnode.node.snapshot_library import SnapshotLibrary
from kvnode.node.snapshot_transfer import SnapshotFile
from kvnode.node.snapshots import decode_marker, encode_marker
from kvnode.snapshot.errors import NoRoomToLoad, SnapshotFailed
from kvnode.store.engine import StoredEngine
from kvnode.store.members import Member
from kvnode.store.state_machine import StateMachine
from raft.log import UNKNOWN_TERM, RaftLog
from raft.raft import Raft
from raft.types import Config, HardState
from wal.errors import WalError
from wal.format import Identity
from wal.fs import FileSystem
from wal.log import Wal
from wal.observer import Observer
from wal.options import Options

LEASE_DRIFT_DIVISOR = 10
"""A lease is shorter than the shortest election timeout by this part of it: clocks may drift apart
by so much within one timeout, which is five hundred times what bad ones do."""


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What a start needs to know. Times in milliseconds.

    `founders` are the members that `--cluster` bootstrapped, none on a node that joined. `is_alone`
    means that the node had no other member by its side when it knew of members last: so it has
    nobody to heal from.
    """

    data: Path
    cluster_number: int
    node_id: int
    founders: Mapping[int, Member]
    is_alone: bool
    boot_id: int
    heartbeat_ms: int
    election_ms: tuple[int, int]
    wal_options: Options
    lease_reads: bool = False
    budget: Budget = AMPLE

    @property
    def hash_key(self) -> bytes:
        """All nodes of a cluster order their keys alike: a SCAN cursor survives a failover."""
        return blake2b(self.cluster_number.to_bytes(8, "big"), digest_size=16).digest()


@dataclass(slots=True)
class Recovered:
    """What a start found."""

    wal: Wal
    raft: Raft
    machine: StateMachine
    library: SnapshotLibrary
    engine_reused: bool


def recover(
    plan: RecoveryPlan,
    file_system: FileSystem,
    observer: Observer,
    rng: Random,
    warn: Callable[[str], None],
    *,
    library: SnapshotLibrary | None = None,
) -> Recovered:
    """Open log and store and bring Raft back to where it was.

    Args:
        plan: what to open.
        file_system: where the log is.
        observer: told of repairs and syncs.
        rng: salts of segments, and Raft's timeouts.
        warn: takes one sentence.
        library: snapshots and engines; by default those of the data directory.

    Raises:
        LogCorrupt: log and snapshots hold less, or other, than was acknowledged.
        ConfigurationError: the log belongs to another cluster or node.
        DiskFailed: reading or writing failed.
        DiskFull: there is no room for the first segment, or for a fresh engine.
    """
    try:
        return _recover(plan, file_system, observer, rng, warn, library)
    except WalError as error:
        raise as_fatal(error) from error


def _recover(
    plan: RecoveryPlan,
    file_system: FileSystem,
    observer: Observer,
    rng: Random,
    warn: Callable[[str], None],
    library: SnapshotLibrary | None,
) -> Recovered:
    library = library or SnapshotLibrary(plan.data, plan.cluster_number, plan.hash_key)
    storage = WalStorage()
    log = RaftLog(storage, cache_bytes_max=plan.budget.log_cache_bytes_max)
    with collector_resting():
        wal = storage.wal = Wal.open(
            plan.data / "wal",
            (plan.data / "state-a", plan.data / "state-b"),
            Identity(plan.cluster_number, plan.node_id),
            visit=lambda index, payload: log.restore_entry(decode_entry(index, payload)),
            visit_snapshot=lambda index, payload, discard: log.restore_snapshot(
                index, decode_marker(payload), discard=discard
            ),
            fs=file_system,
            options=plan.wal_options,
            observer=observer,
            salts=lambda: rng.getrandbits(64),
            on_loss=loss_policy(
                plan.data,
                alone=plan.is_alone,
                cache_kept=lambda: library.cache_kept(plan.data / "wal"),
                warn=warn,
            ),
        )
    state = wal.state
    if state.recovering and plan.is_alone:
        raise LogCorrupt(
            f"{plan.data}: the node lost acknowledged entries and is recovering, but it is alone "
            f"and has nobody to heal from: start it as a member of the cluster that it was in, or "
            f"accept the loss with kvnode recover --force-new-cluster --data {plan.data}"
        )
    if state.recovering:
        # What was cut off may have replaced the entries that are now the log's end, so an engine
        # that was further on is no part of any future. Snapshots are committed for certain.
        machine, reused = _begin_anew(plan, log, wal, library, warn), False
    else:
        machine, reused = _open_store(plan, log, library, warn)
    commit = max(state.commit, machine.applied)
    raft = Raft(
        # Nodes from before the registry do not know the message.
        raft_config(plan, rng, commit_notices=machine.members is not None),
        hard_state=HardState(state.term, state.vote, commit),
        conf_state=conf_state_of(machine.members, plan.founders),
        log=log,
        applied=machine.applied,
        recovering=state.recovering,
    )
    library.term_runs = log.term_runs
    return Recovered(wal, raft, machine, library, reused)


@contextmanager
def collector_resting() -> Iterator[None]:
    """Keep the cycle collector away from what makes hundreds of thousands of objects that stay.

    They hold no cycles, and walking over them again and again costs a quarter of a replay.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def raft_config(plan: RecoveryPlan, rng: Random, *, commit_notices: bool) -> Config:
    """Raft's configuration: times become ticks."""

    def ticks(milliseconds: int) -> int:
        return max(1, round(milliseconds / TICK_MS))

    return Config(
        node_id=plan.node_id,
        heartbeat_ticks=ticks(plan.heartbeat_ms),
        election_ticks_min=ticks(plan.election_ms[0]),
        election_ticks_max=ticks(plan.election_ms[1]),
        random_ticks=rng.randint,
        boot_id=plan.boot_id,
        cache_bytes_max=plan.budget.log_cache_bytes_max,
        uncommitted_bytes_max=plan.budget.uncommitted_bytes_max,
        commit_notices=commit_notices,
        lease_reads=plan.lease_reads,
        lease_drift_ticks=max(2, ticks(plan.election_ms[0]) // LEASE_DRIFT_DIVISOR),
    )


def _open_store(
    plan: RecoveryPlan, log: RaftLog, library: SnapshotLibrary, warn: Callable[[str], None]
) -> tuple[StateMachine, bool]:
    engine, reused = library.open()
    machine = StateMachine(engine, hash_key=plan.hash_key)
    if log.compacted <= machine.applied <= log.last_index:
        return machine, reused
    if machine.applied > log.last_index:
        warn(
            f"the engine is at index {machine.applied}, ahead of the log's {log.last_index}: "
            f"it is rebuilt"
        )
    machine.close(clean=False)
    return StateMachine(_rebuild(log, library, warn), hash_key=plan.hash_key), False


def _rebuild(log: RaftLog, library: SnapshotLibrary, warn: Callable[[str], None]) -> StoredEngine:
    """An engine from the newest whole snapshot that the log goes on from, or an empty one."""

    def goes_on(file: SnapshotFile) -> bool:
        # One that was received for another end of the log, and not installed, is passed over.
        return log.term(file.index) in (file.term, UNKNOWN_TERM)

    loaded = _load_newest(library, goes_on, warn)
    if loaded is not None:
        file, engine = loaded
        # Where the log was cut exactly here, only the file still knows the term.
        log.restore_snapshot(file.index, file.term, discard=False)
        return engine
    return _empty(log, library)


def _begin_anew(
    plan: RecoveryPlan,
    log: RaftLog,
    wal: Wal,
    library: SnapshotLibrary,
    warn: Callable[[str], None],
) -> StateMachine:
    """The newest snapshot and nothing that was applied after it, for a log that lost its end.

    A log that does not go on from the snapshot gives way to it.
    """
    loaded = _load_newest(library, lambda file: file.index >= log.compacted, warn)
    if loaded is None:
        return StateMachine(_empty(log, library), hash_key=plan.hash_key)
    file, engine = loaded
    goes_on = file.index == log.compacted or (
        file.index <= log.last_index and log.term(file.index) == file.term
    )
    if not goes_on or wal.snapshot_index < file.index:
        # Its mark may have gone with the end of the log, and without one no log may be cut.
        wal.mark_snapshot(file.index, encode_marker(file.term), discard=not goes_on)
    log.restore_snapshot(file.index, file.term, discard=not goes_on)
    return StateMachine(engine, hash_key=plan.hash_key)


def _load_newest(
    library: SnapshotLibrary, fits: Callable[[SnapshotFile], bool], warn: Callable[[str], None]
) -> tuple[SnapshotFile, StoredEngine] | None:
    """The newest whole snapshot that fits, and an engine made of it."""
    for file, path in library.files():
        if not fits(file):
            continue
        try:
            engine = library.load(path)
        except NoRoomToLoad as error:
            raise DiskFull(str(error)) from error
        except SnapshotFailed as damage:
            warn(f"snapshot {path.name} cannot be used, trying the one before: {damage}")
            continue
        library.use(engine)
        return file, engine
    return None


def _empty(log: RaftLog, library: SnapshotLibrary) -> StoredEngine:
    """An empty engine, for a log that begins at the beginning."""
    if log.compacted:
        raise LogCorrupt(
            f"the log begins behind index {log.compacted}, and no snapshot of that index or "
            f"above is whole: the state before it is gone from this disk"
        )
    return library.open(rebuild=True)[0]
