"""Random schedules of a whole group, from one seed each.

Messages are lost, repeated and reordered; links are cut; disks are slow; nodes crash and lose what
was not synced; logs are compacted; snapshots fail, arrive late or twice, and are cut off between
their bytes and their installation; entries are applied late; members come, are promoted, replaced
and removed, one step at a time or jointly; who is removed goes on as if nothing had happened, or
ends when it is refused; a leader crashes just before its disk says that a change is committed. The
properties of the paper's figure 3 are checked after every step, and at the end the group must make
progress again. A failing seed is in the test's id; run it alone with
`pytest tests/unit/raft/test_raft_exploration.py -k 'seed-17-'`.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from raft import (
    Entry,
    EntryKind,
    NodeId,
    NoLeader,
    NotLeader,
    Persist,
    ProposalDropped,
    ReadDropped,
    ReadState,
    Role,
)
from raft.configuration import members
from tests.support.raft_cluster import APPLY_BYTES_MAX, Cluster, Envelope, Mark, Members, Stream

STEPS = 1500
SEEDS = 300
NODES_MAX = 7
"""Nodes that ever were, since each id is used once."""

MAY_BE_REJECTED = {"too many reads wait for a round", "sender is not a member"}


class Exploration:
    """One run: a cluster, its faults, and what must hold."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lease_reads = self.random.random() < 0.25
        self.cluster = Cluster(
            self.random.choice((1, 2, 3, 3, 3, 4, 5)),
            learners=self.random.choice((0, 0, 1)),
            seed=seed,
            heartbeat_ticks=2,
            election_ticks_min=6,
            election_ticks_max=12,
            pre_vote=self.random.random() < 0.8,
            check_quorum=self.random.random() < 0.8 or self.lease_reads,
            lease_reads=self.lease_reads,
            # Small bounds, so that every one of them is reached.
            cache_bytes_max=self.random.choice((400, 100_000)),
            message_bytes_max=self.random.choice((200, 700, 100_000)),
            inflight_messages_max=self.random.choice((1, 3, 256)),
            inflight_bytes_max=self.random.choice((300, 100_000)),
            uncommitted_bytes_max=self.random.choice((900, 100_000)),
            reads_waiting_max=3,
            commit_notices=True,
        )
        self.cluster.on_apply = self.check_applied
        self.cluster.on_persist = self.check_entries
        self.cluster.on_read = self.check_read
        self.cluster.on_send = self.maybe_repeat
        self.cluster.on_install = self.check_installed
        self.applies_late = self.random.random() < 0.3
        for node_id in self.cluster.nodes:
            self.hold_back(node_id)
        self.faults = True
        self.loss = self.random.choice((0.0, 0.05, 0.3))
        self.compaction = self.random.choice((0, 2, 10))
        self.stream_loss = self.random.choice((0.0, 0.2, 0.7))
        self.arrived: list[Stream] = []
        self.ends_of_streams: list[tuple[Stream, bool]] = []
        self.installed = 0
        self.losses = self.random.choice((0, 0, 0.5))
        self.changes = self.random.choice((0, 6, 20))
        self.leaving = self.random.choice((0, 5))
        self.notes_lost = self.random.choice((0.0, 0.3))
        self.left: set[NodeId] = set()
        self.members_after: dict[int, Members] = {}
        self.leaders: dict[int, NodeId] = {}
        self.commit_at_election: dict[int, int] = {}
        self.seen: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.committed: list[Entry] = []
        self.reads: dict[int, int] = {}
        self.last_read = 0
        self.terms: dict[NodeId, int] = {}
        self.commits: dict[NodeId, int] = {}
        self.proposed = 0
        self.reads_done = 0

    # --- what must hold -------------------------------------------------------------------------

    def check_applied(self, node_id: NodeId, entry: Entry) -> None:
        """State machine safety: all nodes apply the same entry at the same index."""
        if entry.index == len(self.committed) + 1:
            self.committed.append(entry)
        assert self.committed[entry.index - 1] == entry, f"node {node_id} applies {entry}"
        if entry.kind == EntryKind.CONF_CHANGE:
            now = self.cluster.nodes[node_id].members
            assert self.members_after.setdefault(entry.index, now) == now, f"{node_id}: {now}"

    def check_entries(self, node_id: NodeId, persist: Persist) -> None:
        """Log matching: (index, term) determines the entry and the term of the one before it."""
        for entry in persist.entries:
            before = self.cluster.raft(node_id).log.term(entry.index - 1)
            if before is None or self.cluster.raft(node_id).log.term(entry.index) != entry.term:
                continue  # replaced since it was handed out
            known = self.seen.setdefault((entry.index, entry.term), (before, entry.data))
            assert known == (before, entry.data), f"{entry} on node {node_id} is not {known}"

    def check_installed(self, stream: Stream) -> None:
        """An installed state is what a node that applied every entry has; nothing is left out."""
        self.installed += 1
        self.ends_of_streams.append((stream, True))
        index = stream.snapshot.index
        assert list(stream.snapshot.state) == self.committed[:index], f"{stream} is not history"

    def check_log(self, node_id: NodeId) -> None:
        log = self.cluster.raft(node_id).log
        ends = (log.compacted, log.applied, min(log.commit, log.stable), log.last_index)
        assert list(ends) == sorted(ends), f"node {node_id} has {ends}"

    def check_read(self, node_id: NodeId, state: ReadState) -> None:
        """A read's index covers everything that was committed when it was asked for."""
        if state.request_id > self.last_read:
            return  # a late answer to what an earlier, recovering start asked
        self.reads_done += 1
        assert state.index >= self.reads[state.request_id], f"stale {state} on node {node_id}"

    def check_nodes(self) -> None:
        for node_id in self.cluster.up():
            raft = self.cluster.raft(node_id)
            assert raft.term >= self.terms.get(node_id, 0), f"term of {node_id} went back"
            assert raft.commit >= self.commits.get(node_id, 0), f"commit of {node_id} went back"
            self.terms[node_id] = raft.term
            self.commits[node_id] = raft.commit
            self.check_log(node_id)
            if raft.role is Role.LEADER:
                self.check_leader(node_id)
            assert not raft.rejected.keys() - MAY_BE_REJECTED, raft.rejected

    def check_leader(self, node_id: NodeId) -> None:
        """Election safety; leader completeness when one appears; then the commit rule (5.4.2)."""
        raft = self.cluster.raft(node_id)
        first_time = raft.term not in self.leaders
        assert self.leaders.setdefault(raft.term, node_id) == node_id, f"two in {raft.term}"
        inherited = self.commit_at_election.setdefault(raft.term, raft.commit)
        assert raft.commit == inherited or raft.commit >= raft.first_index_of_term, (
            f"leader {node_id} committed {raft.commit} of an earlier term by counting"
        )
        if first_time:
            for entry in self.committed[raft.log.compacted :]:
                assert raft.log.term(entry.index) == entry.term, f"leader {node_id} lacks {entry}"
            known = self.cluster.nodes[node_id].members.changes
            behind = len(self.members_after) - known
            assert behind <= 1, f"leader {node_id} is {behind} memberships behind"

    # --- what happens ---------------------------------------------------------------------------

    def maybe_repeat(self, envelope: Envelope) -> None:
        if self.faults and self.random.random() < 0.05:
            self.cluster.wire.append(envelope)

    def step(self) -> None:
        actions = (
            (self.deliver, 60),
            (self.sync, 24),
            # Leases are a matter of time: more of it passes, and partitions outlast them.
            (self.tick, 30 if self.lease_reads else 14),
            (self.propose, 8),
            (self.read, 20 if self.lease_reads else 6),
            (self.crash, 1),
            (self.restart, 5),
            (self.leave, self.leaving),
            (self.lose, self.losses),
            (self.cut, 1),
            (self.heal, 0.5 if self.lease_reads else 3),
            (self.transfer, 0.5),
            (self.change, self.changes),
            (self.apply, 20 if self.applies_late else 0),
            (self.report, 0.5),
            (self.leave_behind, 0.5 if self.compaction or self.changes else 0),
            (self.snapshot, self.compaction),
            (self.stream, 4),
            (self.install, 4),
            (self.end_stream, 4),
        )
        weights = [weight for _, weight in actions]
        (action,) = self.random.choices([action for action, _ in actions], weights)
        action()
        self.lose_notes()
        self.check_nodes()

    def any_up(self) -> NodeId | None:
        up = self.cluster.up()
        return self.random.choice(up) if up else None

    def deliver(self) -> None:
        wire = self.cluster.wire
        if not wire:
            return
        # Mostly in order; sometimes anything.
        position = self.random.randrange(len(wire)) if self.random.random() < 0.2 else 0
        if self.random.random() < self.loss:
            wire.pop(position)
        else:
            self.cluster.deliver(position)

    def sync(self) -> None:
        if (node_id := self.any_up()) is not None:
            self.cluster.sync(node_id, self.random.choice((1, 2, None)))

    def tick(self) -> None:
        if self.lease_reads:
            # Clocks that run alike, which is what a lease trusts.
            for node_id in self.cluster.up():
                self.cluster.tick(node_id)
        elif (node_id := self.any_up()) is not None:
            self.cluster.tick(node_id, self.random.choice((1, 1, 3)))

    def propose(self) -> None:
        for node_id in self.cluster.leaders():
            count = self.random.choice((1, 1, 4))
            data = [b"%d" % (self.proposed + offset) for offset in range(count)]
            try:
                self.cluster.raft(node_id).propose(data)
            except (NotLeader, ProposalDropped):
                continue
            self.proposed += count
            if self.random.random() < 0.7:
                self.cluster.pump(node_id)

    def read(self) -> None:
        # Half of them where a stale answer would come from: at whoever believes to lead.
        leaders = self.cluster.leaders() if self.random.random() < 0.5 else []
        node_id = self.random.choice(leaders) if leaders else self.any_up()
        if node_id is not None:
            self.read_on(node_id)

    def read_on(self, node_id: NodeId) -> None:
        self.last_read += 1
        self.reads[self.last_read] = max(node.raft.commit for node in self.cluster.nodes.values())
        with suppress(NoLeader, ReadDropped):
            self.cluster.raft(node_id).read_index(self.last_read)
        self.cluster.pump(node_id)

    def crash(self) -> None:
        if (node_id := self.any_up()) is not None:
            self.crash_node(node_id)

    def crash_node(self, node_id: NodeId, kept: int | None = None) -> None:
        pending = self.cluster.nodes[node_id].pending
        lost = [item.stream for item in pending if isinstance(item, Mark)]
        lost += [stream for stream in self.arrived if stream.to == node_id]
        self.arrived = [stream for stream in self.arrived if stream.to != node_id]
        self.ends_of_streams += [(stream, False) for stream in lost]
        self.cluster.crash(
            node_id,
            kept=self.random.randint(0, len(pending)) if kept is None else kept,
            torn=self.random.choice((None, 0, 1, 2)) if kept is None else None,
        )
        self.commits.pop(node_id, None)
        self.terms[node_id] = self.cluster.nodes[node_id].disk.hard_state.term

    def lose_notes(self) -> None:
        """A leader crashes when it has told of a committed change, and its disk knows nothing."""
        for node_id in self.cluster.leaders():
            committed = self.cluster.raft(node_id).log.has_committed_change()
            if committed and self.random.random() < self.notes_lost:
                self.cluster.pump(node_id)
                self.crash_node(node_id, kept=0)

    def restart(self) -> None:
        for node_id in sorted(self.cluster.down - self.left):
            self.cluster.restart(node_id)
            self.hold_back(node_id)

    def leave(self) -> None:
        """Who was removed, and is refused for that by a member which it reaches, ends for good."""
        cluster = self.cluster
        for node_id in cluster.up():
            if any(
                node_id in cluster.nodes[other].members.removed
                and other in members(cluster.nodes[other].conf_state)
                and not {(node_id, other), (other, node_id)} & cluster.cut
                for other in cluster.up()
            ):
                self.crash_node(node_id)
                self.left.add(node_id)

    def hold_back(self, node_id: NodeId) -> None:
        """From its start on a node syncs, and perhaps applies, when the schedule says so."""
        self.cluster.nodes[node_id].autosync = False
        self.cluster.nodes[node_id].autoapply = not self.applies_late

    def apply(self) -> None:
        if (node_id := self.any_up()) is not None:
            self.apply_some(node_id)

    def apply_some(self, node_id: NodeId) -> None:
        if self.random.random() < 0.7 and not self.cluster.nodes[node_id].frozen:
            self.cluster.apply(node_id, self.random.choice((1, 500, APPLY_BYTES_MAX)))

    def lose(self) -> None:
        """A disk loses the end of its log, as long as a majority of the others is whole."""
        cluster = self.cluster
        node_id = self.random.choice(list(cluster.nodes))
        if not self.may_lose(node_id):
            return
        if node_id not in cluster.down:
            self.crash_node(node_id)
        cluster.lose(node_id, self.random.choice((0, 1, 3, 10, 1000)))
        self.hold_back(node_id)

    def cut(self) -> None:
        nodes = list(self.cluster.nodes)
        self.random.shuffle(nodes)
        place = self.random.randint(1, len(nodes))
        self.cluster.partition(nodes[:place], nodes[place:])
        if self.random.random() < 0.3:  # one way only
            self.cluster.cut = {(a, b) for a, b in self.cluster.cut if a < b}

    def heal(self) -> None:
        self.cluster.heal()
        for a in self.cluster.up():
            for b in self.cluster.nodes:
                if a != b and b not in self.cluster.down:
                    self.cluster.connect(a, b)

    def transfer(self) -> None:
        for node_id in self.cluster.leaders():
            raft = self.cluster.raft(node_id)
            raft.transfer_leader(self.random.choice(raft.conf_state.voters))
            self.cluster.pump(node_id)

    # --- members come and go --------------------------------------------------------------------

    def change(self) -> None:
        """A leader proposes any change, one that its state machine will refuse too."""
        cluster = self.cluster
        if any(node.disk.recovering for node in cluster.nodes.values()):
            return  # too few might be left that are whole
        for node_id in cluster.leaders():
            change = self.any_change(node_id)
            with suppress(NotLeader, ProposalDropped):
                cluster.raft(node_id).propose_conf_change(change)
            if self.random.random() < 0.7:
                cluster.pump(node_id)

    def any_change(self, leader: NodeId) -> bytes:
        cluster = self.cluster
        if self.random.random() < 0.25 and len(cluster.nodes) < NODES_MAX:
            joiner = len(cluster.nodes) + 1
            cluster.join(joiner)
            self.hold_back(joiner)
            return b"add %d" % joiner
        conf_state = cluster.raft(leader).conf_state
        known = list(members(conf_state))
        if conf_state.outgoing:
            return b"leave"
        if conf_state.learners and self.random.random() < 0.5:
            return b"promote %d" % self.random.choice(conf_state.learners)
        if self.random.random() < 0.5:
            voters = self.random.sample(known, self.random.randint(1, len(known)))
            return b"joint " + b",".join(b"%d" % voter for voter in sorted(voters))
        return b"%s %d" % (self.random.choice((b"remove", b"promote")), self.random.choice(known))

    def newest_members(self) -> Members:
        return max((node.members for node in self.cluster.nodes.values()), key=lambda m: m.changes)

    def may_lose(self, node_id: NodeId) -> bool:
        """A majority of every half of every membership in use stays whole."""
        nodes = self.cluster.nodes.values()
        lost = {n for n, node in self.cluster.nodes.items() if node.disk.recovering} | {node_id}
        halves = [half for n in nodes for half in (n.conf_state.voters, n.conf_state.outgoing)]
        return not any(node.raft.log.changes for node in nodes) and all(
            len(lost & set(half)) <= (len(half) - 1) // 2 for half in halves if half
        )

    def report(self) -> None:
        for node_id in self.cluster.leaders():
            self.cluster.raft(node_id).report_unreachable(
                self.random.choice(list(self.cluster.nodes))
            )

    def leave_behind(self) -> None:
        """Some miss much; if one of them leads, it goes on, with entries that will conflict."""
        cluster = self.cluster
        if (left := self.any_up()) is None:
            return
        behind = {left}
        if self.changes and self.random.random() < 0.5:
            behind.update(self.random.sample(list(cluster.nodes), len(cluster.nodes) // 2))
        cluster.partition(behind, cluster.nodes.keys() - behind)
        for _ in range(self.random.randint(5, 40)):
            self.propose()
            if self.changes:
                self.change()
            for node_id in cluster.up():
                cluster.tick(node_id)
                cluster.sync(node_id)
                self.apply_some(node_id)
            for _ in range(len(cluster.wire)):
                cluster.deliver()
            self.check_nodes()
        if self.compaction:
            self.snapshot()

    def snapshot(self) -> None:
        node_id = self.any_up()
        if node_id is not None and not self.cluster.nodes[node_id].frozen:
            self.cluster.take_snapshot(node_id, keep=self.random.choice((0, 0, 1, 5)))

    def stream(self) -> None:
        """A stream fails, is refused, or arrives, early or late, and perhaps another time."""
        streams = self.cluster.streams
        if not streams:
            return
        position = self.random.randrange(len(streams))
        stream = streams[position]
        if not (self.faults and self.random.random() < 0.2):
            streams.pop(position)
        gone = (stream.sender, stream.to) in self.cluster.cut or stream.to in self.cluster.down
        if gone or (self.faults and self.random.random() < self.stream_loss):
            self.ends_of_streams.append((stream, False))
        elif self.cluster.accept(stream):
            self.arrived.append(stream)
        else:
            self.refused(stream)

    def install(self) -> None:
        """What was accepted is installed, perhaps when others lead, or not needed any more."""
        if self.arrived:
            stream = self.arrived.pop(self.random.randrange(len(self.arrived)))
            if not self.cluster.install(stream):
                self.refused(stream)

    def refused(self, stream: Stream) -> None:
        covered = self.cluster.raft(stream.to).commit >= stream.snapshot.index
        self.ends_of_streams.append((stream, covered))

    def end_stream(self) -> None:
        """A sender learns of the end of a stream, perhaps by a time-out that is wrong."""
        if self.ends_of_streams:
            position = self.random.randrange(len(self.ends_of_streams))
            stream, ok = self.ends_of_streams.pop(position)
            timed_out = self.faults and self.random.random() < 0.1
            self.cluster.finish(stream, ok=ok and not timed_out)

    # --- and then all is well -------------------------------------------------------------------

    def recover(self) -> None:
        """Without faults all members are healed; they commit a new entry and serve a read."""
        cluster = self.cluster
        self.faults = False
        self.restart()
        self.heal()
        for node in cluster.nodes.values():
            node.autosync = node.autoapply = True
        for node_id in cluster.nodes:
            cluster.sync(node_id)
        marker = self.proposed
        for _ in range(200):
            for node_id in cluster.up():
                cluster.tick(node_id)
            cluster.stabilize()
            self.leave()
            while cluster.streams or self.arrived or self.ends_of_streams:
                self.stream()
                self.install()
                self.end_stream()
                cluster.stabilize()
            self.check_nodes()
            self.propose()
            if self.proposed > marker and all(
                self.newest_applied(node_id) >= marker
                and not cluster.nodes[node_id].disk.recovering
                for node_id in members(self.newest_members().conf_state)
            ):
                break
        else:
            raise AssertionError([node.raft.status() for node in cluster.nodes.values()])
        before = self.reads_done
        for node_id in members(self.newest_members().conf_state):
            self.read_on(node_id)
        cluster.stabilize()
        assert self.reads_done > before
        for leader in cluster.leaders():
            cluster.tick(leader)
        cluster.stabilize()
        remaining = map(cluster.raft, members(self.newest_members().conf_state))
        ends = {(raft.last_index, raft.commit) for raft in remaining}
        assert len(ends) == 1, ends

    def newest_applied(self, node_id: NodeId) -> int:
        """Return the newest proposal that the node has applied, -1 if there is none."""
        for entry in reversed(self.cluster.nodes[node_id].applied):
            if entry.data and entry.kind == EntryKind.NORMAL:
                return int(entry.data)
        return -1


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed-{seed}-")
def test_a_random_schedule_breaks_no_rule_and_the_group_recovers(seed: int) -> None:
    exploration = Exploration(seed)
    for _ in range(STEPS):
        exploration.step()
    exploration.recover()
