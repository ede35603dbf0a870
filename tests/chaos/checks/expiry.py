"""Keys with a lifetime: gone for good, and not before the deadline by the cluster's clock.

What a client may conclude without trusting any clock of its own:

* A key that somebody missed, after it had been written or seen, is gone; nobody sees it later.
* Who misses a key asks for the cluster's time afterwards. It went in time only if that is behind
  the deadline, which its owner was told when it was set. A key that is kept has none.
* The deadline less the lifetime is the stamp of the write. Stamps agree with real time, and do
  not run ahead of it, unless so many nodes went down together that nobody could tell the next
  leader what time it was.
* At the end, when the cluster's time is well behind every deadline, only kept keys are there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.order import out_of_order
from tests.chaos.record import Disturbance, Entry, Json, by_key
from tests.support.history import Outcome

WRITE = "write"
"""Argument: value and lifetime in ms; result: the deadline, in ms of the cluster's clock."""
MOVE = "move"
"""To a lifetime from now on; result: whether the key was there, and the deadline."""
KEEP = "keep"
"""For ever; result: whether the key was there with a deadline, and -1."""
READ = "read"
"""Result: the value, and if there was none, what the cluster's time was afterwards."""
GONE = -2
"""What PEXPIRETIME answers when there is no key."""
SLEW = 1.05
"""The cluster's clock gains five percent at most."""
JUMP_MS_MAX = 10_000
"""What is forgiven a clock that was told late."""


def check_expiry(
    entries: Sequence[Entry],
    finals: Mapping[str, Mapping[str, Json]],
    disturbances: Sequence[Disturbance],
    judgement: Judgement,
) -> None:
    """Judge all keys.

    Args:
        finals: what each node had when every deadline was over.
    """
    for key, history in by_key(entries).items():
        _Key(key, history, judgement).judge(finals)
    _check_clock([e for e in entries if e.what == WRITE and e.is_done], disturbances, judgement)


def deadlines(entries: Sequence[Entry]) -> Iterator[int]:
    """All that are known, in ms of the cluster's clock."""
    for entry in entries:
        if entry.is_done and entry.what in (WRITE, MOVE):
            yield int(_deadline(entry)) if _deadline(entry) < math.inf else 0


class _Key:
    """One key, its owner's operations in order, and what others saw."""

    def __init__(self, key: str, history: Sequence[Entry], judgement: Judgement) -> None:
        self.key = key
        self.judgement = judgement
        self.write = next(entry for entry in history if entry.what == WRITE)
        self.changes = [e for e in history if e.what in (MOVE, KEEP)]
        self.reads = [e for e in history if e.what == READ and e.is_done]

    def judge(self, finals: Mapping[str, Mapping[str, Json]]) -> None:
        """All rules."""
        seen = [e for e in self.reads if _first(e) is not None]
        wrong = [e for e in seen if _first(e) != _first_argument(self.write)]
        self.judgement.violate_each(f"{self.key}: nobody wrote this", wrong)
        seen += [e for e in self.changes if e.is_done and _first(e)]
        if self.write.outcome is Outcome.REFUSED:
            self.judgement.violate_each(f"{self.key}: was refused and is there", seen)
        self._judge_coming_back(seen)
        for entry in self.reads:
            if _first(entry) is None and entry.invoked_ns > self.write.returned_ns:
                self._judge_going(entry)
        for node, found in finals.items():
            self._judge_end(node, found.get(self.key))

    def _judge_coming_back(self, seen: Sequence[Entry]) -> None:
        known = min([self.write.returned_ns, *(entry.returned_ns for entry in seen)])
        missed = [e for e in self.reads if _first(e) is None and e.invoked_ns > known] + [
            e for e in self.changes if e.what == MOVE and e.is_done and not _first(e)
        ]
        if not missed or not seen:
            return
        first = min(missed, key=lambda entry: entry.returned_ns)
        later = [entry for entry in seen if entry.invoked_ns > first.returned_ns]
        if later:
            self.judgement.violate(
                f"{self.key} came back: {first}; then {later[0]}", [self.write, first, *later]
            )

    def _judge_going(self, missing: Entry) -> None:
        """It is gone: was it time?"""
        clock = _second(missing)
        earliest = self._earliest_deadline(missing)
        if earliest == math.inf:
            self.judgement.violate(
                f"{self.key} was kept and is gone: {missing}",
                [self.write, *self.changes, missing],
            )
        elif clock is not None and earliest is not None and clock < earliest:
            self.judgement.violate(
                f"{self.key} was gone {earliest - clock:.0f} ms before its deadline: {missing}",
                [self.write, *self.changes, missing],
            )

    def _earliest_deadline(self, missing: Entry) -> float | None:
        """The earliest that may have been in force at a read; None: nobody knows."""
        in_force = [_deadline(self.write)]
        for change in self.changes:
            if change.invoked_ns > missing.returned_ns:
                continue
            if change.outcome is Outcome.UNKNOWN:
                if change.what == MOVE:
                    return None
            elif change.is_done and _first(change):
                if change.returned_ns < missing.invoked_ns:
                    in_force = [_deadline(change)]
                else:
                    in_force.append(_deadline(change))
        return min(in_force)

    def _judge_end(self, node: str, value: Json) -> None:
        if not self.write.is_done or any(e.outcome is Outcome.UNKNOWN for e in self.changes):
            return
        last = [e for e in self.changes if e.is_done and _first(e)][-1:] or [self.write]
        is_kept = _deadline(last[0]) == math.inf
        if is_kept and value is None:
            self.judgement.violate(f"{self.key} was kept and is gone at {node}", [*last])
        elif value is not None and not is_kept:
            self.judgement.violate(f"{self.key} is there at {node} after its deadline", [*last])


