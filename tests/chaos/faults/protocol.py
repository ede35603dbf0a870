"""What a fault is: something that is done to nodes, taken back, and shown to have taken hold.

A `Fault` is a kind, by name; `inject` does it to some nodes and returns an `Injection`, which lasts
until it is healed. None suspends a promise. What clients may see meanwhile is said beforehand: the
nodes that are excused, and the codes with which processes may end.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tests.chaos.plan import Whom
from tests.chaos.record import Disturbance
from tests.chaos.stage import Stage, StageNode

HELD_SECONDS = 6.0
"""Nodes hold commands for ten seconds; a fault that keeps them from a leader for less than this
leaves time for an election, so that no client may see an error."""


class NotApplicable(Exception):
    """The fault cannot be injected now; that is no finding."""


class Injection(ABC):
    """A fault that was injected.

    Attributes:
        disturbance: what the checks are told.
        nodes: whom it was done to.
        findings: sentences about promises that it saw broken itself.
    """

    def __init__(
        self,
        fault: Fault,
        stage: Stage,
        nodes: Sequence[StageNode],
        *,
        excused: Sequence[StageNode] = (),
        exits: Sequence[int] = (),
        kills: bool = False,
    ) -> None:
        self.stage = stage
        self.nodes = list(nodes)
        self.findings: list[str] = []
        self.disturbance = Disturbance(
            fault.name,
            fault.family,
            [node.name for node in nodes],
            time.monotonic_ns(),
            kills=kills,
            excused=[node.name for node in excused],
            exits=list(exits),
        )

    @property
    def excused(self) -> set[str]:
        """Names of the nodes whose clients may see errors."""
        return set(self.disturbance.excused)

    @property
    def allowed_exits(self) -> set[int]:
        """Codes with which its nodes may end."""
        return set(self.disturbance.exits)

    async def heal(self) -> None:
        """Take it back, and look for evidence before that where it is gone afterwards."""
        await self.undo()
        self.disturbance.healed_ns = time.monotonic_ns()
        self.disturbance.evidence = self.took_hold()

    @abstractmethod
    async def undo(self) -> None:
        """Take it back; more than once does no harm."""

    @abstractmethod
    def took_hold(self) -> str | None:
        """What shows that it took hold; None: it did not. Asked when it was taken back."""


class Fault(ABC):
    """A kind of fault.

    Attributes:
        name: as it is chosen on the command line.
        family: the module's.
        group: two faults of one group are never injected at the same time; empty: of none.
        whom: whom it may be done to.
        seconds: how long it lasts at least, and at most.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    group: ClassVar[str] = ""
    whom: ClassVar[tuple[Whom, ...]]
    seconds: ClassVar[tuple[float, float]] = (1.0, 4.0)

    def missing(self, disks: Sequence[str]) -> str | None:
        """What this machine, or a stage with these kinds of disks, lacks for it; None: nothing."""
        return None

    @abstractmethod
    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Do it to these nodes; it will be healed after so many seconds.

        Raises:
            NotApplicable: it cannot be done now.
        """


def excused_for(nodes: Sequence[StageNode], seconds: float) -> Sequence[StageNode]:
    """Clients of nodes without a leader are excused when that lasts longer than nodes wait."""
    return nodes if seconds >= HELD_SECONDS else ()
