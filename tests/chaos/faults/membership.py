"""Members come, go and take each other's place; and leadership goes where it is told to.

A change is asked for until it is done, as an operator's script would do; other faults may come in
between. A node that was removed must end by itself, with 78.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import time
from collections.abc import Sequence

from tests.chaos.faults.disks import DAMAGE, KILLED, WRONG_IDENTITY
from tests.chaos.faults.protocol import Fault, Injection, NotApplicable
from tests.chaos.plan import Whom
from tests.chaos.stage import Stage, StageNode
from tests.support.membership import ask, members_of

FAMILY = "membership"
CHANGE_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
NODES_MAX = 7


class Refused(Exception):
    """A change was never made; the text is the last answer."""


async def insist(stage: Stage, action: str, **fields: str) -> None:
    """Ask any node that runs, until it is done.

    Raises:
        Refused: it never was.
    """
    deadline = time.monotonic() + CHANGE_SECONDS_MAX
    text = "nobody answered"
    while time.monotonic() < deadline:
        for node in [node for node in stage.nodes if node.alive()]:
            try:
                answer = await asyncio.to_thread(ask, node, action, **fields)
            except (OSError, http.client.HTTPException):
                continue  # it was killed meanwhile, or stopped
            if answer.verdict == "done":
                return
            text = answer.text
            break
        await asyncio.sleep(POLL_SECONDS)
    raise Refused(f"{action} {fields}: {text}")


async def id_of(stage: Stage, name: str) -> str:
    """The id of a member, so that nobody is confused who takes its name.

    Raises:
        Refused: nobody knows it.
    """
    for node in stage.nodes:
        known = await asyncio.to_thread(members_of, node)
        if name in known:
            return str(known[name]["node_id"])
    raise Refused(f"nobody knows {name}")


class Changed(Injection):
    """The membership has changed, or is about to.

    Attributes:
        done: what has happened, in words.
    """

    def __init__(self, fault: Fault, stage: Stage, leaving: Sequence[StageNode]) -> None:
        super().__init__(fault, stage, leaving, excused=leaving, exits=[WRONG_IDENTITY, KILLED])
        self.done: list[str] = []
        self._leaving: list[StageNode] = []

    def join(self, *flags: str) -> StageNode:
        """A new node asks to become a member."""
        node = self.stage.newcomer(*flags)
        self.disturbance.targets.append(node.name)
        self.disturbance.excused.append(node.name)
        node.start()
        return node

    async def until_voter(self, name: str) -> None:
        """Wait until a member votes, as whoever leads says.

        Raises:
            Refused: it never does.
        """
        deadline = time.monotonic() + CHANGE_SECONDS_MAX
        while time.monotonic() < deadline:
            leader = await asyncio.to_thread(self.stage.leader)
            if leader is not None and name in await asyncio.to_thread(self._voters, leader):
                self.done.append(f"{name} votes")
                return
            self.stage.revive()
            await asyncio.sleep(POLL_SECONDS)
        raise Refused(f"{name} never became a voter")

    @staticmethod
    def _voters(leader: StageNode) -> set[str]:
        known = members_of(leader)
        return {name for name, member in known.items() if member["role"] != "learner"}

    def goes(self, node: StageNode) -> None:
        """A node is a member no more, or will soon be none: nobody waits for it."""
        self.stage.nodes.remove(node)
        self.stage.former.append(node)
        self._leaving.append(node)

    async def undo(self) -> None:
        """Wait until those that left have ended."""
        for node in self._leaving:
            code = await asyncio.to_thread(node.wait_exit, CHANGE_SECONDS_MAX)
            if code is None:
                await asyncio.to_thread(node.kill)
            self.done.append(f"{node.name} ended with {code}")
            self.stage.network.remove(node.name)
        self._leaving.clear()

    def took_hold(self) -> str | None:
        """All came about."""
        failed = any("ended with None" in text for text in self.done)
        return ", ".join(self.done) if self.done and not failed else None


class Change(Fault):
    """A change of the membership."""

    family = FAMILY
    group = DAMAGE
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (0.1, 1.0)

    async def change(self, injection: Changed, node: StageNode, rng: random.Random) -> None:
        """Make it.

        Raises:
            Refused: it was not made.
        """
        raise NotImplementedError

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Make it; what did not come about in time has no evidence."""
        if any(node.is_damaged for node in stage.nodes):
            raise NotApplicable("a node is damaged")
        if len(stage.nodes) >= NODES_MAX:
            raise NotApplicable("there are many nodes")
        injection = Changed(self, stage, ())
        try:
            await self.change(injection, targets[0], rng)
        except Refused as refusal:
            print(f"  {self.name}: {refusal}", flush=True)
            injection.done.clear()
        return injection


class Replaced(Change):
    """A new node takes the place of one that is well, which ends."""

    name = "member-replaced"

    async def change(self, injection: Changed, node: StageNode, rng: random.Random) -> None:
        """One joint change."""
        injection.disturbance.targets.append(node.name)
        injection.disturbance.excused.append(node.name)
        newcomer = injection.join("--replaces", node.name)
        injection.goes(node)
        await injection.until_voter(newcomer.name)


class AddedAndRemoved(Change):
    """A node joins and becomes a voter; then it, or another one, is removed."""

    name = "member-added-removed"

    async def change(self, injection: Changed, node: StageNode, rng: random.Random) -> None:
        """Two changes, and then there are as many as before."""
        newcomer = injection.join()
        await injection.until_voter(newcomer.name)
        leaves = rng.choice([newcomer, node])
        if leaves is node:
            injection.disturbance.targets.append(node.name)
            injection.disturbance.excused.append(node.name)
        node_id = await id_of(injection.stage, leaves.name)
        injection.goes(leaves)
        await insist(injection.stage, "remove", member=node_id)


class Learner(Change):
    """A node joins as a learner for good, is promoted, and then removed."""

    name = "learner-promoted"

    async def change(self, injection: Changed, node: StageNode, rng: random.Random) -> None:
        """Three changes."""
        stage = injection.stage
        newcomer = injection.join("--no-promote")
        deadline = time.monotonic() + CHANGE_SECONDS_MAX
        while time.monotonic() < deadline:
            if newcomer.name in await asyncio.to_thread(members_of, node):
                break
            await asyncio.sleep(POLL_SECONDS)
        await insist(stage, "promote", member=newcomer.name)
        await injection.until_voter(newcomer.name)
        node_id = await id_of(stage, newcomer.name)
        injection.goes(newcomer)
        await insist(stage, "remove", member=node_id)


class Transfer(Fault):
    """Leadership is handed to a node that was named."""

    name = "transfer"
    family = FAMILY
    whom = (Whom.FOLLOWER,)
    seconds = (0.1, 0.5)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """To the target."""
        injection = Changed(self, stage, ())
        injection.disturbance.exits.clear()
        injection.disturbance.targets.append(targets[0].name)
        try:
            await insist(stage, "transfer", member=targets[0].name)
        except Refused as refusal:
            raise NotApplicable(str(refusal)) from refusal
        injection.done.append(f"{targets[0].name} leads")
        return injection
