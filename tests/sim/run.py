"""One run: a cluster, its clients and its misfortunes, all from one seed."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from types import ModuleType
from typing import Any

from kvnode.node import (
    change_rules,
    changes,
    gathering,
    joining,
    membership,
    patience,
    reads,
    recovery,
    snapshot_transfer,
)
from kvnode.store import ops
from raft.types import Config
from tests.sim.loop import ProcessLoop, World
from tests.sim.machine import Machine, Tally
from tests.sim.network import Network
from tests.sim.observer import Observer
from tests.sim.swarm import Nemesis, Plan
from tests.sim.trace import Trace
from tests.sim.verdict import judge, judge_lists
from tests.sim.workload import Workload

STORM_SECONDS_MAX = 30.0
QUIET_SECONDS_MAX = 60.0
RUNS_PER_COLLECTION = 8
CHANGE_SECONDS_MAX = 4.0
"""Somebody must have decided about a change of the membership by then."""
CHUNK_BYTES = 1_000
"""Of a snapshot on its way; so that the small ones of a run take several."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is given besides its seed."""

    nodes: int = 3
    operations: int = 500
    has_faults: bool = True
    spares: int = 3
    """So many machines more may join, in the seeds in which members come and go."""


@dataclass(slots=True)
class Report:
    """What came of a run."""

    seed: int
    violations: list[str]
    undecided: int
    tally: Tally
    trace: int
    seconds: float
    """Virtual."""
    steps: int
    plan: str


class Run:
    """One cluster in one world.

    Args:
        seed: decides everything.
        setting: how large it is.
        show: takes a line per event.
    """

    def __init__(
        self, seed: int, setting: Setting, show: Callable[[str], None] | None = None
    ) -> None:
        rng = Random(seed)
        self.seed = seed
        self.world = World()
        self.trace = Trace(lambda: self.world.now, show)
        self.tally = Tally()
        self.plan = Plan.draw(Random(rng.getrandbits(64)))
        if not setting.has_faults:
            self.plan.faults.clear()
            self.plan.weather = Network(self.world, rng, self.trace).weather
            self.plan.founders, self.plan.has_older = 0, False
        self.observer = Observer(self.world, self.trace, self.tally)
        self.network = Network(self.world, Random(rng.getrandbits(64)), self.trace)
        founders = min(self.plan.founders or setting.nodes, setting.nodes)
        self.observer.configurations.founded_by(range(1, founders + 1))
        machines = setting.nodes + setting.spares if self.plan.founders else setting.nodes
        self.machines = [
            Machine(
                number,
                founders,
                world=self.world,
                network=self.network,
                rng=Random(rng.getrandbits(64)),
                observer=self.observer,
                tally=self.tally,
                snapshot_log_bytes=self.plan.snapshot_log_bytes,
                election_ms=self.plan.election_ms,
            )
            for number in range(1, machines + 1)
        ]
        self.loop = ProcessLoop(  # type: ignore[abstract]
            self.world, "outside", self.network, on_error=self._broken
        )
        self.workload = Workload(
            self.world,
            self.loop,
            self.machines,
            Random(rng.getrandbits(64)),
            operations=setting.operations,
            tally=self.tally,
            unexpected=self.observer.violation,
        )
        self.nemesis = Nemesis(
            self.plan,
            self.machines,
            self.network,
            Random(rng.getrandbits(64)),
            self.observer,
            self.tally,
        )
        self.observer.on_death = self.workload.connection_lost
        self.workload.is_deserted = self.nemesis.is_deserted
        self.world.after_step = self.observer.look
        self._failure: BaseException | None = None

    def _broken(self, error: BaseException) -> None:
        """The simulator itself has a bug."""
        self._failure = error
        self.world.is_over = True

    def run(self) -> Report:
        """Let it happen, and judge it."""
        with _small_limits(self.plan), _no_collection():
            self.loop.create_task(self._play())
            self.world.run(STORM_SECONDS_MAX + 2 * QUIET_SECONDS_MAX)
            self.end()
        if self._failure is not None:
            raise self._failure
        undecided = 0
        if not self.observer.violations:
            wrong, undecided = judge(self.workload.history)
            if not self.tally.stuck:  # lists are judged by their last state
                wrong += judge_lists(self.workload.lists)
            for text in wrong:
                self.observer.violation(text)
        return Report(
            self.seed,
            self.observer.violations,
            undecided,
            self.tally,
            self.trace.value,
            self.world.now,
            self.world.steps,
            str(self.plan),
        )

    def end(self) -> None:
        """All processes are gone."""
        for machine in self.machines:
            machine.bury()
        self.loop.kill()
        self.loop.bury()

    # --- the play ---------------------------------------------------------------------------------

    async def _play(self) -> None:
        for machine in self.nemesis.serving():
            machine.start()
        self.workload.start(self.plan.clients)
        self.workload.think_seconds = self.plan.think_seconds * self.plan.clients
        self.loop.create_task(self.nemesis.run())
        await self._until(self._clients_are_done, STORM_SECONDS_MAX)
        self.nemesis.calm()
        self.trace.note("quiet")
        if not await self._until(self._is_quiet, QUIET_SECONDS_MAX) and self.nemesis.is_stuck():
            # It waits for an operator, as promised; what clients were told is judged all the same.
            self.tally.stuck += 1
            self.world.is_over = True
            return
        if not self._is_quiet():
            self.observer.violation(f"no progress in quiet: {self._describe()}")
            return
        await self.workload.read_all(self.nemesis.running()[-1])
        self.world.is_over = True

    def _clients_are_done(self) -> bool:
        return self.workload.clients_done == self.plan.clients

    def _is_quiet(self) -> bool:
        """All who asked have their answers, nothing is under way, and all nodes are equal."""
        if not (self._clients_are_done() and self.nemesis.is_settled()):
            return False
        if self._unrest() is not None:
            return False
        nodes = [machine.node for machine in self.nemesis.running() if machine.node is not None]
        if not any(node.duties.leads for node in nodes):
            return False
        if any(node.machine.applied < node.raft.last_index for node in nodes):
            return False
        if any(node.waits.is_behind for node in nodes):
            return False  # what a client left behind is on its way back to its queue
        states = {(node.machine.applied, node.machine.state_hash()) for node in nodes}
        sessions = [node.proposer for node in nodes]
        return len(states) == 1 and all(s.incarnation and not s.waiting for s in sessions)

    def _unrest(self) -> str | None:
        """What is still to come of the membership."""
        if lingering := self.nemesis.lingering():
            return f"removed nodes run on: {lingering}"
        levels = {machine.node_id: machine.level for machine in self.nemesis.running()}
        return self.observer.configurations.unrest(levels)

    def _describe(self) -> str:
        return (
            "; ".join(
                f"{m.name} {m.refusal!r}"
                if m.node is None
                else f"{m.name} {m.node.raft.status()} applied {m.node.machine.applied} "
                f"proposer {m.node.proposer.incarnation}/{m.node.proposer.waiting}"
                for m in self.nemesis.serving()
            )
            + f"; clients {self.workload.clients_done}/{self.plan.clients}; {self._unrest()}"
        )

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = self.world.now + seconds
        while not condition():
            if self.world.now >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True


