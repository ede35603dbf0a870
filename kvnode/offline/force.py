"""`kvnode recover --force-new-cluster`: one member goes on alone, when quorum is lost for good.

Raft must not do this by itself: what the lost members acknowledged together, this one may never
have seen. So an operator decides, with a report of what may be lost, while no node runs here. The
member becomes the only one of a cluster with a new id; others of the old one are refused by that
id, and by the tombstones of theirs. Then it can grow again.

The order of the steps makes a crash anywhere harmless, and running it again finishes it:

1. The new cluster id goes into the identity file: from now on nobody of the old cluster talks to
   this node, nor it to them, whatever its log says.
2. A new term, with this node's own vote, goes into the state files, as before any election.
3. The entries that change the membership are written behind the end of the log, in one group. They
   go by the steps that Raft allows, one after the other, so that whoever reads them later can
   follow. Raft takes all but the last of them for committed, by what it knows of changes: so the
   node is alone in its cluster once they are durable, even if nothing after them is.
4. The state files note that all of it is committed, and that the node is whole.
5. The identity file gets the new membership: done.
"""

from __future__ import annotations

import copy
import logging
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

from kvnode.directory import change_identity, holder, locked, read_identity
from kvnode.errors import LogCorrupt, ResourceBusy, UsageError
from kvnode.identity import cluster_number, node_id
from kvnode.identity_file import Identity, KnownMember
from kvnode.node.leader import newest_stamp
from kvnode.node.log_writer import encode_entry
from kvnode.node.recovery import Recovered, RecoveryPlan, recover
from kvnode.node.roster import founder
from kvnode.obs.log import event
from kvnode.offline.refused import OperationRefused
from kvnode.store.batch import Configure, decode, encode_configure
from kvnode.store.changes import Change, Force, Found, Founder, LeaveJoint, Promote, Remove
from kvnode.store.members import Member, Members, Role
from kvnode.store.ops import LEVEL
from kvnode.wal_tools.contents import Terms
from kvnode.wal_tools.examine import Examination, examine
from kvnode.wal_tools.target import Progress, open_target, unseen
from raft.types import Entry, EntryKind
from wal.fs import PosixFileSystem
from wal.observer import Silent
from wal.options import Options

_log = logging.getLogger("kvnode")

ELECTION_MS: Final = (500, 1000)
HEARTBEAT_MS: Final = 100
"""Nobody votes here; the core wants to know all the same."""

READ_BYTES: Final = 1 << 20
"""Of the log at a time."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is known before anything is changed.

    Attributes:
        identity: whose directory it is.
        last_index: of the newest entry of the log.
        last_term: its term; None in a log without entries.
        commit: up to here it is known to be committed.
        is_recovering: this node itself has lost acknowledged entries.
        loss: what a start would find missing, in a sentence; None if nothing.
        left_out: the other members, as far as they are known here, by node id.
    """

    data: Path
    identity: Identity
    last_index: int
    last_term: int | None
    commit: int
    is_recovering: bool
    loss: str | None
    left_out: dict[int, KnownMember]

    def explain(self) -> list[str]:
        """Return what will be done, and what may be lost, as sentences."""
        term = "none" if self.last_term is None else str(self.last_term)
        others = ", ".join(
            f"{member.name} ({number:016x}, {member.peer_address or 'no address'})"
            for number, member in self.left_out.items()
        )
        identity = self.identity
        lines = [
            (
                f"Node {identity.node} ({identity.node_id:016x}) becomes the only member of a new "
                f"cluster, in place of {identity.cluster_id}."
            ),
            (
                f"Its log ends at index {self.last_index}, term {term}, and is known to be "
                f"committed up to index {self.commit}."
            ),
        ]
        beyond = self.last_index - self.commit
        if beyond > 0:
            lines.append(
                f"{beyond} entries beyond that are KEPT, although they may never have been "
                "acknowledged: a write that a client was told is unknown can turn out done."
            )
        lines.append(
            "MAY BE LOST: acknowledged entries that only the other members had. How many they are "
            "cannot be known here. Do this with the member whose log has the highest term, and "
            "among those the highest index: --dry-run on each of them tells."
        )
        if self.is_recovering:
            lines.append(
                "THIS NODE HAS ITSELF LOST ACKNOWLEDGED ENTRIES (it is recovering): any other "
                "member is the better choice."
            )
        if self.loss is not None:
            lines.append(f"THE END OF ITS LOG IS MISSING: {self.loss}.")
        lines.append(f"Members that are left out for ever: {others or 'none is known'}.")
        return lines

    def document(self) -> dict[str, Any]:
        """Return the same as a JSON document."""
        identity = self.identity
        return {
            "directory": str(self.data),
            "node": identity.node,
            "node_id": f"{identity.node_id:016x}",
            "cluster_id": identity.cluster_id,
            "last_index": self.last_index,
            "last_term": self.last_term,
            "commit": self.commit,
            "entries_beyond_commit": max(self.last_index - self.commit, 0),
            "recovering": self.is_recovering,
            "loss": self.loss,
            "left_out": [
                {"node_id": f"{number:016x}", **member._asdict()}
                for number, member in self.left_out.items()
            ],
            "explanation": self.explain(),
        }


