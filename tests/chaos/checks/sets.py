"""Pairs of sets: each element comes once and goes once, and is in one set of the two meanwhile.

Whoever takes it, it is taken once. After it is gone nobody sees it again; while it is there, from
the acknowledgement of its addition until somebody begins to take it, everybody does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.queues import Account, Push
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome

ADD = "add"
POP = "pop"
REMOVE = "remove"
"""From both sets: its result is two counts."""
MOVE = "move"
READ = "read"
"""Of both sets: its result is the members of each."""


@dataclass(slots=True)
class _Life:
    """What is known of one element.

    Attributes:
        since_ns: it is there from then on, if its addition was acknowledged.
        until_ns: nobody began to take it before that.
        gone_ns: it had been taken by then.
    """

    added: Entry
    since_ns: float
    until_ns: float = math.inf
    gone_ns: float = math.inf
    taken: list[Entry] = field(default_factory=list)
    is_doubtful: bool = False

    def goes(self, entry: Entry) -> None:
        """Somebody took it."""
        self.taken.append(entry)
        self.until_ns = min(self.until_ns, entry.invoked_ns)
        self.gone_ns = min(self.gone_ns, entry.returned_ns)

    def may_go(self, entry: Entry) -> None:
        """Somebody may have taken it."""
        self.is_doubtful = True
        self.until_ns = min(self.until_ns, entry.invoked_ns)


def check_pair(pair: str, entries: Sequence[Entry], final: Json, judgement: Judgement) -> None:
    """Judge one pair.

    Args:
        final: the members of each set at the end.
    """
    lives = _lives(pair, entries, judgement)
    left = [element for part in _members(final) for element in part]
    account = Account(
        {
            element: Push(life.added.invoked_ns, life.since_ns, life.added.outcome)
            for element, life in lives.items()
            # Somebody may have taken just this one: there or not, both are well.
            if not life.is_doubtful or element in left or life.taken
        },
        {
            element: [(entry.invoked_ns, entry.ended_ns or 0) for entry in life.taken]
            for element, life in lives.items()
            if life.taken
        },
        [
            entry.ended_ns or entry.invoked_ns
            for entry in entries
            if entry.what == POP and entry.outcome is Outcome.UNKNOWN
        ],
    )
    for text in account.judge(left):
        judgement.violate(f"{pair}: {text}")
    _judge_looks(pair, entries, lives, judgement)


def _lives(pair: str, entries: Sequence[Entry], judgement: Judgement) -> dict[str, _Life]:
    lives: dict[str, _Life] = {}
    for entry in entries:
        if entry.what == ADD:
            elements = _texts(entry.argument)
            # Of a refused addition it is known when it ended, but nothing is there from then on.
            since_ns = entry.returned_ns if entry.is_done else math.inf
            lives.update((element, _Life(entry, since_ns)) for element in elements)
            if entry.is_done and entry.result != len(elements):
                judgement.violate(f"{pair}: an element was there before: {entry}", [entry])
    for entry in entries:
        for element in _taken(entry):
            if element in lives:
                lives[element].goes(entry)
            else:
                judgement.violate(f"{pair}: nobody added this: {entry}", [entry])
        if entry.what == REMOVE and entry.outcome is Outcome.UNKNOWN:
            lives[str(entry.argument)].may_go(entry)
    return lives


def _taken(entry: Entry) -> list[str]:
    """What an operation took, as often as it says."""
    if not entry.is_done or entry.what not in (POP, REMOVE):
        return []
    if entry.what == POP:
        return _texts(entry.result)
    assert isinstance(entry.result, list), entry
    return [str(entry.argument) for count in entry.result if count]


def _judge_looks(
    pair: str, entries: Sequence[Entry], lives: dict[str, _Life], judgement: Judgement
) -> None:
    """Who looked saw all that was there, once, and nothing that was gone."""
    doubt = min(
        (e.invoked_ns for e in entries if e.what == POP and e.outcome is Outcome.UNKNOWN),
        default=math.inf,
    )
    newcomers = sorted(lives.items(), key=lambda life: life[1].since_ns)
    present: dict[str, _Life] = {}
    at = 0
    for entry, seen, is_all in _looks(entries):
        while at < len(newcomers) and newcomers[at][1].since_ns < entry.invoked_ns:
            present[newcomers[at][0]] = newcomers[at][1]
            at += 1
        if len(set(seen)) < len(seen):
            judgement.violate(f"{pair}: an element is in both sets: {entry}", [entry])
        for element in seen:
            life = lives.get(element)
            if life is None or life.gone_ns < entry.invoked_ns:
                wrong = "nobody added" if life is None else "came back"
                judgement.violate(
                    f"{pair}: {element} {wrong}: {entry}", [*(life.taken if life else ()), entry]
                )
        for element in [e for e, life in present.items() if life.until_ns < entry.invoked_ns]:
            del present[element]
        if is_all:
            _miss(pair, entry, set(seen), present, doubt, judgement)


def _miss(
    pair: str,
    entry: Entry,
    seen: set[str],
    present: dict[str, _Life],
    doubt: float,
    judgement: Judgement,
) -> None:
    """What was there from before the look to its end, and was not seen."""
    for element, life in present.items():
        if element in seen or life.until_ns <= entry.returned_ns:
            continue
        # A pop in doubt may have taken any element that nobody has seen taken.
        if life.taken or doubt > entry.returned_ns:
            judgement.violate(f"{pair}: {element} was not seen: {entry}", [life.added, entry])
            life.until_ns = entry.invoked_ns  # once is enough


def _looks(entries: Sequence[Entry]) -> Iterator[tuple[Entry, list[str], bool]]:
    """Everything that tells what is there: the look, what was seen, and whether that was all."""
    for entry in sorted(entries, key=lambda one: one.invoked_ns):
        if not entry.is_done:
            continue
        if entry.what == READ:
            yield entry, [element for part in _members(entry.result) for element in part], True
        elif entry.what == MOVE and entry.result:
            yield entry, [str(entry.argument)], False


def _members(value: Json) -> list[list[str]]:
    assert isinstance(value, list), value
    return [_texts(part) for part in value]


def _texts(value: Json) -> list[str]:
    assert isinstance(value, list), value
    return [str(one) for one in value]
