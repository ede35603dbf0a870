"""Faults of the network: nodes and clients cut off, and lines that are slow, lossy or strange."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence

from tests.chaos import netns
from tests.chaos.faults.protocol import HELD_SECONDS, Fault, Injection, NotApplicable
from tests.chaos.netns import Namespace
from tests.chaos.plan import Whom
from tests.chaos.proxy import BLOCK, CLIENTS, PASS, Pair, Rule, both_ways
from tests.chaos.stage import Stage, StageNode

FAMILY = "network"
LINES = "lines"
"""Cuts and bad lines would take each other's place: one at a time."""


class BadLines(Injection):
    """Rules for some pairs, until they are taken back."""

    def __init__(
        self,
        fault: Fault,
        stage: Stage,
        nodes: Sequence[StageNode],
        rules: Mapping[Pair, Rule],
        excused: Sequence[StageNode],
    ) -> None:
        super().__init__(fault, stage, nodes, excused=excused)
        self.rules = rules
        self._before = stage.network.tally(rules)
        self._held = (0, 0)
        self._healed = False
        stage.network.set(rules)

    async def undo(self) -> None:
        """Look what waits, and let everything pass."""
        if not self._healed:
            self._healed = True
            cut = [pair for pair, rule in self.rules.items() if rule.blocked]
            self._held = self.stage.network.held(cut)
            self.stage.network.set(dict.fromkeys(self.rules, PASS))

    def took_hold(self) -> str | None:
        """Something was held up, broken or doubled."""
        now, before = self.stage.network.tally(self.rules), self._before
        waited, dials = self._held
        rule = next(iter(self.rules.values()))
        if rule.blocked:
            return f"{waited} bytes and {dials} new connections waited" if waited + dials else None
        if rule.reset_odds:
            what, number = "connections were reset", now.resets - before.resets
        elif rule.duplicated:
            what, number = "connections were doubled", now.duplicates - before.duplicates
        else:
            what, number = "bytes came late", now.late_bytes - before.late_bytes
        return f"{number} {what}" if number else None


def names(nodes: Iterable[StageNode]) -> list[str]:
    """What they are called."""
    return [node.name for node in nodes]


def between(some: Iterable[StageNode], others: Iterable[StageNode]) -> list[Pair]:
    """All pairs of the one and the other, both ways."""
    theirs = names(others)
    return both_ways((a, b) for a in names(some) for b in theirs)


