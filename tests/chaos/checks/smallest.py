"""The smallest part of a history that is still refuted.

Ten thousand operations on a key say nothing to people; the four that contradict each other do. What
may be left out without making a good history look bad:

* whatever began after the contradiction was complete;
* reads: they change nothing;
* writes and swaps of values that nobody who is left has seen. (Swaps say what they saw.)

Increments all count, so they stay. Parts are left out as Zeller and Hildebrandt do ("Simplifying
and isolating failure-inducing input", 2002): halves, quarters, down to single operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.chaos.record import Entry, Json

TRIES_MAX = 400
"""Histories that are judged on the way; a large one costs a tenth of a second."""


def smallest(
    entries: Sequence[Entry], is_refuted: Callable[[Sequence[Entry]], bool]
) -> list[Entry]:
    """Leave out as much as possible of a history that is refuted; the rest still is."""
    ordered = sorted(entries, key=lambda entry: entry.invoked_ns)
    tries = _Tries(is_refuted)
    kept = _beginning(ordered, tries)
    size = max(1, len(kept) // 2)
    while True:
        before = len(kept)
        for start in reversed(range(0, len(kept), size)):
            kept = _without(kept, kept[start : start + size], tries)
        if size == 1 and len(kept) == before:
            return kept
        size = max(1, size // 2)


class _Tries:
    """Judges, as long as that is affordable."""

    def __init__(self, is_refuted: Callable[[Sequence[Entry]], bool]) -> None:
        self._is_refuted = is_refuted
        self._left = TRIES_MAX

    def refutes(self, entries: Sequence[Entry]) -> bool:
        """False when all tries are used up: then nothing more is left out."""
        self._left -= 1
        return self._left >= 0 and self._is_refuted(entries)


def _beginning(ordered: list[Entry], tries: _Tries) -> list[Entry]:
    """The shortest one that is refuted."""
    low, high = 0, len(ordered)
    while low + 1 < high:
        middle = (low + high) // 2
        if tries.refutes(ordered[:middle]):
            high = middle
        else:
            low = middle
    return ordered[:high]


def _without(kept: list[Entry], part: Sequence[Entry], tries: _Tries) -> list[Entry]:
    """Leave out what may be left out of a part, if the rest is refuted still."""
    chosen = {id(entry) for entry in part}
    seen = {
        value
        for entry in kept
        if id(entry) not in chosen or entry.what == "increment"
        for value in _seen(entry)
    }
    rest = [entry for entry in kept if id(entry) not in chosen or not _may_go(entry, seen)]
    return rest if len(rest) < len(kept) and tries.refutes(rest) else kept


def _may_go(entry: Entry, seen: set[Json]) -> bool:
    if not entry.is_change:
        return True
    return entry.what != "increment" and _written(entry) not in seen


def _written(entry: Entry) -> Json:
    return entry.argument[1] if isinstance(entry.argument, list) else entry.argument


def _seen(entry: Entry) -> list[Json]:
    """Values that an operation saw."""
    if isinstance(entry.argument, list):
        return [entry.argument[0]]
    return [] if entry.is_change or isinstance(entry.result, list | dict) else [entry.result]
