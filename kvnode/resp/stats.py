"""Counters of the front end: plain integers that INFO, LATENCY HISTOGRAM and the metrics page read.

**What the time of a command is here.** From its beginning until its result, as the client lives it:
for a write that includes the log and the majority, for a read its read-index round. Redis measures
processor time inside its one thread instead; we could only guess at that, since one pass of the
node works for many commands at once. A command that had to wait for earlier ones of its own
connection begins when its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from kvnode.resp.commands.command import Command
from kvnode.resp.commands.table import ROWS
from kvnode.service import Op
from kvnode.store.reply import Result

ERROR_CODES_MAX = 128
"""Different error codes counted apart, as many as Redis keeps; the rest count as "OTHER"."""

TIME_BUCKETS: Final = 64
"""A time of n nanoseconds belongs to bucket `n.bit_length()`."""

Judge = Callable[["Tally", Op, Result], None]


class Tally:
    """What is counted of one command. A connection's hot path writes it field by field.

    Attributes:
        calls: begun.
        rejected: refused before they were begun.
        failed: answered with an error.
        nanoseconds: sum of the times of all that were answered; see the module.
        buckets: how many of them took how long, by powers of two.
        missed: keys looked up and not found; `None` as a result counts by itself.
        found: keys looked up and found, counted by `judge`.
        judge: looks at results in which not every miss is a `None`.
    """

    __slots__ = (
        "buckets",
        "calls",
        "command",
        "failed",
        "found",
        "judge",
        "missed",
        "nanoseconds",
        "rejected",
    )

    def __init__(self, command: Command) -> None:
        self.command = command
        self.judge = _JUDGES.get(command.name)
        self.buckets = [0] * TIME_BUCKETS
        self.reset()

    def reset(self) -> None:
        self.calls = self.rejected = self.failed = self.nanoseconds = self.missed = self.found = 0
        self.buckets[:] = [0] * TIME_BUCKETS

    def percentile_us(self, percent: float) -> float:
        """A time that `percent` of a hundred answers did not exceed, in microseconds."""
        wanted = sum(self.buckets) * percent / 100
        for bits, count in enumerate(accumulate(self.buckets)):
            if count >= wanted:
                return (1 << bits) / 1000
        return 0.0


def _judge_list(tally: Tally, _op: Op, result: Result) -> None:
    if isinstance(result, list):
        missed = result.count(None)
        tally.missed += missed
        tally.found += len(result) - missed


def _judge_count(tally: Tally, op: Op, result: Result) -> None:
    if isinstance(result, int):
        tally.found += result
        tally.missed += len(op) - 2 - result


def _judge_lifetime(tally: Tally, _op: Op, result: Result) -> None:
    tally.missed += result == NO_KEY
    tally.found += isinstance(result, int) and result != NO_KEY


NO_KEY: Final = -2
"""What TTL answers for a key that is not there."""

_JUDGES: Final[dict[str, Judge]] = {
    "mget": _judge_list,
    "exists": _judge_count,
    "ttl": _judge_lifetime,
    "pttl": _judge_lifetime,
}
_NULL_MEANS_MISS: Final = ("get",)


@dataclass(slots=True)
class Stats:
    """What the front end has done since it started (or since CONFIG RESETSTAT, where noted).

    Attributes:
        connections_total: connections accepted.
        connections_rejected_total: connections refused at a limit, by reason.
        connections_closed_total: connections we closed to protect the node, by reason.
        protocol_violations_total: streams that could not be understood.
        input_bytes_total: bytes read from clients.
        output_bytes_total: bytes handed to the kernel, or waiting for it.
        tallies: what is counted per command, by its index (reset by CONFIG RESETSTAT).
        errors: error replies by their code, the first word (reset by CONFIG RESETSTAT).
        expired_before: how many keys the node had seen expire at the last CONFIG RESETSTAT.
    """

    connections_total: int = 0
    connections_rejected_total: dict[str, int] = field(default_factory=dict)
    connections_closed_total: dict[str, int] = field(default_factory=dict)
    protocol_violations_total: int = 0
    input_bytes_total: int = 0
    output_bytes_total: int = 0
    tallies: list[Tally] = field(default_factory=lambda: [Tally(row) for row in ROWS])
    errors: dict[str, int] = field(default_factory=dict)
    expired_before: int = 0

    @property
    def commands_total(self) -> int:
        """Commands accepted."""
        return sum([tally.calls for tally in self.tallies])

    @property
    def errors_total(self) -> int:
        """Error replies sent."""
        return sum(self.errors.values())

    @property
    def keyspace_misses(self) -> int:
        """Keys that reads looked for in vain."""
        judged = sum([tally.missed for tally in self.tallies if tally.judge])
        return judged + sum([self.tally(name).missed for name in _NULL_MEANS_MISS])

    @property
    def keyspace_hits(self) -> int:
        """Keys that reads looked for and found."""
        judged = sum([tally.found for tally in self.tallies if tally.judge])
        others = [self.tally(name) for name in _NULL_MEANS_MISS]
        return judged + sum([each.calls - each.failed - each.missed for each in others])

    def tally(self, name: str) -> Tally:
        """The counters of one command."""
        return self.tallies[_INDEXES[name]]

    def calls_by_name(self) -> dict[str, int]:
        """Commands accepted, of those that were used."""
        return {tally.command.name: tally.calls for tally in self.tallies if tally.calls}

    def count_error(self, line: bytes) -> None:
        """Count an encoded error reply under its code."""
        code = line[1:33].split(None, 1)[0].decode("ascii", "replace")
        if code not in self.errors and len(self.errors) >= ERROR_CODES_MAX:
            code = "OTHER"
        self.errors[code] = self.errors.get(code, 0) + 1

    def count_rejected(self, reason: str) -> None:
        """Count a connection that was refused."""
        total = self.connections_rejected_total
        total[reason] = total.get(reason, 0) + 1

    def count_closed(self, reason: str) -> None:
        """Count a connection that we closed."""
        self.connections_closed_total[reason] = self.connections_closed_total.get(reason, 0) + 1

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        for tally in self.tallies:
            tally.reset()
        self.errors.clear()


_INDEXES: Final = {row.name: row.index for row in ROWS}