@dataclass(frozen=True, slots=True)
class Forced:
    """What was done: the id of the new cluster, and the newest entry, which made it."""

    cluster_id: str
    index: int
    term: int

    def explain(self) -> list[str]:
        """Return what was done and what comes next, as sentences."""
        return [
            (
                f"The cluster has the new id {self.cluster_id} from index {self.index} on, in term "
                f"{self.term}."
            ),
            (
                "Start the node with the same flags as before. On the other machines move the data "
                "directories away and start with --join: the old cluster's are refused."
            ),
        ]


def inspect(data: Path, progress: Progress = unseen) -> Report:
    """Find out what would be kept and what may be lost; change nothing.

    Raises:
        UsageError: `data` is no data directory (exit 64).
        OperationRefused: there is nothing to force (exit 1).
        ResourceBusy: the node runs (exit 75).
        LogCorrupt: its log cannot be trusted (exit 65).
        WalError: as `examine`.
    """
    identity = read_identity(data) if data.is_dir() else None
    if identity is None:
        raise UsageError(f"{data} is no data directory of kvnode: it has no identity file")
    if (process := holder(data)) is not None:
        raise ResourceBusy(f"data directory {data} is in use by process {process}")
    if not identity.is_admitted:
        raise OperationRefused(f"{data} asks to join and is no member yet: use a member's")
    terms = Terms()
    found = examine(open_target(data), progress, terms.observe)
    if not (identity.has_others or _waits_to_be_healed(found)):
        raise OperationRefused(
            f"{data} belongs to the only voter of cluster {identity.cluster_id}: start it"
        )
    if found.corruption is not None:
        raise LogCorrupt(f"{found.corruption}; the cluster must be recovered by another member")
    return _report(data, identity, found, terms)


def _waits_to_be_healed(found: Examination) -> bool:
    """A recovering node cannot be started when it turns out to be the only voter that is left: who
    could have healed it was removed meanwhile."""
    return found.state is not None and found.state.recovering


def _report(
    data: Path,
    identity: Identity,
    found: Examination,
    terms: Terms,
) -> Report:
    state, loss = found.state, found.loss
    if state is None:
        raise OperationRefused(f"{data} has no log: no node ever ran here")
    return Report(
        data=data,
        identity=identity,
        last_index=found.log.last_index,
        last_term=max((high for _, high in terms.of.values()), default=None),
        commit=min(state.commit, found.log.last_index),
        is_recovering=state.recovering,
        loss=loss.describe() if loss is not None and loss.below_floor else None,
        left_out=_others(identity),
    )


def _others(identity: Identity) -> dict[int, KnownMember]:
    members = dict(identity.configuration) or {
        node_id(identity.origin, name): KnownMember(name, address, "voter")
        for name, address in identity.members.items()
    }
    members.pop(identity.node_id, None)
    return members


# --- doing it -------------------------------------------------------------------------------------


def force_new_cluster(report: Report, rng: Random | None = None) -> Forced:
    """Make the node of `report` the only member of a new cluster, durably.

    Args:
        report: what `inspect` told.
        rng: for the seeds of entries.

    Raises:
        OperationRefused: the log says that it is no member that could go on (exit 1).
        ResourceBusy, LogCorrupt, DiskFull, DiskFailed: as a start; it can be run again.
    """
    rng = rng or SystemRandom()
    data, identity = report.data, report.identity
    cluster_id = secrets.token_hex(8)
    with locked(data):
        found = _open(data, identity, rng)
        try:
            changes = steps_to_be_alone(_newest_members(found), identity, cluster_id)
            change_identity(data, lambda known: replace(known, cluster_id=cluster_id))
            forced = _write(found, identity.node_id, changes, cluster_id, rng)
        finally:
            found.machine.close(clean=True)
            found.wal.close()
        change_identity(data, lambda known: _alone(known, forced.index))
    return forced


