"""The commands of the Raft scenarios, and how a group's doings are printed.

Setting up
    cluster nodes=3 [learners=N, after the voters] [pre-vote=no] [check-quorum=no] [inflight=N]
        [uncommitted=BYTES] [lease=yes: lease reads] [batches=no: one entry a message]
    log N terms=1,1,2 [term=3]      node N starts with entries of these terms on its disk
    elect N                         make N leader, printing nothing
    join N                          start a new node, which knows nobody

Doing
    campaign N · tick N [count] · propose N data… · read N id · transfer N M
    unreachable N M · connect N M · slow N (its disk syncs when told) · sync N [writes]
    crash N · restart N · lose N count (it comes back recovering, without the last entries that it
    had synced; `connect` lets others hear of that) · forget N count (its disk loses them while it
    is down, and nobody notices) · partition 1,2 3 (groups that hear each other) · heal
    change N add M | promote M | remove M | joint M,M… (the new voters) | leave
                                    N proposes a change of membership
    stabilize (deliver all) · deliver N [M] (what is on the way from N, to M) · drop N [M]
    overtake N M (deliver the youngest before the others) · repeat N M (put a copy of it behind)
    compact N [keep=K]              N takes a snapshot of what it applied and forgets the log
                                    behind it, but for K entries
    offer N M · install N M · finished N M · failed N M
                                    the snapshot that N sends to M: its first bytes come; all of it
                                    is there; N learns that M has it; N learns that it is lost

Asking
    status · logs · progress N · members · silently COMMAND

Printed: `n1@2` is node 1 in term 2, `3@2` the entry 3 of term 2, `→` a message that is sent, `✗`
one that is lost, `⇨` a change of role, `⇒` a snapshot, which the node sends and not Raft. An entry
that changes the membership shows the change. `voters=…` is what a node goes by from then on;
`outgoing` is the old half of a joint change.
"""

from __future__ import annotations

from collections.abc import Callable

from raft import (
    ConfState,
    Entry,
    EntryKind,
    HardState,
    NodeId,
    Persist,
    RaftError,
    ReadState,
    Role,
)
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    CommitNotice,
    Heartbeat,
    HeartbeatResponse,
    Message,
    OrderRecovery,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
)
from raft.read_index import COUNTER_BITS
from tests.support.raft_cluster import Cluster, Envelope, Stream


