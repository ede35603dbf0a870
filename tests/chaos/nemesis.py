"""The one who kills: seeded, and never more than the promise allows.

Each round ends nodes with SIGKILL, brings them back after a random while and waits until every node
is ready again: the leader alone, a follower alone, or all three at once. The last is the power cut.
It goes in random order with random gaps, because the worst moment is the one between two deaths:
a leader that lives a little longer than its followers must not acknowledge anything then.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from scripts.local_cluster import LocalCluster, LocalNode, NodeFailed

DOWN_SECONDS = (0.1, 1.5)
LONG_SECONDS = (4.0, 6.0)
"""Long enough for the others to cut the entries that the absent one needs: it gets a snapshot."""

LONG_ODDS = 0.4
GAP_SECONDS_MAX = 0.15
SETTLE_SECONDS = (0.3, 1.5)


class Target(Enum):
    """Whom a round kills."""

    LEADER = "leader"
    FOLLOWER = "follower"
    ALL = "all"


OPENING = (Target.LEADER, Target.ALL, Target.FOLLOWER)
"""So that even a short run has seen each kind."""
WEIGHTS = {Target.LEADER: 5, Target.FOLLOWER: 3, Target.ALL: 3}


@dataclass(slots=True)
class Outage:
    """One kill of one node: from just before the signal until the node was ready again."""

    target: Target
    node: str
    since_ns: int
    until_ns: int | None = None


@dataclass(slots=True)
class Nemesis:
    """Kills nodes of `cluster` until told to stop.

    Attributes:
        outages: every kill, in order.
        failures: nodes that did not come back, and why. The nemesis ends at the first.
    """

    cluster: LocalCluster
    seed: int
    outages: list[Outage] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """One round after the other; returns with all nodes ready unless one failed."""
        rng = random.Random(self.seed)
        rounds = 0
        while not stop.is_set():
            await _pause(stop, rng.uniform(*SETTLE_SECONDS))
            if stop.is_set():
                return
            target = OPENING[rounds] if rounds < len(OPENING) else _choose(rng)
            rounds += 1
            try:
                await self._round(target, rng)
            except NodeFailed as failure:
                self.failures.append(str(failure))
                return

    async def _round(self, target: Target, rng: random.Random) -> None:
        victims = await asyncio.to_thread(self._victims, target, rng)
        outages: list[Outage] = []
        for victim in victims:
            if outages:
                await asyncio.sleep(rng.uniform(0, GAP_SECONDS_MAX))
            outages.append(Outage(target, victim.name, time.monotonic_ns()))
            await asyncio.to_thread(victim.kill)
        self.outages += outages
        # Those that died last come back last: what they alone knew is missing when the others vote.
        for victim in victims:
            is_long = target is Target.FOLLOWER and rng.random() < LONG_ODDS
            await asyncio.sleep(rng.uniform(*(LONG_SECONDS if is_long else DOWN_SECONDS)))
            victim.start()
        for victim, outage in zip(victims, outages, strict=True):
            await asyncio.to_thread(victim.wait_ready)
            outage.until_ns = time.monotonic_ns()
        await asyncio.to_thread(self.cluster.wait_leader)

    def _victims(self, target: Target, rng: random.Random) -> Sequence[LocalNode]:
        leader = self.cluster.wait_leader()
        others = [node for node in self.cluster.nodes if node is not leader]
        if target is Target.LEADER:
            return [leader]
        if target is Target.FOLLOWER:
            return [rng.choice(others)]
        if rng.random() < 0.5:
            rng.shuffle(others)
            return [*others, leader]
        victims = list(self.cluster.nodes)
        rng.shuffle(victims)
        return victims


def _choose(rng: random.Random) -> Target:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
