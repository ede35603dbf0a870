"""A log that ends early: cut at every byte, zeroed from every sector on, one sector zeroed, gone.

Each segment of two logs, the last segments with three ages of state files. The moments of the last
segment show the window that no witness covers: what damage can take without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tests.support.disk import SECTOR_BYTES
from tests.torture.history import Broken
from tests.torture.oracle import expected
from tests.torture.reference import Reference, reference
from tests.torture.tally import Tally
from tests.torture.verdict import CUT, REFUSED, SAME, VERDICTS, judge

LOGS = ((16384, 512, 2), (16384, 1024, 1))
"""(segment bytes, sector bytes, sealed segments)."""

STATES = ("of the segment's beginning", "of its middle", "of its end")


class Case(NamedTuple):
    """One piece of damage.

    Attributes:
        states: age of the state files.
        at: byte from which on, or sector.
    """

    log: int
    states: int
    segment: int
    kind: str
    at: int


@lru_cache
def cases() -> list[Case]:
    """All of them."""
    found = []
    for number, log in enumerate(LOGS):
        segments, last = reference(*log).segments, reference(*log).last
        for segment in segments:
            for states in range(len(STATES)) if segment == last else (0,):
                sectors = range(0, log[0], SECTOR_BYTES)
                found += [Case(number, states, segment, "cut", at) for at in range(log[0])]
                found += [Case(number, states, segment, "zeroed from", at) for at in sectors]
                found += [Case(number, states, segment, "sector zeroed", at) for at in sectors]
                found.append(Case(number, states, segment, "gone", 0))
    return found


def plan(count: int | None, seed: int) -> range:
    """All cases, or evenly so many of them, the first one chosen by the seed."""
    total = len(cases())
    step = 1 if count is None else max(1, total // count)
    return range(seed % step, total, step)


def damage(data: bytes, kind: str, at: int) -> bytes | None:
    """The bytes of a file after it."""
    match kind:
        case "cut":
            return data[:at]
        case "zeroed from":
            return data[:at] + bytes(len(data) - at)
        case "sector zeroed":
            return data[:at] + bytes(SECTOR_BYTES) + data[at + SECTOR_BYTES :]
        case _:
            return None


def run(numbers: range) -> Tally:
    """Play some cases; the part that holds the first one measures the window, too."""
    tally = Tally()
    for number in numbers:
        case = cases()[number]
        try:
            verdict = play(case)
        except Exception as error:  # noqa: BLE001 - anything else is a finding as well
            tally.broken(f"{case}: {error!r}")
            verdict = "wrong"
        last = case.segment == reference(*LOGS[case.log]).last
        where = f"last segment, state files {STATES[case.states]}" if last else "sealed segment"
        tally.add(f"|{where}|{case.kind}|{verdict}")
        tally.add(verdict)
    if numbers.start < numbers.step:
        try:
            for log in LOGS:
                for name, window in windows(reference(*log)):
                    tally.most(name, window)
        except Broken as error:
            tally.broken(f"the window: {error}")
    return tally


def play(case: Case) -> str:
    """Do the damage and open the log."""
    log = reference(*LOGS[case.log])
    image, floor = log.images()[case.states]
    path = log.segments[case.segment]
    after = damage(image[path], case.kind, case.at)
    right = expected(log.history, case.segment, image[path], after, floor)
    return judge(log, _with(image, path, after), right)[0]


def _with(image: dict[Path, bytes], path: Path, data: bytes | None) -> dict[Path, bytes]:
    changed = dict(image)
    if data is None:
        del changed[path]
    else:
        changed[path] = data
    return changed


def windows(log: Reference) -> Iterator[tuple[str, int]]:
    """After each step in the last segment: what damage can take with nobody knowing better.

    Yields names of measures and their values; the largest of each counts.

    Raises:
        Broken: one zeroed sector took more than the last group, or something before a witness.
    """
    path = log.segments[log.last]
    for moment in log.moments:
        past = log.at(moment)
        witness = moment.name in ("marker", "refresh", "end")
        for kind in ("sector zeroed", "cut", "zeroed from"):
            for at in range(0, past.history.records[-1].end, SECTOR_BYTES):
                after = damage(moment.image[path], kind, at)
                right = expected(past.history, log.last, moment.image[path], after, moment.floor)
                verdict, count = judge(past, _with(moment.image, path, after), right)
                lost = [] if verdict == REFUSED else past.history.records[count:]
                groups = len({record.group for record in lost if record.kind != "marker"})
                if kind == "sector zeroed" and groups > (not witness):
                    raise Broken(f"{kind} at {at} after {moment.name}: {groups} groups are gone")
                where = "a zeroed sector" if kind == "sector zeroed" else "a cut or zeroed tail"
                where += ", behind a marker or refresh" if witness else ""
                yield f"groups taken by {where}", groups
                yield f"payload bytes taken by {where}", sum(len(one.payload) for one in lost)


def floors(count: int) -> dict[str, int]:
    """Counts below these mean that hardly anything happened."""
    return {REFUSED: count // 4, SAME: count // 20, CUT: count // 100}


def summary(tally: Tally) -> list[str]:
    """A table of verdicts, and the window."""
    lines = ["| Where | Damage | " + " | ".join(VERDICTS) + " |", "|---|---|---:|---:|---:|"]
    rows = {name.rsplit("|", 1)[0] for name in tally.counts if name.startswith("|")}
    for row in sorted(rows):
        cells = " | ".join(str(tally.counts[f"{row}|{verdict}"]) for verdict in VERDICTS)
        lines.append(f"| {row[1:].replace('|', ' | ')} | {cells} |")
    lines += ["", "The most that damage to the last segment took and nobody could notice:", ""]
    lines += [
        f"- {name.removeprefix('most ')}: {count}"
        for name, count in sorted(tally.counts.items())
        if name.startswith("most ")
    ]
    return lines
