"""The proposer session: everything is answered once, and resends are the same batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kvnode.admission.ledger import Ledger
from kvnode.errors import Refused
from kvnode.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMMANDS_MAX,
    BATCH_ROWS_MAX,
    BATCHES_IN_FLIGHT_MAX,
    HOLD_BUSY_MS_MAX,
    HOLD_MS,
    LEVEL_WAIT_MS,
    RESEND_MS,
    STEP_PAUSE_MS,
    STEPS_ALONE_MS,
)
from kvnode.node import proposals
from kvnode.node.proposals import Proposer
from kvnode.service import PatientPending
from kvnode.store import ops
from kvnode.store.batch import Kind, decode_ops
from kvnode.store.reply import Result, Unfinished
from kvnode.store.sessions import Outcome, Session
from kvnode.store.state_machine import Applied

NONCE = 77


@dataclass
class Waiting:
    """A client's command that remembers its answers."""

    op: list[object]
    size: int = 100
    results: list[Result] = field(default_factory=list)

    def complete(self, result: Result) -> None:
        self.results.append(result)


class Leader:
    """A channel to a leader that a test turns on and off."""

    def __init__(self) -> None:
        self.here = True
        self.sent: list[tuple[int, int, bytes]] = []
        self.registrations: list[int] = []

    def send_batch(self, incarnation: int, sequence: int, operations: bytes) -> bool:
        if self.here:
            self.sent.append((incarnation, sequence, operations))
        return self.here

    def send_registration(self, nonce: int) -> bool:
        if self.here:
            self.registrations.append(nonce)
        return self.here


class Setup:
    """A registered proposer, its leader and its clock."""

    def __init__(self, *, registered: bool = True) -> None:
        self.now = 100.0
        self.leader = Leader()
        self.ledger = Ledger()
        self.proposer = Proposer(self.leader, NONCE, lambda: self.now, self.ledger)
        if registered:
            self.proposer.registered(10, NONCE)

    def submit(self, count: int = 1, size: int = 100) -> list[Waiting]:
        waiting = [Waiting([1, 0, b"k%d" % i, b"v"], size) for i in range(count)]
        for one in waiting:
            self.proposer.submit(one)
        return waiting

    def applied(self, sequence: int, results: list[Result] | None, outcome: Outcome) -> None:
        self.proposer.applied(
            Applied(
                kind=Kind.BATCH,
                node_id=1,
                incarnation=10,
                sequence=sequence,
                outcome=outcome,
                results=results,
                is_unfinished=any(isinstance(result, Unfinished) for result in results or ()),
            )
        )

    def later(self, milliseconds: float) -> None:
        self.now += milliseconds / 1000
        self.proposer.sweep()
        self.proposer.flush()


def test_all_commands_of_a_pass_leave_as_one_batch_and_get_their_own_results() -> None:
    setup = Setup()
    a, b = setup.submit(2)
    setup.proposer.flush()
    ((incarnation, sequence, operations),) = setup.leader.sent
    assert (incarnation, sequence) == (10, 1)
    assert decode_ops(operations) == [a.op, b.op]
    setup.applied(1, [1, 2], Outcome.APPLIED)
    assert (a.results, b.results) == ([1], [2])
    assert setup.proposer.is_idle


def test_nothing_leaves_before_the_session_is_registered_by_this_starts_nonce() -> None:
    setup = Setup(registered=False)
    setup.submit()
    setup.proposer.flush()
    setup.proposer.registered(9, NONCE + 1)
    setup.proposer.flush()
    assert setup.leader.sent == []
    assert setup.leader.registrations == [NONCE]
    setup.proposer.registered(11, NONCE)
    setup.proposer.flush()
    assert [sent[:2] for sent in setup.leader.sent] == [(11, 1)]


def test_a_lost_registration_is_sent_again_with_the_same_nonce() -> None:
    setup = Setup(registered=False)
    setup.proposer.flush()
    setup.later(RESEND_MS)
    assert setup.leader.registrations == [NONCE, NONCE]


def test_while_enough_batches_are_under_way_commands_gather() -> None:
    setup = Setup()
    for _ in range(BATCHES_IN_FLIGHT_MAX + 3):
        setup.submit(2)
        setup.proposer.flush()
    assert len(setup.leader.sent) == BATCHES_IN_FLIGHT_MAX
    assert not setup.proposer.can_send
    setup.applied(1, [1, 1], Outcome.APPLIED)
    assert setup.proposer.can_send
    setup.proposer.flush()
    assert len(decode_ops(setup.leader.sent[-1][2])) == 6


