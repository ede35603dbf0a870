"""What was written to a log, where, and which of it was acknowledged.

The campaigns compare a log that was opened after damage with this history. It is kept from what
was asked of the log and from `Wal.synced`; where a record lies follows from the sizes in wal's
DESIGN.md. Nothing here reads a record back, so that a mistake of the scanner cannot hide in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import IDENTITY, Model, contents
from wal import Options, Position, Record, State, Wal

HEADER_BYTES = 48
SEGMENT_HEADER_BYTES = 72
NOWHERE = Position(0, 0)
Item = tuple[str, int, bytes]
"""(kind, index, payload); kinds are entry, marker, snapshot and install."""


class Broken(AssertionError):
    """A promise of the log was broken."""


def record_size(payload: bytes) -> int:
    """Bytes of a record: header, payload, and one to eight bytes up to a multiple of eight."""
    return HEADER_BYTES + (len(payload) // 8 + 1) * 8


def round_up(offset: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-offset // unit) * unit


def sequence_of(path: Path) -> int:
    """The number of a segment, 0 for another file."""
    return int(path.name[:16], 16) if path.suffix == ".wal" else 0


def segment_paths(disk: MemoryDisk) -> dict[int, Path]:
    """The segments by number."""
    found = {sequence_of(path): path for path in sorted(disk.names)}
    found.pop(0, None)
    return found


@dataclass(frozen=True, slots=True)
class Placed:
    """A record and where it lies.

    Attributes:
        group: number of its group, from 0.
        end: behind its pad.
        witness: all of its segment below this offset was durable when it was written.
    """

    kind: str
    index: int
    payload: bytes
    group: int
    segment: int
    start: int
    end: int
    witness: int

    @property
    def upto(self) -> Position:
        """Its end as a position in the log."""
        return Position(self.segment, self.end)


class Promise(NamedTuple):
    """What the state files were asked to hold."""

    term: int = 0
    vote: int = 0
    commit: int = 0
    recovering: bool = False


@dataclass(slots=True)
class History:
    """All records in the order of writing.

    Attributes:
        records: acknowledged ones, then those of the group that is under way.
        acknowledged: how many of them are.
        states: acknowledged content of the state files, then one that is under way.
        releasable: the largest index that a release was asked for.
    """

    options: Options
    records: list[Placed] = field(default_factory=list)
    acknowledged: int = 0
    states: list[Promise] = field(default_factory=lambda: [Promise()])
    releasable: int = 0
    groups: int = 0

    def begin(self, wal: Wal, disk: MemoryDisk, items: list[Item]) -> None:
        """Note a group that is about to be written."""
        del self.records[self.acknowledged :]
        sector = self.options.sector_bytes
        segment, end = wal.synced
        size = sum(record_size(payload) for _, _, payload in items)
        full = len(disk.names[segment_paths(disk)[segment]].data)
        if round_up(end, sector) + size > full:
            segment, end = segment + 1, sector
        start = round_up(end, sector)
        for kind, index, payload in items:
            following = start + record_size(payload)
            self.records.append(
                Placed(kind, index, payload, self.groups, segment, start, following, end)
            )
            start = following
        self.groups += 1

    def acknowledge(self, wal: Wal) -> None:
        """The group is durable, the log says."""
        if wal.synced != self.records[-1].upto:
            raise Broken(f"the log ends at {wal.synced}, its last record at {self.records[-1]}")
        self.acknowledged = len(self.records)

    def count_upto(self, position: Position) -> int:
        """How many records end at or before a position."""
        return sum(record.upto <= position for record in self.records)

    def model(self, count: int | None = None) -> Model:
        """The log after the first `count` records, all acknowledged ones by default."""
        model = Model()
        for record in self.records[: self.acknowledged if count is None else count]:
            if record.kind == "entry":
                model.visit(record.index, record.payload)
            elif record.kind != "marker":
                discard = record.kind == "install"
                model.visit_snapshot(record.index, record.payload, discard)
        return model

    def check(self, wal: Wal, found: Model, least: int) -> int:
        """Compare an opened log with the history; return how many records it holds.

        Args:
            least: so many records must be there.

        Raises:
            Broken: fewer are there, or others.
        """
        count = self.count_upto(wal.synced)
        if count < least:
            raise Broken(f"{count} records up to {wal.synced}, {least} must be there")
        then = self.model(count)
        released = len(then.entries) - len(found.entries)
        if released < 0 or then.entries[released:] != found.entries:
            raise Broken(f"the entries are not those of the first {count} records")
        self._check_released([entry.index for entry in then.entries[:released]], wal, count)
        # A recovering log may have lost the marks of its snapshots together with its end.
        unmarked = wal.state.recovering and wal.first_index > found.snapshot.index + 1
        if wal.last_index != then.last or (found.snapshot != then.snapshot and not unmarked):
            raise Broken(f"ends at {wal.last_index}, {found.snapshot}: not {then.last}")
        if contents(wal) != found.entries:
            raise Broken("read and visit disagree")
        return count

    def _check_released(self, indexes: list[int], wal: Wal, count: int) -> None:
        """What is gone was released, or superseded by what a recovering log has lost."""
        places = {record.index: record.segment for record in self.records[:count]}
        for index in indexes:
            superseded = wal.state.recovering and places[index] < wal.state.oldest
            if index > self.releasable and not superseded:
                raise Broken(f"entry {index} was released")

    def check_state(self, state: State) -> None:
        """The state files hold what was acknowledged, or what was under way."""
        if promise_of(state) not in self.states:
            raise Broken(f"state is {state}, asked for was {self.states}")

    def settle(self, wal: Wal, count: int) -> None:
        """Go on from what a crash has left."""
        del self.records[count:]
        self.acknowledged = count
        self.states = [promise_of(wal.state)]


def promise_of(state: State) -> Promise:
    """What the state files hold of what they were asked to."""
    return Promise(state.term, state.vote, state.commit, state.recovering)


FILLS = ("zeros", "text", "noise", "one bit")


def payload(random: Random, size: int) -> bytes:
    """Zeros, text, noise or a single bit: what sectors hold decides what their loss looks like."""
    match random.choice(FILLS):
        case "zeros":
            return bytes(size)
        case "text":
            return b"t" * size
        case "noise":
            return random.randbytes(size)
        case _:
            data = bytearray(size)
            if size:
                data[random.randrange(size)] = 1 << random.randrange(8)
            return bytes(data)


SIZES = (0, 5, 100, 460, 600, 1500)
"""Within a sector, over its edge, and with whole sectors inside."""


@dataclass(slots=True)
class Script:
    """Random operations on a log, noted in its history."""

    random: Random
    history: History
    disk: MemoryDisk

    def run(self, wal: Wal, steps: int) -> None:
        """Do so many operations."""
        for _ in range(steps):
            self.step(wal)

    def step(self, wal: Wal) -> None:
        """Do one."""
        choice = self.random.random()
        if choice < 0.6:
            self.append(wal)
        elif choice < 0.67:
            self.write(wal, [("marker", wal.last_index, b"")])
        elif choice < 0.8:
            self.save_state(wal, refresh=choice < 0.74)
        elif choice < 0.9:
            self.mark_snapshot(wal)
        else:
            self.release(wal)

    def append(self, wal: Wal) -> None:
        """Append a group; now and then it supersedes, or does not fit into a segment."""
        random = self.random
        first = wal.last_index + 1
        if random.random() < 0.15:
            # What is committed is never superseded, and what a snapshot covers is committed.
            low = max(wal.snapshot_index, self.history.states[-1].commit)
            first = min(max(first - random.randint(1, 3), low + 1), first)
        count = random.randint(1, 4)
        sizes = [random.choice(SIZES) for _ in range(count)]
        if first <= wal.last_index:
            # The chain does not see the loss of an empty payload at the end of a sealed segment,
            # where its index would not be missed.
            sizes = [max(size, 1) for size in sizes]
        if random.random() < 0.02:
            sizes[0] = self.history.options.segment_bytes + random.randint(0, 2000)
        self.write(
            wal, [("entry", first + n, payload(random, size)) for n, size in enumerate(sizes)]
        )

    def write(self, wal: Wal, items: list[Item]) -> None:
        """Write a group of any kind."""
        self.history.begin(wal, self.disk, items)
        kind, index, data = items[0]
        if kind == "entry":
            wal.append([Record(*item[1:]) for item in items])
        elif kind == "marker":
            wal.mark()
        else:
            wal.mark_snapshot(index, data, discard=kind == "install")
        self.history.acknowledge(wal)

    def mark_snapshot(self, wal: Wal) -> None:
        """Note a snapshot, of our own or from elsewhere."""
        random = self.random
        low, last = max(wal.snapshot_index, self.history.states[-1].commit, 1), wal.last_index
        data = random.randbytes(random.choice((1, 20, 700)))
        if random.random() < 0.2:
            self.write(wal, [("install", random.randint(low, max(low, last) + 20), data)])
        elif low <= last:
            self.write(wal, [("snapshot", random.randint(low, last), data)])

    def release(self, wal: Wal) -> None:
        """Release some of what the newest snapshot covers."""
        newest = wal.snapshot_index
        index = self.random.choice([newest, self.random.randint(0, newest)])
        self.history.releasable = max(self.history.releasable, index)
        wal.release(index)

    def save_state(self, wal: Wal, *, refresh: bool) -> None:
        """A new term with a vote, a refresh, or the end of recovering; all note a commit index."""
        old = self.history.states[-1]
        commit = self.random.randint(old.commit, max(old.commit, wal.last_index))
        asked = old._replace(commit=commit)
        if old.recovering and self.random.random() < 0.3:
            # Healed: from now on what the log holds counts, even if that is less than before.
            asked = old._replace(recovering=False, commit=min(commit, wal.last_index))
        elif not refresh:
            asked = old._replace(commit=commit, term=old.term + 1, vote=IDENTITY.node_id)
        self.history.states.append(asked)
        if asked.term == old.term and asked.recovering == old.recovering:
            wal.refresh_state(commit)
        else:
            term, vote, commit, recovering = asked
            wal.save_state(term=term, vote=vote, commit=commit, recovering=recovering)
        self.history.states = [asked]
