"""Transactions on lists: is there one order of them that explains every list?

A list that is only appended to tells its own history, as Kingsbury and Alvaro observed ("Elle:
inferring isolation anomalies from experimental observations", VLDB 2020): whoever reads it sees all
that was appended before, in order. So the order of the transactions needs no search. One must stand
before another

* if it appended the element before the other's (**ww**),
* if the other read what it appended (**wr**),
* if it read the list before the other appended to it (**rw**),
* if it ended before the other began (**time**).

A cycle means that no order will do. Its kinds of edges are its name in the literature: G0 (only
ww), G1c (wr as well), G-single (one rw), G2 (several), each perhaps "in real time". Without a cycle
the transactions are strictly serializable. Before that, elements are counted: none is lost, there
twice, or of a transaction that was refused or only half done.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.checks.judgement import Judgement
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome

READ = "r"
APPEND = "a"
CYCLES_TRIED_MAX = 50
"""Beginnings of cycles that are looked at for a short one."""

Lists = Mapping[str, Sequence[str]]
Place = tuple[str, int]
"""A list, and a number of elements from its beginning."""


def check_transactions(
    entries: Sequence[Entry], finals: Mapping[str, Json], judgement: Judgement
) -> None:
    """Judge transactions whose argument is a list of steps, and whose result has theirs.

    Args:
        finals: all lists as they were at the end.
    """
    lists = {
        key: [str(element) for element in value]
        for key, value in finals.items()
        if isinstance(value, list)
    }
    counted = _Elements(lists)
    counted.judge(entries, judgement)
    transactions = []
    for entry in entries:
        transaction = counted.understand(entry)
        if isinstance(transaction, str):
            judgement.violate(f"{entry}: {transaction}", [entry])
        elif transaction is not None:
            transactions.append(transaction)
    if judgement.violations:
        return
    if cycle := _Graph(transactions, counted).find_cycle():
        names = [kind for _, kind in cycle]
        judgement.violate(
            f"{name_of(names)}: no order explains {len(cycle)} transactions: "
            + "; ".join(f"{entry}, then ({kind})" for entry, kind in cycle),
            [entry for entry, _ in cycle],
        )


def name_of(kinds: Sequence[str]) -> str:
    """What a cycle with such edges is called."""
    reads_before = kinds.count("rw")
    if reads_before > 1:
        name = "G2"
    elif reads_before:
        name = "G-single"
    else:
        name = "G1c" if "wr" in kinds else "G0"
    return f"{name} in real time" if "time" in kinds else name


@dataclass(slots=True)
class Transaction:
    """One that took effect, and where it stands in the lists.

    Attributes:
        reads: what it saw of each list, without what it had appended itself.
        appends: places of its elements.
    """

    entry: Entry
    reads: list[Place] = field(default_factory=list)
    appends: list[Place] = field(default_factory=list)


class _Elements:
    """Where every element stands."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists
        self.place: dict[str, Place] = {}
        self.twice: list[str] = []
        for key, elements in lists.items():
            for number, element in enumerate(elements, 1):
                if element in self.place:
                    self.twice.append(element)
                self.place[element] = (key, number)

    def judge(self, entries: Sequence[Entry], judgement: Judgement) -> None:
        """Count: nothing twice, nothing that nobody appended."""
        owners = {value: entry for entry in entries for _, value in _appends(entry)}
        if self.twice:
            judgement.violate_each(
                "elements are there twice",
                [owners[element] for element in self.twice if element in owners],
            )
        if strange := [element for element in self.place if element not in owners]:
            judgement.violate(f"nobody appended {', '.join(strange[:5])}")

    def understand(self, entry: Entry) -> Transaction | str | None:
        """Where it stands; None if it did not take effect; a sentence if it cannot be."""
        appends = list(_appends(entry))
        there = [value for key, value in appends if self.place.get(value, ("", 0))[0] == key]
        if entry.outcome is Outcome.REFUSED:
            return f"was refused, and {there[0]} is there" if there else None
        if len(there) < len(appends) and (entry.is_done or there):
            lost = next(value for _, value in appends if value not in there)
            return f"{lost} is lost" if entry.is_done else f"was done without {lost}"
        if not entry.is_done and not there:
            return None
        transaction = Transaction(entry, appends=[self.place[value] for _, value in appends])
        if entry.is_done:
            return self._follow(transaction) or transaction
        return transaction

    def _follow(self, transaction: Transaction) -> str:
        """Compare step by step what it was told; returns what is wrong."""
        own: dict[str, list[str]] = {}
        results = transaction.entry.result
        assert isinstance(results, list), transaction
        for step, result in zip(_steps(transaction.entry), results, strict=True):
            key = str(step[1])
            mine = own.setdefault(key, [])
            if step[0] == APPEND:
                mine.append(str(step[2]))
                if result != self.place[str(step[2])][1]:
                    return f"{step[2]} made the list {result} long"
                continue
            assert isinstance(result, list), transaction
            before = len(result) - len(mine)
            if before < 0 or result[before:] != mine:
                return f"did not see its own {', '.join(mine)} at the end of {result}"
            if result != list(self.lists.get(key, ())[: len(result)]):
                return f"{result} is no beginning of {key}"
            transaction.reads.append((key, before))
        return ""


