"""What an examination found, as sentences for people and as a document for programs.

Four questions are answered in turn: what was found and where, why it is called torn or corrupt,
what a start of the node would do, and what the operator can do.
"""

from __future__ import annotations

from typing import Any

from kvnode.errors import ExitCode
from kvnode.wal_tools.examine import Examination
from wal.loss import Loss
from wal.state import State

_WHY = {
    "torn": (
        "A sector that should hold bytes of this record is all zero, so it was never written; its "
        "group was never synced and nobody was told about it. A power loss in the middle of a "
        "write leaves this behind."
    ),
    "short file": (
        "A segment has its full size before it is used, so this file was cut short later; no "
        "record says that what is missing was durable. A crash in the middle of a repair leaves "
        "this behind."
    ),
    "stale": (
        "The record there is well-formed, but was written for another segment or another place: "
        "old bytes of the disk, never a part of this log."
    ),
    "below floor": (
        "The state files remember that more than this was durable. What is left reads well, so "
        "this is no rot: the end of the log was lost as a whole, after it was acknowledged."
    ),
    "state file": (
        "Both state files hold the same, and are written one after the other so that a crash "
        "damages one at most. The other one is whole."
    ),
    "clean": "",
}


def explain(found: Examination) -> list[str]:
    """Return the paragraphs."""
    target = found.target
    paragraphs = [f"Node {target.node!r} of cluster {target.cluster_id!r}, log {target.log}."]
    if found.holder is not None:
        paragraphs.append(
            f"A node runs here (process {found.holder}): the end of its log may be in flight, and "
            f"what follows holds for the moment of reading."
        )
    if found.state is None and found.corruption is None:
        return [*paragraphs, "There is no log yet: the node was never started in full."]
    paragraphs.append(_contents(found))
    paragraphs.append(_finding(found))
    if index := found.missing_snapshot:
        paragraphs.append(
            f"The log was cut behind index {index}, and no snapshot file reaches as far: a start "
            f"is refused with exit code 65 unless the engine does."
        )
    if why := _why(found):
        paragraphs.append(f"Why: {why}")
    paragraphs.append(f"A start of the node would {_start(found)}")
    if advice := _advice(found):
        paragraphs.append(f"You can {advice}")
    return paragraphs


