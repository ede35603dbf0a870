"""Is there one order of these operations that explains every answer?

A history of one key is *linearizable* if every operation can be given a moment between its
invocation and its return so that a single copy of the key, asked in the order of these moments,
would have given exactly the observed answers (Herlihy and Wing, 1990). A linearizable key loses no
acknowledged write, applies nothing twice and never shows a stale value, all at once.

The search is that of Wing and Gong with Lowe's memory of configurations already seen ("Testing for
linearizability", 2017), breadth first and just in time: we walk along the real time of the history
and keep *all* configurations that explain what was seen so far. A configuration is the value of the
key and the set of operations that are under way and have taken effect already. When an operation
returns, every configuration must have let it take effect; those that cannot are dropped, and when
none is left the history is refuted at that very operation. Memory follows the concurrency on the
key, not the length of the history.

Linearizability is local: a history is linearizable if that of every key is. So keys are checked one
by one.

Operations of unknown outcome make such a search explode. Three facts, each exact, tame it:

* A write of a value that nobody ever saw may be left out: whoever explains the history with it,
  explains it without it. (Values are unique per key, and failed swaps are not judged.)
* A write of a value that somebody saw took effect before that somebody returned. So it did return,
  by then at the latest.
* Increments of unknown outcome are all alike, so the one invoked first may go first.

And a read that fits the value now may take effect now: it changes nothing, and waiting opens no
door. So the search branches on writes only.

The budget bounds the search; past it the verdict is "undecided", never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from tests.support.history import Kind, Operation, Outcome, Value

STEPS_MAX = 2_000_000
"""Configurations looked at for one key: some twenty seconds."""

Configuration = tuple[Value, int]
"""The value of the key, and a bit for each slot whose operation has taken effect."""


class Verdict(Enum):
    """What the search found."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one key; `text` explains all but the good one."""

    verdict: Verdict
    steps: int
    text: str = ""


class Illegal(Exception):
    """No single copy of the key could have answered so."""


def apply(value: Value, operation: Operation) -> Value:
    """The model: the value of the key after the operation.

    Raises:
        Illegal: the key, holding `value`, would have answered differently.
    """
    match operation.kind:
        case Kind.READ:
            if operation.result != value:
                raise Illegal
            return value
        case Kind.WRITE:
            return operation.argument
        case Kind.SWAP:
            if operation.expected != value:
                raise Illegal
            return operation.argument
        case Kind.INCREMENT:
            number = 1 + (value if isinstance(value, int) else 0)
            if operation.returned_ns is not None and operation.result != number:
                raise Illegal
            return number


def check(
    operations: Iterable[Operation], initial: Value = None, steps_max: int = STEPS_MAX
) -> Finding:
    """Judge the history of one key.

    Args:
        operations: in any order; values written are unique.
        initial: the value before the first operation (0 for a counter).
        steps_max: configurations to look at before giving up as undecided.
    """
    search = _Search(initial, steps_max)
    for is_return, operation in _events(_settle(operations)):
        if not is_return:
            search.invoke(operation)
        elif (finding := search.settle_return(operation)) is not None:
            return finding
    return Finding(Verdict.LINEARIZABLE, search.steps)


def _settle(operations: Iterable[Operation]) -> list[Operation]:
    """Drop what says nothing, and give a return to every write that was seen."""
    done: list[Operation] = []
    open_writes: dict[Value, Operation] = {}
    for operation in operations:
        if operation.outcome is Outcome.DONE:
            done.append(operation)
        elif operation.outcome is Outcome.UNKNOWN:
            if operation.kind is Kind.INCREMENT:
                done.append(replace(operation, returned_ns=None))
            elif operation.kind is not Kind.READ:
                open_writes[operation.argument] = operation
    seen = _first_seen(done)
    pending = [value for value in open_writes if value in seen]
    while pending:
        value = pending.pop()
        if (write := open_writes.pop(value, None)) is None:
            continue
        done.append(replace(write, outcome=Outcome.DONE, returned_ns=seen[value]))
        # A swap that took effect has itself seen the value it replaced.
        if write.kind is Kind.SWAP:
            seen[write.expected] = min(seen[value], seen.get(write.expected, seen[value]))
            pending.append(write.expected)
    return done