def _alone(known: Identity, index: int) -> Identity:
    """The identity of the only member; what it knew of the others' directories is history."""
    own = known.configuration.get(known.node_id)
    address = own.peer_address if own else known.members.get(known.node, "")
    alone = {known.node_id: KnownMember(known.node, address, "voter")}
    return replace(known, configuration_index=index, configuration=alone, peers={})


def _open(data: Path, identity: Identity, rng: Random) -> Recovered:
    """Open log and store as a start does: what cannot be started must not be forced."""
    founders = [
        founder(node_id(identity.origin, name), name, address)
        for name, address in identity.members.items()
    ]
    plan = RecoveryPlan(
        data=data,
        cluster_number=cluster_number(identity.origin),
        node_id=identity.node_id,
        founders={member.node_id: member for member in founders},
        is_alone=False,
        boot_id=0,
        heartbeat_ms=HEARTBEAT_MS,
        election_ms=ELECTION_MS,
        wal_options=Options(),
    )
    return recover(
        plan,
        PosixFileSystem(),
        Silent(),
        rng,
        lambda sentence: event(_log, logging.WARNING, sentence),
    )


def _newest_members(found: Recovered) -> Members:
    """The registry as it is at the end of the log, all of which is going to be committed."""
    members = copy.copy(found.machine.members) or Members()
    log, index = found.raft.log, found.machine.applied + 1
    while index <= log.last_index:
        entries, _ = log.entries(index, log.last_index + 1, READ_BYTES)
        for entry in entries:
            if entry.kind == EntryKind.CONF_CHANGE:
                decoded = decode(entry.data)
                if isinstance(decoded, Configure):
                    members.apply(entry.index, decoded.change)
        index += len(entries)
    return members


def steps_to_be_alone(members: Members, identity: Identity, cluster_id: str) -> list[Change]:
    """Return the changes that leave one member, each a step that Raft allows.

    Raises:
        OperationRefused: that member is none any more, or is being replaced.
    """
    members = copy.copy(members)
    steps: list[Change] = []

    def take(change: Change) -> None:
        refusal = members.apply(members.index + 1, change)
        assert refusal is None, refusal
        steps.append(change)

    if not members.is_founded:
        take(Found(LEVEL, _founders(identity)))
    own = members.by_id.get(identity.node_id)
    if own is None:
        raise OperationRefused(
            f"node {identity.node} was removed from the cluster: recover with a member of it"
        )
    if own.role is Role.LEAVING:
        raise OperationRefused(
            f"{own} is being replaced, and its successor has caught up: recover with that one"
        )
    if members.is_joint:
        take(LeaveJoint())
    if own.role is Role.LEARNER:
        take(Promote(own.node_id))
    for other in _learners_first(members):
        if other.node_id != own.node_id:
            take(Remove(other.node_id))
    take(Force(own.node_id, cluster_id))
    return steps


def _founders(identity: Identity) -> tuple[Founder, ...]:
    ids = {name: node_id(identity.origin, name) for name in identity.members}
    return tuple(
        Founder(
            ids[name],
            name,
            address,
            storage_id=identity.storage_id if ids[name] == identity.node_id else 0,
        )
        for name, address in sorted(identity.members.items())
    )


def _learners_first(members: Members) -> list[Member]:
    return sorted(members.by_id.values(), key=lambda one: (one.role is Role.VOTER, one.node_id))


def _write(
    found: Recovered, own: int, changes: list[Change], cluster_id: str, rng: Random
) -> Forced:
    """Write the changes behind the log's end, committed by this node's own vote."""
    wal, state = found.wal, found.wal.state
    last = wal.last_index
    last_term = found.raft.log.term(last) or 0
    term = max(state.term, last_term) + 1
    machine = found.machine
    stamp = max(newest_stamp(found.raft.log, machine.applied), machine.stamp_ms)
    wal.save_state(term=term, vote=own, commit=state.commit)
    wal.append(
        [
            encode_entry(
                Entry(
                    term,
                    last + number,
                    EntryKind.CONF_CHANGE,
                    encode_configure(stamp, rng.getrandbits(63), change),
                )
            )
            for number, change in enumerate(changes, 1)
        ]
    )
    wal.save_state(term=term, vote=own, commit=wal.last_index, recovering=False)
    return Forced(cluster_id, wal.last_index, term)
