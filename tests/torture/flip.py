"""Every bit of a log of 64 KiB flipped, one at a time, and of both state files.

A damaged log is refused, or it holds what it held; or, if the flipped bit was the only one in its
sector and no witness lies behind, it may read like a group that was never written in full, and is
cut. The state files are those of the time when the last segment was made: the weakest that there
can be. Where `scan` alone says that a segment is corrupt, only one log in sixteen is also opened;
all others are opened as a node would open them.

A last segment with larger sectors, and so with whole sectors of padding, comes on top.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tests.torture.history import HEADER_BYTES, SEGMENT_HEADER_BYTES, Broken
from tests.torture.oracle import Expected, expected
from tests.torture.reference import Reference, reference
from tests.torture.tally import Tally
from tests.torture.verdict import CUT, REFUSED, SAME, VERDICTS, judge
from tests.unit.wal.wal_harness import STATES
from wal.format import decode_segment_header
from wal.scan import Verdict, scan

LOGS = ((16384, 512, 3), (16384, 1024, 1))
"""(segment bytes, sector bytes, sealed segments): 64 KiB, and a last segment of larger sectors."""

SEGMENT_FIELDS = (
    ("magic", 8),
    ("version", 4),
    ("sector bytes", 4),
    ("cluster id", 8),
    ("node id", 8),
    ("sequence", 8),
    ("first index", 8),
    ("segment bytes", 8),
    ("salt", 8),
    ("chain", 4),
    ("crc", 4),
)
RECORD_FIELDS = (
    ("crc", 4),
    ("magic", 4),
    ("type", 4),
    ("length", 4),
    ("index", 8),
    ("zero sectors", 4),
    ("chain", 4),
    ("own offset", 4),
    ("synced_upto", 4),
    ("salt", 8),
)
STATE_BYTES = 512
OPENED_EVERY = 16


@lru_cache
def places() -> list[tuple[int, Path, int]]:
    """(log, file, byte) of all bytes that there are."""
    log, larger = (reference(*shape) for shape in LOGS)
    image, last = log.images()[0][0], larger.segments[larger.last]
    found = [(0, path, at) for path in sorted(image) for at in range(len(image[path]))]
    return found + [(1, last, at) for at in range(larger.options.segment_bytes)]


def plan(count: int | None, seed: int) -> range:
    """All bits, or evenly so many of them, the first one chosen by the seed."""
    total = 8 * len(places())
    # An odd step: else it would always be the same bit of a byte.
    step = 1 if count is None else max(1, total // count) | 1
    return range(seed % step, total, step)


def run(numbers: range) -> Tally:
    """Flip some bits."""
    tally = Tally()
    for number in numbers:
        log, path, at = places()[number // 8]
        try:
            verdict = play(reference(*LOGS[log]), path, at, number % 8)
        except Exception as error:  # noqa: BLE001 - anything else is a finding as well
            tally.broken(f"log {log}, {path.name}, byte {at}, bit {number % 8}: {error!r}")
            verdict = "wrong"
        region = regions(*LOGS[log], path)[at]
        larger = f", sectors of {LOGS[log][1]} bytes" if log else ""
        tally.add(f"|{region}{larger}|{verdict}")
        tally.add(verdict)
    return tally


def play(log: Reference, path: Path, at: int, bit: int) -> str:
    """Flip a bit and open the log."""
    image, floor = log.images()[0]
    flipped = bytearray(image[path])
    flipped[at] ^= 1 << bit
    damaged = image | {path: bytes(flipped)}
    briefly = (at + bit) % OPENED_EVERY != 0
    if path in STATES:
        # The other copy knows everything.
        right = Expected(False, log.history.acknowledged)
        return judge(log, damaged, right, briefly=briefly)[0]
    segment = next(number for number, name in log.segments.items() if name == path)
    right = expected(log.history, segment, image[path], bytes(flipped), floor)
    if briefly and right.refused is not False and _corrupt(log, segment, flipped):
        return REFUSED
    verdict, count = judge(log, damaged, right, briefly=briefly)
    last_group = log.history.records[-1].group
    if verdict == CUT and log.history.records[count].group != last_group:
        raise Broken("more than the last group was cut")
    return verdict


def _corrupt(log: Reference, segment: int, flipped: bytearray) -> bool:
    """Tell whether a segment with a good header is refused for its bytes alone."""
    data = bytes(flipped)
    header = decode_segment_header(data)
    if header is None or any(data[SEGMENT_HEADER_BYTES : header.sector_bytes]):
        return False
    verdict = scan(
        data, header, chain=header.previous_chain, last_index=header.first_index - 1
    ).verdict
    return verdict is Verdict.CORRUPT or (segment != log.last and verdict is not Verdict.CLEAN)


@lru_cache
def regions(segment_bytes: int, sector_bytes: int, sealed: int, path: Path) -> list[str]:
    """What each byte of a file is."""
    if path in STATES:
        return ["state file"] * STATE_BYTES
    log = reference(segment_bytes, sector_bytes, sealed)
    segment = next(number for number, name in log.segments.items() if name == path)
    where = "last" if segment == log.last else "sealed"
    names = _fields(f"{where} segment, header", SEGMENT_FIELDS)
    names += [f"{where} segment, header, zeros behind"] * (sector_bytes - len(names))
    records = [record for record in log.history.records if record.segment == segment]
    for record in records:
        unseen = segment == log.last and record.group == log.history.records[-1].group
        whose = f"{where} group" if unseen else f"{where} segment"
        names += [f"{whose}, padding before it"] * (record.start - len(names))
        names += _fields(f"{whose}, record", RECORD_FIELDS)
        payload_end = record.start + HEADER_BYTES + len(record.payload)
        names += [f"{whose}, payload"] * len(record.payload)
        names += [f"{whose}, pad"] * (record.end - payload_end)
    names += [f"{where} segment, behind the log"] * (segment_bytes - len(names))
    return names


def _fields(prefix: str, fields: tuple[tuple[str, int], ...]) -> list[str]:
    return [f"{prefix}, {name}" for name, size in fields for _ in range(size)]


def floors(count: int) -> dict[str, int]:
    """Counts below these mean that hardly anything happened."""
    return {REFUSED: count // 2, SAME: count // 50, CUT: count // 300_000}


def summary(tally: Tally) -> list[str]:
    """The table of verdicts."""
    lines = ["| Flipped | " + " | ".join(VERDICTS) + " |", "|---|---:|---:|---:|"]
    rows = {name.rsplit("|", 1)[0] for name in tally.counts if name.startswith("|")}
    for row in sorted(rows):
        cells = " | ".join(str(tally.counts[f"{row}|{verdict}"]) for verdict in VERDICTS)
        lines.append(f"| {row[1:]} | {cells} |")
    return lines