def test_fewer_commands_than_are_under_way_gather_until_a_batch_comes_back() -> None:
    setup = Setup()
    setup.submit(4)
    setup.proposer.flush()
    setup.submit(3)
    setup.proposer.flush()
    assert len(setup.leader.sent) == 1
    assert not setup.proposer.can_send
    setup.submit(1)
    setup.proposer.flush()
    assert [len(decode_ops(sent[2])) for sent in setup.leader.sent] == [4, 4]
    setup.applied(1, [1] * 4, Outcome.APPLIED)
    setup.applied(2, [1] * 4, Outcome.APPLIED)
    setup.submit(1)
    setup.proposer.flush()
    assert len(setup.leader.sent) == 3


def test_a_batch_is_bounded_in_commands_and_in_bytes_but_holds_at_least_one() -> None:
    setup = Setup()
    setup.submit(2 * BATCH_COMMANDS_MAX)
    setup.proposer.flush()
    assert [len(decode_ops(sent[2])) for sent in setup.leader.sent] == [BATCH_COMMANDS_MAX] * 2
    setup = Setup()
    setup.submit(2, size=proposals.BATCH_BYTES_MAX + 1)
    setup.proposer.flush()
    assert [len(decode_ops(sent[2])) for sent in setup.leader.sent] == [1, 1]


