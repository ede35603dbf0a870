"""Reads a log as a start would, changes nothing, and says what a start would find.

On the directory of a running node the end of the log may be in flight: a group that is being
written looks torn, a segment may be released under the reader's eyes. What looks wrong there is
read again a few times before it is believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from kvnode.directory import holder
from kvnode.errors import ExitCode
from kvnode.node.loss import is_unwritten
from kvnode.snapshot.catalog import list_snapshots
from kvnode.wal_tools.target import Progress, Target, unseen
from wal.errors import Corruption, DiskFailed
from wal.fs import ReadOnlyFileSystem
from wal.index import SparseIndex
from wal.loss import Loss
from wal.recovery import Recovered, Replay, loss_of
from wal.scan import Scan, Verdict
from wal.segment import Segment
from wal.state import State, StateFiles
from wal.survey import Evidence, Judged, Listing, Survey, list_log

REPAIRABLE = 3
"""Exit code: a start would repair the log and go on."""

ATTEMPTS = 5
"""How often the end of a running node's log is read before it is called damaged."""

ATTEMPT_SECONDS = 0.05
"""Between two of them. A write into the page cache takes far less."""


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """One segment in figures: bytes, counts, indexes and terms."""

    segment: Segment
    file_bytes: int
    used_bytes: int
    records: int
    groups: int
    indexes: tuple[int, int] | None
    verdict: Verdict


@dataclass(slots=True)
class Examination:
    """What was found.

    Attributes:
        holder: the process that runs here, None if nobody does.
        state: None if there are no state files: no node ever ran here.
        faults: state files that are missing, damaged or older.
        segments: those that could be read, in order.
        last: the scan of the last of them.
        log: what they hold.
        corruption: why a start would refuse, None if it would not for that.
        loss: what a start would find missing.
        leftovers: files that a start would remove.
    """

    target: Target
    holder: str | None
    state: State | None = None
    faults: dict[Path, str] = field(default_factory=dict)
    segments: list[SegmentFacts] = field(default_factory=list)
    last: Scan | None = None
    log: Recovered = field(default_factory=Recovered)
    corruption: Corruption | None = None
    loss: Loss | None = None
    leftovers: list[Path] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    @property
    def heals(self) -> bool:
        """A start makes the node recover: others have what is gone here, and it may be missed."""
        loss, target = self.loss, self.target
        return (
            loss is not None and target.is_member and not (is_unwritten(loss) and target.cache_kept)
        )

    @property
    def missing_snapshot(self) -> int:
        """Index that a snapshot file should cover and none does, by their names; 0 if all is well.

        The log was cut behind it: a start without an engine that reaches as far is refused. A file
        that lies beyond the log's end was received and not installed: it helps only a node that
        recovers, and lets its log go for it.
        """
        directory, index = self.target.data / "snap", self.log.first_index - 1
        if index <= 0 or self.corruption is not None:
            return 0
        files = list_snapshots(directory) if directory.is_dir() else []
        recovers = self.heals or (self.state is not None and self.state.recovering)
        covering = [
            file
            for file in files
            if file.index >= index and (recovers or file.index <= self.log.last_index)
        ]
        return 0 if covering else index

    @property
    def kind(self) -> str:
        """One of "clean", "torn", "short file", "stale", "state file", "below floor", "corrupt"."""
        if self.corruption is not None:
            return "corrupt"
        if self.loss is not None and self.loss.below_floor:
            return "below floor"
        if self.last is not None and self.last.verdict is not Verdict.CLEAN:
            return str(self.last.verdict.value)
        if set(self.faults.values()) - {"older"}:
            return "state file"
        return "clean"

    @property
    def exit_code(self) -> int:
        """0 clean, 3 a start would repair it, 65 a start would refuse it."""
        if self.kind == "clean":
            return ExitCode.OK
        refused = self.kind == "corrupt" or (
            self.kind == "below floor" and not self.target.is_member
        )
        return ExitCode.CORRUPT if refused else REPAIRABLE

    @property
    def verdict(self) -> str:
        """The exit code in a word."""
        if self.exit_code == ExitCode.OK:
            return "clean"
        return "repairable" if self.exit_code == REPAIRABLE else "corrupt"


Observe = Callable[[Judged], None]
"""observe(judged): called with each segment that was read."""


def examine(
    target: Target,
    progress: Progress = unseen,
    observe: Observe = lambda _judged: None,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Examination:
    """Read and judge the whole log.

    Args:
        observe: may look into each segment, more than once if it is read again.
        pause: waits so many seconds before the end of a running node's log is read again.

    Raises:
        IdentityMismatch, UnsupportedVersion: not the log of this directory's node.
        DiskFailed: something cannot be read.
    """
    process = holder(target.data)
    attempts = 1 if process is None else ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            found = _examine(target, process, progress, observe, pause)
        except DiskFailed:
            if attempt == attempts:
                raise
        else:
            if found.exit_code == ExitCode.OK or attempt == attempts:
                return found
        pause(ATTEMPT_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _examine(
    target: Target,
    process: str | None,
    progress: Progress,
    observe: Observe,
    pause: Callable[[float], None],
) -> Examination:
    fs = ReadOnlyFileSystem()
    index = SparseIndex()
    found = Examination(target, process)
    try:
        # The states first: a running node's log only grows beyond what they say.
        states = StateFiles.read(fs, target.states, target.identity)
        listing = list_log(fs, target.log) if target.log.is_dir() else Listing([], [], [])
        if states is None:
            if listing.segments:
                raise Corruption("term and vote are lost: no state file exists", target.states[0])
            return found
        found.state, found.faults = states.state, states.faults
        found.evidence = listing.evidence
        survey = Survey(fs, target.log, target.identity, states.state, listing)
        found.leftovers = [*listing.temporaries]
        replay = Replay(index, lambda _index, _payload: None, None)
        found.log = replay.log
        last: Judged | None = None
        for judged in segments(survey, process, pause):
            last = judged
            found.last = judged.scan
            found.segments.append(facts_of(judged))
            progress(len(judged.data))
            observe(judged)
            replay.hand_out(judged)  # what is good of a corrupt segment, too: nobody acts on it
            if judged.corruption is not None:
                raise judged.corruption
        found.leftovers += survey.leftovers
        found.loss = loss_of(target.log, found.state, last, replay.log)
        replay.finish(target.log, recovering=found.state.recovering or found.heals)
    except Corruption as corruption:
        found.corruption = corruption
        found.log.first_index = found.log.last_index + 1 if index.first is None else index.first
    return found


def segments(
    survey: Survey, process: str | None, pause: Callable[[float], None] = time.sleep
) -> Iterator[Judged]:
    """Yield the segments; where a process runs, an end that is not clean is read again."""
    for judged in survey.segments():
        newest = survey.listing.segments[-1].path
        again = judged
        for _ in range(ATTEMPTS if process is not None and judged.segment.path == newest else 0):
            if again.scan.verdict is Verdict.CLEAN:
                break
            pause(ATTEMPT_SECONDS)
            again = survey.again(judged)
        yield again


def facts_of(judged: Judged) -> SegmentFacts:
    """Return a segment in figures."""
    records = judged.scan.records
    indexes = [record.index for record in records]
    return SegmentFacts(
        segment=judged.segment,
        file_bytes=len(judged.data),
        used_bytes=judged.scan.end,
        records=len(records),
        # All records of a group name the same end of the log before it.
        groups=sum(1 for _ in groupby(record.synced_upto for record in records)),
        indexes=(min(indexes), max(indexes)) if indexes else None,
        verdict=judged.scan.verdict,
    )
