"""The repair of a start, done without one.

The same code does it (`Wal.open`), so that a crash, a full disk or damage end as they would at a
start. What a start of a single node refuses, a log that ends below what was durable, is accepted
here if the operator says so. Corruption is never accepted: there is no way to cut it off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvnode.directory import holder, locked
from kvnode.errors import LogCorrupt, ResourceBusy
from kvnode.node.loss import loss_policy, refusal
from kvnode.wal_tools.examine import Examination, examine
from kvnode.wal_tools.explain import loss_document, state_document
from kvnode.wal_tools.target import Progress, Target, unseen
from wal.fs import PosixFileSystem
from wal.log import Wal
from wal.loss import Decision, Loss
from wal.observer import RepairReport, Silent
from wal.state import State, StateFiles


@dataclass(slots=True)
class Mended:
    """What was done.

    Attributes:
        cut: the tail that was cut off, None if there was none.
        loss: what was missing, None if nothing was.
        decision: what was made of it.
        states: state files that were written again from the other.
        before: the state before; None if there is no log yet.
        after: the state now.
    """

    target: Target
    before: State | None = None
    after: State | None = None
    cut: RepairReport | None = None
    loss: Loss | None = None
    decision: Decision | None = None
    states: list[Path] = field(default_factory=list)


class _Watch(Silent):
    def __init__(self) -> None:
        self.states: list[Path] = []

    def on_state_repaired(self, path: Path, _reason: str) -> None:
        self.states.append(path)


def check_loss(loss: Loss, target: Target, *, accept_loss: bool) -> None:
    """Refuse a loss of acknowledged entries that nobody accepted.

    Raises:
        LogCorrupt: with the range that is gone and what can be done.
    """
    if not loss.below_floor or accept_loss:
        return
    if not target.is_member:
        raise refusal(loss, target.data)
    raise LogCorrupt(
        f"{loss.path}: {loss.describe()}. Nothing was changed. Other nodes may have them: start "
        f"the node, which then recovers from its leader, or do the first step of that here with "
        f"`kvnode wal repair --accept-loss {target.data}`"
    )


def rehearse(
    target: Target, progress: Progress = unseen, *, accept_loss: bool = False
) -> Examination:
    """Return what `mend` would find, and change nothing. Raises what it would raise."""
    if (process := holder(target.data)) is not None:
        raise ResourceBusy(f"data directory {target.data} is in use by process {process}")
    found = examine(target, progress)
    if found.corruption is not None:
        raise found.corruption
    if found.loss is not None:
        check_loss(found.loss, target, accept_loss=accept_loss)
    return found


def mend(target: Target, progress: Progress = unseen, *, accept_loss: bool = False) -> Mended:
    """Repair the log of a node that does not run.

    Args:
        progress: told the bytes of each entry instead.
        accept_loss: go on below a floor. A single node's floors come down to the end of the log; a
            member of a cluster becomes recovering in any case.

    Raises:
        ResourceBusy: the node runs (exit 75).
        LogCorrupt: a loss that was not accepted (exit 65); nothing was changed.
        WalError: as `Wal.open`.
    """
    done = Mended(target)
    decide = loss_policy(
        target.data, alone=not target.is_member, cache_kept=lambda: target.cache_kept
    )

    def on_loss(loss: Loss) -> Decision:
        check_loss(loss, target, accept_loss=accept_loss)
        accepted = loss.below_floor and not target.is_member
        done.loss, done.decision = loss, Decision.REPAIR if accepted else decide(loss)
        return done.decision

    watch = _Watch()
    with locked(target.data):
        states = StateFiles.read(PosixFileSystem(), target.states, target.identity)
        if states is None and not target.size:
            return done  # opening it would make one
        done.before = states.state if states else None
        wal = Wal.open(
            target.log,
            target.states,
            target.identity,
            visit=lambda _index, payload: progress(len(payload)),
            on_loss=on_loss,
            fs=PosixFileSystem(),
            observer=watch,
        )
        wal.close()
    done.after, done.cut, done.states = wal.state, wal.last_repair, watch.states
    return done


def explain_mended(done: Mended) -> list[str]:
    """Return what was done, as sentences."""
    lines = []
    if (loss := done.loss) is not None and loss.below_floor:
        lines.append(f"ACKNOWLEDGED ENTRIES ARE LOST HERE: {loss.describe()}.")
    if (cut := done.cut) is not None:
        dropped = ""
        if cut.indexes_dropped is not None:
            dropped = ", indexes {} to {}".format(*cut.indexes_dropped)
        lines.append(
            f"WAL tail truncated: segment {cut.segment} ({cut.path}) at offset {cut.offset}, "
            f"{cut.bytes_dropped} bytes dropped{dropped}. The original error: {cut.error}. "
            f"A copy of the segment is {cut.evidence}."
        )
    lines += [f"State file {path.name} was written again from the other." for path in done.states]
    if done.decision is Decision.RECOVER:
        lines.append(
            "The node is recovering now: it counts in no quorum until its leader has healed it."
        )
    elif loss is not None and loss.below_floor:
        lines.append(
            f"The loss is accepted: the log is good up to index {loss.last_index}, segment "
            f"{loss.segment} offset {loss.offset}. Term and vote are kept."
        )
    return lines or ["The log is clean; nothing was repaired."]


def mended_document(done: Mended) -> dict[str, Any]:
    """Return the same as a JSON document."""
    cut = done.cut
    return {
        "directory": str(done.target.data),
        "repaired": cut is not None or bool(done.states) or done.loss is not None,
        "decision": None if done.decision is None else done.decision.value,
        "cut": None
        if cut is None
        else {
            "path": str(cut.path),
            "segment": cut.segment,
            "offset": cut.offset,
            "bytes_dropped": cut.bytes_dropped,
            "indexes_dropped": cut.indexes_dropped,
            "kind": cut.kind,
            "error": cut.error,
            "evidence": str(cut.evidence),
        },
        "loss": None if done.loss is None else loss_document(done.loss),
        "state_files_rewritten": [path.name for path in done.states],
        "state_before": None if done.before is None else state_document(done.before),
        "state": None if done.after is None else state_document(done.after),
        "explanation": explain_mended(done),
    }