class Cut(Fault):
    """Nodes that do not reach each other."""

    family = FAMILY
    group = LINES
    seconds = (1.0, 12.0)

    def pairs(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode]
    ) -> tuple[list[Pair], Sequence[StageNode]]:
        """What is cut, and who is without a majority, or may be."""
        raise NotImplementedError

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Cut."""
        if len(stage.nodes) < 2:
            raise NotApplicable("a node alone has no peers")
        pairs, lonely = self.pairs(stage, rng, targets)
        excused = lonely if seconds >= HELD_SECONDS else ()
        return BadLines(self, stage, targets, dict.fromkeys(pairs, BLOCK), excused)


class PartitionOne(Cut):
    """One node, or a minority, is cut off from all others; clients still reach it."""

    name = "partition-one"
    whom = (Whom.LEADER, Whom.FOLLOWER, Whom.MINORITY)

    def pairs(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode]
    ) -> tuple[list[Pair], Sequence[StageNode]]:
        """Between them and the others."""
        others = [node for node in stage.nodes if node not in targets]
        return between(targets, others), targets


class PartitionHalf(Cut):
    """The nodes fall into two halves, as even as may be; one of them has no majority."""

    name = "partition-half"
    whom = (Whom.ALL,)

    def pairs(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode]
    ) -> tuple[list[Pair], Sequence[StageNode]]:
        """Targets come in random order."""
        half = len(targets) // 2
        some, others = targets[:half], targets[half:]
        return between(some, others), targets if len(some) == len(others) else some


class PartitionRing(Cut):
    """Each node reaches two neighbours and no other: majorities overlap, none sees them all.

    Of three nodes the leader and one other do not reach each other, so that it is a chain.
    """

    name = "partition-ring"
    whom = (Whom.LEADER,)

    def pairs(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode]
    ) -> tuple[list[Pair], Sequence[StageNode]]:
        """Whoever is neither neighbour."""
        others = [node for node in names(stage.nodes) if node != targets[0].name]
        rng.shuffle(others)
        order = [targets[0].name, *others]
        size = len(order)
        if size == 3:
            return both_ways([(order[0], order[1])]), stage.nodes
        far = range(2, size - 1)
        pairs = [(order[at], order[(at + by) % size]) for at in range(size) for by in far]
        return pairs, stage.nodes


class PartitionOneWay(Cut):
    """Nobody hears a node, or a node hears nobody."""

    name = "partition-one-way"
    whom = (Whom.LEADER, Whom.FOLLOWER)

    def pairs(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode]
    ) -> tuple[list[Pair], Sequence[StageNode]]:
        """One of the two directions."""
        node = targets[0].name
        others = [other for other in names(stage.nodes) if other != node]
        if rng.random() < 0.5:
            return [(node, other) for other in others], targets
        return [(other, node) for other in others], targets


class CutFromClients(Cut):
    """The leader reaches its peers, but no client reaches it."""

    name = "cut-from-clients"
    whom = (Whom.LEADER,)

    def pairs(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode]
    ) -> tuple[list[Pair], Sequence[StageNode]]:
        """Between it and them."""
        return both_ways((CLIENTS, name) for name in names(targets)), targets


class Lost(Injection):
    """Packets that the kernel loses, in the namespaces of some nodes."""

    def __init__(
        self, fault: Fault, stage: Stage, nodes: Sequence[StageNode], excused: Sequence[StageNode]
    ) -> None:
        super().__init__(fault, stage, nodes, excused=excused)
        self._lost = 0
        self._healed = False

    async def undo(self) -> None:
        """Count, and lose none any more."""
        if self._healed:
            return
        self._healed = True
        for node in self.nodes:
            if node.namespace is not None:
                self._lost += await asyncio.to_thread(node.namespace.lost_packets)
                await asyncio.to_thread(node.namespace.heal)

    def took_hold(self) -> str | None:
        """Some were lost."""
        return f"{self._lost} packets were lost" if self._lost else None


class Packets(Fault):
    """Packets are lost, by iptables in the node's namespace."""

    family = FAMILY
    group = LINES
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (1.0, 12.0)

    def missing(self, disks: Sequence[str]) -> str | None:
        """Namespaces."""
        return netns.missing()

    def lose(self, namespace: Namespace, node: StageNode, rng: random.Random) -> None:
        """Give the orders."""
        raise NotImplementedError

    def excused(
        self, stage: Stage, targets: Sequence[StageNode], seconds: float
    ) -> Sequence[StageNode]:
        """Whose clients may see errors."""
        raise NotImplementedError

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Lose them."""
        node = targets[0]
        if node.namespace is None:
            raise NotApplicable("the nodes have no namespaces")
        injection = Lost(self, stage, [node], self.excused(stage, [node], seconds))
        await asyncio.to_thread(self.lose, node.namespace, node, rng)
        return injection


class PacketsCut(Packets):
    """All packets between a node and its peers are lost, one way or both."""

    name = "packets-cut"

    def lose(self, namespace: Namespace, node: StageNode, rng: random.Random) -> None:
        """Those of the connections that peers dialled, and of those that it dialled itself."""
        ways = rng.choice([("INPUT",), ("OUTPUT",), ("INPUT", "OUTPUT")])
        fronts = netns.front_address()
        for chain in ways:
            here, there = ("--dport", "-s") if chain == "INPUT" else ("--sport", "-d")
            namespace.lose(chain, ["-p", "tcp", here, str(node.own.peer)], 1.0)
            namespace.lose(chain, ["-p", "tcp", there, fronts], 1.0)

    def excused(
        self, stage: Stage, targets: Sequence[StageNode], seconds: float
    ) -> Sequence[StageNode]:
        """As with any other cut."""
        return targets if seconds >= HELD_SECONDS else ()


class PacketsLost(Packets):
    """A share of a node's packets is lost, whoever they are for; TCP makes up for it, slowly."""

    name = "packets-lost"

    def lose(self, namespace: Namespace, node: StageNode, rng: random.Random) -> None:
        """All but an operator's."""
        share = rng.choice([0.02, 0.1, 0.3])
        admin = str(node.own.admin)
        namespace.lose("INPUT", ["-p", "tcp", "!", "--dport", admin], share)
        namespace.lose("OUTPUT", ["-p", "tcp", "!", "--sport", admin], share)

    def excused(
        self, stage: Stage, targets: Sequence[StageNode], seconds: float
    ) -> Sequence[StageNode]:
        """A leader whose packets are lost holds everybody up."""
        return stage.nodes