def _steps(entry: Entry) -> list[list[Json]]:
    assert isinstance(entry.argument, list), entry
    return [step for step in entry.argument if isinstance(step, list)]


def _appends(entry: Entry) -> Iterator[tuple[str, str]]:
    for step in _steps(entry):
        if step[0] == APPEND:
            yield str(step[1]), str(step[2])


class _Graph:
    """Who must stand before whom.

    Time would need an edge from each transaction to all that began after its end. A chain of
    moments, one for each end, does the same with two edges each.
    """

    def __init__(self, transactions: Sequence[Transaction], elements: _Elements) -> None:
        self.transactions = transactions
        self.edges: list[dict[int, str]] = [{} for _ in transactions]
        writer = {place: n for n, one in enumerate(transactions) for place in one.appends}
        for key, found in elements.lists.items():
            for number in range(1, len(found)):
                self._edge(writer.get((key, number)), writer.get((key, number + 1)), "ww")
        for reader, transaction in enumerate(transactions):
            for key, number in transaction.reads:
                self._edge(writer.get((key, number)), reader, "wr")
                self._edge(reader, writer.get((key, number + 1)), "rw")
        self._add_time()

    def _edge(self, before: int | None, after: int | None, kind: str) -> None:
        if before is not None and after is not None and before != after:
            self.edges[before].setdefault(after, kind)

    def _add_time(self) -> None:
        count = len(self.transactions)
        ends = sorted(
            (one.entry.ended_ns or 0, number)
            for number, one in enumerate(self.transactions)
            if one.entry.is_done
        )
        moments = [end for end, _ in ends]
        self.edges += [{} for _ in ends]
        for at, (_, number) in enumerate(ends):
            self._edge(number, count + at, "time")
            if at:
                self._edge(count + at - 1, count + at, "time")
        for number, one in enumerate(self.transactions):
            at = bisect.bisect_left(moments, one.entry.invoked_ns)
            if at:
                self._edge(count + at - 1, number, "time")

    def find_cycle(self) -> list[tuple[Entry, str]]:
        """A short cycle, as transactions and the kinds of the edges behind them; or none."""
        knot = self._knot()
        best: list[tuple[int, str]] = []
        for start in sorted(knot)[:CYCLES_TRIED_MAX]:
            if start < len(self.transactions):
                cycle = self._shortest(start, knot)
                if cycle and (not best or _length(cycle, self) < _length(best, self)):
                    best = cycle
        found = []
        for number, kind in best:
            if number < len(self.transactions):
                found.append((self.transactions[number].entry, kind))
        return found

    def _knot(self) -> set[int]:
        """What is left when all that nothing precedes, or nothing follows, is taken away."""
        left = set(range(len(self.edges)))
        back: list[list[int]] = [[] for _ in self.edges]
        for before, afters in enumerate(self.edges):
            for after in afters:
                back[after].append(before)
        for forth, other in ((self.edges, back), (back, self.edges)):
            degree = {n: sum(after in left for after in forth[n]) for n in left}
            free = [n for n in left if not degree[n]]
            while free:
                number = free.pop()
                left.remove(number)
                for neighbour in other[number]:
                    if neighbour in left:
                        degree[neighbour] -= 1
                        if not degree[neighbour]:
                            free.append(neighbour)
        return left

    def _shortest(self, start: int, within: set[int]) -> list[tuple[int, str]]:
        """The way from one back to itself with the fewest transactions; moments cost nothing."""
        came: dict[int, int] = {}
        settled: set[int] = set()
        queue = deque([(start, start)])
        while queue:
            number, before = queue.popleft()
            if number in settled:
                continue
            if number != start:
                settled.add(number)
                came[number] = before
            for after in self.edges[number]:
                if after == start:
                    return self._way(start, number, came)
                if after in within and after not in settled:
                    is_moment = after >= len(self.transactions)
                    (queue.appendleft if is_moment else queue.append)((after, number))
        return []

    def _way(self, start: int, last: int, came: Mapping[int, int]) -> list[tuple[int, str]]:
        numbers = [last]
        while numbers[-1] != start:
            numbers.append(came[numbers[-1]])
        numbers.reverse()
        followers = [*numbers[1:], start]
        return [
            (number, self.edges[number][after])
            for number, after in zip(numbers, followers, strict=True)
        ]


def _length(cycle: Sequence[tuple[int, str]], graph: _Graph) -> int:
    """How many transactions are in it; moments are none."""
    return sum(number < len(graph.transactions) for number, _ in cycle)
