"""One simulated machine: its disk, and the node process that runs on it or does not.

A start goes through `kvnode.node.recovery.recover` and makes a real `kvnode.node.Node`, as
`kvnode.server` does; on a directory that nobody admitted yet it asks to join first. All that this
module adds is what an operating system and a data directory give a process: a loop, a thread, a
place for the identity, and death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from kvnode.acquaintances import Acquaintances
from kvnode.config.values import parse_join
from kvnode.directory import DataDirectory
from kvnode.errors import FatalError
from kvnode.identity_file import Identity
from kvnode.node.hello import JoinRequest
from kvnode.node.joining import join
from kvnode.node.node import Node
from kvnode.node.recovery import Recovered, RecoveryPlan, recover
from kvnode.node.roster import founder
from kvnode.node.snapshot_library import SnapshotLibrary, TermRuns
from kvnode.node.status import NodeIdentity
from kvnode.snapshot.format import SnapshotMeta
from kvnode.snapshot.worker import Request
from kvnode.store.members import Member
from kvnode.store.ops import LEVEL
from tests.sim.disk import DATA, PowerLoss, SimDisk, SimEngines, SimWorker
from tests.sim.loop import ProcessLoop, World
from tests.sim.network import Network
from tests.sim.programs import program
from wal.observer import Silent
from wal.options import Options

if TYPE_CHECKING:
    from tests.sim.observer import Observer

CLUSTER_NUMBER = 99
SEGMENT_BYTES = 16 * 1024


@dataclass(slots=True)
class Storage:
    """What survives the process: a data directory. It can be taken out and another put in."""

    storage_id: int
    disk: SimDisk = field(default_factory=SimDisk)
    engines: SimEngines = field(default_factory=SimEngines)
    identity: Identity | None = None

    def copy(self) -> Storage:
        """A backup, taken while the machine is down; the engine is no part of it."""
        disk = SimDisk.from_image(self.disk.image())
        assert isinstance(disk, SimDisk)
        return Storage(self.storage_id, disk, SimEngines(), self.identity)


class Directory(DataDirectory):
    """The identity in a `Storage` instead of a file; what it decides is the real code."""

    __slots__ = ("_storage",)

    def __init__(self, storage: Storage, clock: Callable[[], float]) -> None:
        super().__init__(DATA, -1, clock)
        self._storage = storage
        assert storage.identity is not None
        self.identity = replace(storage.identity, incarnation=storage.identity.incarnation + 1)
        self._save_identity()

    def _save_identity(self) -> None:
        self._storage.identity = self.identity


@dataclass(slots=True)
class Pace:
    """How long things take on this machine, in seconds."""

    sync_max: float = 0.002
    snapshot: float = 0.02
    wall_offset: float = 0.0


@dataclass(slots=True)
class Tally:
    """What the processes of all machines have done; they take it with them when they die."""

    elections: int = 0
    installed: int = 0
    taken: int = 0
    resent: int = 0
    grouped: int = 0
    unknown: int = 0
    repairs: int = 0
    recoveries: int = 0
    lost_sectors: int = 0
    refused_starts: int = 0
    stuck: int = 0
    foreign_refused: int = 0
    old_copies_refused: int = 0
    joined: int = 0
    promoted: int = 0
    removed: int = 0
    replaced: int = 0
    levels_raised: int = 0
    notes_lost: int = 0
    changes_refused: int = 0
    drained: int = 0


class Machine:
    """See the module's docstring.

    Args:
        number: from 1. A founder has it for its node id.
        founders: so many machines, the first, make the cluster; the others may join it.
        world: where it runs.
        network: what it is connected to.
        rng: for all that the process draws.
        observer: looks at the node after every step.
        tally: where counters go.
        snapshot_log_bytes: bytes logged between two snapshots.
        election_ms: shortest and longest election timeout.
    """

    def __init__(
        self,
        number: int,
        founders: int,
        *,
        world: World,
        network: Network,
        rng: Random,
        observer: Observer,
        tally: Tally,
        snapshot_log_bytes: int,
        election_ms: tuple[int, int],
    ) -> None:
        self.number = number
        self.name = f"n{number}"
        self.address = f"{self.name}:1"
        self.level = LEVEL
        """The newest feature level that the program on this machine knows."""
        self.promote = True
        """Who joins from here becomes a voter by itself."""
        self.is_enlisted = number <= founders
        """Its directory is, or is to become, that of a member."""
        self._founders = {f"n{peer}": f"n{peer}:1" for peer in range(1, founders + 1)}
        self._storages = 0
        self.storage = self.new_storage()
        self.pace = Pace()
        self.node: Node | None = None
        self.loop: ProcessLoop | None = None
        self.refusal: BaseException | None = None
        """Why the last process ended by itself."""
        self.was_recovering = False
        """The last node that ran here lacked what it had acknowledged, or did not know better."""
        self.starts = 0
        self._world = world
        self._network = network
        self._rng = rng
        self._observer = observer
        self._tally = tally
        self._snapshot_log_bytes = snapshot_log_bytes
        self._election_ms = election_ms
        self._worker: SimWorker
        self._buried: list[ProcessLoop] = []

    @property
    def is_writing(self) -> bool:
        """Something is on its way to the disk."""
        return self.node is not None and bool(self._worker.under_way)

    @property
    def is_up(self) -> bool:
        """A node runs (it may be paused)."""
        return self.node is not None

    @property
    def node_id(self) -> int:
        """That of the directory; 0 while nobody admitted it."""
        assert self.storage.identity is not None
        return self.storage.identity.node_id

    @property
    def is_founder(self) -> bool:
        """It has the directory of an initial member."""
        return self.node_id == self.number

    def new_storage(self) -> Storage:
        """An empty data directory of an initial member."""
        return self._storage(self.number, "c", self._founders)

    def _storage(
        self,
        node_id: int,
        cluster_id: str,
        members: dict[str, str],
        *,
        peers: str = "",
        replaces: str = "",
    ) -> Storage:
        self._storages += 1
        storage = Storage(1000 * self._storages + self.number)
        storage.identity = Identity(
            *(self.name, node_id, cluster_id, storage.storage_id, 0),
            members=members,
            peers={},
            join=peers,
            replaces=replaces,
        )
        return storage

    def enlist(self, peers: str, *, replaces: str = "", promote: bool = True) -> None:
        """Put in an empty directory that asks `peers` for admission at its next start."""
        assert self.loop is None, f"{self.name} runs"
        self.is_enlisted = True
        self.promote = promote
        self.storage = self._storage(0, "", {}, peers=peers, replaces=replaces)

    def ask(self, peers: str) -> None:
        """Who asks for admission asks these from its next start on: `--join` was changed."""
        identity = self.storage.identity
        assert identity is not None
        if not identity.is_admitted:
            self.storage.identity = replace(identity, join=peers)

    # --- starting ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process; it may end at once, with `refusal` as the reason."""
        assert self.loop is None
        self.starts += 1
        self.refusal = None
        storage = self.storage
        loop = ProcessLoop(  # type: ignore[abstract]
            self._world,
            self.name,
            self._network,
            on_error=self._on_error,
            io_seconds=lambda: self._rng.random() * 0.01,
        )
        self.loop = loop
        loop.owner = self
        directory = Directory(storage, lambda: self._world.now)
        self._worker = SimWorker(loop, storage.disk, self._sync_seconds)
        if directory.identity.is_admitted:
            self._begin(loop, directory)
        else:
            loop.create_task(self._ask_to_join(loop, directory))

    async def _ask_to_join(self, loop: ProcessLoop, directory: Directory) -> None:
        """What `kvnode serve --join` does before it starts as a node."""
        identity = directory.identity
        request = JoinRequest(
            *(identity.node, identity.replaces, self.address, f"{self.name}:2"),
            *(identity.storage_id, self.promote, self.level),
        )
        answer = await join(parse_join(identity.join), request)
        directory.admit(answer.node_id, answer.cluster_id, answer.origin)
        self._begin(loop, directory)

    def _begin(self, loop: ProcessLoop, directory: Directory) -> None:
        try:
            found = self._recover(directory)
        except FatalError as error:
            self._tally.refused_starts += 1
            self._end(error)
            return
        except PowerLoss:
            self.lose_power()
            return
        except Exception as error:  # noqa: BLE001 - a bug of the product, judged by the observer
            self._on_error(error)
            return
        self._tally.repairs += found.wal.last_repair is not None
        self._tally.recoveries += found.wal.state.recovering
        self._make_node(loop, directory, found)

    def _members(self, identity: Identity) -> tuple[Member, ...]:
        """The initial members, of which only founders know."""
        return tuple(founder(int(n[1:]), n, address) for n, address in identity.members.items())

    def _recover(self, directory: Directory) -> Recovered:
        identity, storage = directory.identity, self.storage
        plan = RecoveryPlan(
            data=DATA,
            cluster_number=CLUSTER_NUMBER,
            node_id=identity.node_id,
            founders={member.node_id: member for member in self._members(identity)},
            is_alone=not identity.has_others,
            boot_id=identity.incarnation & 0xFFFF_FFFF,
            heartbeat_ms=50,
            election_ms=self._election_ms,
            wal_options=Options(segment_bytes=SEGMENT_BYTES),
        )
        library = SnapshotLibrary(
            DATA,
            CLUSTER_NUMBER,
            plan.hash_key,
            fs=storage.disk,
            engines=storage.engines,
            take=self._take,
            modified=lambda _path: self._world.now,
        )
        return recover(plan, storage.disk, Silent(), self._rng, _silent, library=library)

    def _make_node(self, loop: ProcessLoop, directory: Directory, found: Recovered) -> None:
        identity = directory.identity
        # What a process makes before its loop runs belongs to that loop all the same.
        with program(self.level) as limit:
            node = self.node = Node(
                identity=NodeIdentity(
                    identity.node_id,
                    self.name,
                    identity.cluster_id,
                    identity.storage_id,
                    identity.incarnation,
                    "sim",
                    client_address=f"{self.name}:2",
                    peer_address=self.address,
                    origin=identity.origin,
                ),
                founders=self._members(identity),
                found=found,
                worker=self._worker,
                loop=loop,
                rng=Random(self._rng.getrandbits(64)),
                wall=lambda: 1_700_000_000 + self._world.now + self.pace.wall_offset,
                directory=Acquaintances(directory),
                snapshot_log_bytes=self._snapshot_log_bytes,
                election_ms=self._election_ms[0],
            )
            limit(node)
        node.failure.add_done_callback(self._on_failure)
        self._observer.started(self)
        loop.create_task(self._serve(node))

    async def _serve(self, node: Node) -> None:
        await node.start(self.name, 0)
        await node.run()

    async def _take(
        self,
        request: Request,
        *,
        term_runs: TermRuns,
        timeout_seconds: float,
        on_start: Callable[[int], None],
    ) -> SnapshotMeta:
        return await self._worker.take_snapshot(
            self.storage.engines, request, term_runs, self.pace.snapshot
        )

    def _sync_seconds(self) -> float:
        return (0.05 + self._rng.random()) * self.pace.sync_max

    # --- ending -----------------------------------------------------------------------------------

    def _on_error(self, error: BaseException) -> None:
        """An exception that nobody caught: a bug, unless it says how the process ends."""
        if self.node is None or not self.node.failure.done():
            self._end(error)

    def _on_failure(self, failure: asyncio.Future[None]) -> None:
        error = failure.exception()
        assert error is not None
        if self.node is not None and failure is self.node.failure:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        self.refusal = error
        self.kill()
        self._observer.ended(self, error)

    def kill(self) -> None:
        """The process dies; the kernel lives and keeps what was written."""
        self._die()
        self.storage.disk.process_died()
        self.storage.engines.process_died()

    def lose_power(self) -> None:
        """The machine dies: of what was not synced some sectors stay."""
        disk = self.storage.disk
        disk.calls_left = None
        if self.node is not None:
            self._worker.cut(self._rng)
        self._tally.lost_sectors += disk.unsynced()
        self._die()
        disk.process_died()
        disk.crash(self._rng)
        self.storage.engines.power_lost()

    def _die(self) -> None:
        node, loop = self.node, self.loop
        self.node = self.loop = None
        if loop is None:
            return
        if node is not None:
            self.was_recovering = node.raft.recovering
            self._tally.installed += node.snapshots.stats.installed
            self._tally.taken += node.snapshots.stats.taken
            self._tally.resent += node.proposer.batches_resent
            self._tally.grouped += node.duties.batches_grouped
            self._observer.died(self, node)
        loop.kill()
        self._buried.append(loop)
        self._network.host_died(self.name)

    async def stop(self) -> None:
        """The orderly end, in the process itself."""
        node, loop = self.node, self.loop
        assert node is not None
        await node.succession.hand_over(1.0)
        await node.finish_in_flight(1.0)
        await node.close(clean=True)
        if self.loop is loop:
            self.kill()

    def bury(self) -> None:
        """The run is over."""
        self._die()
        for loop in self._buried:
            loop.bury()


def _silent(_text: str) -> Any:
    """Nobody reads warnings of a simulated start."""