class RaftScenario:
    """One scenario's cluster, and the trace of what it does."""

    def __init__(self) -> None:
        self.cluster = Cluster(0)
        self.printed: list[str] = []
        self.known: dict[NodeId, tuple[int, Role]] = {}
        self.commits: dict[NodeId, int] = {}
        self.recovering: dict[NodeId, bool] = {}
        self.conf_states: dict[NodeId, ConfState] = {}
        self.rejected: dict[NodeId, dict[str, int]] = {}

    def run(self, line: str) -> list[str]:
        """Run one command; return what it prints."""
        name, *words = line.split()
        if name == "silently":
            self.run(line.removeprefix("silently "))
            return []
        command: Callable[..., None] = getattr(self, f"do_{name.replace('-', '_')}")
        try:
            command(*words)
        except (RaftError, ValueError) as error:
            self.printed.append(f"{type(error).__name__}: {error}")
        self.notice()
        printed, self.printed = self.printed, []
        return printed

    # --- setting up -----------------------------------------------------------------------------

    def do_cluster(self, *words: str) -> None:
        options = dict(word.split("=") for word in words)
        self.cluster = Cluster(
            int(options["nodes"]),
            pre_vote=options.get("pre-vote") != "no",
            learners=int(options.get("learners", "0")),
            check_quorum=options.get("check-quorum") != "no",
            uncommitted_bytes_max=int(options.get("uncommitted", str(1 << 20))),
            lease_reads=options.get("lease") == "yes",
            inflight_messages_max=int(options.get("inflight", "256")),
            message_bytes_max=1 if options.get("batches") == "no" else 1 << 20,
            # Stickiness lasts 10 ticks, every election timeout 15: nothing is left to chance.
            random_ticks=lambda low, high: low + 5,
        )
        self.cluster.on_send = self.on_send
        self.cluster.on_drop = self.on_drop
        self.cluster.on_persist = self.on_persist
        self.cluster.on_read = self.on_read
        self.cluster.on_stream = self.on_stream
        self.cluster.on_install = self.on_install
        self.known = dict.fromkeys(self.cluster.nodes, (0, Role.FOLLOWER))

    def do_log(self, node: str, *words: str) -> None:
        options = dict(word.split("=") for word in words)
        terms = [int(term) for term in options["terms"].split(",") if term]
        disk = self.cluster.nodes[int(node)].disk
        disk.log = [
            Entry(term, index, 0, b"%d@%d" % (index, term)) for index, term in enumerate(terms, 1)
        ]
        term = int(options.get("term", terms[-1]))
        disk.hard_state = HardState(term, 0, 0)
        self.cluster.restart(int(node))
        self.known[int(node)] = (term, Role.FOLLOWER)

    def do_elect(self, node: str) -> None:
        self.cluster.elect(int(node))
        self.notice()
        self.printed = []

    def do_join(self, node: str) -> None:
        self.cluster.join(int(node))

    # --- doing ----------------------------------------------------------------------------------

    def do_change(self, node: str, *words: str) -> None:
        self.cluster.raft(int(node)).propose_conf_change(" ".join(words).encode())
        self.cluster.pump(int(node))

    def do_campaign(self, node: str) -> None:
        self.cluster.raft(int(node)).campaign()
        self.cluster.pump(int(node))

    def do_tick(self, node: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.cluster.tick(int(node))
            self.notice()

    def do_propose(self, node: str, *data: str) -> None:
        self.cluster.raft(int(node)).propose([item.encode() for item in data])
        self.cluster.pump(int(node))

    def do_read(self, node: str, request_id: str) -> None:
        self.cluster.raft(int(node)).read_index(int(request_id))
        self.cluster.pump(int(node))

    def do_transfer(self, node: str, target: str) -> None:
        if not self.cluster.raft(int(node)).transfer_leader(int(target)):
            self.printed.append(f"n{target} could not be elected now")
        self.cluster.pump(int(node))

    def do_unreachable(self, node: str, peer: str) -> None:
        self.cluster.raft(int(node)).report_unreachable(int(peer))

    def do_connect(self, node: str, peer: str) -> None:
        self.cluster.connect(int(node), int(peer))
        self.cluster.pump(int(node))

    def do_slow(self, node: str) -> None:
        self.cluster.nodes[int(node)].autosync = False

    def do_sync(self, node: str, writes: str = "1000") -> None:
        for item in self.cluster.nodes[int(node)].pending[: int(writes)]:
            name = f"#{item.number}" if isinstance(item, Persist) else "the mark of a snapshot"
            self.printed.append(f"n{node} synced {name}")
        self.cluster.sync(int(node), int(writes))

    def do_lose(self, node: str, count: str) -> None:
        self.cluster.lose(int(node), int(count))
        self.known[int(node)] = (self.cluster.raft(int(node)).term, Role.FOLLOWER)
        self.commits.pop(int(node), None)

    def do_forget(self, node: str, count: str) -> None:
        del self.cluster.nodes[int(node)].disk.log[-int(count) :]

    def do_crash(self, node: str) -> None:
        self.cluster.crash(int(node))

    def do_restart(self, node: str) -> None:
        self.cluster.restart(int(node))
        self.known[int(node)] = (self.cluster.raft(int(node)).term, Role.FOLLOWER)
        self.commits.pop(int(node), None)

    def do_partition(self, *groups: str) -> None:
        self.cluster.partition(*[map(int, group.split(",")) for group in groups])

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_stabilize(self) -> None:
        for _ in range(10_000):
            if not self.cluster.wire:
                return
            self.cluster.deliver()
            self.notice()
        raise ValueError("the group does not come to rest")

    def do_deliver(self, sender: str, to: str | None = None) -> None:
        for position in self.on_the_way(sender, to):
            self.cluster.deliver(position)
            self.notice()

    def do_drop(self, sender: str, to: str | None = None) -> None:
        for position in self.on_the_way(sender, to):
            self.on_drop(self.cluster.wire.pop(position))

    def do_overtake(self, sender: str, to: str) -> None:
        self.cluster.deliver(self.on_the_way(sender, to)[-1] + len(self.on_the_way(sender, to)) - 1)

    def do_repeat(self, sender: str, to: str) -> None:
        youngest = [e for e in self.cluster.wire if (e.sender, e.to) == (int(sender), int(to))][-1]
        self.cluster.wire.append(youngest)

    # --- snapshots ------------------------------------------------------------------------------

    def do_compact(self, node: str, *words: str) -> None:
        options = dict(word.split("=") for word in words)
        self.cluster.take_snapshot(int(node), keep=int(options.get("keep", "0")))

    def do_offer(self, sender: str, to: str) -> None:
        accepted = self.cluster.accept(self.stream(sender, to))
        self.notice()
        self.printed.append(f"n{to} {'accepts' if accepted else 'refuses'}")

    def do_install(self, sender: str, to: str) -> None:
        if not self.cluster.install(self.stream(sender, to)):
            self.printed.append(f"n{to} has all of it")

    def do_finished(self, sender: str, to: str) -> None:
        self.end_stream(sender, to, ok=True)

    def do_failed(self, sender: str, to: str) -> None:
        self.end_stream(sender, to, ok=False)

    def end_stream(self, sender: str, to: str, *, ok: bool) -> None:
        stream = self.stream(sender, to)
        self.cluster.streams.remove(stream)
        self.cluster.finish(stream, ok=ok)

    def stream(self, sender: str, to: str) -> Stream:
        """Return the oldest snapshot on its way from `sender` to `to`."""
        for stream in self.cluster.streams:
            if (stream.sender, stream.to) == (int(sender), int(to)):
                return stream
        raise ValueError(f"no snapshot is on its way from n{sender} to n{to}")

    def on_the_way(self, sender: str, to: str | None) -> list[int]:
        """Return positions on the wire, each as it is once those before it were taken."""
        positions = [
            position
            for position, envelope in enumerate(self.cluster.wire)
            if envelope.sender == int(sender) and to in (None, str(envelope.to))
        ]
        return [position - taken for taken, position in enumerate(positions)]

    # --- asking ---------------------------------------------------------------------------------

    def do_status(self) -> None:
        for node in self.cluster.up():
            s = self.cluster.raft(node).status()
            leader = f"n{s.leader}" if s.leader else "nobody"
            self.printed.append(
                f"n{node}@{s.term} {s.role.value} of {leader}, "
                f"last={s.last_index} stable={s.stable} commit={s.commit} applied={s.applied}"
                + (f", recovers at {s.recovers_at or 'an index not known yet'}")
                * self.cluster.raft(node).recovering
            )

    def do_logs(self) -> None:
        for node in self.cluster.up():
            raft = self.cluster.raft(node)
            first = raft.log.first_index
            terms = [str(raft.log.term(i)) for i in range(first, raft.last_index + 1)]
            if first > 1:
                terms.insert(0, f"({first - 1}@{raft.log.term(first - 1)})")
            self.printed.append(f"n{node} terms {' '.join(terms)} commit={raft.commit}")

    def do_progress(self, node: str) -> None:
        for peer, p in self.cluster.raft(int(node)).progress().items():
            self.printed.append(
                f"n{peer} {p.state} match={p.match} next={p.next_index} "
                f"inflight={p.inflight_messages}" + " recovering" * p.recovering
            )

    def do_members(self) -> None:
        for node in self.cluster.up():
            status = self.cluster.raft(node).status()
            pending = f", change {status.pending_change} pending" * bool(status.pending_change)
            self.printed.append(f"n{node} {show_members(status.conf_state)}{pending}")

    # --- printing -------------------------------------------------------------------------------

    def notice(self) -> None:
        """Print what changed since the last look."""
        for node in self.cluster.up():
            raft = self.cluster.raft(node)
            now = (raft.term, raft.role)
            before = self.known.get(node, now)
            if now != before:
                self.printed.append(
                    f"n{node}@{before[0]} {before[1].value} ⇨ n{node}@{raft.term} {raft.role.value}"
                )
            self.known[node] = now
            if raft.recovering is not self.recovering.get(node, raft.recovering):
                doing = "begins to recover" if raft.recovering else "is healed"
                self.printed.append(f"n{node} {doing}")
            self.recovering[node] = raft.recovering
            conf_state = raft.conf_state
            if conf_state != self.conf_states.get(node, conf_state):
                self.printed.append(f"n{node} {show_members(conf_state)}")
            self.conf_states[node] = conf_state
            for reason, count in raft.rejected.items():
                if count > self.rejected.get(node, {}).get(reason, 0):
                    self.printed.append(f"n{node} rejects: {reason}")
            self.rejected[node] = dict(raft.rejected)
            if raft.commit > self.commits.get(node, 0):
                self.printed.append(f"n{node} commits {raft.commit}")
                self.commits[node] = raft.commit

    def on_send(self, envelope: Envelope) -> None:
        self.notice()  # first why, then what
        self.printed.append(self.describe(envelope, "→"))

    def on_drop(self, envelope: Envelope) -> None:
        self.printed.append(self.describe(envelope, "✗"))

    def on_read(self, node: NodeId, state: ReadState) -> None:
        self.printed.append(f"n{node} may read {state.request_id} at index {state.index}")

    def on_stream(self, stream: Stream) -> None:
        snapshot = stream.snapshot
        way = f"n{stream.sender}@{stream.term} ⇒ n{stream.to}"
        self.printed.append(f"{way} snapshot {snapshot.index}@{snapshot.term}")

    def on_install(self, stream: Stream) -> None:
        snapshot = stream.snapshot
        self.commits[stream.to] = snapshot.index
        self.printed.append(f"n{stream.to} installs {snapshot.index}@{snapshot.term}")

    def on_persist(self, node: NodeId, persist: Persist) -> None:
        if self.cluster.nodes[node].autosync:
            return
        self.notice()
        parts = [f"n{node} writes #{persist.number}"]
        if persist.recovering is not None:
            parts.append("recovering" if persist.recovering else "healed")
        if persist.hard_state is not None:
            parts.append(f"term={persist.hard_state.term} vote={persist.hard_state.vote}")
        parts += [show(entry) for entry in persist.entries]
        self.printed.append(" ".join(parts))

    def describe(self, envelope: Envelope, arrow: str) -> str:
        sender, to, message, _ = envelope
        term = message.term
        if isinstance(message, RequestPreVote | PreVoteResponse | CommitNotice):
            term = self.cluster.raft(sender).term
        parts = [f"n{sender}@{term} {arrow} n{to}", type(message).__name__, *details(message)]
        return " ".join(parts)


def show(entry: Entry) -> str:
    change = f"[{entry.data.decode()}]" if entry.kind == EntryKind.CONF_CHANGE else ""
    return f"{entry.index}@{entry.term}{change}"


def show_members(conf_state: ConfState) -> str:
    if not conf_state.voters:
        return "knows nobody"
    named = zip(conf_state._fields, conf_state, strict=True)
    return " ".join(f"{name}={','.join(map(str, ids))}" for name, ids in named if ids)


def show_round(round_id: int) -> list[str]:
    boot, number = divmod(round_id, 1 << COUNTER_BITS)
    return [f"round={boot}.{number}"] if round_id else []


def details(message: Message) -> list[str]:
    """Return the fields that a reader needs, in words."""
    match message:
        case RequestPreVote(term, index, last_term):
            return [f"for={term} last={index}@{last_term}"]
        case RequestVote(_, index, last_term, transfer):
            return [f"last={index}@{last_term}"] + ["transfer"] * transfer
        case PreVoteResponse(_, granted) | RequestVoteResponse(_, granted):
            return ["granted" if granted else "refused"]
        case AppendEntries(_, index, previous_term, commit, entries):
            return [f"after={index}@{previous_term} commit={commit}", *map(show, entries)]
        case AppendResponse(_, index, rejected, hint_index, hint_term, recovering):
            said = f"rejected after={index} hint={hint_index}@{hint_term}"
            return [said if rejected else f"match={index}"] + ["recovering"] * recovering
        case Heartbeat(_, commit, round_id):
            return [f"commit={commit}", *show_round(round_id)]
        case HeartbeatResponse(_, round_id, recovering):
            return show_round(round_id) + ["recovering"] * recovering
        case OrderRecovery(_, index, index_term):
            return [f"if not {index}@{index_term}"]
        case CommitAdvance(_, commit, commit_term) | CommitNotice(_, commit, commit_term):
            return [f"{commit}@{commit_term}"]
        case ReadIndexRequest(_, request_id):
            return [f"id={request_id}"]
        case ReadIndexResponse(_, request_id, index):
            return [f"id={request_id} index={index}"]
        case _:
            return []
