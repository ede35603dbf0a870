"""Nodes with one rule taken out, to prove that the chaos run would notice.

A build is planted in the process that it runs in, before the node starts:
`tests.chaos.node --broken NAME`. Some are mistakes that the simulator's hunt knows too
(`tests.sim.bugs`), others are edits of the same kind, or replace a function. Each names the faults
and the workloads under which it shows; nobody has to wait for all the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import raft.leader
import wal.scan
from kvnode.directory import DataDirectory
from kvnode.errors import DiskFailed, ExitCode
from kvnode.node.proposals import Proposer
from kvnode.node.roster import Roster
from kvnode.resp.commands.transactions import exec_
from kvnode.store import ops
from kvnode.store.batch import Batch
from kvnode.store.keyspace import Keyspace
from kvnode.store.members import Members
from kvnode.store.ops import Op, Resolution
from kvnode.store.redis.stream_groups import xack
from kvnode.store.redis.table import WRITES
from kvnode.store.reply import Result
from kvnode.store.sessions import Outcome, Sessions
from tests.sim.bugs import BUGS, Bug, Edit

KILLS = {"kill": 1.0, "power-loss": 1.0, "power-loss-all": 1.0}
BLACKOUTS = {"power-loss-all": 1.0}
CUTS = {"partition-one": 1.0, "partition-half": 1.0, "stop": 2.0}
PLAIN_KEYS = ("registers", "counters", "ledger")


@dataclass(frozen=True, slots=True)
class Build:
    """A broken build.

    Attributes:
        sentence: what is wrong with it.
        plant: breaks the process.
        faults, workloads: what brings it to light.
    """

    name: str
    sentence: str
    plant: Callable[[], None]
    faults: Mapping[str, float] = field(default_factory=lambda: KILLS)
    workloads: Sequence[str] = PLAIN_KEYS


def nothing() -> None:
    """What is broken is the file system of the node; see `tests.chaos.node`."""


def reply_before_quorum() -> None:
    """Call an entry committed as soon as any one node has it."""

    def anyone(values: Sequence[int]) -> int:
        return max(values)

    raft.leader.agreed = anyone  # type: ignore[attr-defined]  # imported there, used from there


def no_session_check() -> None:
    """Apply a batch as often as it arrives."""
    admit = Sessions.admit

    def admit_twice(self: Sessions, batch: Batch) -> Outcome:
        outcome = admit(self, batch)
        return Outcome.APPLIED if outcome is Outcome.DUPLICATE else outcome

    Sessions.admit = admit_twice  # type: ignore[method-assign]  # that is the point


def claim_not_forgotten() -> None:
    """Keep what a blocked client fetched in hand, so that it goes back when its node dies."""
    resolve = WRITES[ops.RESOLVE]

    def resolve_and_keep(space: Keyspace, op: Op) -> Result:
        waiter = space.waiters.find(space.waiters.origin, op[2])
        if waiter is not None and waiter.state and op[3] != Resolution.LEAVE:
            return waiter.result
        return resolve(space, op)

    WRITES[ops.RESOLVE] = resolve_and_keep


def disk_failure_called_a_bug() -> None:
    """Leave with 1, which a supervisor answers by a restart."""
    DiskFailed.exit_code = ExitCode.BUG


_planted = contextlib.ExitStack()
"""Holds what is planted for as long as the process lives."""


def planting(bug: Bug) -> Callable[[], None]:
    """Plant it for good."""

    def plant() -> None:
        _planted.enter_context(bug.planted())

    return plant


def known(name: str) -> Callable[[], None]:
    """Plant a mistake that the simulator's hunt knows."""
    return planting(next(bug for bug in BUGS if bug.name == name))


def edited(*edits: Edit) -> Callable[[], None]:
    """Plant a mistake of our own."""
    return planting(Bug("", "", edits))