def test_a_batch_is_bounded_in_rows_and_holds_at_least_one_command() -> None:
    """Also in those of transactions: what is in a batch is applied in one go."""
    setup = Setup()
    inner = [[ops.SET, 0, b"k", b"v"]] * (BATCH_ROWS_MAX // 2)
    transactions = [Waiting([ops.EXEC, 0, [], inner]) for _ in range(4)]
    for one in transactions:
        setup.proposer.submit(one)
    setup.proposer.flush()
    assert [len(decode_ops(sent[2])) for sent in setup.leader.sent] == [2, 2]
    setup = Setup()
    wide = [Waiting([ops.DEL, 0, *[b"k"] * 1_500]) for _ in range(3)]
    for one in wide:
        setup.proposer.submit(one)
    setup.proposer.flush()
    assert [decode_ops(sent[2]) for sent in setup.leader.sent] == [[wide[0].op], [wide[1].op]]


def test_a_new_leader_gets_everything_open_again_in_order_and_unchanged() -> None:
    setup = Setup()
    setup.submit()
    setup.proposer.flush()
    setup.submit()
    setup.proposer.flush()
    before = list(setup.leader.sent)
    setup.proposer.leader_changed()
    setup.proposer.flush()
    assert setup.leader.sent == before + before
    assert setup.proposer.batches_resent == 2


def test_a_gap_means_that_an_earlier_batch_was_lost_so_all_open_ones_go_again() -> None:
    setup = Setup()
    setup.submit()
    setup.proposer.flush()
    setup.submit()
    setup.proposer.flush()
    setup.applied(2, None, Outcome.GAP)
    setup.proposer.flush()
    assert [sent[1] for sent in setup.leader.sent] == [1, 2, 1, 2]


def test_a_batch_that_is_not_applied_for_long_is_sent_again() -> None:
    setup = Setup()
    setup.submit()
    setup.proposer.flush()
    setup.later(RESEND_MS)
    assert [sent[1] for sent in setup.leader.sent] == [1, 1]


def test_a_duplicate_changes_nothing() -> None:
    setup = Setup()
    (waiting,) = setup.submit()
    setup.proposer.flush()
    setup.applied(1, [1], Outcome.APPLIED)
    setup.applied(1, None, Outcome.DUPLICATE)
    assert waiting.results == [1]


def test_a_command_that_never_left_is_refused_after_the_deadline() -> None:
    setup = Setup()
    setup.leader.here = False
    (waiting,) = setup.submit()
    setup.proposer.flush()
    setup.later(HOLD_MS)
    assert waiting.results == [proposals.NO_LEADER]
    # And it took no number: the next command is batch 1.
    setup.leader.here = True
    setup.submit()
    setup.later(0)
    assert [sent[1] for sent in setup.leader.sent] == [1]


def test_a_command_that_left_is_unknown_after_the_deadline_and_its_batch_keeps_its_place() -> None:
    setup = Setup()
    (waiting,) = setup.submit()
    setup.proposer.flush()
    setup.later(HOLD_MS)
    assert waiting.results == [proposals.UNKNOWN]
    setup.submit()
    setup.proposer.leader_changed()
    setup.proposer.flush()
    assert [sent[1] for sent in setup.leader.sent][-2:] == [1, 2]
    setup.applied(1, [1], Outcome.APPLIED)
    assert waiting.results == [proposals.UNKNOWN]


def test_a_command_is_held_longer_while_those_before_it_come_on_and_not_for_ever() -> None:
    """The end of a pipeline of large ZADDs was told after ten seconds that nobody knew."""
    setup = Setup()
    line = setup.submit(9, size=BATCH_BYTES_MAX)
    setup.proposer.flush()
    for number in range(1, HOLD_BUSY_MS_MAX // HOLD_MS + 1):
        setup.now += (HOLD_MS - 1) / 1000
        setup.applied(number, [number], Outcome.APPLIED)
        setup.later(0)
        assert [waiting.results for waiting in line[number:]] == [[]] * (len(line) - number)
    setup.later(HOLD_MS - 1)
    assert line[6].results == [proposals.UNKNOWN]
    assert line[8].results == [proposals.NO_LEADER]


def test_commands_behind_one_that_does_not_come_on_are_held_no_longer() -> None:
    setup = Setup()
    first, second = setup.submit(2, size=BATCH_BYTES_MAX)
    setup.proposer.flush()
    setup.applied(1, [1], Outcome.APPLIED)
    setup.later(HOLD_MS)
    assert (first.results, second.results) == ([1], [proposals.UNKNOWN])


def test_what_is_applied_again_and_again_does_not_come_on() -> None:
    """A full engine takes back and applies once more: clients behind it waited for a minute."""
    setup = Setup()
    first, second = setup.submit(2, size=BATCH_BYTES_MAX)
    setup.proposer.flush()
    setup.applied(1, [1], Outcome.APPLIED)
    for _ in range(2):
        setup.now += HOLD_MS / 2000
        setup.applied(1, [1], Outcome.APPLIED)
        setup.later(0)
    assert (first.results, second.results) == ([1], [proposals.UNKNOWN])


class Patient(Waiting, PatientPending):
    """A command whose client waits anyway."""

    is_patient = True


def test_a_command_whose_client_waits_anyway_is_not_told_that_its_outcome_is_unknown() -> None:
    setup = Setup()
    patient, other = Patient([1, 0, b"k"]), Waiting([1, 0, b"k"])
    for waiting in (patient, other):
        setup.proposer.submit(waiting)
    setup.proposer.flush()
    for _ in range(2):
        setup.later(HOLD_MS)
    assert (patient.results, other.results) == ([], [proposals.UNKNOWN])
    setup.applied(1, [7, 8], Outcome.APPLIED)
    assert (patient.results, other.results) == ([7], [proposals.UNKNOWN])
    assert setup.proposer.outcomes_unknown == 1


def test_patience_ends_with_the_wish_to_wait_and_with_the_node() -> None:
    setup = Setup()
    patients = [Patient([1, 0, b"k"]) for _ in range(2)]
    for waiting in patients:
        setup.proposer.submit(waiting)
    setup.proposer.flush()
    setup.later(HOLD_MS)
    patients[0].is_patient = False
    setup.later(0)
    assert [waiting.results for waiting in patients] == [[proposals.UNKNOWN], []]
    setup.proposer.abandon()
    assert [waiting.results for waiting in patients] == [[proposals.UNKNOWN]] * 2


def test_a_rejected_batch_waits_for_the_next_sweep_instead_of_spinning() -> None:
    setup = Setup()
    setup.submit()
    setup.proposer.flush()
    setup.proposer.rejected()
    assert not setup.proposer.can_send
    setup.proposer.flush()
    assert len(setup.leader.sent) == 1
    setup.later(100)
    assert len(setup.leader.sent) == 2


def test_a_full_queue_refuses_at_once() -> None:
    setup = Setup()
    setup.leader.here = False
    waiting = setup.submit(proposals.QUEUED_COMMANDS_MAX + 1)
    assert waiting[-1].results == [proposals.QUEUE_FULL]
    assert waiting[-2].results == []


def test_after_a_snapshot_what_it_had_applied_is_unknown_and_the_rest_is_sent_again() -> None:
    setup = Setup()
    (covered,) = setup.submit()
    setup.proposer.flush()
    (open_still,) = setup.submit()
    setup.proposer.flush()
    setup.proposer.restored(Session(incarnation=10, last=1, nonce=NONCE, storage_id=1))
    setup.proposer.flush()
    assert covered.results == [proposals.RESULT_LOST]
    assert open_still.results == []
    assert [sent[1] for sent in setup.leader.sent] == [1, 2, 2]
    setup.applied(2, [1], Outcome.APPLIED)
    assert open_still.results == [1]


def test_a_registration_that_only_the_snapshot_saw_counts() -> None:
    setup = Setup(registered=False)
    setup.proposer.restored(Session(incarnation=12, last=0, nonce=NONCE, storage_id=1))
    assert setup.proposer.incarnation == 12


def test_held_commands_are_refused_with_the_reason_and_taken_again_later() -> None:
    setup = Setup()
    setup.proposer.hold(proposals.LOG_FULL)
    (refused,) = setup.submit()
    setup.proposer.hold(None)
    (taken,) = setup.submit()
    assert refused.results == [proposals.LOG_FULL]
    assert taken.results == []


def test_leaving_answers_everybody_truthfully() -> None:
    setup = Setup()
    (sent,) = setup.submit()
    setup.proposer.flush()
    setup.leader.here = False
    (queued,) = setup.submit()
    setup.proposer.abandon()
    (late,) = setup.submit()
    assert sent.results == [proposals.UNKNOWN]
    assert queued.results == late.results == [proposals.STOPPING]


# --- large commands -----------------------------------------------------------------------------


def test_a_large_command_is_carried_on_step_by_step_until_its_answer_is_final() -> None:
    setup = Setup()
    small, large = setup.submit(2)
    setup.proposer.flush()
    for sequence in (1, 2, 3):
        results: list[Result] = [Unfinished(77)] if sequence > 1 else [5, Unfinished(77)]
        setup.now += (STEPS_ALONE_MS + 1) / 1000
        setup.applied(sequence, results, Outcome.APPLIED)
        assert small.results == [5]
        assert large.results == []
        setup.proposer.flush()
        assert decode_ops(setup.leader.sent[-1][2]) == [[ops.STEP, 0, 77]]
    setup.applied(4, [9], Outcome.APPLIED)
    assert large.results == [9]
    assert setup.proposer.is_idle


@pytest.mark.parametrize("under_way", [1, 3])
def test_while_there_are_others_steps_leave_them_time_the_more_the_more_large_commands_there_are(
    under_way: int,
) -> None:
    setup = Setup()
    setup.proposer.large_commands = lambda: under_way
    (large,) = setup.submit()
    setup.proposer.flush()
    setup.submit()  # somebody else, just now
    setup.applied(1, [Unfinished(77)], Outcome.APPLIED)
    setup.proposer.flush()
    assert [op[0] for op in decode_ops(setup.leader.sent[-1][2])] != [ops.STEP]
    setup.applied(2, [1], Outcome.APPLIED)
    setup.now += (under_way * STEP_PAUSE_MS - 1) / 1000
    assert not setup.proposer.has_due_step
    assert not setup.proposer.is_idle
    setup.now += 2 / 1000
    assert setup.proposer.has_due_step
    setup.proposer.flush()
    assert decode_ops(setup.leader.sent[-1][2]) == [[ops.STEP, 0, 77]]
    setup.applied(3, [9], Outcome.APPLIED)
    assert large.results == [9]


def test_a_large_command_whose_next_step_cannot_leave_is_refused() -> None:
    setup = Setup()
    (large,) = setup.submit()
    setup.proposer.flush()
    setup.applied(1, [Unfinished(77)], Outcome.APPLIED)
    setup.proposer.abandon()
    assert large.results == [proposals.STOPPING]


@pytest.mark.parametrize("nested", [False, True])
def test_an_op_that_no_node_could_decode_is_refused_and_never_proposed(*, nested: bool) -> None:
    setup = Setup()
    parts: list[object] = [b"x"] * 200_000
    op = [ops.EXEC, 0, [], [[ops.DEL, 0, *parts]]] if nested else [ops.DEL, 0, *parts]
    large = Waiting(op, size=200_000)
    setup.proposer.submit(large)
    setup.proposer.flush()
    assert large.results == [proposals.TOO_MANY_PARTS]
    assert setup.leader.sent == []


# --- feature levels -----------------------------------------------------------------------------

NEWER = ops.BASE_LEVEL + 2


@pytest.mark.parametrize(
    "op",
    [
        [ops.APPEND, 0, b"k", b"v"],
        [ops.EXEC, 0, [], [[ops.GET, 0, b"k"], [ops.APPEND, 0, b"k", b"v"]]],
        [ops.EXEC_WATCHED, 0, [], [[ops.APPEND, 0, b"k", b"v"]]],
    ],
)
def test_an_op_that_some_member_may_not_know_is_refused_until_the_cluster_is_at_its_level(
    op: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ops.SINCE, ops.APPEND, NEWER)
    setup = Setup()
    setup.proposer.set_level(NEWER - 1)
    early, known, late = Waiting(op), Waiting([ops.SET, 0, b"k", b"v"]), Waiting(op)
    setup.proposer.submit(early)
    (refusal,) = early.results
    assert isinstance(refusal, Refused)
    assert refusal.text == (
        f"ERR this needs feature level {NEWER} and the cluster is at {NEWER - 1} until every "
        f"member is updated"
    )
    setup.proposer.submit(known)
    setup.proposer.set_level(NEWER)
    setup.proposer.submit(late)
    setup.proposer.flush()
    assert known.results == late.results == []
    (sent,) = setup.leader.sent
    assert decode_ops(sent[2]) == [known.op, late.op]


def test_in_a_cluster_without_a_level_newer_ops_wait_for_it_and_all_others_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ops.SINCE, ops.APPEND, NEWER)
    setup = Setup()
    newer, behind = Waiting([ops.APPEND, 0, b"k", b"v"]), Waiting([ops.SET, 0, b"k", b"v"])
    for one in (newer, behind):
        setup.proposer.submit(one)
    setup.proposer.flush()
    assert setup.leader.sent == newer.results == behind.results == []
    assert not setup.proposer.is_idle
    setup.proposer.set_level(NEWER)
    setup.proposer.flush()
    (sent,) = setup.leader.sent
    assert decode_ops(sent[2]) == [newer.op, behind.op]


def test_who_has_waited_for_a_level_in_vain_is_refused_and_nobody_waits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ops.SINCE, ops.APPEND, NEWER)
    setup = Setup()
    newer, behind, late = (
        Waiting([code, 0, b"k", b"v"]) for code in (ops.APPEND, ops.SET, ops.APPEND)
    )
    setup.proposer.submit(newer)
    setup.proposer.submit(behind)
    setup.later(LEVEL_WAIT_MS)
    setup.proposer.submit(late)
    for refused in (newer, late):
        (refusal,) = refused.results
        assert isinstance(refusal, Refused)
    (sent,) = setup.leader.sent
    assert decode_ops(sent[2]) == [behind.op]


