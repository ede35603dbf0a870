"""Each call to the file system fails, one by one, in all ways that a call can fail.

The script opens a new log, appends, rolls, marks, notes snapshots, releases and reads; opens it
again, with a torn tail, with a file cut short, with a damaged state file. For every call in it, and
every kind of failure: the error is of the right class and is not swallowed; nothing is tried again
after it; the log is unusable (a full disk: usable, and complete); and after a loss of power the
next start finds all that was acknowledged.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random

from tests.support.disk import SECTOR_BYTES, Fault, FaultyDisk, Inode, MemoryDisk
from tests.torture.history import Broken, History, Item, Script, segment_paths
from tests.torture.tally import Tally
from tests.unit.wal.wal_harness import IDENTITY, STATES, Model, contents, open_log
from wal import Decision, DiskFailed, DiskFull, Loss, Options, Record, Wal

OPTIONS = Options(segment_bytes=4096)
FAULTS = {
    "EIO": Fault(errno.EIO),
    "EROFS": Fault(errno.EROFS),
    "ENOSPC": Fault(errno.ENOSPC),
    "disk full from here on": Fault(errno.ENOSPC, full=True),
    "half": Fault(half=True),
    "half, then EIO": Fault(errno.EIO, half=True),
    "half, then ENOSPC": Fault(errno.ENOSPC, half=True),
}
CRASHES = 4
"""Each failure is followed by so many different losses of power."""


class Play:
    """One run of the script on a disk that may fail."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.history = History(OPTIONS)
        self.script = Script(Random(0), self.history, self.disk)
        self.wal: Wal | None = None
        self.opens = 0
        self.done = 0

    def run(self) -> None:
        """Go on with the step that comes next."""
        for step in STEPS[self.done :]:
            step(self)
            self.done += 1

    def open(self) -> None:
        """Start: what was acknowledged must be there."""
        self.wal = None
        self.opens += 1
        self.wal, found = open_log(self.disk, OPTIONS, seed=self.opens, on_loss=self.decide)
        self.settle(self.wal, found)

    def settle(self, wal: Wal, found: Model) -> None:
        """Check what was found."""
        history = self.history
        asked = [*history.states, *(one._replace(recovering=True) for one in history.states)]
        history.states = asked
        history.check_state(wal.state)
        history.settle(wal, history.check(wal, found, history.acknowledged))

    def decide(self, loss: Loss) -> Decision:
        """A tail that was torn is repaired, one that was cut off starts recovering."""
        if loss.below_floor:
            raise Broken(f"nothing acknowledged was lost: {loss.describe()}")
        return Decision.RECOVER if "end of file" in loss.damage else Decision.REPAIR

    @property
    def log(self) -> Wal:
        """The open log."""
        assert self.wal is not None
        return self.wal

    def close(self) -> None:
        """Stop."""
        wal, self.wal = self.log, None
        wal.close()

    def append(self, *sizes: int, back: int = 0) -> None:
        """Append a group; with `back` it supersedes."""
        first = self.log.last_index + 1 - back
        data = self.script.random.randbytes
        self.write([("entry", first + n, data(size)) for n, size in enumerate(sizes)])

    def mark(self) -> None:
        """The idle marker."""
        self.write([("marker", self.log.last_index, b"")])

    def snapshot(self, kind: str = "snapshot", beyond: int = 0) -> None:
        """Note a snapshot of all that there is."""
        self.write([(kind, self.log.last_index + beyond, b"a snapshot")])

    def write(self, items: list[Item]) -> None:
        """Write a group."""
        self.script.write(self.log, items)

    def release(self) -> None:
        """Release what the snapshot covers."""
        self.history.releasable = self.log.snapshot_index
        self.log.release(self.log.snapshot_index)

    def save_state(self, *, recovering: bool | None = None) -> None:
        """A new term, or the end of recovering."""
        old = self.history.states[-1]
        flag = old.recovering if recovering is None else recovering
        asked = old._replace(term=old.term + 1, vote=IDENTITY.node_id, recovering=flag)
        self.history.states.append(asked)
        self.log.save_state(
            term=asked.term, vote=asked.vote, commit=asked.commit, recovering=recovering
        )
        self.history.states = [asked]

    def refresh(self) -> None:
        """Refresh the state files."""
        old = self.history.states[-1]
        self.history.states.append(old._replace(commit=self.log.last_index))
        self.log.refresh_state(self.log.last_index)
        del self.history.states[0]

    def read(self) -> None:
        """Read all."""
        if contents(self.log) != self.history.model().entries[-len(contents(self.log)) :]:
            raise Broken("read something else")

    def tear(self) -> None:
        """Leave a group behind of which one sector was never written."""
        path, data, start = self._unsynced()
        hole = start + 2 * SECTOR_BYTES
        self._put(path, data[:hole] + bytes(SECTOR_BYTES) + data[hole + SECTOR_BYTES :])

    def shorten(self) -> None:
        """Leave a group behind that the end of the file cuts."""
        path, data, start = self._unsynced()
        self._put(path, data[: start + 900])

    def spoil_state(self) -> None:
        """Damage one state file."""
        self._put(STATES[0], b"\xff" * SECTOR_BYTES)

    def _unsynced(self) -> tuple[Path, bytes, int]:
        """The bytes of the last segment with a group that is not acknowledged, and its start."""
        copy = MemoryDisk.from_image(self.disk.image())
        wal, _ = open_log(copy, OPTIONS)
        first = wal.last_index + 1
        items: list[Item] = [("entry", first + n, b"t" * 700) for n in range(2)]
        self.history.begin(wal, copy, items)
        wal.append([Record(index, data) for _, index, data in items])
        path = segment_paths(copy)[wal.synced.segment]
        return path, copy.image()[path], self.history.records[-2].start

    def _put(self, path: Path, data: bytes) -> None:
        made = Inode(bytearray(data), bytearray(data))
        self.disk.names[path] = self.disk.durable_names[path] = made


