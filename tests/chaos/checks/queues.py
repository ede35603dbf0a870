"""Queues: an account of every element.

Each element is pushed once. An acknowledged one is with one client or in a queue, and never with
two; a refused one is nowhere, and nothing is there that nobody pushed. What is missing was taken
along by pops whose outcome nobody knows: no more than there were, and none by a pop that had ended
long before the element was pushed.

Where nobody waits, and all push to one end and pop from the other, the order counts too: of two
elements of which one was pushed before the push of the other began, that one goes first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.record import Entry, Json
from tests.support.history import Outcome

PUSH = "push"
POP = "pop"
MOVE = "move"
"""From queue to queue: nothing leaves."""
STRAY_NS = 15_000_000_000
"""So long after its client is gone an op may still come into the log."""
EXAMPLES_MAX = 3


@dataclass(slots=True)
class Push:
    """When an element was sent, and when that ended with what; a moment in ns."""

    begin_ns: int
    end_ns: float
    outcome: Outcome


@dataclass(slots=True)
class Account:
    """What was pushed to some queues, and what was popped from them.

    Attributes:
        pushes: by element.
        pops: begin and end of each pop that had the element, in ns.
        doubts: when each pop ended of which nobody knows what it had, in ns.
    """

    pushes: dict[str, Push] = field(default_factory=dict)
    pops: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    doubts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Account:
        """The account that a record tells; elements are in the argument, or in the result."""
        account = cls()
        for entry in entries:
            end = entry.invoked_ns if entry.ended_ns is None else entry.ended_ns
            if entry.what == PUSH:
                push = Push(entry.invoked_ns, end if entry.is_done else math.inf, entry.outcome)
                account.pushes.update((element, push) for element in _elements(entry.argument))
            elif entry.what == POP and entry.is_done:
                for element in _elements(entry.result):
                    account.pops.setdefault(element, []).append((entry.invoked_ns, end))
            elif entry.what == POP and entry.outcome is Outcome.UNKNOWN:
                account.doubts.append(end)
        return account

    def judge(self, left: Sequence[str]) -> list[str]:
        """What is wrong, when this is what is still there."""
        times = Counter({element: len(pops) for element, pops in self.pops.items()})
        times.update(left)
        wrong = {
            "elements are there twice": [e for e, count in times.items() if count > 1],
            "elements were never pushed": [e for e in times if e not in self.pushes],
            "refused elements came": [
                e for e, push in self.pushes.items() if push.outcome is Outcome.REFUSED and times[e]
            ],
            "elements are lost": self._lost(times),
        }
        return [
            f"{len(elements)} {what}, for example {', '.join(elements[:EXAMPLES_MAX])}"
            for what, elements in wrong.items()
            if elements
        ]

    def _lost(self, found: Counter[str]) -> list[str]:
        """Acknowledged, not found, and more than the pops in doubt can have taken along."""
        missing = sorted(
            (push.begin_ns, element)
            for element, push in self.pushes.items()
            if push.outcome is Outcome.DONE and not found[element]
        )
        doubts = sorted(self.doubts)
        # The last element goes to the last pop, and so on: if any pairing works, this one does.
        while missing and doubts and missing[-1][0] <= doubts[-1] + STRAY_NS:
            missing.pop()
            doubts.pop()
        return [element for _, element in missing]

    def judge_order(self, name: str, left: Sequence[str]) -> list[str]:
        """Which went before one that had to go first; `left` was never popped."""
        spans = {element: pops[0] for element, pops in self.pops.items()}
        known = [e for e in (*spans, *left) if e in self.pushes]
        pushed = sorted((self.pushes[e].end_ns, e) for e in known)
        wrong = []
        at, latest, first = 0, -math.inf, ""
        for element in sorted(known, key=lambda e: self.pushes[e].begin_ns):
            while at < len(pushed) and pushed[at][0] < self.pushes[element].begin_ns:
                earlier = pushed[at][1]
                begin = spans[earlier][0] if earlier in spans else math.inf
                if begin > latest:
                    latest, first = begin, earlier
                at += 1
            if element in spans and spans[element][1] < latest:
                wrong.append(f"{name}: {element} was popped before {first}, pushed before it")
        return wrong[:EXAMPLES_MAX]


def _elements(value: Json) -> list[str]:
    assert isinstance(value, list), value
    return [str(element) for element in value]