def _contents(found: Examination) -> str:
    log, segments = found.log, found.segments
    records, groups = sum(s.records for s in segments), sum(s.groups for s in segments)
    some = log.first_index <= log.last_index
    entries = f"entries {log.first_index} to {log.last_index}" if some else "no entries"
    snapshot = f"; newest snapshot of index {log.snapshot_index}" if log.snapshot_index else ""
    return (
        f"Read well: {_count(len(segments), 'segment')}, {_count(records, 'record')} in "
        f"{_count(groups, 'group')}, {entries}{snapshot}."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _finding(found: Examination) -> str:
    if found.kind == "clean":
        return "Verdict: clean."
    verdict = f"Verdict: {found.verdict} ({found.kind})."
    if found.corruption is not None:
        return f"{verdict} {found.corruption}."
    if found.loss is not None and found.loss.below_floor:
        return f"{verdict} {_capital(found.loss.describe())}."
    if found.loss is not None:
        return f"{verdict} {found.loss.damage}."
    if found.kind == "stale" and found.last is not None and found.last.damage is not None:
        path, damage = found.segments[-1].segment.path, found.last.damage
        return f"{verdict} {path}: offset {damage.offset}: {damage.text}."
    faults = ", ".join(f"{path.name} is {fault}" for path, fault in sorted(found.faults.items()))
    return f"{verdict} {faults}."


def _why(found: Examination) -> str:
    if found.kind != "corrupt":
        return _WHY[found.kind]
    last = found.last
    damaged = found.segments and found.corruption is not None and last is not None
    if damaged and last is not None and last.witness > last.end:
        return (
            f"Records say that everything below offset {last.witness} was durable when they were "
            f"written, and what is good ends at {last.end}: acknowledged bytes are damaged."
        )
    return (
        "This is not what a crash leaves behind. A crash leaves sectors that were never written, "
        "which are zero; other damage may be rot in entries that were acknowledged, and nothing "
        "on this disk can tell."
    )


def _start(found: Examination) -> str:
    if found.kind == "clean":
        files = _count(len(found.leftovers), "left-over file")
        extra = f", and remove {files}" if found.leftovers else ""
        recovering = found.state is not None and found.state.recovering
        healing = ": it is recovering, and counts in no quorum until it is healed"
        return f"open the log as it is{extra}{healing if recovering else ''}."
    if found.exit_code == ExitCode.CORRUPT:
        return "refuse with exit code 65 and change nothing."
    if found.kind == "state file":
        return "write it again from the other one, with a warning, and go on."
    cut = _cut(found)
    if not found.heals:
        return f"keep a copy of the segment, {cut} and go on, with a warning."
    return (
        f"note in the state files that the node is recovering, {cut} and go on, with a warning; "
        f"it then counts in no quorum until the leader has healed it."
    )


def _cut(found: Examination) -> str:
    last = found.last
    if last is None or last.damage is None:
        return "cut nothing"
    indexes = ""
    if last.dropped_indexes is not None:
        low, high = last.dropped_indexes
        indexes = f", index {low}" if low == high else f", indexes {low} to {high}"
    return f"cut it at offset {last.end} ({last.dropped_bytes} bytes{indexes})"


def _advice(found: Examination) -> str:
    data, alone = found.target.data, not found.target.is_member
    if found.kind == "clean":
        return ""
    if found.exit_code != ExitCode.CORRUPT:
        return f"start the node, or do the same now with `kvnode wal repair {data}`."
    keep = "Keep this directory as it is: it is the evidence, and nothing in it is deleted."
    if found.kind == "below floor":
        return (
            f"bring the lost part back from a copy of the disk, or accept the loss with "
            f"`kvnode wal repair --accept-loss {data}`. {keep}"
        )
    if alone:
        return f"bring the directory back from a copy. {keep}"
    return f"bring the machine back in under a new id with `kvnode member replace`. {keep}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


# --- for programs -------------------------------------------------------------------------------


def document(found: Examination) -> dict[str, Any]:
    """Return the same as a JSON document. Offsets and sizes are in bytes."""
    log, segments = found.log, found.segments
    return {
        "directory": str(found.target.data),
        "node": found.target.node,
        "cluster_id": found.target.cluster_id,
        "running": found.holder,
        "verdict": found.verdict,
        "kind": found.kind,
        "exit_code": int(found.exit_code),
        "segments": len(segments),
        "bytes": sum(segment.file_bytes for segment in segments),
        "records": sum(segment.records for segment in segments),
        "groups": sum(segment.groups for segment in segments),
        "first_index": log.first_index,
        "last_index": log.last_index,
        "snapshot_index": log.snapshot_index,
        "missing_snapshot": found.missing_snapshot or None,
        "damage": _damage(found),
        "loss": None if found.loss is None else loss_document(found.loss),
        "state": None if found.state is None else state_document(found.state),
        "state_faults": {path.name: fault for path, fault in sorted(found.faults.items())},
        "leftovers": sorted(path.name for path in found.leftovers),
        "explanation": explain(found),
    }


def _damage(found: Examination) -> dict[str, Any] | None:
    if (corruption := found.corruption) is not None:
        return {
            "path": str(corruption.path),
            "offset": corruption.offset,
            "text": corruption.text,
            "expected": corruption.expected,
            "found": corruption.found,
        }
    if found.last is None or (damage := found.last.damage) is None:
        return None
    return {
        "path": str(found.segments[-1].segment.path),
        "offset": damage.offset,
        "text": damage.text,
        "expected": damage.expected,
        "found": damage.found,
        "end": found.last.end,
        "witness": found.last.witness,
        "bytes_dropped": found.last.dropped_bytes,
        "indexes_dropped": found.last.dropped_indexes,
    }


def loss_document(loss: Loss) -> dict[str, Any]:
    """Return a loss as JSON."""
    first, last = loss.indexes_lost
    return {
        "segment": loss.segment,
        "offset": loss.offset,
        "bytes_dropped": loss.bytes_dropped,
        "indexes_dropped": loss.indexes_dropped,
        "last_index": loss.last_index,
        "floor": {"segment": loss.floor.segment, "offset": loss.floor.offset},
        "floor_commit": loss.floor_commit,
        "below_floor": loss.below_floor,
        "acknowledged_lost": {"first": first, "last_known": last} if loss.below_floor else None,
        "damage": loss.damage,
    }


def state_document(state: State) -> dict[str, Any]:
    """Return what the state files hold as JSON."""
    return {
        "term": state.term,
        "vote": f"{state.vote:016x}" if state.vote else None,
        "commit": state.commit,
        "recovering": state.recovering,
        "synced": {"segment": state.synced.segment, "offset": state.synced.offset},
        "oldest_segment": state.oldest,
    }