def test_what_every_program_knows_waits_for_no_level() -> None:
    setup = Setup()
    for code in [code for code, level in ops.SINCE.items() if level <= ops.BASE_LEVEL]:
        arguments = [[], []] if code in (ops.EXEC, ops.EXEC_WATCHED) else []
        setup.proposer.submit(Waiting([code, 0, *arguments]))
    assert setup.proposer.refused == 0


def test_packed_batches_count_until_they_are_applied() -> None:
    setup = Setup()
    setup.submit(3)
    assert setup.ledger.proposals == 0, "what waits for a batch is counted with the requests"
    setup.proposer.flush()
    ((_, _, operations),) = setup.leader.sent
    assert setup.ledger.proposals == len(operations)
    setup.later(RESEND_MS)
    assert len(setup.leader.sent) == 2
    assert setup.ledger.proposals == len(operations), "sent again, and not packed again"
    setup.applied(1, [1] * 3, Outcome.APPLIED)
    assert setup.ledger.proposals == 0


def test_a_batch_that_never_left_and_one_that_a_snapshot_had_do_not_count() -> None:
    setup = Setup()
    setup.leader.here = False
    setup.submit()
    setup.proposer.flush()
    assert setup.ledger.proposals == 0
    setup.leader.here = True
    setup.later(0)
    assert setup.ledger.proposals > 0
    setup.proposer.restored(Session(incarnation=10, last=1, nonce=NONCE, storage_id=1))
    assert setup.ledger.proposals == 0
