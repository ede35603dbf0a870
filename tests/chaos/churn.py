"""The one who changes the membership, and kills while it changes: seeded.

Members join (some as learners for good), are promoted, removed and replaced, and hand leadership to
each other; at times two changes are asked for at once, of which the cluster makes one after the
other. While a change is under way a process may be killed with SIGKILL, or stopped with
SIGSTOP as if its machine hung: the newest, the leader or any other; it comes back after a moment. A
change is asked for until it has happened, as an operator's script would do. One that never happens
is a finding, and so is a node that does not come back, or a removed one that does not say so.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from scripts.local_cluster import READY_SECONDS_MAX, LocalNode, NodeFailed
from tests.chaos.crew import Crews
from tests.chaos.record import Disturbance
from tests.support.membership import Answer, MemberCluster, ask, members_of, roles_of

VOTERS_MAX = 7
LEARNERS_MAX = 2
CHANGE_SECONDS_MAX = 60.0
"""From the first request to the last trace of it, kills and restarts included."""
POLL_SECONDS = 0.2
MEDDLE_ODDS = 0.25
STRIKE_ODDS = 0.6
STRIKE_SECONDS_MAX = 1.5
"""After the beginning of a change."""
PAUSE_ODDS = 0.25
"""Share of the strikes that do not kill."""
DOWN_SECONDS = (0.1, 1.5)
PAUSE_SECONDS = (0.5, 3.0)
"""Longer than an election takes: a leader wakes up and is none any more."""
REST_SECONDS_MAX = 0.5
STORY_LENGTH = 6
REMOVED_EXIT = 78
REMOVED_TEXT = "was removed from the cluster"
SPARE = "spare"
NOBODY = Answer(0, "", "nobody answered", "")


@dataclass(slots=True)
class Churn:
    """Changes the members of `cluster` one after the other.

    Attributes:
        crews: clients of the nodes that serve.
        voters_max: nobody joins to vote when there are so many.
        voters, learners: names of the members as they must be in the end of a change.
        outages: every kill, stop and removal, from just before until the node serves again.
        done: how many changes there were, by kind; `seconds`: how long the longest took.
        refusals: how often an answer was no, by the answer.
        kills, pauses: how many processes were killed, and how many were stopped for a while.
        failures: what went wrong; the churn ends at the first.
        former: nodes that were removed and have said so.
    """

    cluster: MemberCluster
    crews: Crews
    seed: int
    voters_max: int = VOTERS_MAX
    voters: set[str] = field(default_factory=set)
    learners: set[str] = field(default_factory=set)
    outages: list[Disturbance] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    pauses: int = 0
    failures: list[str] = field(default_factory=list)
    former: list[LocalNode] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _born: int = 0
    _going: set[str] = field(default_factory=set)
    _spared: set[str] = field(default_factory=set)
    _down: set[str] = field(default_factory=set)
    _story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def found(self) -> None:
        """Start the first node, which is told of nobody."""
        node = self.cluster.pioneer(self._name())
        self.voters.add(node.name)
        node.start()
        await self._settle()

    async def run(self, changes: int) -> None:
        """Make so many changes; returns with all members ready unless one failed."""
        try:
            while self.done.total() < changes:
                await self._round()
        except NodeFailed as failure:
            self.failures.append(f"{failure} (story: {'; '.join(self._story[-STORY_LENGTH:])})")

    async def _round(self) -> None:
        kind, change = self._choose()
        began = time.monotonic()
        self._story.append(kind)
        beside = [
            asyncio.create_task(act(random.Random(self._random.random())))
            for act in (self._strike, self._meddle)
        ]
        try:
            await change()
            await asyncio.gather(*beside)
            await self._settle()
        finally:
            for task in beside:
                task.cancel()
        took = time.monotonic() - began
        self.done[kind] += 1
        self.seconds[kind] = max(took, self.seconds.get(kind, 0.0))
        print(
            f"  {self.done.total():3}  {self._story[-1]}: {took:.1f} s; "
            f"{len(self.voters)} voters, {len(self.learners)} learners",
            flush=True,
        )
        await asyncio.sleep(self._random.uniform(0, REST_SECONDS_MAX))

    def _choose(self) -> tuple[str, Callable[[], Awaitable[None]]]:
        few, many = len(self.voters) < self.voters_max, len(self.voters) > 1
        odds = {
            "join": (self._join, 6 if few else 0),
            "join as a learner": (self._join_as_learner, len(self.learners) < LEARNERS_MAX),
            "promote": (self._promote, 2 if self.learners and few else 0),
            "join two": (self._join_two, 2 if len(self.voters) < self.voters_max - 1 else 0),
            "remove two": (self._remove_two, 2 if len(self.voters) > 3 else 0),
            "remove": (self._remove, 4 if many or self.learners else 0),
            "replace": (self._replace, 2),
            "replace a lost one": (self._replace_lost, 2 if len(self.voters) > 2 else 0),
            "transfer": (self._transfer, 2 if many else 0),
        }
        weights = [float(weight) for _, weight in odds.values()]
        kind = self._random.choices(list(odds), weights)[0]
        return kind, odds[kind][0]

    # --- the changes ------------------------------------------------------------------------------

    async def _join(self) -> None:
        node = self._newcomer()
        self.voters.add(node.name)
        node.start()

    async def _join_two(self) -> None:
        await self._join()
        await self._join()

    async def _join_as_learner(self) -> None:
        node = self._newcomer("--no-promote")
        self.learners.add(node.name)
        node.start()

    async def _promote(self) -> None:
        name = self._pick(self.learners)
        await self._insist("promote", member=name)
        self.learners.remove(name)
        self.voters.add(name)

    async def _remove(self) -> None:
        may_go = self.learners | (self.voters if len(self.voters) > 1 else set())
        await self._remove_one(self._pick(may_go))

    async def _remove_two(self) -> None:
        first = self._pick(self.voters)
        second = self._pick(self.voters - {first})
        await asyncio.gather(self._remove_one(first), self._remove_one(second))

    async def _remove_one(self, name: str) -> None:
        node_id = await self._id_of(name)
        self._goes(name)
        await self._insist("remove", member=node_id)

    async def _replace(self) -> None:
        """A newcomer takes the place of a voter that is well."""
        old = self._pick(self.voters)
        node = self._newcomer("--replaces", old)
        self._goes(old)
        self.voters.add(node.name)
        node.start()

    async def _replace_lost(self) -> None:
        """A machine lost its disk: its node comes back empty, under its old name."""
        name = self._pick(self.voters)
        node = self.cluster.named(name)
        self._spared.add(name)
        self.kills += 1
        outage = self._note_outage("lost", node, kills=True)
        await asyncio.to_thread(node.kill)
        shutil.rmtree(node.data)
        self.cluster.set_flags(node, *self.cluster.join_flags(), "--replaces", name)
        node.start()
        self._spared.remove(name)
        await self._serves_again(node)
        outage.healed_ns = outage.until_ns = time.monotonic_ns()

    async def _transfer(self) -> None:
        name = self._random.choice(["", *sorted(self.voters)])
        self._story[-1] += f" to {name or 'the best'}"
        await self._insist("transfer", **({"member": name} if name else {}))

    def _pick(self, names: set[str]) -> str:
        name = self._random.choice(sorted(names))
        self._story[-1] += f" {name}"
        return name

    def _newcomer(self, *flags: str) -> LocalNode:
        node = self.cluster.newcomer(self._name(), *flags)
        self._story[-1] += f" ({node.name})"
        return node

    def _name(self) -> str:
        self._born += 1
        return f"m{self._born}"

    def _goes(self, name: str) -> None:
        """A member is about to be removed, so what its clients meet is excused from now on."""
        self.voters.discard(name)
        self.learners.discard(name)
        self._going.add(name)
        self._note_outage("removed", self.cluster.named(name))

    # --- asking -----------------------------------------------------------------------------------

    async def _meddle(self, rng: random.Random) -> None:
        """Perhaps ask for another change at the same time: a name is reserved, and given up."""
        if rng.random() >= MEDDLE_ODDS:
            return
        self._story[-1] += " [beside another]"
        await asyncio.sleep(rng.uniform(0, STRIKE_SECONDS_MAX))
        await self._insist("add", member=SPARE)
        await self._insist("remove", member=await self._id_of(SPARE))

    async def _insist(self, action: str, **fields: str) -> None:
        """Ask, anybody who runs, until it is done.

        Raises:
            NodeFailed: it never was.
        """
        deadline = time.monotonic() + CHANGE_SECONDS_MAX
        answer = NOBODY
        while time.monotonic() < deadline:
            node = await self._anybody()
            try:
                answer = await asyncio.to_thread(ask, node, action, **fields)
            except (OSError, http.client.HTTPException):
                answer = NOBODY  # it was killed meanwhile
            if answer.verdict == "done":
                return
            self.refusals[answer.text or str(answer.code)] += 1
            await asyncio.sleep(POLL_SECONDS)
        raise NodeFailed(f"{action} {fields} was never done; the last answer: {answer.text}")

    async def _id_of(self, name: str) -> str:
        deadline = time.monotonic() + CHANGE_SECONDS_MAX
        while time.monotonic() < deadline:
            known = await asyncio.to_thread(members_of, await self._anybody())
            if name in known:
                return str(known[name]["node_id"])
            await asyncio.sleep(POLL_SECONDS)
        raise NodeFailed(f"nobody knows the member {name}")

    async def _anybody(self) -> LocalNode:
        """A node that runs; when all are down, the first that is back."""
        while not (running := self._running()):
            await asyncio.sleep(POLL_SECONDS)
        return self._random.choice(running)

    def _running(self) -> list[LocalNode]:
        return [node for node in self.cluster.nodes if node.alive()]

    # --- killing ----------------------------------------------------------------------------------

    async def _strike(self, rng: random.Random) -> None:
        """Perhaps kill or stop one process, soon, and let it come back."""
        if rng.random() >= STRIKE_ODDS:
            return
        await asyncio.sleep(rng.uniform(0, STRIKE_SECONDS_MAX))
        targets = [node for node in self._running() if node.name not in self._spared]
        leader = await asyncio.to_thread(self.cluster.leader)
        victim = rng.choice([leader or targets[0], targets[-1], rng.choice(targets)])
        if not victim.alive() or victim.name in self._spared:
            return
        if rng.random() < PAUSE_ODDS:
            outage = await self._pause(victim, rng)
        else:
            outage = await self._kill(victim, rng)
        await self._serves_again(victim)
        outage.healed_ns = outage.until_ns = time.monotonic_ns()

    async def _pause(self, victim: LocalNode, rng: random.Random) -> Disturbance:
        self._story[-1] += f" [{victim.name} stopped]"
        self.pauses += 1
        outage = self._note_outage("stopped", victim)
        victim.send(signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(*PAUSE_SECONDS))
        victim.send(signal.SIGCONT)
        return outage

    async def _kill(self, victim: LocalNode, rng: random.Random) -> Disturbance:
        self._story[-1] += f" [{victim.name} killed]"
        self.kills += 1
        outage = self._note_outage("killed", victim, kills=True)
        self._down.add(victim.name)
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(rng.uniform(*DOWN_SECONDS))
        victim.start()
        self._down.remove(victim.name)
        return outage

    def _note_outage(self, what: str, node: LocalNode, *, kills: bool = False) -> Disturbance:
        outage = Disturbance(
            what,
            "membership",
            [node.name],
            time.monotonic_ns(),
            evidence=what,
            kills=kills,
            excused=[node.name],
        )
        self.outages.append(outage)
        return outage

    async def _serves_again(self, node: LocalNode) -> None:
        """Wait until a node is ready, or has said that it was removed.

        Raises:
            NodeFailed: neither, or it ended for another reason.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not await asyncio.to_thread(node.ready):
            if not node.alive() and node.name in self._going:
                return  # `_settle` looks at how it ended
            if node.name not in self._down:
                self._check_alive(node)
            if time.monotonic() > deadline:
                raise NodeFailed(f"{node.name} is not ready again:\n{node.log_tail()}")
            await asyncio.sleep(POLL_SECONDS)

    @staticmethod
    def _check_alive(node: LocalNode) -> None:
        if not node.alive():
            code = node.wait_exit(0)
            raise NodeFailed(f"{node.name} ended with exit code {code}:\n{node.log_tail()}")

    # --- after a change ---------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until all members are ready and agree who they are, and all others are gone.

        Raises:
            NodeFailed: that did not come about.
        """
        for name in sorted(self._going):
            await self._leaves(self.cluster.named(name))
        for name in sorted(self.voters | self.learners):
            await self._serves_again(self.cluster.named(name))
        wanted = Counter(
            [(name, "voter") for name in self.voters]
            + [(name, "learner") for name in self.learners]
        )
        deadline = time.monotonic() + CHANGE_SECONDS_MAX
        for node in self.cluster.nodes:
            while (known := await asyncio.to_thread(roles_of, node)) != wanted:
                self._check_alive(node)
                if time.monotonic() > deadline:
                    raise NodeFailed(f"{node.name} knows {dict(known)} and not {dict(wanted)}")
                await asyncio.sleep(POLL_SECONDS)
            self.crews.hire(node)
        self.crews.look_after()

    async def _leaves(self, node: LocalNode) -> None:
        """A removed node ends by itself and says why; killed before it could, it does so later.

        Raises:
            NodeFailed: it did not.
        """
        code = await asyncio.to_thread(node.wait_exit, CHANGE_SECONDS_MAX)
        if code is not None and self._random.random() < 0.5:
            node.start()
            code = await asyncio.to_thread(node.wait_exit, READY_SECONDS_MAX)
        if code != REMOVED_EXIT or REMOVED_TEXT not in node.log_tail():
            raise NodeFailed(f"{node.name} was removed and left with {code}:\n{node.log_tail()}")
        self._going.remove(node.name)
        # What its clients meet stays excused for ever; the others are left in peace from now on.
        for outage in self.outages:
            if node.name in outage.targets and outage.healed_ns is None:
                outage.healed_ns = time.monotonic_ns()
        await self.crews.dismiss(node.name)
        self.cluster.nodes.remove(node)
        self.former.append(node)
        shutil.rmtree(node.data)