STEPS: tuple[Callable[[Play], None], ...] = (
    Play.open,
    lambda play: play.append(30, 90),
    lambda play: play.append(700, 0, 600),
    Play.save_state,
    Play.mark,
    lambda play: play.append(1500, 40),
    Play.refresh,
    lambda play: play.append(10, 20, back=1),
    Play.read,
    lambda play: play.append(6000, 10),
    lambda play: play.append(300),
    Play.snapshot,
    Play.release,
    lambda play: play.append(50),
    Play.close,
    Play.open,
    lambda play: play.append(80, 90),
    Play.read,
    Play.close,
    Play.tear,
    Play.open,
    lambda play: play.append(60),
    Play.mark,
    Play.close,
    Play.spoil_state,
    Play.open,
    lambda play: play.snapshot("install", 7),
    Play.release,
    lambda play: play.append(100),
    Play.close,
    Play.shorten,
    Play.open,
    lambda play: play.append(20, 30),
    lambda play: play.save_state(recovering=False),
    Play.read,
    lambda play: play.append(2000, 1000),
    Play.release,
    Play.close,
    Play.open,
    Play.close,
)


@lru_cache
def calls() -> int:
    """How many calls the script makes."""
    play = Play()
    play.run()
    return len(play.disk.history)


def plan(count: int | None, seed: int) -> range:
    """Every call, every failure, every crash; or evenly so many of these."""
    total = calls() * len(FAULTS) * CRASHES
    step = 1 if count is None else max(1, total // count)
    return range(seed % step, total, step)


def run(numbers: range) -> Tally:
    """Fail some calls."""
    tally = Tally()
    for number in numbers:
        rest, crash = divmod(number, CRASHES)
        call, kind = divmod(rest, len(FAULTS))
        name = list(FAULTS)[kind]
        case = Case(call + 1, FAULTS[name], crash, tally)
        try:
            case.play()
        except Exception as error:  # noqa: BLE001 - anything else is a finding as well
            tally.broken(f"call {call + 1} {case.met()}, {name}, crash {crash}: {error!r}")
        if case.disk.struck:
            tally.add(f"|{case.met()[0]}|{name}")
    return tally


class Case:
    """One failure."""

    def __init__(self, call: int, fault: Fault, crash: int, tally: Tally) -> None:
        self.run = Play()
        self.disk = self.run.disk
        self.disk.fault_at, self.disk.fault = call, fault
        self.fault, self.crash, self.tally = fault, crash, tally

    def met(self) -> tuple[str, str]:
        """Name and file of the call that failed."""
        name, path = self.disk.history[(self.disk.struck or self.disk.fault_at) - 1]
        return name, path.name

    def play(self) -> None:
        """Run the script until it fails, look at what is left, lose power and start again."""
        try:
            self.run.run()
        except DiskFull:
            self.tally.add("DiskFull")
            self.full()
        except DiskFailed as failure:
            self.tally.add("DiskFailed")
            self.failed(failure)
        else:
            if self.disk.struck:
                raise Broken("the failure was swallowed")
            self.tally.add("no failure")
        if self.disk.struck:
            self.restart()

    def full(self) -> None:
        """No room: nothing has changed, and with room the script goes on to its end."""
        disk, play = self.disk, self.run
        if self.fault.error != errno.ENOSPC:
            raise Broken("called full")
        self.nothing_tried_again()
        self.room()
        if play.wal is not None:
            if any(path.suffix == ".tmp" for path in disk.names):
                raise Broken("a temporary file is left")
            play.read()
            # Something small still fits, and the log goes on from there.
            play.append(1)
        play.run()
        play.open()
        self.tally.add("went on after a full disk")

    def failed(self, failure: DiskFailed) -> None:
        """Any other failure: of the right class, and the log is unusable."""
        name, _ = self.met()
        _, path = self.disk.history[self.disk.struck - 1]
        if failure.cause.errno != self.fault.error:
            raise Broken(f"another error: {failure}")
        fresh = path.suffix == ".tmp" and name in ("create", "pwrite", "fdatasync")
        if self.fault.error == errno.ENOSPC and fresh:
            raise Broken(f"no room for a new file is no broken disk: {failure}")
        self.nothing_tried_again()
        self.room()
        wal, step = self.run.wal, STEPS[self.run.done]
        if wal is None:
            return
        if step in (Play.read, Play.open):
            # An open log reads all of it back: a failed read has changed nothing.
            contents(wal)
            self.tally.add("usable after a failed read")
            return
        made = len(self.disk.history)
        for use in uses(wal):
            try:
                use()
            except DiskFailed:
                continue
            raise Broken("the log is used after a failure")
        if len(self.disk.history) != made:
            raise Broken("something was tried after a failure")

    def room(self) -> None:
        """The disk works again."""
        self.disk.fault_at, self.disk.room = 0, True

    def nothing_tried_again(self) -> None:
        """After the failed call only descriptors are closed, and a file that nobody knows goes."""
        after = self.disk.history[self.disk.struck :]
        if any(name not in ("close", "unlink") for name, _ in after):
            raise Broken(f"tried after the failure: {after}")

    def restart(self) -> None:
        """Lose power, start, and go on."""
        self.disk.crash(Random(self.crash))
        self.run.open()
        self.run.append(5)
        self.run.close()
        self.run.open()
        self.tally.add("restarted")


def uses(wal: Wal) -> list[Callable[[], object]]:
    """Everything that can be asked of a log."""
    return [
        lambda: wal.append([Record(wal.last_index + 1, b"")]),
        wal.mark,
        lambda: wal.mark_snapshot(max(wal.last_index, 1), b""),
        lambda: wal.release(wal.snapshot_index),
        lambda: wal.save_state(term=99, vote=0, commit=0),
        lambda: wal.refresh_state(1 << 40),
        lambda: wal.read(1, 2, 1),
    ]


def floors(count: int) -> dict[str, int]:
    """Counts below these mean that hardly anything happened."""
    return {
        "DiskFailed": count // 3,
        "DiskFull": count // 40,
        "went on after a full disk": count // 40,
        "usable after a failed read": count // 100,
        "restarted": count // 2,
    }


def summary(tally: Tally) -> list[str]:
    """Which calls failed how often."""
    rows = sorted({name.split("|")[1] for name in tally.counts if name.startswith("|")})
    kinds = list(FAULTS)
    lines = [f"{calls()} calls in the script; failures that were met:", ""]
    lines += ["| Call | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for row in rows:
        cells = " | ".join(str(tally.counts[f"|{row}|{kind}"]) for kind in kinds)
        lines.append(f"| {row} | {cells} |")
    return lines
