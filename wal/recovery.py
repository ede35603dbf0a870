"""From files to a log: what a survey found is handed out, and its tail repaired or refused.

The order matters. All is read and judged before anything is changed; then whoever opens the log
decides about a loss; then evidence, the state files, the cut; and the last segment is synced before
any record of it counts as synced. A crash between any two of these steps leaves a directory with
which the next start comes to the same end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from wal.errors import Corruption, Unrepairable, disk
from wal.format import CHECKPOINT_BYTES, RECORD, RECORD_HEADER_BYTES, Kind
from wal.fs import FileSystem
from wal.index import SparseIndex
from wal.loss import Decision, Loss, OnLoss
from wal.observer import Observer, RepairReport
from wal.repair import cut, keep_evidence
from wal.scan import Damage, Verdict
from wal.segment import Segment, remove
from wal.state import State, StateFiles
from wal.survey import Evidence, Judged, Survey, corruption_of, end_of

Visit = Callable[[int, bytes], None]
"""visit(index, payload) for an entry."""

VisitSnapshot = Callable[[int, bytes, bool], None]
"""visit_snapshot(index, payload, discard) for a snapshot marker."""

EVIDENCE_MAX = 3
"""So many copies of damaged segments are kept: a disk that tears often must not fill itself."""


@dataclass(slots=True)
class Recovered:
    """The log as it was found, after repair.

    Attributes:
        segments: in order.
        end: behind the last good record.
        chain: chain value there.
        first_index: of the oldest entry that can be read, last_index + 1 if there is none.
        last_index: of the newest entry, or of the snapshot that replaced the log.
        snapshot_index: of the newest snapshot marker, 0 if there is none.
        snapshot_segment: where that marker is.
        size: bytes of all segments.
        repair: what was cut off, if so.
    """

    segments: list[Segment] = field(default_factory=list)
    end: int = 0
    chain: int = 0
    first_index: int = 1
    last_index: int = 0
    snapshot_index: int = 0
    snapshot_segment: int = 0
    size: int = 0
    repair: RepairReport | None = None


class Replay:
    """Hands the records of good segments out, in order; nothing is read or written here."""

    def __init__(
        self, index: SparseIndex, visit: Visit, visit_snapshot: VisitSnapshot | None
    ) -> None:
        self._index = index
        self._visit = visit
        self._visit_snapshot = visit_snapshot
        self.log = Recovered()

    def hand_out(self, judged: Judged) -> None:
        """Hand out the good records of the next segment."""
        log, data, found = self.log, judged.data, judged.scan
        last, chain = judged.before.last_index, judged.before.chain
        sequence = judged.segment.header.sequence
        index, visit, unpack = self._index, self._visit, RECORD.unpack_from
        due = 0
        # Once per record of the log: as plain as the walk that found it.
        for offset in found.records.offsets:
            _, _, kind, length, number, _, then, _, _, _ = unpack(data, offset)
            start = offset + RECORD_HEADER_BYTES
            payload = data[start : start + length]
            if kind == Kind.ENTRY:
                superseding = number <= last
                last = number
                if superseding or offset >= due:
                    index.add(last, sequence, offset, chain, supersedes=superseding)
                    due = offset + CHECKPOINT_BYTES
                visit(last, payload)
            elif kind != Kind.MARKER:
                log.snapshot_segment = sequence
                discard = kind == Kind.INSTALL
                if discard:
                    index.clear()
                    last, due = number, 0
                if self._visit_snapshot is not None:
                    self._visit_snapshot(number, payload, discard)
            chain = then
        log.segments.append(judged.segment)
        log.end = found.end
        log.chain = found.chain
        log.last_index = found.last_index
        log.snapshot_index = found.snapshot_index
        log.size += judged.segment.header.segment_bytes

    def finish(self, directory: Path, *, recovering: bool = False) -> Recovered:
        """Check that nothing is missing between the newest snapshot and the oldest entry.

        In a log that lost its end the marks of snapshots may be among what is gone. A recovering
        node looks for the snapshot itself and marks it anew.
        """
        log, first = self.log, self._index.first
        log.first_index = log.last_index + 1 if first is None else first
        if recovering:
            return log
        if log.first_index > log.snapshot_index + 1:
            raise Corruption(
                "entries were released that no snapshot covers",
                directory,
                0,
                f"a snapshot of index {log.first_index - 1}",
                f"{log.snapshot_index}",
            )
        return log


def loss_of(directory: Path, state: State, last: Judged | None, log: Recovered) -> Loss | None:
    """Say what is gone if the tail must be cut, or if the log ends below a floor; else None.

    A recovering log ended below its floors with open eyes: until it is healed they say nothing.

    Args:
        last: the last segment, None if there is none.
        log: what all segments hold.
    """
    end = end_of(last)
    below = not state.recovering and (end < state.synced or log.last_index < state.commit)
    torn = last is not None and last.scan.verdict in (Verdict.SHORT, Verdict.TORN)
    if not below and not torn:
        return None
    if last is None:
        path, damage = directory, "no segment is left"
    else:
        path = last.segment.path
        clean = last.scan.verdict is Verdict.CLEAN
        damage = "its end reads clean" if clean else str(corruption_of(last.segment, last.scan))
    return Loss(
        directory=directory,
        path=path,
        segment=end.segment,
        offset=end.offset,
        bytes_dropped=last.scan.dropped_bytes if last else 0,
        indexes_dropped=last.scan.dropped_indexes if last else None,
        last_index=log.last_index,
        floor=state.synced,
        floor_commit=state.commit,
        below_floor=below,
        is_torn=last is not None and last.scan.verdict is Verdict.TORN,
        damage=damage,
    )


class Recovery:
    """One opening of a log: a survey, a decision, and what follows from it.

    Args:
        on_loss: asked once, if there is a loss.
        strict: repair true ends of file only.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: Path,
        states: StateFiles,
        observer: Observer,
        on_loss: OnLoss,
        *,
        strict: bool,
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._states = states
        self._observer = observer
        self._on_loss = on_loss
        self._strict = strict

    def run(self, survey: Survey, replay: Replay) -> Recovered:
        """Read the segments, repair the tail if that is allowed, return the log.

        Raises:
            Corruption: acknowledged bytes are damaged or gone, or may be.
            IdentityMismatch, UnsupportedVersion: not our files.
            DiskFailed, DiskFull: reading, or repairing, failed.
        """
        last: Judged | None = None
        for judged in survey.segments():
            if judged.corruption is not None:
                raise judged.corruption
            replay.hand_out(judged)
            last = judged
        loss = loss_of(self._directory, self._states.state, last, replay.log)
        decision = self._decide(last, loss)
        recovering = self._states.state.recovering or decision is Decision.RECOVER
        log = replay.finish(self._directory, recovering=recovering)
        # From here on things are changed.
        damaged = last if last is not None and last.scan.verdict is not Verdict.CLEAN else None
        evidence = list(survey.listing.evidence)
        if damaged is not None:
            evidence.append(self._keep_evidence(damaged, evidence))
        self._states.mend(self._observer)
        if decision is Decision.RECOVER:
            self._start_recovering()
        if damaged is not None:
            log.repair = self._repair(survey, damaged, evidence[-1].path)
        if last is not None:
            self._settle(last.segment)
        if decision is Decision.REPAIR:
            self._lower_floors(last, log)
        self._remove_leftovers(survey, evidence)
        return log

    def _decide(self, last: Judged | None, loss: Loss | None) -> Decision | None:
        """Ask what follows, once; None if nothing is lost."""
        verdict = last.scan.verdict if last else Verdict.CLEAN
        if last is not None and self._strict and verdict not in (Verdict.CLEAN, Verdict.SHORT):
            raise corruption_of(last.segment, last.scan, f"{verdict.value}, but repair is strict")
        return None if loss is None else self._on_loss(loss)

    def _start_recovering(self) -> None:
        """Make the flag durable: it says that what is cut next is missed."""
        state = self._states.state
        if not state.recovering:
            self._states.save(replace(state, recovering=True))

    def _lower_floors(self, last: Judged | None, log: Recovered) -> None:
        """The loss was accepted: the next start must not find it again."""
        state, end = self._states.state, end_of(last)
        if not state.recovering and (end < state.synced or log.last_index < state.commit):
            commit = min(state.commit, log.last_index)
            self._states.save(replace(state, synced=min(state.synced, end), commit=commit))

    def _keep_evidence(self, damaged: Judged, evidence: list[Evidence]) -> Evidence:
        sequence = damaged.segment.header.sequence
        number = 1 + max((copy.number for copy in evidence if copy.sequence == sequence), default=0)
        path = keep_evidence(self._fs, damaged.segment, damaged.data, number)
        return Evidence(sequence, number, path)

    def _repair(self, survey: Survey, damaged: Judged, evidence: Path) -> RepairReport:
        """Cut the tail and read the segment again: once."""
        segment, found = damaged.segment, damaged.scan
        cut(self._fs, segment, found.end)
        again = survey.again(damaged).scan
        if (again.verdict, again.end, again.chain) != (Verdict.CLEAN, found.end, found.chain):
            damage = again.damage or Damage(again.end, "not what was read before")
            raise Unrepairable(f"WAL unrepairable: {damage.text}", segment.path, damage.offset)
        report = RepairReport(
            directory=self._directory,
            path=segment.path,
            segment=segment.header.sequence,
            offset=found.end,
            bytes_dropped=found.dropped_bytes,
            indexes_dropped=found.dropped_indexes,
            kind=found.verdict.value,
            error=str(corruption_of(segment, found)),
            evidence=evidence,
        )
        self._observer.on_repair(report)
        return report

    def _settle(self, segment: Segment) -> None:
        """Make what was read durable: it may have been only in the page cache."""
        with disk("syncing segment", segment.path):
            fd = self._fs.open(segment.path)
            try:
                self._fs.fdatasync(fd)
            finally:
                self._fs.close(fd)
            self._fs.sync_directory(self._directory)

    def _remove_leftovers(self, survey: Survey, evidence: list[Evidence]) -> None:
        """Remove what a crash left over and old evidence; a log that is refused keeps both."""
        leftovers = [*survey.listing.temporaries, *survey.leftovers]
        leftovers += [copy.path for copy in sorted(evidence)[:-EVIDENCE_MAX]]
        with disk("looking for leftovers", self._directory):
            # A repair may have used the name of an earlier one that was cut short.
            leftovers = [path for path in leftovers if self._fs.exists(path)]
        remove(self._fs, self._directory, leftovers)