_runs = count(1)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A run makes little garbage that counting does not free; looking for it costs a tenth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if next(_runs) % RUNS_PER_COLLECTION == 0:
            gc.collect()


@contextmanager
def _small_limits(plan: Plan) -> Iterator[None]:
    """Limits for a small world; and nobody reads the log."""
    of_raft = recovery.raft_config

    def raft_config(*arguments: Any, **named: Any) -> Config:
        return replace(of_raft(*arguments, **named), message_bytes_max=plan.message_bytes_max)

    small: list[tuple[ModuleType, str, object]] = [
        (recovery, "raft_config", raft_config),
        (gathering, "GATHERED_COMMANDS_MIN", 1),
        (patience, "HOLD_MS", plan.hold_ms),
        (reads, "HOLD_MS", plan.hold_ms),
        (patience, "HOLD_BUSY_MS_MAX", 6 * plan.hold_ms),
        (snapshot_transfer, "SNAPSHOT_CHUNK_BYTES_MAX", CHUNK_BYTES),
        (ops, "LEVEL", plan.level_max),
        (change_rules, "PROMOTION_LAG_ENTRIES_MAX", plan.promotion_lag_max),
        (changes, "CHANGE_SECONDS_MAX", CHANGE_SECONDS_MAX),
        (changes, "CHANGE_ANSWER_SECONDS_MAX", 0.5),
        (joining, "ANSWER_SECONDS_MAX", CHANGE_SECONDS_MAX + 1),
        (joining, "RETRY_SECONDS", 0.3),
        (membership, "LEAVE_SECONDS_MAX", QUIET_SECONDS_MAX - 20),
    ]
    before = [getattr(module, name) for module, name, _ in small]
    for module, name, value in small:
        setattr(module, name, value)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        for (module, name, _), value in zip(small, before, strict=True):
            setattr(module, name, value)
        logging.disable(logging.NOTSET)