_STORAGE_UNCHECKED = (
    Edit(Roster.check, "member.storage_id not in (0, hello.storage_id)", "False"),
    Edit(DataDirectory.bind_peer, "if known is not None:", "if False:"),
    Edit(Sessions.register, "if session.storage_id != entry.storage_id:", "if False:"),
    Edit(Members.admits, "return member is not None", "return True or member is not None"),
)
_CUT_AT_MISMATCH = (
    Edit(wal.scan._judge, "if witness > walk.end:", "if False:"),
    Edit(wal.scan._judge, "if walk.complaint is not None:", "if False:"),
    Edit(wal.scan._judge, "if found.synced_upto not in (walk.group, walk.end):", "if False:"),
    Edit(
        wal.scan._judge_record,
        'return Verdict.CORRUPT, Damage(\n            stop, "payload CRC',
        'return Verdict.TORN, Damage(\n            stop, "payload CRC',
    ),
    Edit(
        wal.scan._judge_record,
        'return Verdict.CORRUPT, Damage(stop, "record header CRC',
        'return Verdict.TORN, Damage(stop, "record header CRC',
    ),
)

BUILDS: Sequence[Build] = (
    Build("no-fdatasync", "Acknowledges what the disk does not have.", nothing, BLACKOUTS),
    Build(
        "reply-before-quorum",
        "Calls an entry committed as soon as any one node has it.",
        reply_before_quorum,
        {**BLACKOUTS, "partition-one": 1.0},
    ),
    Build(
        "ack-before-sync",
        "A follower acknowledges entries that are not on its disk yet.",
        known("ack-before-sync"),
        BLACKOUTS,
    ),
    Build(
        "stale-reads",
        "A read runs before what it must see is applied.",
        known("read-before-apply"),
        CUTS,
    ),
    Build(
        "no-session-check",
        "Applies a batch as often as it arrives.",
        no_session_check,
        {"transfer": 3.0, "kill": 1.0, "lossy-lines": 1.0},
    ),
    Build(
        "no-resend",
        "What was under way when the leader died is sent to nobody else.",
        edited(
            Edit(Proposer.sweep, "self._resend_from = head.sequence", "pass"),
            Edit(Proposer.leader_changed, "if self._window:", "if False:"),
        ),
        {"kill": 1.0},
    ),
    Build(
        "claim-not-forgotten",
        "Keeps what a blocked client fetched in hand, so that it goes back when its node dies.",
        claim_not_forgotten,
        KILLS,
        ("queues", "ledger"),
    ),
    Build(
        "ack-forgotten",
        "XACK says that it has acknowledged an entry, and has not.",
        edited(Edit(xack, "group.release(identity, nack)", "pass")),
        KILLS,
        ("streams", "ledger"),
    ),
    Build(
        "watch-ignored",
        "EXEC does not look whether a watched key has changed.",
        edited(
            Edit(
                exec_,
                "[code, connection.db, watches, queued]",
                "[ops.EXEC, connection.db, [], queued]",
            )
        ),
        {"slow-lines": 1.0},
        ("registers", "ledger"),
    ),
    Build(
        "group-turned-round",
        "Some nodes apply the batches of an entry from its end.",
        known("group-turned-round"),
        {"slow-lines": 1.0},
    ),
    Build(
        "expiry-by-local-clock",
        "Each node judges by its own wall clock whether a key has expired.",
        edited(
            Edit(
                Keyspace.is_expired,
                "<= self.stamp_ms",
                "<= __import__('time').time() * 1000",
            )
        ),
        {"clock-jump": 1.0},
        ("expiry", "ledger"),
    ),
    Build(
        "cut-at-crc-mismatch",
        "A record whose checksum does not fit is taken for a torn tail, and cut off.",
        edited(*_CUT_AT_MISMATCH),
        {"spoilt-open-segment": 1.0},
    ),
    Build(
        "wiped-directory-accepted",
        "Nobody looks whether a member still has the directory that it had.",
        edited(*_STORAGE_UNCHECKED),
        {"wiped-directory": 1.0},
    ),
    Build(
        "disk-failure-called-a-bug",
        "Leaves with 1 when the disk fails, which a supervisor answers by a restart.",
        disk_failure_called_a_bug,
        {"disk-eio": 1.0},
    ),
)

BROKEN: dict[str, Build] = {build.name: build for build in BUILDS}
