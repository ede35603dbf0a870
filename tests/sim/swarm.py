"""What goes wrong in a run: chosen by its seed, fault by fault (swarm testing).

A run in which everything fails at once explores little: the cluster never gets anywhere. So each
seed switches every kind of fault on or off and draws a rate for those that are on; some seeds have
one fault only, some nearly all, and a few have none.

Two rules keep the faults within what is promised. At most a minority of the voters of the moment
ever loses what it had synced. And a foreign directory is put in only when every other node would
know it as foreign, by what its own directory remembers, and never on more than a minority at once:
two that are foreign may not know each other (beyond that nothing is promised, as the README says).

In some seeds members come and go as well (`tests.sim.churn`), or programs of different feature
levels meet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from kvnode.errors import ConfigurationError, DiskFailed, DiskFull, FatalError, LogCorrupt
from kvnode.node.draining import Draining
from kvnode.node.parting import Room
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from kvnode.store.ops import LEVEL
from tests.sim.churn import CHANGES, Churn, newest_level
from tests.sim.machine import CLUSTER_NUMBER, Machine, Storage, Tally
from tests.sim.network import Network, Weather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sim.observer import Observer

FAULTS = (
    "kill",
    "power",
    "blackout",
    "pause",
    "isolate",
    "depose",
    "partition",
    "one_way",
    "ring",
    "breaks",
    "slow_link",
    "slow_disk",
    "clock",
    "disk_fails",
    "log_full",
    "engine_full",
    "lost_tail",
    "foreign",
    "stop",
    "transfer",
    "drain",
)

DISK = Room(free_bytes=1 << 40, size_bytes=1 << 40)
"""A data directory's file system, as far as draining asks for it."""

SNAPSHOTS_BYTES = (1_000, 2_000, 5_000, 1 << 40)
"""Bytes logged between two snapshots; the last means none."""


CHURN_SHARE = 0.4
"""Of the seeds: members come and go."""

MIXED_SHARE = 0.15
"""Of the seeds: programs of two feature levels."""


@dataclass(slots=True)
class Plan:
    """What a seed has drawn."""

    weather: Weather
    faults: dict[str, float] = field(default_factory=dict)
    """Weight by kind; a kind that is off is missing. Some seeds have one that outweighs all."""
    pause_seconds: float = 0.5
    """Mean time between two faults."""
    snapshot_log_bytes: int = 1 << 40
    clients: int = 10
    hold_ms: int = 5_000
    message_bytes_max: int = 1 << 20
    """Of entries in one append."""
    election_ms: tuple[int, int] = (150, 300)
    leader_chance: float = 0.4
    """That a fault hits the leader, and not just any machine."""
    think_seconds: float = 0.01
    """Between two operations of all clients together."""
    founders: int = 0
    """So many machines begin; 0: all that there are, and nobody joins."""
    level_max: int = LEVEL
    """The newest feature level that a program knows."""
    has_older: bool = False
    """Some machines begin with an older program than that."""
    promotion_lag_max: int = 256
    """So many entries may a learner be behind that becomes a voter."""

    @classmethod
    def draw(cls, rng: Random) -> Plan:
        """Decide what this run will be like."""
        weather = Weather()
        if rng.random() < 0.6:
            for name, most in (
                ("loss", 0.1),
                ("duplication", 0.1),
                ("reorder", 0.1),
                ("slow_chance", 0.1),
                ("breaks", 0.004),
            ):
                if rng.random() < 0.4:
                    setattr(weather, name, most * rng.random())
        if rng.random() < 0.3:
            weather.delay_max = 0.02
        on = rng.random()
        faults = {name: rng.expovariate(1) ** 2 for name in FAULTS if rng.random() < on}
        founders = 0
        if rng.random() < CHURN_SHARE:
            founders = rng.choice((1, 2, 3, 3, 3))
            faults |= {name: rng.expovariate(0.5) for name in CHANGES if rng.random() < 0.8}
        level_max, has_older = newest_level(rng, MIXED_SHARE)
        if has_older:
            faults["update"] = rng.expovariate(0.5)
        return cls(
            weather,
            faults,
            pause_seconds=rng.choice((0.15, 0.4, 1.0)),
            snapshot_log_bytes=rng.choice(SNAPSHOTS_BYTES),
            clients=rng.choice((4, 8, 16)),
            hold_ms=rng.choice((1_000, 5_000)),
            message_bytes_max=rng.choice((1, 1_000, 1 << 20)),
            election_ms=rng.choice(((150, 300), (150, 170))),
            leader_chance=rng.choice((0.2, 0.5, 0.9)),
            think_seconds=rng.choice((0.003, 0.01)),
            founders=founders,
            level_max=level_max,
            has_older=has_older,
            promotion_lag_max=rng.choice((1, 20, 256)),
        )

    def __str__(self) -> str:
        return f"{self.weather}, {', '.join(self.faults) or 'no faults'}"


