"""What is kept of an epoch when its record is forgotten: figures and curves, bounded.

A record of a minute has a hundred thousand operations, a campaign has hours. The report needs how
many there were and how long they took, a tenth of a second at a time, and all of what was done to
the nodes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.checks.judgement import Judgement, Window
from tests.chaos.checks.void import checked_per_second
from tests.chaos.record import Disturbance, Entry, Exit, Incident, Leadership, Record
from tests.support.history import Outcome

BIN_NS = 100_000_000
WAITING = {("queues", "pop"), ("queues", "move"), ("streams", "deliver")}
"""Operations that wait as long as they are told to: how long they take says nothing."""
STORIES_MAX = 20
STORY_LINES_MAX = 1_000
MARGIN_NS = 500_000_000
"""What happened so long before a violation's first operation, and after its last, belongs to it."""


@dataclass(frozen=True, slots=True)
class Bin:
    """What began in a tenth of a second; latencies in ms, of operations that were acknowledged."""

    at_ns: int
    done: int
    refused: int
    unknown: int
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


@dataclass(slots=True)
class Digest:
    """One epoch.

    Attributes:
        operations: how many there were, by workload and outcome.
        stories: for each window of a violation, what happened around it, line by line.
        pauses_ms: for each kill of a leader alone, how long it took until a write that began after
            it was acknowledged by another node.
    """

    since_ns: int
    until_ns: int
    bins: list[Bin]
    operations: Counter[tuple[str, str]]
    disturbances: list[Disturbance]
    leaders: list[Leadership]
    exits: list[Exit]
    incidents: list[Incident]
    pauses_ms: list[float]
    rate: float
    stories: list[list[str]]
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def checked(self) -> int:
        """Acknowledged operations."""
        return sum(n for (_, outcome), n in self.operations.items() if outcome == "done")


def digest(record: Record, judgement: Judgement) -> Digest:
    """Take from a record what the report needs."""
    entries = [entry for entry in record.entries if not entry.is_final]
    times = [entry.invoked_ns for entry in entries] or [0]
    ends = [entry.ended_ns for entry in entries if entry.ended_ns is not None]
    return Digest(
        min(times),
        max([*times, *ends]),
        list(_bins(entries)),
        Counter((entry.workload, entry.outcome.value) for entry in entries),
        record.disturbances,
        record.leaders,
        record.exits,
        record.incidents,
        pauses_ms(record),
        checked_per_second(record),
        [list(story(record, window)) for window in judgement.windows[:STORIES_MAX]],
        judgement,
    )


def _bins(entries: Sequence[Entry]) -> Iterable[Bin]:
    ordered = sorted(entries, key=lambda entry: entry.invoked_ns)
    for number, group in itertools.groupby(ordered, key=lambda entry: entry.invoked_ns // BIN_NS):
        part = list(group)
        outcomes = Counter(entry.outcome for entry in part)
        took = sorted(
            (entry.returned_ns - entry.invoked_ns) / 1e6
            for entry in part
            if entry.is_done and (entry.workload, entry.what) not in WAITING
        )
        yield Bin(
            number * BIN_NS,
            outcomes[Outcome.DONE],
            outcomes[Outcome.REFUSED],
            outcomes[Outcome.UNKNOWN],
            quantile(took, 0.5),
            quantile(took, 0.99),
            took[-1] if took else 0.0,
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share is not above; 0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def pauses_ms(record: Record) -> list[float]:
    """For each kill of a leader alone: until a write begun after it was done at another node."""
    found = []
    for one in record.disturbances:
        if _is_leader_alone(one, record.disturbances):
            ends = [
                entry.returned_ns
                for entry in record.entries
                if entry.is_done
                and entry.is_change
                and entry.invoked_ns >= one.since_ns
                and entry.node not in one.targets
            ]
            if ends:
                found.append((min(ends) - one.since_ns) / 1e6)
    return found


def _is_leader_alone(one: Disturbance, disturbances: Sequence[Disturbance]) -> bool:
    """Whether a leader was killed, and nothing else was done until it was back."""
    if not (one.kills and one.was_leader and len(one.targets) == 1):
        return False
    until = math.inf if one.until_ns is None else one.until_ns
    return not any(
        other is not one
        and other.since_ns <= until
        and (other.until_ns is None or one.since_ns <= other.until_ns)
        for other in disturbances
    )


def story(record: Record, window: Window) -> Iterable[str]:
    """What happened around a violation: to its keys, to the nodes, and who led; by time."""
    yield window.title
    since = min(entry.invoked_ns for entry in window.entries) - MARGIN_NS
    until = MARGIN_NS + max(
        entry.invoked_ns if entry.ended_ns is None else entry.ended_ns for entry in window.entries
    )
    keys = {entry.key for entry in window.entries}
    events = [
        (entry.invoked_ns, str(entry))
        for entry in record.entries
        if entry.key in keys and entry.invoked_ns <= until and (entry.ended_ns or until) >= since
    ]
    for one in record.disturbances:
        what = f"{one.fault} on {', '.join(one.targets)}"
        events.append((one.since_ns, f"-- {what} begins ({one.evidence})"))
        if one.healed_ns is not None:
            events.append((one.healed_ns, f"-- {what} is healed"))
        if one.until_ns is not None:
            events.append((one.until_ns, f"-- all is well again after {what}"))
    events += [(one.at_ns, f"-- {one.node} leads in term {one.term}") for one in record.leaders]
    events += [(one.at_ns, f"-- {one.node} ended with {one.code}") for one in record.exits]
    shown = sorted(event for event in events if since <= event[0] <= until)
    yield from (f"{at / 1e6:.3f}  {words}" for at, words in shown[:STORY_LINES_MAX])


def spread(values: Sequence[float]) -> str:
    """Count, median, 99th percentile and maximum, for people."""
    if not values:
        return "none"
    ordered = sorted(values)
    return (
        f"{len(ordered)}; p50 {quantile(ordered, 0.5):.0f}, "
        f"p99 {quantile(ordered, 0.99):.0f}, max {ordered[-1]:.0f} ms"
    )
