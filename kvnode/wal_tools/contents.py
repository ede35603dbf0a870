"""What is in a log: its segments, its records, the files beside it.

Segments are read one by one, so that memory holds one or two of them however long the log is. The
log itself keeps payloads without meaning; here they are opened: term and kind of an entry are the
node's own (`kvnode.node.log_writer`), and so is the term in a snapshot marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kvnode.directory import holder
from kvnode.node.log_writer import decode_entry
from kvnode.node.snapshots import decode_marker
from kvnode.wal_tools.examine import Examination, SegmentFacts, segments
from kvnode.wal_tools.explain import state_document
from kvnode.wal_tools.target import Progress, Target, unseen
from raft.types import EntryKind
from wal.errors import Corruption
from wal.format import Kind, RecordHeader
from wal.fs import ReadOnlyFileSystem
from wal.state import StateFiles
from wal.survey import Judged, Survey, list_log

KINDS = tuple(kind.name.lower() for kind in Kind)
"""What a record may be."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted. None: any. `first` and `last` are indexes, both included."""

    segment: int | None = None
    first: int | None = None
    last: int | None = None
    term: int | None = None
    kind: str | None = None

    def wants(self, segment: int, record: RecordHeader) -> bool:
        """Judge by the header: cheap, so that most records are never opened."""
        return (
            (self.segment is None or segment == self.segment)
            and (self.first is None or record.index >= self.first)
            and (self.last is None or record.index <= self.last)
            and (self.kind is None or Kind(record.kind).name.lower() == self.kind)
        )


def records(
    target: Target, wanted: Filter, progress: Progress = unseen
) -> Iterator[dict[str, Any]]:
    """Yield the good records that are wanted, in the order of writing, superseded ones included.

    Raises:
        Corruption: behind the last good record that can be reached.
        IdentityMismatch, UnsupportedVersion, DiskFailed: as `examine`.
    """
    fs = ReadOnlyFileSystem()
    states = StateFiles.read(fs, target.states, target.identity)
    if states is None or not target.log.is_dir():
        return
    listing = list_log(fs, target.log)
    survey = Survey(fs, target.log, target.identity, states.state, listing)
    for judged in segments(survey, holder(target.data)):
        progress(len(judged.data))
        yield from _of_segment(judged, wanted)
        if judged.corruption is not None:
            raise judged.corruption


class Terms:
    """Collects the smallest and the largest term of the entries of each segment."""

    def __init__(self) -> None:
        self.of: dict[int, tuple[int, int]] = {}

    def observe(self, judged: Judged) -> None:
        """See `examine`. A payload that no node writes has no term."""
        terms = set()
        for record in judged.scan.records:
            if record.kind == Kind.ENTRY:
                with suppress(Corruption):
                    terms.add(_open(judged, record)["term"])
        if terms:
            self.of[judged.segment.header.sequence] = (min(terms), max(terms))


def _of_segment(judged: Judged, wanted: Filter) -> Iterator[dict[str, Any]]:
    segment = judged.segment.header.sequence
    for record in judged.scan.records:
        if wanted.wants(segment, record):
            opened = _open(judged, record)
            if wanted.term is None or opened["term"] == wanted.term:
                yield {
                    "segment": segment,
                    "offset": record.offset,
                    "kind": Kind(record.kind).name.lower(),
                    "index": record.index,
                    **opened,
                    "bytes": record.length,
                    "group_after": record.synced_upto,
                    "zero_sectors": record.zero_sectors,
                    "chain": f"{record.chain:08x}",
                }


def _open(judged: Judged, record: RecordHeader) -> dict[str, Any]:
    """The term and the kind of entry in a payload; None where there is none.

    Raises:
        Corruption: the payload's checksum is right, and it is not what a node writes.
    """
    payload = judged.data[record.payload_start : record.payload_end]
    try:
        if record.kind == Kind.ENTRY:
            entry = decode_entry(record.index, payload)
            is_noop = entry.kind == EntryKind.NORMAL and not entry.data
            return {"term": entry.term, "entry": "noop" if is_noop else _entry_kind(entry.kind)}
        if record.kind != Kind.MARKER:
            return {"term": decode_marker(payload), "entry": None}
    except Exception as error:
        text = f"a payload that no node writes ({error})"
        raise Corruption(text, judged.segment.path, record.offset) from error
    return {"term": None, "entry": None}


def _entry_kind(kind: int) -> str:
    try:
        return EntryKind(kind).name.lower()
    except ValueError:
        return f"unknown {kind}"


def overview(found: Examination, terms: Terms) -> dict[str, Any]:
    """Return segments, state files and evidence as one JSON document."""
    state = found.state
    return {
        "directory": str(found.target.data),
        "node": found.target.node,
        "cluster_id": found.target.cluster_id,
        "running": found.holder,
        "verdict": found.verdict,
        "kind": found.kind,
        "first_index": found.log.first_index,
        "last_index": found.log.last_index,
        "snapshot_index": found.log.snapshot_index,
        "segments": [_segment(facts, terms.of) for facts in found.segments],
        "state": None if state is None else state_document(state),
        "state_files": {path.name: found.faults.get(path, "good") for path in found.target.states},
        "evidence": [
            {"name": copy.path.name, "segment": copy.sequence, "bytes": copy.path.stat().st_size}
            for copy in found.evidence
            if copy.path.exists()
        ],
        "leftovers": sorted(path.name for path in found.leftovers),
        "corruption": None if found.corruption is None else str(found.corruption),
    }


def _segment(facts: SegmentFacts, terms: dict[int, tuple[int, int]]) -> dict[str, Any]:
    header = facts.segment.header
    return {
        "sequence": header.sequence,
        "name": facts.segment.path.name,
        "first_index": header.first_index,
        "file_bytes": facts.file_bytes,
        "used_bytes": facts.used_bytes,
        "records": facts.records,
        "groups": facts.groups,
        "indexes": facts.indexes,
        "terms": terms.get(header.sequence),
        "verdict": facts.verdict.value,
    }