class BadLine(Fault):
    """Lines between nodes, and to their clients, that are no good."""

    family = FAMILY
    group = LINES
    whom = (Whom.LEADER, Whom.FOLLOWER, Whom.ALL)
    seconds = (2.0, 8.0)

    def rule(self, rng: random.Random) -> Rule:
        """What is wrong with them."""
        raise NotImplementedError

    def pairs(self, stage: Stage, targets: Sequence[StageNode]) -> list[Pair]:
        """All lines of the targets to other nodes."""
        return between(targets, [node for node in stage.nodes if node is not targets[0]])

    def excused(self, stage: Stage, targets: Sequence[StageNode]) -> Sequence[StageNode]:
        """Whose clients may see errors."""
        return ()

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Both ways, or with even odds one way only."""
        pairs = self.pairs(stage, targets)
        if rng.random() < 0.5:
            pairs = pairs[rng.randrange(2) :: 2]
        if not pairs:
            raise NotApplicable("there is no such line")
        rules = dict.fromkeys(pairs, self.rule(rng))
        return BadLines(self, stage, targets, rules, self.excused(stage, targets))


class Slow(BadLine):
    """Everything comes later by 5 to 100 ms, and by up to as much again."""

    name = "slow-lines"

    def rule(self, rng: random.Random) -> Rule:
        """Delay and jitter."""
        delay = rng.choice([0.005, 0.02, 0.1])
        return Rule(delay_s=delay, jitter_s=delay)


class Narrow(BadLine):
    """Few bytes pass in a second."""

    name = "narrow-lines"

    def rule(self, rng: random.Random) -> Rule:
        """A rate."""
        return Rule(bytes_per_s=rng.choice([64, 256, 1024]) * 1024.0)

    def excused(self, stage: Stage, targets: Sequence[StageNode]) -> Sequence[StageNode]:
        """A line that is too narrow for what is written holds everybody up."""
        return stage.nodes


class Lossy(BadLine):
    """Connections between nodes break now and then."""

    name = "lossy-lines"

    def rule(self, rng: random.Random) -> Rule:
        """Odds."""
        return Rule(reset_odds=rng.choice([0.01, 0.1]))


class LossyClients(BadLine):
    """Connections of clients break now and then."""

    name = "lossy-clients"

    def rule(self, rng: random.Random) -> Rule:
        """Odds."""
        return Rule(reset_odds=rng.choice([0.003, 0.03]))

    def pairs(self, stage: Stage, targets: Sequence[StageNode]) -> list[Pair]:
        """The lines of the targets to their clients."""
        return both_ways((CLIENTS, name) for name in names(targets))

    def excused(self, stage: Stage, targets: Sequence[StageNode]) -> Sequence[StageNode]:
        """Their clients see it."""
        return targets


class Dripping(BadLine):
    """Bytes between nodes come in drops, so that frames arrive in many parts."""

    name = "dripping-lines"

    def rule(self, rng: random.Random) -> Rule:
        """Small pieces, one after the other."""
        return Rule(piece_bytes=rng.choice([64, 512, 4096]), piece_s=0.001)

    def excused(self, stage: Stage, targets: Sequence[StageNode]) -> Sequence[StageNode]:
        """A line that is too slow for what is written holds everybody up."""
        return stage.nodes


class Doubled(BadLine):
    """Who dials a node dials it twice, with the same hello; the lines are broken to make them."""

    name = "doubled-connections"

    def rule(self, rng: random.Random) -> Rule:
        """Twice."""
        return Rule(duplicated=True)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Break what there is first."""
        injection = await super().inject(stage, rng, targets, seconds)
        await asyncio.to_thread(stage.network.break_lines, self.pairs(stage, targets))
        return injection