def _first_seen(operations: Sequence[Operation]) -> dict[Value, int]:
    """For every value that a finished operation saw: when the first of these returned."""
    seen: dict[Value, int] = {}
    for operation in operations:
        if operation.kind is Kind.READ:
            value = operation.result
        elif operation.kind is Kind.SWAP:
            value = operation.expected
        else:
            continue
        if operation.returned_ns is not None:
            seen[value] = min(operation.returned_ns, seen.get(value, operation.returned_ns))
    return seen


def _events(operations: Sequence[Operation]) -> list[tuple[bool, Operation]]:
    """Invocations and returns in order of time; at the same moment invocations come first."""
    moments: list[tuple[int, bool, int]] = []
    for number, operation in enumerate(operations):
        moments.append((operation.invoked_ns, False, number))
        if operation.returned_ns is not None:
            # A value seen before its write was even invoked is refuted by the model, not here.
            moments.append((max(operation.returned_ns, operation.invoked_ns), True, number))
    moments.sort()
    return [(is_return, operations[number]) for _, is_return, number in moments]


class _Search:
    """All configurations that explain the events so far."""

    __slots__ = (
        "bits",
        "changes",
        "configurations",
        "reads",
        "steps",
        "steps_max",
        "unknown",
        "used",
    )

    def __init__(self, initial: Value, steps_max: int) -> None:
        self.configurations: set[Configuration] = {(initial, 0)}
        self.bits: dict[int, int] = {}
        """The bit that stands for an operation under way, by the operation's id()."""
        self.changes: dict[int, Operation] = {}
        """Writes, swaps and increments under way, by their bits."""
        self.reads: dict[int, Operation] = {}
        """Reads under way, by their bits."""
        self.unknown: list[int] = []
        """Bits of the increments that never return, in order of invocation."""
        self.used = 0
        self.steps = 0
        self.steps_max = steps_max

    def invoke(self, operation: Operation) -> None:
        """Take the lowest free bit for an operation that begins."""
        bit = ~self.used & (self.used + 1)
        self.used |= bit
        if operation.returned_ns is None:
            self.unknown.append(bit)
            return
        self.bits[id(operation)] = bit
        (self.reads if operation.kind is Kind.READ else self.changes)[bit] = operation

    def settle_return(self, operation: Operation) -> Finding | None:
        """Keep the configurations in which the operation has taken effect, or still can.

        Returns:
            None to go on; a finding when the search is over.
        """
        bit = self.bits.pop(id(operation))
        before = {self._absorb(*configuration) for configuration in self.configurations}
        after: set[Configuration] = set()
        seen = set(before)
        stack = list(before)
        while stack:
            value, effects = stack.pop()
            if effects & bit:
                after.add((value, effects ^ bit))
                continue
            self.steps += 1
            for successor in self._successors(value, effects):
                if successor not in seen:
                    seen.add(successor)
                    stack.append(successor)
        if self.steps > self.steps_max:
            return Finding(Verdict.UNDECIDED, self.steps, f"gave up at: {operation}")
        if not after:
            return Finding(Verdict.VIOLATION, self.steps, self._explain(operation, before))
        del (self.reads if operation.kind is Kind.READ else self.changes)[bit]
        self.used ^= bit
        self.configurations = after
        return None

    def _absorb(self, value: Value, effects: int) -> Configuration:
        """Let every read take effect that the value fits."""
        for bit, operation in self.reads.items():
            if operation.result == value:
                effects |= bit
        return value, effects

    def _successors(self, value: Value, effects: int) -> list[Configuration]:
        """Let one more change take effect, in every way that the answers allow."""
        found: list[Configuration] = []
        for bit, operation in self.changes.items():
            if not effects & bit:
                try:
                    found.append(self._absorb(apply(value, operation), effects | bit))
                except Illegal:
                    continue
        for bit in self.unknown:
            if not effects & bit:
                number = 1 + (value if isinstance(value, int) else 0)
                found.append(self._absorb(number, effects | bit))
                break
        return found

    def _explain(self, operation: Operation, before: set[Configuration]) -> str:
        """Say what cannot be explained, and what the key may have held."""
        values = sorted({repr(value) for value, _ in before})[:8]
        under_way = (*self.changes.values(), *self.reads.values())
        others = [str(other) for other in under_way if other is not operation][:8]
        return "\n".join(
            [
                f"not linearizable: {operation}",
                f"  the key may have held: {', '.join(values)}",
                *(f"  at the same time: {other}" for other in others),
            ]
        )
