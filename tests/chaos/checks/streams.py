"""Streams and groups: an account of every entry, from the one who added it to its acknowledgement.

The stream as it is at the end is the order of everything. Then

* an acknowledged entry is in it once, with its id and value; a refused one is not; ids ascend, and
  agree with real time;
* an entry is delivered as new at most once, entries that are delivered together stand together,
  and a delivery that began after the end of another has later entries only;
* what the group has passed by without anybody's knowing was taken along by deliveries of unknown
  outcome: no more than they can have had;
* one acknowledgement of an entry counts, not two; afterwards it is delivered to nobody;
* whatever was delivered is pending, or somebody tried to acknowledge it;
* who looks at the newest entries sees all that had been acknowledged as added before.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.order import out_of_order
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome

ADD = "add"
DELIVER = "deliver"
CLAIM = "claim"
ACKNOWLEDGE = "acknowledge"
READ = "read"
DELIVERED_MAX = 8
"""Entries that one delivery asks for at most."""


def check_stream(key: str, entries: Sequence[Entry], final: Json, judgement: Judgement) -> None:
    """Judge one stream.

    Args:
        final: `entries` (pairs of id and value), ids that are `pending`, and the `last` id that
            the group was given, all at the end.
    """
    if not isinstance(final, dict):
        judgement.violate(f"{key} is not there at the end")
        return
    stream = _Stream(key, entries, final, judgement)
    stream.judge_entries()
    stream.judge_what_was_seen()
    stream.judge_deliveries()
    stream.judge_acknowledgements()
    stream.judge_pending()


def order_of(identifier: str) -> tuple[int, int]:
    """Ids are two numbers."""
    milliseconds, _, number = identifier.partition("-")
    return int(milliseconds), int(number or 0)


class _Stream:
    """One stream, and all that was done with it."""

    def __init__(
        self, key: str, entries: Sequence[Entry], final: dict[str, Json], judgement: Judgement
    ) -> None:
        self.key = key
        self.judgement = judgement
        self.pairs = _pairs(final["entries"])
        self.place = {identifier: at for at, (identifier, _) in enumerate(self.pairs)}
        self.values = dict(self.pairs)
        pending = final["pending"]
        assert isinstance(pending, list), pending
        self.pending = {str(identifier) for identifier in pending}
        self.last = order_of(str(final["last"]))
        self.by_what: dict[str, list[Entry]] = {}
        for entry in entries:
            self.by_what.setdefault(entry.what, []).append(entry)

    def _all(self, *whats: str) -> list[Entry]:
        return [entry for what in whats for entry in self.by_what.get(what, ())]

    def _done(self, *whats: str) -> list[Entry]:
        return [entry for entry in self._all(*whats) if entry.is_done]

    def _violate(self, what: str, entries: Sequence[Entry]) -> None:
        self.judgement.violate_each(f"{self.key}: {what}", entries)

    def judge_entries(self) -> None:
        """What was added, and where it stands."""
        times = Counter(value for _, value in self.pairs)
        adds = self._all(ADD)
        known = {entry.argument for entry in adds}
        self._violate("entries are there twice", [e for e in adds if times[str(e.argument)] > 1])
        self._violate(
            "refused entries are there",
            [e for e in adds if e.outcome is Outcome.REFUSED and times[str(e.argument)]],
        )
        self._violate(
            "acknowledged entries are lost",
            [e for e in adds if e.is_done and self.values.get(str(e.result)) != e.argument],
        )
        if strange := [value for value in times if value not in known]:
            self.judgement.violate(f"{self.key}: nobody added {', '.join(strange[:5])}")
        ids = [order_of(identifier) for identifier, _ in self.pairs]
        if any(after <= before for before, after in itertools.pairwise(ids)):
            self.judgement.violate(f"{self.key}: ids do not ascend")
        where = {value: self.place[identifier] for identifier, value in self.pairs}
        placed = [
            (where[str(e.argument)], where[str(e.argument)], e)
            for e in adds
            if str(e.argument) in where
        ]
        for early, late in out_of_order(placed):
            self._violate("an entry stands before one that had been added", [early, late])

    def judge_what_was_seen(self) -> None:
        """Whatever anybody saw is in the stream; looks at the newest entries miss nothing."""
        looks, placed = [], []
        for entry in self._done(DELIVER, CLAIM, READ):
            pairs = _pairs(entry.result)
            if any(self.values.get(identifier) != value for identifier, value in pairs):
                looks.append(entry)
            elif entry.what == READ:
                newest = self.place[pairs[0][0]] if pairs else -1
                placed.append((newest + 1, newest, entry))
        self._violate("entries were seen that are not there", looks)
        placed += [
            (self.place[str(e.result)], self.place[str(e.result)], e)
            for e in self._done(ADD)
            if str(e.result) in self.place
        ]
        for early, late in out_of_order(placed, only=READ):
            self._violate("a look missed what had been added or seen", [early, late])

    def judge_deliveries(self) -> None:
        """New entries, each for one consumer, in order, without a gap."""
        times: Counter[str] = Counter()
        placed, torn = [], []
        for entry in self._done(DELIVER):
            ids = [identifier for identifier, _ in _pairs(entry.result)]
            times.update(ids)
            places = [self.place[identifier] for identifier in ids if identifier in self.place]
            if places:
                placed.append((places[0], places[-1], entry))
                if places != list(range(places[0], places[-1] + 1)):
                    torn.append(entry)
        self._violate("a delivery left entries out", torn)
        for identifier in [i for i, count in times.items() if count > 1]:
            self._violate(f"{identifier} was delivered twice as new", self._with(identifier))
        for early, late in out_of_order(placed):
            self._violate("an earlier entry was delivered later", [early, late])
        passed = [i for i, _ in self.pairs if order_of(i) <= self.last and not times[i]]
        doubtful = sum(e.outcome is Outcome.UNKNOWN for e in self._all(DELIVER))
        if len(passed) > doubtful * DELIVERED_MAX:
            self.judgement.violate(
                f"{self.key}: the group has passed by {len(passed)} entries that nobody was given,"
                f" for example {passed[0]}; {doubtful} deliveries are in doubt"
            )
        ahead = [i for i in times if order_of(i) > self.last]
        if ahead:
            self.judgement.violate(f"{self.key}: the group went back behind {ahead[0]}")

    def _with(self, identifier: str) -> list[Entry]:
        return [
            entry
            for entry in self._done(DELIVER)
            if any(identifier == found for found, _ in _pairs(entry.result))
        ]

    def judge_acknowledgements(self) -> None:
        """One counts; before it there is nothing to answer 0 for, after it no delivery."""
        counted: dict[str, list[Entry]] = {}
        tried: dict[str, list[Entry]] = {}
        for entry in self._all(ACKNOWLEDGE):
            identifier = str(entry.argument)
            if entry.outcome is Outcome.UNKNOWN or (entry.is_done and entry.result):
                tried.setdefault(identifier, []).append(entry)
            if entry.is_done and entry.result:
                counted.setdefault(identifier, []).append(entry)
        for identifier, entries in counted.items():
            if len(entries) > 1:
                self._violate(f"{identifier} was acknowledged twice", entries)
        vain = [entry for entry in self._done(ACKNOWLEDGE) if not entry.result]
        self._violate(
            "entries were not pending, though nobody had acknowledged them",
            [
                entry
                for entry in vain
                if not any(
                    other.invoked_ns <= entry.returned_ns
                    for other in tried.get(str(entry.argument), ())
                )
            ],
        )
        again = [
            entry
            for entry in self._done(DELIVER, CLAIM)
            for identifier, _ in _pairs(entry.result)
            if any(ack.returned_ns < entry.invoked_ns for ack in counted.get(identifier, ()))
        ]
        self._violate("entries were delivered after they had been acknowledged", again)

    def judge_pending(self) -> None:
        """At the end an entry that was delivered is pending, or may have been acknowledged."""
        acknowledged, perhaps = set(), set()
        for entry in self._all(ACKNOWLEDGE):
            identifier = str(entry.argument)
            if entry.is_done and entry.result:
                acknowledged.add(identifier)
            elif entry.outcome is Outcome.UNKNOWN:
                perhaps.add(identifier)
        if wrong := sorted(self.pending & acknowledged):
            self.judgement.violate(f"{self.key}: {wrong[0]} was acknowledged and is pending")
        delivered = {i for i, _ in self.pairs if order_of(i) <= self.last}
        if lost := sorted(delivered - self.pending - acknowledged - perhaps):
            self.judgement.violate(
                f"{self.key}: {len(lost)} entries are neither pending nor acknowledged, "
                f"for example {lost[0]}",
                self._with(lost[0]),
            )
        if early := sorted(self.pending - delivered):
            self.judgement.violate(f"{self.key}: {early[0]} is pending, and was never delivered")


def _pairs(found: Json) -> list[tuple[str, str]]:
    """Ids and values."""
    assert isinstance(found, list), found
    pairs = []
    for one in found:
        assert isinstance(one, list), found
        pairs.append((str(one[0]), str(one[1])))
    return pairs
