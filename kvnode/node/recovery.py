"""Start-up: from the data directory back to a Raft state and a store that agree.

Truth is the log; the engine is a cache of it that is reused when it can be trusted and rebuilt
otherwise. The floors of GUARANTEES §1 that need more than the log alone are checked here:

* the log must reach the commit index that the state files remember;
* an engine that is ahead of the log is thrown away.

Everything here blocks; it runs in the log's thread while the loop stays free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random

from kvnode.errors import LogCorrupt
from kvnode.limits import RAFT_CACHE_BYTES_MAX
from kvnode.node.faults import as_fatal
from kvnode.node.log_writer import WalStorage, decode_entry
from kvnode.node.node import TICK_SECONDS
from kvnode.store.engine_directory import open_engine
from kvnode.store.state_machine import StateMachine
from raft.log import RaftLog
from raft.raft import Raft
from raft.types import Config, ConfState, HardState
from wal.errors import WalError
from wal.format import Identity
from wal.fs import FileSystem
from wal.log import Wal
from wal.observer import Observer
from wal.options import Options


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What a start needs to know. Times in milliseconds."""

    data: Path
    cluster_number: int
    node_id: int
    voters: tuple[int, ...]
    boot_id: int
    heartbeat_ms: int
    election_ms: tuple[int, int]
    wal_options: Options


@dataclass(slots=True)
class Recovered:
    """What a start found."""

    wal: Wal
    raft: Raft
    machine: StateMachine
    engine_reused: bool


def recover(
    plan: RecoveryPlan,
    file_system: FileSystem,
    observer: Observer,
    rng: Random,
    warn: Callable[[str], None],
) -> Recovered:
    """Open log and store and bring Raft back to where it was.

    Raises:
        LogCorrupt: the log holds less, or other, than was acknowledged.
        ConfigurationError: the log belongs to another cluster or node.
        DiskFailed: reading or writing failed.
        DiskFull: there is no room for the first segment.
    """
    try:
        return _recover(plan, file_system, observer, rng, warn)
    except WalError as error:
        raise as_fatal(error) from error


def _recover(
    plan: RecoveryPlan,
    file_system: FileSystem,
    observer: Observer,
    rng: Random,
    warn: Callable[[str], None],
) -> Recovered:
    storage = WalStorage()
    log = RaftLog(storage, cache_bytes_max=RAFT_CACHE_BYTES_MAX)
    wal = Wal.open(
        plan.data / "wal",
        (plan.data / "state-a", plan.data / "state-b"),
        Identity(plan.cluster_number, plan.node_id),
        visit=lambda index, payload: log.restore_entry(decode_entry(index, payload)),
        fs=file_system,
        options=plan.wal_options,
        observer=observer,
    )
    storage.wal = wal
    state = wal.state
    if state.commit > log.last_index:
        raise LogCorrupt(
            f"the log in {plan.data / 'wal'} ends at index {log.last_index}, but index "
            f"{state.commit} was committed: acknowledged entries are gone from this disk; "
            f"`kvnode member replace` brings the machine back in with a new id"
        )
    machine, reused = _open_store(plan, log.last_index, warn)
    raft = Raft(
        raft_config(plan, rng),
        hard_state=HardState(state.term, state.vote, max(state.commit, machine.applied)),
        conf_state=ConfState(plan.voters),
        log=log,
        applied=machine.applied,
    )
    return Recovered(wal, raft, machine, reused)


def raft_config(plan: RecoveryPlan, rng: Random) -> Config:
    """Raft's configuration: times become ticks."""

    def ticks(milliseconds: int) -> int:
        return max(1, round(milliseconds / 1000 / TICK_SECONDS))

    return Config(
        node_id=plan.node_id,
        heartbeat_ticks=ticks(plan.heartbeat_ms),
        election_ticks_min=ticks(plan.election_ms[0]),
        election_ticks_max=ticks(plan.election_ms[1]),
        random_ticks=rng.randint,
        boot_id=plan.boot_id,
        cache_bytes_max=RAFT_CACHE_BYTES_MAX,
    )


def _open_store(
    plan: RecoveryPlan, last_index: int, warn: Callable[[str], None]
) -> tuple[StateMachine, bool]:
    # All nodes of a cluster order their keys alike, so that a SCAN cursor survives a failover.
    hash_key = blake2b(plan.cluster_number.to_bytes(8, "big"), digest_size=16).digest()
    root = plan.data / "engine"
    engine, reused = open_engine(root)
    machine = StateMachine(engine, hash_key=hash_key)
    if machine.applied > last_index:
        warn(
            f"the engine is at index {machine.applied}, ahead of the log's {last_index}: "
            f"it is rebuilt from the log"
        )
        machine.close(clean=False)
        engine, reused = open_engine(root, rebuild=True)
        machine = StateMachine(engine, hash_key=hash_key)
    return machine, reused
