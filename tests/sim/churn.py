"""Members come and go: machines join, are removed, replaced, promoted and updated.

Whatever is asked for goes the way of operators: a request that is put to any member, or a process
that asks to join. What comes of it is the product's business, refusals included; here it is only
noted, and nothing is ever undone. Once that a directory was wiped, its id never comes back.

The rule of `tests.sim.swarm` holds here too, for the voters of the moment: never more than a
minority of them has lost what it had synced, and a wiped one counts until it is replaced.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from kvnode.store.ops import LEVEL, MEMBERS_LEVEL
from tests.sim.machine import Machine, Tally
from tests.sim.programs import NEWER, OLDER

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from tests.sim.observer import Observer
    from tests.sim.swarm import Nemesis

CHANGES = ("join", "remove", "replace", "promote", "exchange", "update", "zombie", "amnesia")
"""What this module does, by name."""

POLL_SECONDS = 0.05

AMNESIA_SYNC_SECONDS_MAX = 0.1
AMNESIA_POLL_SECONDS = 0.001
AMNESIA_POLLS_MAX = 1_000
"""A moment between a commit and the sync that notes it: made longer, and looked for often."""


class Churn:
    """See the module's docstring. Each public coroutine is one of `CHANGES`.

    Args:
        nemesis: whose machines these are.
        rng: decides.
        observer: knows the present membership.
        tally: counts refusals.
        level_max: the newest feature level of any program in this run.
    """

    def __init__(
        self,
        nemesis: Nemesis,
        rng: Random,
        observer: Observer,
        tally: Tally,
        level_max: int,
    ) -> None:
        self._nemesis = nemesis
        self._rng = rng
        self._observer = observer
        self._known = observer.configurations
        self._tally = tally
        self._level_max = level_max
        self._asked: Counter[str] = Counter()
        """How often somebody has asked for a change that concerns a member of this name."""
        self._kept: dict[int, str] = {}
        """Members whose removal was refused: names by id."""
        self._waiting: list[tuple[Machine, Node]] = []
        """Who was asked for a change and has not answered yet; once for each."""
        self._is_updated = False

    @property
    def is_finished(self) -> bool:
        """All programs are updated, for the quiet at the end, and no change is still asked for.

        Who died with a request will not answer.
        """
        return self._is_updated and not any(machine.node is node for machine, node in self._waiting)

    # --- who --------------------------------------------------------------------------------------

    def _spare(self) -> Machine | None:
        """A machine that has no part in the cluster, or none any more."""
        nemesis = self._nemesis
        idle = [
            machine
            for machine in nemesis.machines
            if machine.loop is None
            and machine.number not in nemesis.busy
            and not nemesis.serves(machine)
        ]
        return self._rng.choice(idle) if idle else None

    def _member(self, *, learner: bool = False) -> str:
        """The name of any member, or of any learner; "" if there is none."""
        registry = self._known.registry
        if registry is None:
            return ""
        ids = registry.learners if learner else tuple(registry.by_id)
        return registry.by_id[self._rng.choice(ids)].name if ids else ""

    def _peers(self) -> str:
        """Addresses that who joins may ask; not all of them need to be any good."""
        serving = [m.address for m in self._nemesis.machines if self._nemesis.serves(m)]
        self._rng.shuffle(serving)
        return ",".join(serving)

    # --- joining ----------------------------------------------------------------------------------

    async def join(self) -> None:
        """A machine comes."""
        machine = self._spare()
        if machine is None:
            return
        self._nemesis.busy.add(machine.number)
        machine.level = self._rng.choice((LEVEL, self._level_max))
        machine.enlist(self._peers(), promote=self._rng.random() < 0.8)
        await self._admission(machine)

    async def _admission(self, machine: Machine) -> None:
        """Start it until it is a member; some die while they ask, and some are refused."""
        rng, nemesis = self._rng, self._nemesis
        while not machine.is_up:
            if machine.loop is None:
                if machine.refusal is not None and not self._mends(machine):
                    machine.is_enlisted = False
                    break
                machine.ask(self._peers())
                machine.start()
            elif rng.random() < 0.02:
                machine.kill()
                await asyncio.sleep(rng.random())
            await asyncio.sleep(POLL_SECONDS)
        nemesis.busy.discard(machine.number)

    def _mends(self, machine: Machine) -> bool:
        """Do what the refusal says, if that is known."""
        self._tally.changes_refused += 1
        identity = machine.storage.identity
        assert identity is not None
        if machine.level < self._level_max:
            machine.level = self._level_max
            return True
        if identity.replaces:
            # Whoever was to be replaced is gone by now.
            machine.enlist(self._peers(), promote=machine.promote)
            return True
        return False

    async def replace(self) -> None:
        """A voter's disk dies, or is about to: another directory takes its place."""
        nemesis = self._nemesis
        old = nemesis.pick()
        if old is None or not self._known.is_voter(old.node_id):
            return
        self._asked[old.name] += 1
        spare = self._spare()
        if spare is not None and self._rng.random() < 0.5:
            # It is only sick: it takes part until its successor has its place.
            nemesis.busy.add(spare.number)
            spare.level = old.level
            spare.enlist(self._peers(), replaces=old.name)
            await self._admission(spare)
        elif nemesis.may_lose(old) and self._known.registry is not None:
            nemesis.busy.add(old.number)
            old.lose_power()
            self._known.wiped.add(old.node_id)
            self._observer.note(f"{old.name} is wiped")
            peers = ",".join(peer for peer in self._peers().split(",") if peer != old.address)
            old.enlist(peers, replaces=old.name)
            await self._admission(old)

    # --- what operators ask for -------------------------------------------------------------------

    async def remove(self) -> None:
        """A member is to go."""
        if name := self._member():
            self._ask(ChangeRequest(Action.REMOVE, name))

    async def promote(self) -> None:
        """A learner is to become a voter, ready or not."""
        if name := self._member(learner=True):
            self._ask(ChangeRequest(Action.PROMOTE, name))

    async def exchange(self) -> None:
        """A learner is to take a member's place."""
        name, other = self._member(), self._member(learner=True)
        if name and other:
            self._ask(ChangeRequest(Action.REPLACE, name, other))

    def _ask(self, request: ChangeRequest) -> None:
        """Put a request to any member whose program knows of such."""
        able = [m for m in self._nemesis.running() if m.level >= MEMBERS_LEVEL]
        if not able:
            return
        machine = self._rng.choice(able)
        assert machine.loop is not None
        assert machine.node is not None
        node = machine.node
        # By its own registry it calls the member by its id from now on.
        registry = node.roster.registry
        asked = registry.named(request.member) if registry is not None else None
        node_id = asked.node_id if asked is not None else 0
        self._asked[request.member] += 1
        self._waiting.append((machine, node))

        def answered(answer: ChangeAnswer) -> None:
            self._waiting.remove((machine, node))
            self._observer.note(f"{request.action} {request.member}: {answer.text}")
            if answer.verdict is Verdict.REFUSED:
                self._tally.changes_refused += 1
                if request.action is Action.REMOVE:
                    self._kept[node_id] = request.member
            elif answer.verdict is Verdict.DONE and request.action is Action.REMOVE:
                node.loop.call_soon(told, node_id)

        def told(removed: int) -> None:
            if removed not in (0, *self._known.removed):
                self._observer.violation(f"{request.member} was removed, it is said, and is not")

        self._observer.note(f"{machine.name} is asked to {request.action} {request.member}")
        node.changes.request_change(request, answered)

    async def amnesia(self) -> None:
        """The leader tells that a removal is committed, and loses power before its disk knows."""
        nemesis, leader = self._nemesis, self._observer.leader()
        for machine in [free for free in nemesis.free() if free.number == leader]:
            nemesis.busy.add(machine.number)
            machine.pace.sync_max = AMNESIA_SYNC_SECONDS_MAX
            await self.remove()
            for _ in range(AMNESIA_POLLS_MAX):
                if machine.node is None or nemesis.is_over:
                    break
                if machine.node.raft.log.has_committed_change():
                    machine.lose_power()
                    self._tally.notes_lost += 1
                    break
                await asyncio.sleep(AMNESIA_POLL_SECONDS)
            machine.pace.sync_max = 0.002
            await nemesis.bring_back(machine)

    async def zombie(self) -> None:
        """A removed node is started once more: it must end by itself, or get nowhere.

        Not while another runs on an old copy, which may remember this one as a member: together
        they could be the majority of a cluster that is long gone.
        """
        machine, nemesis = self._spare(), self._nemesis
        if machine is None or machine.node_id not in self._known.removed or nemesis.has_foreign:
            return
        nemesis.busy.add(machine.number)
        self._observer.note(f"{machine.name} is started although it was removed")
        machine.start()
        for _ in range(20):
            if machine.loop is None or nemesis.is_over:
                break
            await asyncio.sleep(POLL_SECONDS)
        if machine.loop is not None:
            machine.kill()
        nemesis.busy.discard(machine.number)

    # --- programs ---------------------------------------------------------------------------------

    def install_programs(self) -> None:
        """Some founders begin with an older program than others."""
        rng = self._rng
        oldest = OLDER if self._level_max == LEVEL else LEVEL
        for machine in self._nemesis.machines:
            if machine.is_enlisted:
                machine.level = rng.choice((oldest, oldest, self._level_max))

    async def update(self) -> None:
        """A machine gets the newest program, and a restart."""
        old = [m for m in self._nemesis.free() if m.level < self._level_max]
        if old:
            await self._update(self._rng.choice(old))

    async def _update(self, machine: Machine) -> None:
        self._nemesis.busy.add(machine.number)
        machine.kill()
        machine.level = self._level_max
        self._observer.note(f"{machine.name} gets a program of level {machine.level}")
        await self._nemesis.bring_back(machine)

    async def finish(self) -> None:
        """Update whoever was not, one by one."""
        nemesis = self._nemesis
        while old := [m for m in nemesis.serving() if m.level < self._level_max]:
            free = [machine for machine in old if machine in nemesis.free()]
            if free:
                await self._update(free[0])
            await asyncio.sleep(POLL_SECONDS)
        gone = [name for i, name in self._kept.items() if i in self._known.removed]
        if gone := [name for name in gone if self._asked[name] == 1]:
            self._observer.violation(f"to remove {gone} was refused, and they are gone")
        self._is_updated = True


def newest_level(rng: Random, chance: float) -> tuple[int, bool]:
    """The newest feature level of a run, and whether programs of different levels meet in it."""
    if rng.random() >= chance:
        return LEVEL, False
    return rng.choice((LEVEL, NEWER)), True