class Nemesis:
    """Carries out the plan.

    Args:
        plan: what to do.
        machines: to whom.
        network: and between whom.
        rng: when, and the rest.
        observer: knows who leads.
        tally: counts.
    """

    def __init__(
        self,
        plan: Plan,
        machines: Sequence[Machine],
        network: Network,
        rng: Random,
        observer: Observer,
        tally: Tally,
    ) -> None:
        self.plan = plan
        self.is_over = False
        self.machines = list(machines)
        self._network = network
        self._rng = rng
        self._observer = observer
        self._tally = tally
        self.busy: set[int] = set()
        """Machines to which something is being done."""
        self._set_aside: dict[int, Storage] = {}
        """The right directories of the machines that run on a foreign one."""
        self._copies: dict[int, Storage] = {}
        """Backups of data directories, to be put back much later."""
        self._helpless: set[int] = set()
        """Machines that recover and are alone by now: they end, and wait for an operator."""
        self._tasks: list[asyncio.Task[None]] = []
        self._churn = Churn(self, rng, observer, tally, plan.level_max)
        self._gone = observer.configurations.removed
        if plan.has_older:
            self._churn.install_programs()
        observer.expected = self.is_expected

    # --- the clock --------------------------------------------------------------------------------

    async def run(self) -> None:
        """One fault after another, some of them at the same time, until it is over."""
        self._network.weather = self.plan.weather
        names, weights = list(self.plan.faults), list(self.plan.faults.values())
        while not self.is_over and names:
            await asyncio.sleep(self._rng.expovariate(1 / self.plan.pause_seconds))
            if self.is_over:
                break
            (name,) = self._rng.choices(names, weights)
            fault: Callable[[], Coroutine[Any, Any, None]] = (
                getattr(self._churn, name) if name in CHANGES else getattr(self, f"_{name}")
            )
            self._tasks.append(asyncio.create_task(fault()))

    def calm(self) -> None:
        """No more faults; what was hurt is mended."""
        self.is_over = True
        self._network.weather = Weather()
        self._network.cut.clear()
        self._network.slow.clear()
        for machine in self.machines:
            machine.pace.sync_max = 0.002
            machine.storage.disk.is_full = machine.storage.engines.is_full = False
            if machine.loop is not None and machine.loop.is_paused:
                machine.loop.resume()
        self._tasks.append(asyncio.create_task(self._churn.finish()))

    def is_settled(self) -> bool:
        """Nothing is being done any more, and all members run."""
        all_run = all(machine.is_up for machine in self.serving())
        return not self.busy and self._churn.is_finished and all_run

    def is_stuck(self) -> bool:
        """Too few voters still have all that they acknowledged: nobody can be elected.

        All that are admitted must run for that, if they can. Who only asks for admission cannot: it
        is admitted by a leader, and is no voter of the moment.
        """
        admitted = [machine for machine in self.serving() if machine.node_id]
        if not all(machine.is_up or machine.number in self._helpless for machine in admitted):
            return False
        whole = {m.node_id for m in self.running() if m.node and not m.node.raft.recovering}
        halves = self._observer.configurations.halves()
        return any(len(whole & {*h}) <= len(h) // 2 for h in halves)

    def is_expected(self, machine: Machine, error: FatalError) -> bool:
        """Whether a process may end with this error now."""
        disk = machine.storage.disk
        if isinstance(error, ConfigurationError) and (
            machine.node_id in self._gone or not machine.node_id
        ):
            return True
        if isinstance(error, LogCorrupt):
            alone = self._observer.configurations.halves() == [(machine.node_id,)]
            if alone and machine.was_recovering:
                self._helpless.add(machine.number)
            return machine.number in self._helpless
        if isinstance(error, DiskFailed):
            return bool(disk.fail_at)
        if isinstance(error, DiskFull):
            return disk.is_full or machine.storage.engines.is_full
        return isinstance(error, ConfigurationError) and machine.number in self._set_aside

    # --- choosing ---------------------------------------------------------------------------------

    def serves(self, machine: Machine) -> bool:
        """Its directory is that of a member, or asks to become one."""
        return machine.is_enlisted and machine.node_id not in self._gone

    def serving(self) -> list[Machine]:
        """The machines of all members, and of those who ask."""
        return [machine for machine in self.machines if self.serves(machine)]

    @property
    def has_foreign(self) -> bool:
        """Some machine runs on a foreign directory."""
        return bool(self._set_aside)

    def running(self) -> list[Machine]:
        """The machines of members with a process; it may be paused."""
        return [machine for machine in self.serving() if machine.is_up]

    def free(self) -> list[Machine]:
        """Of those the ones to which nothing is being done."""
        return [machine for machine in self.running() if machine.number not in self.busy]

    def lingering(self) -> list[str]:
        """Names of removed nodes that run on although somebody who knows it is where they dial.

        The others, who know nobody any more or only machines that are off, cannot be told.
        """
        return [
            machine.name
            for machine in self.machines
            if machine.node is not None
            and machine.node_id in self._gone
            and any(
                member.address in machine.node.roster.peer_addresses().values()
                and member.node is not None
                and member.node.roster.has_removed(machine.node_id)
                for member in self.running()
            )
        ]

    def is_deserted(self, machine: Machine) -> bool:
        """Whether clients have left it by now: all is quiet, and it was removed."""
        return self.is_over and machine.node_id in self._gone

    def may_lose(self, machine: Machine) -> bool:
        """Whether it may lose what it had synced: it has company, and no membership is under way.

        All that do not run or recover count as if they had lost something.
        """
        known, running = self._observer.configurations, self.running()
        if any(m.node is not None and m.node.raft.log.changes for m in running):
            return False
        whole = {m.node_id for m in running if m.node and not m.node.raft.recovering}
        voters = {voter for half in known.halves() for voter in half}
        return known.spares((voters - whole) | {machine.node_id})

    def pick(self) -> Machine | None:
        """A machine to which nothing is being done; the leader more often than others."""
        free = self.free()
        if not free:
            return None
        leader = self._observer.leader()
        leading = [machine for machine in free if machine.number == leader]
        return (
            leading[0]
            if leading and self._rng.random() < self.plan.leader_chance
            else self._rng.choice(free)
        )

    async def _wait(self, mean_seconds: float) -> None:
        """Some time, or until it is over."""
        left = self._rng.expovariate(1 / mean_seconds)
        while left > 0 and not self.is_over:
            step = min(left, 0.1)
            await asyncio.sleep(step)
            left -= step

    async def bring_back(self, machine: Machine) -> None:
        """Start the machine until it stays up; now and then take a backup of it before."""
        await self._wait(self._rng.choice((0.2, 0.5, 2.0)))
        if "foreign" in self.plan.faults and self._rng.random() < 0.5:
            self._copies.setdefault(machine.node_id, machine.storage.copy())
        while True:
            if machine.node is None:
                machine.storage.disk.mend()
                machine.start()
            if machine.node is not None or not self.serves(machine):
                break
            if machine.number in self._helpless:
                break
            await asyncio.sleep(0.1)
        self.busy.discard(machine.number)

    # --- processes and machines -------------------------------------------------------------------

    async def _kill(self) -> None:
        """SIGKILL."""
        if (machine := self.pick()) is not None:
            self.busy.add(machine.number)
            machine.kill()
            await self.bring_back(machine)

    async def _power(self) -> None:
        """One machine loses power; sometimes in the middle of its next start again."""
        if (machine := self.pick()) is None:
            return
        self.busy.add(machine.number)
        await self._until_writing(machine)
        machine.lose_power()
        while self._rng.random() < 0.3 and not self.is_over:
            await self._wait(0.1)
            machine.storage.disk.calls_left = self._rng.randint(0, 30)
            machine.start()
            if machine.node is not None:
                machine.lose_power()
        await self.bring_back(machine)

    async def _until_writing(self, machine: Machine) -> None:
        """The worst moment: something is on its way to the disk."""
        for _ in range(self._rng.randrange(400)):
            if machine.is_writing:
                return
            await asyncio.sleep(0.0005)

    async def _blackout(self) -> None:
        """All machines lose power at once."""
        hit = self.free()
        self.busy.update(machine.number for machine in hit)
        if hit:
            await self._until_writing(hit[0])
        for machine in hit:
            machine.lose_power()
        await asyncio.gather(*[self.bring_back(machine) for machine in hit])

    async def _stop(self) -> None:
        """An orderly stop."""
        if (machine := self.pick()) is None or machine.loop is None:
            return
        self.busy.add(machine.number)
        machine.loop.create_task(machine.stop())
        for _ in range(50):
            if machine.node is None:
                break
            await asyncio.sleep(0.1)
        else:
            machine.kill()
        await self.bring_back(machine)

    async def _pause(self) -> None:
        """SIGSTOP, and later SIGCONT."""
        if (machine := self.pick()) is None or machine.loop is None:
            return
        self.busy.add(machine.number)
        loop = machine.loop
        loop.pause()
        await self._wait(0.5)
        loop.resume(self._rng)
        self.busy.discard(machine.number)

    async def _transfer(self) -> None:
        """The leader is asked to hand over."""
        machine = next((m for m in self.machines if m.number == self._observer.leader()), None)
        if machine is not None and machine.node is not None and machine.loop is not None:
            machine.loop.create_task(machine.node.succession.hand_over(1.0))

    async def _drain(self) -> None:
        """An operator takes a machine out of service, asks for it, and takes it back."""
        machine = self.pick()
        if machine is None or machine.node is None:
            return
        node = machine.node
        draining = Draining(node, lambda: DISK)

        def began(answer: ChangeAnswer) -> None:
            self._tally.drained += answer.verdict is Verdict.DONE

        draining.request_change(ChangeRequest(Action.DRAIN), began)
        await self._wait(0.3)
        if machine.node is node:
            draining.request_change(ChangeRequest(Action.SPARE), _ignored)
            await self._wait(0.3)
        if machine.node is node:
            draining.request_change(ChangeRequest(Action.UNDRAIN), _ignored)

    async def _clock(self) -> None:
        """A wall clock jumps."""
        machine = self._rng.choice(self.serving())
        machine.pace.wall_offset += self._rng.choice((-3600.0, -2.0, -0.3, 0.3, 2.0, 3600.0))

    # --- the network ------------------------------------------------------------------------------

    async def _cut_for_a_while(self, ways: list[tuple[str, str]]) -> None:
        new = [way for way in ways if way not in self._network.cut]
        self._network.cut.update(new)
        await self._wait(0.8)
        self._network.cut.difference_update(new)

    def _ways(self, some: set[str]) -> list[tuple[str, str]]:
        names = [machine.name for machine in self.machines]
        return [(a, b) for a in names for b in names if (a in some) != (b in some)]

    async def _isolate(self) -> None:
        """One machine, often the leader, is cut off."""
        if (machine := self.pick()) is not None:
            await self._cut_for_a_while(self._ways({machine.name}))

    async def _depose(self) -> None:
        """The leader is cut off just long enough for another to take its place."""
        ways = self._ways({f"n{self._observer.leader()}"})
        new = [way for way in ways if way not in self._network.cut]
        self._network.cut.update(new)
        await asyncio.sleep(0.3 + 0.3 * self._rng.random())
        self._network.cut.difference_update(new)

    async def _partition(self) -> None:
        """Two halves."""
        some = {machine.name for machine in self.machines if self._rng.random() < 0.5}
        await self._cut_for_a_while(self._ways(some))

    async def _one_way(self) -> None:
        """Nothing leaves a machine, or nothing reaches it."""
        machine = self._rng.choice(self.serving())
        end = self._rng.randrange(2)
        ways = [way for way in self._ways({machine.name}) if way[end] == machine.name]
        await self._cut_for_a_while(ways)

    async def _ring(self) -> None:
        """Each reaches its neighbours only; with three machines one way is cut."""
        names = [machine.name for machine in self.serving()]
        start = self._rng.randrange(len(names))
        a, b = names[start], names[(start + max(1, len(names) // 2)) % len(names)]
        await self._cut_for_a_while([(a, b), (b, a)])

    async def _breaks(self) -> None:
        """All connections break."""
        self._network.break_connections()

    async def _slow_link(self) -> None:
        """One way takes long."""
        names = [machine.name for machine in self.serving()]
        if len(names) < 2:
            return
        a, b = self._rng.sample(names, 2)
        self._network.slow[a, b] = self._rng.random() * 0.2
        await self._wait(1.0)
        self._network.slow.pop((a, b), None)

    # --- disks ------------------------------------------------------------------------------------

    async def _slow_disk(self) -> None:
        """Syncs take up to a third of a second."""
        machine = self._rng.choice(self.serving())
        machine.pace.sync_max = 0.3 * self._rng.random()
        await self._wait(1.0)
        machine.pace.sync_max = 0.002

    async def _disk_fails(self) -> None:
        """EIO: the process must end, and what it had not synced is gone."""
        if (machine := self.pick()) is None:
            return
        self.busy.add(machine.number)
        machine.storage.disk.fail_from_now_on()
        await self._wait(0.5)
        machine.storage.disk.mend()
        if machine.loop is not None:
            machine.lose_power()
        else:
            machine.storage.disk.crash(self._rng)
            machine.storage.engines.power_lost()
        await self.bring_back(machine)

    async def _log_full(self) -> None:
        """No segment and no snapshot can be made."""
        if (machine := self.pick()) is None:
            return
        disk = machine.storage.disk
        disk.is_full = True
        await self._wait(1.0)
        disk.is_full = False

    async def _engine_full(self) -> None:
        """The engine takes nothing more."""
        machine = self._rng.choice(self.serving())
        engines = machine.storage.engines
        engines.is_full = True
        await self._wait(1.0)
        engines.is_full = False

    async def _lost_tail(self) -> None:
        """A disk loses what it had promised to keep: never on more than a minority."""
        machine = self.pick()
        if machine is None or not self.may_lose(machine):
            return
        self.busy.add(machine.number)
        machine.lose_power()
        if machine.storage.disk.lose_tail(self._rng, CLUSTER_NUMBER, machine.node_id):
            self._observer.promise(machine.node_id).is_void = True
            self._observer.note(f"{machine.name} lost its tail")
        await self.bring_back(machine)

    async def _foreign(self) -> None:
        """An empty directory, or an old copy, in the place of the right one: it must be refused."""
        machine = self.pick()
        if machine is None or machine.node is None or machine.node.raft.recovering:
            return
        voters = min(map(len, self._observer.configurations.halves()))
        if len(self._set_aside) >= (voters - 1) // 2:
            return
        old = self._copies.get(machine.node_id)
        if old is not None and self._is_known(machine, old) and self._rng.random() < 0.5:
            foreign = old.copy()
        elif machine.is_founder and self._is_known(machine, None):
            foreign, old = machine.new_storage(), None
        else:
            return
        if foreign.identity is None or not foreign.identity.has_others:
            return  # it would lead at once, without asking anybody who could know it as foreign
        promise = self._observer.promise(machine.node_id)
        self.busy.add(machine.number)
        self._set_aside[machine.number] = machine.storage
        machine.kill()
        machine.storage = foreign
        was_void, promise.is_void = promise.is_void, True
        machine.start()
        await self._wait(0.5)
        refused = isinstance(machine.refusal, ConfigurationError)
        self._tally.foreign_refused += refused and old is None
        self._tally.old_copies_refused += refused and old is not None
        if machine.loop is not None:
            machine.kill()
        promise.is_void = was_void
        machine.storage = self._set_aside.pop(machine.number)
        await self.bring_back(machine)

    def _is_known(self, machine: Machine, old: Storage | None) -> bool:
        """Whether every other node would know the directory (None: an empty one) as foreign.

        Removed ones that were started again are asked as well: they are members of the cluster that
        an old copy remembers.
        """
        oldest = 0 if old is None or old.identity is None else old.identity.incarnation + 1
        others = [
            self._set_aside.get(m.number, m.storage).identity
            for m in self.machines
            if m is not machine and (self.serves(m) or m.loop is not None)
        ]
        facts = [identity.peers.get(machine.node_id) for identity in others if identity]
        return bool(facts) and all(fact and fact.incarnation > oldest for fact in facts)


def _ignored(_: ChangeAnswer) -> None:
    """Whatever the answer is."""
