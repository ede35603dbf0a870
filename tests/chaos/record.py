"""The record of a run: what was asked and answered, and what was done to the nodes meanwhile.

It is the only witness. Clients note an operation when they send it, and its end when they know it;
an operation that has no end when the run is over stays unknown. All clients live in one process, so
that one monotonic clock orders everything. The loop that breaks things adds disturbances, leaders,
exits and samples. Checks read the record and nothing else; so a saved one can be judged again.

A record only grows, up to a bound: past it clients stop working.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.history import Outcome

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

ENTRIES_MAX = 2_000_000
"""Half a gigabyte. Long campaigns are cut into epochs, each with keys and a record of its own."""

TEXT_CHARACTERS_MAX = 160
"""Of an argument or a result, for people."""

FINAL_CLIENT = -1
"""The number of the client who reads everything back in calm weather."""


@dataclass(slots=True)
class Entry:
    """One operation of one client.

    Attributes:
        workload: name of the workload that it is part of.
        client: number of the client; one client has at most one operation under way.
        node: name of the node that was asked.
        what: the operation, in the words of its workload; one that changes nothing begins "read".
        key: what it was about.
        invoked_ns: monotonic clock before the request was sent.
        argument, result: as the workload likes them.
        outcome: what the client knows about it; unknown until it ends.
        ended_ns: monotonic clock when the client knew, or gave up; None while it is under way.
        note: the error text, if there was one.
    """

    workload: str
    client: int
    node: str
    what: str
    key: str
    invoked_ns: int
    argument: Json = None
    result: Json = None
    outcome: Outcome = Outcome.UNKNOWN
    ended_ns: int | None = None
    note: str = ""

    @property
    def is_done(self) -> bool:
        """It was acknowledged."""
        return self.outcome is Outcome.DONE

    @property
    def is_change(self) -> bool:
        """It writes, as opposed to one that only looks."""
        return not self.what.startswith("read")

    @property
    def is_final(self) -> bool:
        """It was done in calm weather, when all clients had ended."""
        return self.client == FINAL_CLIENT

    @property
    def returned_ns(self) -> float:
        """When it had taken effect at the latest: never, unless it was acknowledged."""
        if not self.is_done or self.ended_ns is None:
            return math.inf
        return self.ended_ns

    def finish(self, outcome: Outcome, result: Json = None, note: str = "") -> None:
        """Note its end, now."""
        self.ended_ns = time.monotonic_ns()
        self.outcome, self.result, self.note = outcome, result, note

    def __str__(self) -> str:
        """One line for people; moments in milliseconds."""
        end = "…" if self.ended_ns is None else f"{self.ended_ns / 1e6:.3f}"
        asked = "" if self.argument is None else f" {_short(self.argument)}"
        told = f" -> {_short(self.result)}" if self.is_done else ""
        note = f" ({self.note})" if self.note else ""
        return (
            f"client {self.client} at {self.node}, {self.key}: {self.what}{asked}{told}, "
            f"{self.outcome.value}{note}, [{self.invoked_ns / 1e6:.3f}, {end}]"
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a client would call an error.

    Attributes:
        since_ns, until_ns: when the request was sent, and when the error was seen.
    """

    client: int
    node: str
    since_ns: int
    until_ns: int
    text: str


@dataclass(slots=True)
class Disturbance:
    """A fault that was injected, as the checks see it.

    Attributes:
        fault, family: its names.
        targets: names of the nodes it was done to.
        since_ns: just before it began.
        healed_ns: when it was taken back; None while it lasts.
        until_ns: when every node that it excuses served again; None while one does not.
        evidence: what shows that it took hold; None if it did not.
        kills: processes ended by it.
        was_leader: one of the targets led.
        excused: names of the nodes whose clients may see errors meanwhile.
        exits: the codes with which the targets may end (negative: the signal).
    """

    fault: str
    family: str
    targets: list[str]
    since_ns: int
    healed_ns: int | None = None
    until_ns: int | None = None
    evidence: str | None = None
    kills: bool = False
    was_leader: bool = False
    excused: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    def covers(self, node: str, since_ns: float, until_ns: float) -> bool:
        """Whether it excuses an error at a node in a span of time."""
        end = math.inf if self.until_ns is None else self.until_ns
        return node in self.excused and self.since_ns <= until_ns and since_ns <= end