def _check_clock(
    writes: Sequence[Entry], disturbances: Sequence[Disturbance], judgement: Judgement
) -> None:
    """Stamps: never back, and no faster than real time."""
    stamped = [(int(_deadline(entry)) - _lifetime(entry), entry) for entry in writes]
    backwards = out_of_order([(2 * stamp + 1, 2 * stamp, entry) for stamp, entry in stamped])
    for early, late in backwards[:1]:
        judgement.violate(f"the cluster's clock went back between {early} and {late}")
    if _went_down_together(disturbances):
        return
    stamped.sort(key=lambda one: one[1].invoked_ns)
    for (before, early), (after, late) in itertools.pairwise(stamped):
        elapsed_ms = (late.returned_ns - early.invoked_ns) / 1e6
        if after - before > elapsed_ms * SLEW + JUMP_MS_MAX:
            judgement.violate(
                f"the cluster's clock ran {after - before} ms in {elapsed_ms:.0f}", [early, late]
            )


def _went_down_together(disturbances: Sequence[Disturbance]) -> bool:
    """Whether two nodes were ever away at once: who comes back may know no better than its wall."""
    kills = sorted((one for one in disturbances if one.kills), key=lambda one: one.since_ns)
    return any(len(one.targets) > 1 for one in kills) or any(
        before.until_ns is None or after.since_ns <= before.until_ns
        for before, after in itertools.pairwise(kills)
    )


def _deadline(entry: Entry) -> float:
    """Of a write, or of a change that found the key."""
    if entry.what == KEEP:
        return math.inf
    value = entry.result
    if isinstance(value, list):
        value = value[-1]
    if not isinstance(value, int):
        return math.nan
    # Negative: it had gone before its transaction asked.
    return max(value, 0)


def _lifetime(entry: Entry) -> int:
    assert isinstance(entry.argument, list), entry
    lifetime = entry.argument[1]
    assert isinstance(lifetime, int), entry
    return lifetime


def _first_argument(entry: Entry) -> Json:
    assert isinstance(entry.argument, list), entry
    return entry.argument[0]


def _first(entry: Entry) -> Json:
    assert isinstance(entry.result, list), entry
    return entry.result[0]


def _second(entry: Entry) -> float | None:
    assert isinstance(entry.result, list), entry
    clock = entry.result[1]
    return clock if isinstance(clock, int | float) else None
