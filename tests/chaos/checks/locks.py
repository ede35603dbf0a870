"""Locks: what the store promises of them, which is not mutual exclusion.

* Tokens are different, and one that was asked for after another had come is larger.
* Accepted writes stand in the log in the order of their tokens, each once, and agree with real
  time; refused ones are not there.
* From one holder to the next the deadline of the first is over, by the stamps of the cluster's
  clock, unless it was released.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.order import out_of_order
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome

ACQUIRE = "acquire"
"""Argument: holder and lifetime in ms; result: the deadline in ms, or None if it was taken."""
FENCE = "fence"
WRITE = "write"
"""Argument: a line that begins with the token."""
RELEASE = "release"
"""Argument: the holder."""


def check_lock(lock: str, entries: Sequence[Entry], final: Json, judgement: Judgement) -> None:
    """Judge one lock.

    Args:
        final: the `log` of lines that were accepted, and the `last` token.
    """
    _check_tokens(lock, entries, judgement)
    _check_log(lock, entries, final, judgement)
    _check_holders(lock, entries, judgement)


def _check_tokens(lock: str, entries: Sequence[Entry], judgement: Judgement) -> None:
    fences = [entry for entry in entries if entry.what == FENCE and entry.is_done]
    placed = []
    times: Counter[int] = Counter()
    for entry in fences:
        assert isinstance(entry.result, int), entry
        times[entry.result] += 1
        placed.append((entry.result, entry.result, entry))
    if double := [token for token, count in times.items() if count > 1]:
        judgement.violate_each(
            f"{lock}: tokens were given twice", [e for e in fences if e.result in double]
        )
        return
    for early, late in out_of_order(placed):
        judgement.violate(f"{lock}: a later token is smaller: {early}; {late}", [early, late])


def _check_log(lock: str, entries: Sequence[Entry], final: Json, judgement: Judgement) -> None:
    assert isinstance(final, dict), final
    log = final["log"]
    assert isinstance(log, list), final
    lines = [str(line) for line in log]
    tokens = [int(line.split()[0]) for line in lines]
    writes = [entry for entry in entries if entry.what == WRITE]
    place = {line: number for number, line in enumerate(lines)}
    judgement.violate_each(
        f"{lock}: accepted writes are lost",
        [e for e in writes if e.is_done and e.argument not in place],
    )
    judgement.violate_each(
        f"{lock}: refused writes were done",
        [e for e in writes if e.outcome is Outcome.REFUSED and e.argument in place],
    )
    if len(place) < len(lines):
        judgement.violate(f"{lock}: a write is there twice: {lines}")
    for before, after in itertools.pairwise(lines):
        if int(after.split()[0]) < int(before.split()[0]):
            judgement.violate(
                f"{lock}: {after!r} was accepted after {before!r}",
                [e for e in writes if e.argument in (before, after)],
            )
    if str(final["last"] or 0) != str(max(tokens, default=0)):
        judgement.violate(f"{lock}: the last token is {final['last']}, the log says {tokens[-1:]}")
    placed = [
        (place[str(e.argument)], place[str(e.argument)], e) for e in writes if e.argument in place
    ]
    for early, late in out_of_order(placed):
        judgement.violate(f"{lock}: a later write stands before: {early}; {late}", [early, late])


def _check_holders(lock: str, entries: Sequence[Entry], judgement: Judgement) -> None:
    released = {
        str(entry.argument): entry.invoked_ns
        for entry in entries
        if entry.what == RELEASE and entry.outcome is not Outcome.REFUSED
    }
    spans = []
    for entry in entries:
        if entry.what == ACQUIRE and entry.is_done and isinstance(entry.result, int):
            assert isinstance(entry.argument, list), entry
            holder, lifetime = entry.argument
            assert isinstance(lifetime, int), entry
            if entry.result >= 0:
                spans.append((entry.result - lifetime, entry.result, str(holder), entry))
    spans.sort(key=lambda span: (span[0], span[3].returned_ns))
    for (_, deadline, holder, before), (since, _, _, after) in itertools.pairwise(spans):
        was_released = holder in released and released[holder] <= after.returned_ns
        if since < deadline and not was_released:
            judgement.violate(
                f"{lock} was given away {deadline - since} ms before its deadline: "
                f"{before}; {after}",
                [before, after],
            )