@dataclass(frozen=True, slots=True)
class Leadership:
    """From this moment on a node was seen to lead in a term."""

    at_ns: int
    node: str
    term: int


@dataclass(frozen=True, slots=True)
class Exit:
    """A process ended.

    Attributes:
        code: exit code; negative: the number of the signal.
        log: the end of its log.
    """

    at_ns: int
    node: str
    code: int
    log: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """How much a node held at a moment, in bytes of anonymous memory; `limit` 0: none."""

    at_ns: int
    node: str
    rss_bytes: int
    limit_bytes: int = 0


@dataclass(slots=True)
class Record:
    """All that was seen in one epoch of a run.

    Attributes:
        entries: operations in order of their beginning.
        finals: what each node answered in calm weather, by node and key.
        answered: for each workload, the nodes that answered all its questions then.
        hashes: state hash by node and applied index.
        entries_max: how many operations may be noted.
    """

    entries: list[Entry] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    leaders: list[Leadership] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    finals: dict[str, dict[str, Json]] = field(default_factory=dict)
    answered: dict[str, list[str]] = field(default_factory=dict)
    hashes: dict[str, dict[int, str]] = field(default_factory=dict)
    entries_max: int = ENTRIES_MAX

    @property
    def is_full(self) -> bool:
        """Whoever sees this stops working."""
        return len(self.entries) >= self.entries_max

    def begin(
        self, workload: str, client: int, node: str, what: str, key: str, argument: Json = None
    ) -> Entry:
        """Note an operation that is about to be sent."""
        entry = Entry(workload, client, node, what, key, time.monotonic_ns(), argument)
        self.entries.append(entry)
        return entry

    def of(self, workload: str) -> Iterator[Entry]:
        """The operations of one workload."""
        return (entry for entry in self.entries if entry.workload == workload)

    @property
    def acknowledged(self) -> int:
        """Operations that were answered with success."""
        return sum(entry.is_done for entry in self.entries)

    def final(self, node: str, key: str, value: Json) -> None:
        """Note what a node answers in calm weather."""
        self.finals.setdefault(node, {})[key] = value


def by_key(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Split operations into a list per key, in order of the keys' names."""
    parts: dict[str, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(entry.key, []).append(entry)
    return {key: parts[key] for key in sorted(parts)}


# --- on disk --------------------------------------------------------------------------------------

_PARTS: Mapping[str, type] = {
    "entries": Entry,
    "incidents": Incident,
    "disturbances": Disturbance,
    "leaders": Leadership,
    "exits": Exit,
    "samples": Sample,
}


def save(path: Path, record: Record) -> None:
    """Write a record as JSON lines: the name of a part, and a row of it."""
    with path.open("w") as file:
        for part, kind in _PARTS.items():
            names = [one.name for one in dataclasses.fields(kind)]
            file.write(json.dumps(["columns", part, *names]) + "\n")
            for row in getattr(record, part):
                values = [_plain(getattr(row, name)) for name in names]
                file.write(json.dumps([part, *values]) + "\n")
        for node, answers in record.finals.items():
            file.write(json.dumps(["finals", node, answers]) + "\n")
        for workload, nodes in record.answered.items():
            file.write(json.dumps(["answered", workload, nodes]) + "\n")
        for node, hashes in record.hashes.items():
            file.write(json.dumps(["hashes", node, list(hashes.items())]) + "\n")


def load(path: Path) -> Record:
    """Read a saved record.

    Raises:
        ValueError: it is none.
    """
    record = Record()
    columns: dict[str, list[str]] = {}
    with path.open() as file:
        for line in file:
            part, *values = json.loads(line)
            if part == "columns":
                columns[values[0]] = values[1:]
            elif part == "finals":
                record.finals[values[0]] = values[1]
            elif part == "answered":
                record.answered[values[0]] = values[1]
            elif part == "hashes":
                record.hashes[values[0]] = dict(values[1])
            elif part in columns:
                row: dict[str, Any] = dict(zip(columns[part], values, strict=True))
                if "outcome" in row:
                    row["outcome"] = Outcome(row["outcome"])
                getattr(record, part).append(_PARTS[part](**row))
            else:
                raise ValueError(f"{path}: what is {part!r}?")
    return record


def _short(value: Json) -> str:
    text = json.dumps(value)
    half = TEXT_CHARACTERS_MAX // 2
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:half]} … {text[-half:]}"


def _plain(value: object) -> object:
    return value.value if isinstance(value, Outcome) else value
