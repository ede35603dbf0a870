"""A run: epochs of storm and calm, from the first process to the verdict.

In an epoch the clients of all workloads work on every node while the rounds of the plan go by.
Then the clients end, everything is read back through every node, and the record is judged. The next
epoch has keys and a record of its own, so that a run may be as long as one likes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hiredis

from scripts.local_cluster import NodeFailed
from tests.chaos.checks.judgement import Judgement
from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.faults import FAULTS
from tests.chaos.faults.protocol import Injection, NotApplicable
from tests.chaos.plan import Offer, Round, Strike, choose
from tests.chaos.record import Exit, Leadership, Record, Sample
from tests.chaos.stage import Stage, StageNode
from tests.chaos.workloads.choice import WORKLOADS
from tests.chaos.workloads.protocol import Client, Workload

EPOCH_SECONDS = 60.0
WATCH_SECONDS = 0.25
SAMPLE_SECONDS = 2.0
PROGRESS_SECONDS = 5.0
CLIENTS_DRAIN_SECONDS_MAX = 30.0
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """What to run.

    Attributes:
        seconds: of storm, in all epochs together.
        faults: their rates by name.
        disks: kinds of disks for the nodes, dealt out in turn.
        memory_mib: the limit of a memory cgroup for each node; 0 for none.
        netns: each node has a network namespace of its own.
        pair_odds: of two faults at a time.
        keep_going: a violation does not end the run.
    """

    seconds: float
    seed: int
    nodes: int = 3
    faults: Mapping[str, float] = field(default_factory=dict)
    workloads: Sequence[str] = tuple(WORKLOADS)
    disks: Sequence[str] = ("forgetful",)
    memory_mib: int = 0
    netns: bool = False
    pair_odds: float = 0.5
    broken: str = ""
    keep_going: bool = False
    report: Path | None = None


def offers(order: Order) -> list[Offer]:
    """The faults of an order as the plan knows them."""
    return [
        Offer(name, fault.whom, fault.seconds, fault.group, order.faults[name])
        for name, fault in FAULTS.items()
        if order.faults.get(name, 0) > 0
    ]


@dataclass(slots=True)
class Tale:
    """What has happened so far in a run; the figures that people are told.

    Attributes:
        injected: how often a fault was injected, and `held` how often it took hold.
        skipped: strikes that could not be made, and why.
    """

    began: float = field(default_factory=time.monotonic)
    operations: int = 0
    epochs: int = 0
    rounds: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    families: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    judgement: Judgement = field(default_factory=Judgement)
    leader: str = ""


Judge = Callable[[Record, Sequence[Workload]], Judgement]


class Storm:
    """One epoch: clients, faults and the watch over both.

    Attributes:
        record: all that is seen.
        findings: what faults saw themselves.
        broken_off: what ended it early: a node that did not come back.
    """

    def __init__(
        self,
        stage: Stage,
        workloads: Sequence[Workload],
        seed: int,
        plan: Iterator[Round],
        tale: Tale,
    ) -> None:
        self.stage = stage
        self.workloads = workloads
        self.record = Record()
        self.broken_off = ""
        self.findings: list[str] = []
        self._plan = plan
        self._tale = tale
        self._random = random.Random(seed)
        self._clients: list[Client] = []
        self._leader = ("", 0)

    async def run(self, seconds: float) -> None:
        """Storm for so long (and to the end of the round), then wait for calm."""
        for workload in self.workloads:
            connection = await Connection.open(self.stage.nodes[0].address)
            await workload.prepare(connection)
            connection.close()
        end = asyncio.Event()
        first = 0
        for workload in self.workloads:
            clients = workload.clients(self.stage.nodes, first, self._random, self.record)
            first += len(clients)
            self._clients += clients
        working = [asyncio.create_task(client.run(end)) for client in self._clients]
        watching = asyncio.create_task(self._watch())
        try:
            await self._rounds(time.monotonic() + seconds, [*working, watching])
        except NodeFailed as failure:
            self.broken_off = str(failure)
        end.set()
        try:
            async with asyncio.timeout(CLIENTS_DRAIN_SECONDS_MAX):
                await asyncio.gather(*working)
        finally:
            watching.cancel()
            self._note_exits()
            self._tale.operations += self.record.acknowledged

    # --- rounds -----------------------------------------------------------------------------------

    async def _rounds(self, deadline: float, others: Sequence[asyncio.Task[None]]) -> None:
        """One after the other; ends early when a client or the watch meets a bug of ours."""
        while time.monotonic() < deadline and not self.record.is_full:
            for task in others:
                if task.done():
                    task.result()
            one = next(self._plan)
            await asyncio.sleep(one.rest_s)
            await self._play(one)
            self._tale.rounds += 1

    async def _play(self, one: Round) -> None:
        """Inject, wait, heal; then wait until all is well."""
        injections: list[Injection] = []
        try:
            async with asyncio.TaskGroup() as group:
                for strike in one.strikes:
                    group.create_task(self._strike(strike, injections))
        except* NodeFailed as failures:
            raise NodeFailed(str(failures.exceptions[0])) from None
        await self.stage.settle()
        now = time.monotonic_ns()
        struck = {name for injection in injections for name in injection.disturbance.targets}
        for injection in injections:
            disturbance = injection.disturbance
            disturbance.until_ns = now
            if len(injections) > 1 and len(struck) > self.stage.minority:
                # Together they may have left no majority for longer than nodes wait.
                disturbance.excused = sorted({*disturbance.excused, *self.stage.names})
            self.findings += injection.findings
            self._tale.held[disturbance.fault] += disturbance.evidence is not None

    async def _strike(self, strike: Strike, injections: list[Injection]) -> None:
        await asyncio.sleep(strike.after_s)
        rng = random.Random(strike.seed)
        fault = FAULTS[strike.fault]
        up = {node.name: node for node in self.stage.nodes if node.alive() and not node.holds}
        leader = await asyncio.to_thread(self.stage.leader)
        if not up:
            self._tale.skipped[f"{strike.fault}: others have the nodes down"] += 1
            return
        led = leader.name if leader is not None and leader.name in up else rng.choice([*up])
        targets = [up[name] for name in choose([*up], led, strike.whom, rng)]
        try:
            injection = await fault.inject(self.stage, rng, targets, strike.seconds)
        except NotApplicable as reason:
            self._tale.skipped[f"{strike.fault}: {reason}"] += 1
            return
        disturbance = injection.disturbance
        disturbance.was_leader = leader is not None and leader.name in disturbance.targets
        self.record.disturbances.append(disturbance)
        injections.append(injection)
        self._tale.injected[fault.name] += 1
        self._tale.families[fault.family] += 1
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            await injection.heal()

    # --- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Note who leads, who ends and how much memory they hold; tell people how it goes."""
        sampled = told = 0.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            self._note_exits()
            await self._note_leader()
            if now - sampled >= SAMPLE_SECONDS:
                sampled = now
                self._note_memory()
            if now - told >= PROGRESS_SECONDS:
                told = now
                self._tell()

    def _note_exits(self) -> None:
        now = time.monotonic_ns()
        for node in (*self.stage.nodes, *self.stage.former):
            node.note_end()
            for code, log in node.ended:
                self.record.exits.append(Exit(now, node.name, code, log))
            node.ended.clear()

    async def _note_leader(self) -> None:
        leader = await asyncio.to_thread(self.stage.cluster.leader)
        status = await asyncio.to_thread(leader.status) if leader is not None else None
        if leader is None or status is None:
            return
        seen = leader.name, int(status["term"])
        if seen != self._leader:
            self._leader = seen
            self._tale.leader = f"{leader.name} (term {seen[1]})"
            self.record.leaders.append(Leadership(time.monotonic_ns(), *seen))

    def _note_memory(self) -> None:
        now = time.monotonic_ns()
        for node in self.stage.nodes:
            if node.alive():
                self.record.samples.append(Sample(now, node.name, anonymous_bytes(node)))

    def _tell(self) -> None:
        tale = self._tale
        done = tale.operations + self.record.acknowledged
        families = ", ".join(f"{name} {count}" for name, count in sorted(tale.families.items()))
        found = len(tale.judgement.violations)
        print(
            f"  {time.monotonic() - tale.began:6.0f} s  {done:9,} done  "
            f"{len(self.record.incidents):5} errors  {families or 'no fault yet'}  "
            f"leader {tale.leader or '?'}  "
            f"{f'{found} VIOLATIONS' if found else 'nothing found so far'}",
            flush=True,
        )

    # --- calm -------------------------------------------------------------------------------------

    async def read_back(self) -> list[str]:
        """Ask every node for everything; what does not answer is told."""
        wrong = []
        for node in self.stage.nodes:
            for workload in self.workloads:
                try:
                    connection = await Connection.open(node.address)
                    await workload.read_back(node.name, connection, self.record)
                    connection.close()
                except (OSError, ConnectionLost, TimeoutError, hiredis.ReplyError) as error:
                    wrong.append(f"{node.name} does not answer in calm weather: {error!r}")
        return wrong


def anonymous_bytes(node: StageNode) -> int:
    """Resident memory of a process that nobody shares; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{node.pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * PAGE_BYTES
