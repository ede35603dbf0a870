"""Faults of wall clocks: they jump, go to and fro, and run too fast or not at all.

Only `time.time` of the node is wrong, by its panel; monotonic clocks stay right, as they do on a
machine whose clock is set. Nothing of this may show: no client is excused, no process may end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

from tests.chaos.faults.protocol import Fault, Injection
from tests.chaos.panel import Slot
from tests.chaos.plan import Whom
from tests.chaos.stage import Stage, StageNode

FAMILY = "clocks"
CLOCK = "clock"
SWITCHES = (Slot.CLOCK_OFFSET_MS, Slot.CLOCK_RATE_PERCENT, Slot.CLOCK_STROBE_MS)
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


class Wrong(Injection):
    """Clocks that are wrong."""

    def __init__(
        self, fault: Fault, stage: Stage, settings: Mapping[str, Mapping[Slot, int]]
    ) -> None:
        nodes = [node for node in stage.nodes if node.name in settings]
        super().__init__(fault, stage, nodes)
        self._settings = settings
        self._before = self._reads()
        for node in nodes:
            node.panel[Slot.CLOCK_SINCE_MS] = int(time.monotonic() * 1000)
            for slot, value in settings[node.name].items():
                node.panel[slot] = value

    def _reads(self) -> int:
        return sum(node.panel[Slot.CLOCK_READS] for node in self.nodes)

    async def undo(self) -> None:
        """They are right again, at once: one more jump."""
        for node in self.nodes:
            for slot in SWITCHES:
                node.panel[slot] = 0

    def took_hold(self) -> str | None:
        """Somebody looked at them."""
        number = self._reads() - self._before
        told = {
            node: ", ".join(f"{slot.name.lower()}={value}" for slot, value in setting.items())
            for node, setting in self._settings.items()
        }
        return f"{number} readings of clocks with {told}" if number else None


class WrongClock(Fault):
    """A clock that is wrong in some way."""

    family = FAMILY
    group = CLOCK
    whom = (Whom.LEADER, Whom.FOLLOWER, Whom.ALL)
    seconds = (1.0, 6.0)

    def setting(self, rng: random.Random) -> Mapping[Slot, int]:
        """What the panel is to say."""
        raise NotImplementedError

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Each node another way."""
        return Wrong(self, stage, {node.name: self.setting(rng) for node in targets})


def offset(rng: random.Random) -> int:
    """Ahead or behind, by anything from a little to a day."""
    return rng.choice([-1, 1]) * rng.choice([900, 3 * SECOND, 10 * MINUTE, HOUR, DAY])


class Jump(WrongClock):
    """The clock is set: ahead or back, by a second or by a day."""

    name = "clock-jump"

    def setting(self, rng: random.Random) -> Mapping[Slot, int]:
        """An offset."""
        return {Slot.CLOCK_OFFSET_MS: offset(rng)}


class Strobe(WrongClock):
    """The clock goes to and fro, several times a second."""

    name = "clock-strobe"

    def setting(self, rng: random.Random) -> Mapping[Slot, int]:
        """An offset that comes and goes."""
        period = rng.choice([20, 100, 500])
        return {Slot.CLOCK_OFFSET_MS: offset(rng), Slot.CLOCK_STROBE_MS: period}


class Rate(WrongClock):
    """The clock runs ten times as fast, or at half its speed, or stands still."""

    name = "clock-rate"

    def setting(self, rng: random.Random) -> Mapping[Slot, int]:
        """What it gains on real time."""
        return {Slot.CLOCK_RATE_PERCENT: rng.choice([900, -50, -100])}
