"""Which faults, on whom, when and for how long: made from a seed, without touching anything.

A run is a sequence of rounds. In each one fault is injected, or with even odds two that overlap;
then everything is healed, and the nodes have a moment's rest. Faults are dealt like cards: each
comes once, by its rate, before any comes again. The same seed gives the same plan; how far a run
gets in it is up to the machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

REST_SECONDS = (0.3, 1.5)
OVERLAP = (0.1, 0.7)
"""When the second fault of a pair begins, as a share of the first one's time."""
PAIR_ODDS = 0.5


class Whom(Enum):
    """Whom a fault is done to, by the part that they play when it comes."""

    LEADER = "leader"
    FOLLOWER = "follower"
    MINORITY = "minority"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Offer:
    """A fault as the plan knows it.

    Attributes:
        group: two of the same group never overlap, unless it is empty.
        rate: how many cards it has in a deck; the odds of a card if below one.
    """

    name: str
    whom: tuple[Whom, ...]
    seconds: tuple[float, float]
    group: str = ""
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault, once.

    Attributes:
        after_s: since the beginning of the round.
        seconds: how long it lasts.
        seed: of the choices that depend on how things stand then.
    """

    fault: str
    whom: Whom
    after_s: float
    seconds: float
    seed: int

    def __str__(self) -> str:
        """For the printed plan."""
        return f"{self.fault} on {self.whom.value} at {self.after_s:.1f} s for {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Round:
    """What happens between two calm moments."""

    number: int
    rest_s: float
    strikes: tuple[Strike, ...]

    def __str__(self) -> str:
        """For the printed plan."""
        return f"round {self.number}: " + ", and ".join(map(str, self.strikes))


def rounds(seed: int, offers: Sequence[Offer], pair_odds: float = PAIR_ODDS) -> Iterator[Round]:
    """The plan, without end.

    Args:
        pair_odds: of two faults instead of one.
    """
    rng = random.Random(seed)
    deck = _dealt(rng, offers)
    number = 0
    while True:
        number += 1
        rest_s = rng.uniform(*REST_SECONDS)
        first = next(deck)
        strikes = [_strike(rng, first, 0.0)]
        if rng.random() < pair_odds:
            partners = [
                offer
                for offer in offers
                if offer.name != first.name and not (offer.group and offer.group == first.group)
            ]
            weights = [offer.rate for offer in partners]
            if any(weights):
                second = rng.choices(partners, weights)[0]
                begins = strikes[0].seconds * rng.uniform(*OVERLAP)
                strikes.append(_strike(rng, second, begins))
        yield Round(number, rest_s, tuple(strikes))


def _dealt(rng: random.Random, offers: Sequence[Offer]) -> Iterator[Offer]:
    """Cards of one shuffled deck after the other."""
    if not any(offer.rate > 0 for offer in offers):
        raise ValueError("a plan without a fault")
    while True:
        deck = [
            offer
            for offer in offers
            for _ in range(int(offer.rate) + (rng.random() < offer.rate % 1))
        ]
        rng.shuffle(deck)
        yield from deck


def _strike(rng: random.Random, offer: Offer, after_s: float) -> Strike:
    whom = rng.choice(offer.whom)
    # Even odds for each order of magnitude: most are short, so that there are many.
    least, most = offer.seconds
    seconds = math.exp(rng.uniform(math.log(least), math.log(most))) if least else 0.0
    return Strike(offer.name, whom, after_s, seconds, rng.getrandbits(32))


def choose(names: Sequence[str], leader: str, whom: Whom, rng: random.Random) -> list[str]:
    """The nodes that play a part, in random order; the leader of those who do is among them."""
    others = [name for name in names if name != leader]
    rng.shuffle(others)
    match whom:
        case Whom.LEADER:
            return [leader]
        case Whom.FOLLOWER:
            return others[:1] or [leader]
        case Whom.MINORITY:
            return rng.sample(list(names), max(1, (len(names) - 1) // 2))
        case Whom.ALL:
            # Half the time the leader is the last to go.
            everybody = [*others, leader]
            if rng.random() < 0.5:
                rng.shuffle(everybody)
            return everybody
