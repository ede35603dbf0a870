"""The logs that are damaged byte by byte: fixed, and with everything in them that a log can hold.

Some segments are sealed; the last one has groups of one and of many records, payloads with whole
zero sectors and with single bits, markers, snapshots, entries that supersede. Its files are kept as
they were after each step, and so are the state files: a log may be found with older ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random

from tests.support.disk import MemoryDisk
from tests.torture.history import History, Item, Script, payload, segment_paths
from tests.unit.wal.wal_harness import STATES, open_log
from wal import Options, Position, Wal

SEED = 64
ONE_BIT = bytes(800) + b"\x10" + bytes(1000)
"""With a sector that one flipped bit turns into zeros."""

MIXED = b"text" * 200 + bytes(1300) + b"more" * 60
"""Zero sectors between others."""

FIRST_BYTES = 3400
"""A payload in the first group of the last segment. Groups before it are always smaller."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The log as it was after a step.

    Attributes:
        name: of the step.
        image: all files.
        records: how many were acknowledged.
        floor: synced position in the state files.
    """

    name: str
    image: dict[Path, bytes]
    records: int
    floor: Position


@dataclass(frozen=True, slots=True)
class Reference:
    """A log and its past.

    Attributes:
        history: what was written.
        moments: since the last segment was made; the last one is the whole log.
        segments: paths by number.
    """

    options: Options
    history: History
    moments: tuple[Moment, ...]
    segments: dict[int, Path]

    @property
    def last(self) -> int:
        """Number of the last segment."""
        return max(self.segments)

    def at(self, moment: Moment) -> Reference:
        """The log as it was then."""
        records = self.history.records[: moment.records]
        past = replace(self.history, records=records, acknowledged=moment.records)
        return replace(self, history=past, moments=(moment,))

    def images(self) -> list[tuple[dict[Path, bytes], Position]]:
        """The whole log with the state files of its first, middle and last moment in the segment.

        With the floor that each of them knows.
        """
        whole, moments = self.moments[-1].image, self.moments
        middle = next(moment for moment in moments if moment.name == "refresh")
        return [
            (whole | {path: moment.image[path] for path in STATES}, moment.floor)
            for moment in (moments[0], middle, moments[-1])
        ]


@lru_cache
def reference(segment_bytes: int, sector_bytes: int, sealed: int) -> Reference:
    """Make a log of some sealed segments, at least one, and a last one."""
    assert sealed > 0
    options = Options(segment_bytes=segment_bytes, sector_bytes=sector_bytes)
    disk, history, random = MemoryDisk(), History(options), Random(SEED)
    wal, _ = open_log(disk, options)
    script = Script(random, history, disk)
    _fill_sealed(script, wal, sealed)
    moments: list[Moment] = []

    def keep(name: str) -> None:
        moments.append(Moment(name, disk.image(), history.acknowledged, wal.state.synced))

    first = wal.last_index + 1
    last_sealed = wal.synced.segment
    for number, (name, items) in enumerate(_last_segment(random, first)):
        if name in ("refresh", "end"):
            wal.refresh_state(min(first, wal.last_index))
        else:
            script.write(wal, items)
        if number == 0:
            assert wal.synced.segment == last_sealed + 1, "the first group begins the segment"
        keep(name)
    assert wal.synced.segment == last_sealed + 1, "the last segment holds all of its groups"
    wal.close()
    return Reference(options, history, tuple(moments), segment_paths(disk))


def _fill_sealed(script: Script, wal: Wal, sealed: int) -> None:
    """Fill segments until the first group of the last one does not fit any more."""
    options, random = script.history.options, script.random
    while True:
        segment, end = wal.synced
        left = options.segment_bytes - end
        if segment == sealed and left < FIRST_BYTES:
            return
        first = wal.last_index + 1
        # Large ones among them, or reading the segments before the damaged one would take all day.
        sizes = [random.choice((1, 30, 300)) for _ in range(random.randint(1, 3))]
        if random.random() < 0.5:
            sizes = [random.randint(1000, 2200)]
        script.write(
            wal, [("entry", first + n, payload(random, size)) for n, size in enumerate(sizes)]
        )


def _last_segment(random: Random, first: int) -> list[tuple[str, list[Item]]]:
    """The steps in the last segment; the first one does not fit into the segment before."""

    def entries(at: int, *payloads: bytes) -> list[Item]:
        return [("entry", first + at + n, data) for n, data in enumerate(payloads)]

    return [
        ("append", entries(0, random.randbytes(30), random.randbytes(FIRST_BYTES))),
        ("append", entries(2, b"", b"x", random.randbytes(460))),
        ("marker", [("marker", first + 4, b"")]),
        ("append", entries(5, MIXED)),
        ("refresh", []),
        ("supersede", entries(4, random.randbytes(90), bytes(700), b"")),
        ("snapshot", [("snapshot", first, b"which one it is")]),
        ("append", entries(7, bytes(40))),
        ("append", entries(8, random.randbytes(5), ONE_BIT, random.randbytes(100), b"")),
        ("end", []),
    ]
