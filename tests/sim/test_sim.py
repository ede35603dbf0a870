"""The simulator: some seeds, the same again and again, and checkers that see what they should."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvnode.errors import LogCorrupt
from kvnode.identity_file import PeerFacts
from kvnode.store.ops import LEVEL
from tests.sim.campaign import SEEDS_FOR_FLOORS, Summary, _progress, replay
from tests.sim.loop import World
from tests.sim.machine import Tally
from tests.sim.observer import Observer, Seen
from tests.sim.run import Run, Setting
from tests.sim.trace import Trace
from tests.sim.verdict import judge, judge_lists
from tests.support.history import Kind, Operation, Outcome

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = Setting(operations=150)
SEEDS = range(1, 13)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_breaks_no_promise(seed: int) -> None:
    report = Run(seed, SMALL).run()
    assert report.violations == [], replay(seed, SMALL)
    assert report.undecided == 0


def test_without_faults_nothing_is_refused_and_one_election_is_enough() -> None:
    run = Run(1, Setting(operations=100, has_faults=False))
    report = run.run()
    assert report.violations == []
    assert report.tally == Tally(elections=1, taken=report.tally.taken)
    outcomes = {operation.outcome for operation in run.workload.lists}
    assert outcomes == {Outcome.DONE}


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_any_number_of_nodes_runs_as_well(nodes: int) -> None:
    assert Run(5, Setting(nodes=nodes, operations=100)).run().violations == []


def test_the_same_seed_does_the_same() -> None:
    first, second = Run(7, SMALL).run(), Run(7, SMALL).run()
    assert first == second


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_order_of_sets_and_dicts_decides_nothing(hash_seed: str) -> None:
    code = "from tests.sim.run import *; print(Run(3, Setting(operations=100)).run().trace)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert int(output) == Run(3, Setting(operations=100)).run().trace


# --- what the checkers must see -----------------------------------------------------------------


def append(
    token: str,
    start: int,
    end: int | None,
    result: int | None = None,
    outcome: Outcome = Outcome.DONE,
) -> Operation:
    return Operation(
        1, "n1", "list0", Kind.WRITE, start, token, None, result, outcome, returned_ns=end
    )


def saw(value: str, start: int, end: int) -> Operation:
    return Operation(
        2, "n1", "list0", Kind.READ, start, result=value, outcome=Outcome.DONE, returned_ns=end
    )


A, B = "aaaaaa", "bbbbbb"


def test_a_list_in_order_is_fine() -> None:
    history = [append(A, 1, 2, 6), append(B, 3, 4, 12), saw(A, 2, 5), saw(A + B, 6, 7)]
    assert judge_lists(history) == []


def test_an_unknown_append_may_be_there_or_not() -> None:
    unknown = append(B, 3, None, outcome=Outcome.UNKNOWN)
    assert judge_lists([append(A, 1, 2, 6), unknown, saw(A + B, 6, 7)]) == []
    assert judge_lists([append(A, 1, 2, 6), unknown, saw(A, 6, 7)]) == []


@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        ([append(A, 1, 2, 6), saw("", 3, 4)], "acknowledged and is lost"),
        ([append(A, 1, 2, 6), saw(A + A, 3, 4)], "appended twice"),
        ([append(A, 1, 2, outcome=Outcome.REFUSED), saw(A, 3, 4)], "refused and is there"),
        ([append(A, 1, 2, 12), append(B, 1, 2, 12), saw(A + B, 3, 4)], "answered 12 at place 1"),
        ([append(A, 1, 2, 6), saw(B, 3, 4), saw(A, 5, 6)], "is no beginning"),
        ([append(A, 1, 2, 6), saw("", 3, 4), saw(A, 5, 6)], "began after this had ended"),
        (
            [append(A, 3, 4, 6), append(B, 1, 2, 12), saw(A + B, 5, 6)],
            "began after this had ended",
        ),
    ],
)
def test_a_list_that_cannot_be_explained_is_refuted(
    history: list[Operation], sentence: str
) -> None:
    assert sentence in "\n".join(judge_lists(history))


def test_an_increment_that_counts_twice_is_refuted() -> None:
    def increment(result: int, start: int) -> Operation:
        return Operation(
            1, "n1", "c", Kind.INCREMENT, start, None, None, result, Outcome.DONE, start + 1
        )

    wrong, undecided = judge([increment(1, 1), increment(3, 3)])
    assert len(wrong) == 1
    assert undecided == 0


_alive: list[Run] = []


@pytest.fixture(autouse=True)
def no_survivors() -> Iterator[None]:
    yield
    while _alive:
        _alive.pop().end()


def observed() -> tuple[Run, Observer, list[Seen]]:
    """A calm cluster after its run, still alive to be tampered with."""
    run = Run(1, Setting(operations=30, has_faults=False))
    _alive.append(run)
    run.loop.create_task(run._play())
    run.world.run(100.0)
    seen = list(run.observer._seen.values())
    assert run.observer.violations == []
    return run, run.observer, seen


def leader_and_follower() -> tuple[Run, Observer, Seen, Seen]:
    run, observer, seen = observed()
    number = observer.leader()
    leading = next(one for one in seen if one.number == number)
    following = next(one for one in seen if one.number != number)
    return run, observer, leading, following


def look_again(run: Run, observer: Observer, seen: Seen) -> str:
    loop = run.machines[seen.number - 1].loop
    assert loop is not None
    observer.look(loop)
    return "\n".join(observer.violations)


def test_two_leaders_of_one_term_are_seen() -> None:
    run, observer, leading, following = leader_and_follower()
    following.node.raft.role = leading.node.raft.role
    assert "has two leaders" in look_again(run, observer, following)


def test_a_term_that_goes_back_is_seen() -> None:
    run, observer, _, following = leader_and_follower()
    following.node.raft.term -= 1
    assert "back to" in look_again(run, observer, following)


def test_another_entry_at_a_committed_index_is_seen() -> None:
    run, observer, _, following = leader_and_follower()
    observer.committed[following.commit] = (1, b"another")
    following.commit -= 1
    assert "commits another entry" in look_again(run, observer, following)


def test_an_entry_of_the_same_index_and_term_with_other_data_is_seen() -> None:
    run, observer, _, following = leader_and_follower()
    log = following.node.raft.log
    known = observer._entries.pop((log.last_index, log.last_term))
    observer._entries[log.last_index, log.last_term] = (known[0], b"another")
    del observer._entries[log.last_index - 1, log.term(log.last_index - 1) or 0]
    following.last = (0, 0)
    observer._entries = {
        key: value for key, value in observer._entries.items() if key[0] >= log.last_index
    }
    assert "has another entry" in look_again(run, observer, following)


def test_states_that_differ_are_seen() -> None:
    run, observer, _, following = leader_and_follower()
    index = following.node.machine.applied
    observer.hashes[index] = ("another", 9)
    following.applied, following.hashed = 0, index - 1
    assert "differ in their state" in look_again(run, observer, following)


def test_what_is_applied_beyond_commit_is_seen() -> None:
    run, observer, _, following = leader_and_follower()
    following.node.machine.applied += 1
    assert "applied" in look_again(run, observer, following)


def test_a_leader_that_lacks_what_is_committed_is_seen() -> None:
    run, observer, leading, _ = leader_and_follower()
    observer.committed.append((leading.node.raft.term, b"lost"))
    observer._committed_in.append(leading.node.raft.term - 1)
    leading.term = 0
    assert "is committed" in look_again(run, observer, leading)


def test_a_second_vote_in_one_term_is_seen() -> None:
    _, observer, _, following = leader_and_follower()
    raft = following.node.raft
    from raft.messages import RequestVoteResponse

    following.node.transport.send(8, RequestVoteResponse(raft.term + 5, True))
    following.node.transport.send(9, RequestVoteResponse(raft.term + 5, True))
    assert "voted for 8 and 9" in "\n".join(observer.violations)


def test_what_was_acknowledged_must_be_there_after_a_crash() -> None:
    run, observer, _, following = leader_and_follower()
    promise = observer.promise(following.number)
    promise.acked += 100
    machine = run.machines[following.number - 1]
    machine.kill()
    machine.start()
    assert "but its log ends at" in "\n".join(observer.violations)


def test_what_is_acknowledged_must_be_on_the_disk_while_its_term_lasts() -> None:
    """What was acknowledged to an earlier leader may be replaced by then (seed 20)."""
    from raft.messages import AppendResponse

    _, observer, _, following = leader_and_follower()
    raft, send = following.node.raft, following.node.transport.send
    following.doubts, lacking = 1, raft.last_index + 1
    send(9, AppendResponse(raft.term - 1, lacking, False, 0, 0, False))
    assert observer.violations == []
    send(9, AppendResponse(raft.term, lacking, False, 0, 0, False))
    assert f"acknowledges {lacking}, which is not on its disk" in "\n".join(observer.violations)


def test_a_stamp_that_goes_back_is_seen() -> None:
    from kvnode.store.batch import encode_expire

    observer = Observer(World(), Trace(lambda: 0.0, None), Tally())
    observer._commit(1, 1, 1, encode_expire(1000, 1, 1), 1)
    observer._commit(1, 2, 1, encode_expire(999, 1, 1), 1)
    assert "is stamped 999 after 1000" in "\n".join(observer.violations)


def test_clients_send_no_command_with_too_few_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any meaning of its own a command's arity counts, as at every connection."""
    run, *_ = observed()
    words = [b"BLMOVE", b"from", b"to", b"LEFT"]
    monkeypatch.setattr(run.workload._cast, "render", lambda *_: words)
    with pytest.raises(StopIteration):  # nothing is sent, so nothing waits
        run.workload.do_anything(run.machines[0]).send(None)


# --- what is done to them stays within what is promised -------------------------------------------


def test_an_old_directory_is_put_in_only_where_the_others_own_ones_know_better() -> None:
    """What another machine knows while it runs on a foreign one, it soon does not know any more."""
    run = Run(1, Setting(has_faults=False))
    first, second, third = run.machines
    for other in (second, third):
        assert other.storage.identity is not None
        facts = {first.number: PeerFacts(first.storage.storage_id, 5)}
        other.storage.identity = replace(other.storage.identity, peers=facts)
    assert run.nemesis._is_known(first, first.storage.copy())
    run.nemesis._set_aside[second.number] = second.new_storage()
    assert not run.nemesis._is_known(first, first.storage.copy())


def test_a_removed_machine_and_an_old_directory_that_it_does_not_know_never_run_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were the majority of the cluster that both remembered (seed 18363)."""
    run = Run(1, Setting(has_faults=False))
    first, second, third = run.machines
    for other, incarnation in ((second, 5), (third, 1)):
        assert other.storage.identity is not None
        facts = {first.number: PeerFacts(first.storage.storage_id, incarnation)}
        other.storage.identity = replace(other.storage.identity, peers=facts)
    churn = run.nemesis._churn
    churn._known.removed.add(third.node_id)
    assert run.nemesis._is_known(first, first.storage.copy())
    with monkeypatch.context() as patch:
        patch.setattr(third, "loop", object())
        assert not run.nemesis._is_known(first, first.storage.copy())
    started: list[None] = []
    monkeypatch.setattr(third, "start", lambda: started.append(None))
    for set_aside in ({first.number: first.storage}, {}):
        run.nemesis._set_aside = set_aside
        with contextlib.suppress(StopIteration):
            churn.zombie().send(None)
        assert bool(started) is not bool(set_aside)


def test_foreign_directories_are_never_put_in_on_more_than_a_minority() -> None:
    run, *_ = observed()
    for set_aside, starts in (({1: run.machines[0].storage}, 0), ({}, 2)):
        before = sum(machine.starts for machine in run.machines)
        run.nemesis._set_aside = set_aside
        with pytest.raises(StopIteration):  # all is over, so nothing waits
            run.nemesis._foreign().send(None)
        assert sum(machine.starts for machine in run.machines) - before == starts


def test_it_is_not_quiet_while_an_operator_waits_or_a_log_holds_what_is_not_applied() -> None:
    """A member that is asked to go may be gone the moment after (seed 2521)."""
    run, _, leading, following = leader_and_follower()
    asked, waiting = run.machines[leading.number - 1], run.nemesis._churn._waiting
    waiting.append((asked, following.node))
    assert run._is_quiet()  # it was asked of a process that is gone
    waiting.append((asked, leading.node))
    assert not run._is_quiet()
    waiting.clear()
    leading.node.raft.propose([b"x"])
    assert not run._is_quiet()


def test_a_run_is_stuck_when_all_members_run_and_too_few_of_them_are_whole() -> None:
    """Whoever only asks to be admitted waits for a leader, and none can be elected (seed 2074)."""
    run, _, leading, following = leader_and_follower()
    nemesis, recovers = run.nemesis, run.machines[following.number - 1]
    numbers = (leading.number, following.number)
    (wiped,) = [machine for machine in run.machines if machine.number not in numbers]
    wiped.kill()
    wiped.enlist("n9:1", replaces=wiped.name)
    assert not nemesis.is_stuck()
    following.node.raft.recovering = True
    assert nemesis.is_stuck()
    assert not nemesis.is_settled()
    recovers.kill()
    assert not nemesis.is_stuck()


def test_who_recovers_and_is_alone_by_now_may_end_and_waits_for_an_operator() -> None:
    """The other voter was removed, and it heard of that while it recovered (seed 3224)."""
    run, observer, leading, following = leader_and_follower()
    nemesis, machine = run.nemesis, run.machines[following.number - 1]
    refusal = LogCorrupt("it is alone")
    following.node.raft.recovering = True
    machine.kill()
    assert not nemesis.is_expected(machine, refusal)  # the others can heal it
    known, whole = observer.configurations, run.machines[leading.number - 1]
    known.registry, known._founders = None, (machine.node_id,)
    assert not nemesis.is_stuck()
    assert nemesis.is_expected(machine, refusal)
    assert nemesis.is_stuck()
    known._founders = (whole.node_id,)
    assert not nemesis.is_expected(whole, refusal)  # it has lost nothing


def test_a_removed_node_must_end_if_somebody_who_knows_it_is_where_it_dials() -> None:
    """Else nobody can tell it, and it is only left by its clients (seeds 141 and 1892)."""
    run, observer, leading, following = leader_and_follower()
    nemesis, removed = run.nemesis, run.machines[following.number - 1]
    registry = leading.node.machine.members
    assert registry is not None
    observer.configurations.removed.add(removed.node_id)
    assert nemesis.lingering() == []
    assert nemesis.is_deserted(removed)
    registry.removed = (removed.node_id,)
    assert nemesis.lingering() == [removed.name]
    leader = run.machines[leading.number - 1]
    leader.address = "elsewhere:1"
    assert nemesis.lingering() == []
    leader.address = f"{leader.name}:1"
    leader.kill()
    assert nemesis.lingering() == []


def test_a_swarm_in_which_nothing_happens_any_more_is_void() -> None:
    idle = Summary(Tally(elections=1), runs=SEEDS_FOR_FLOORS)
    assert idle.is_void()
    assert "elections 1/400 TOO FEW" in _progress(200, idle)


# --- the membership -------------------------------------------------------------------------------


def test_a_change_before_the_one_before_it_is_applied_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    node, raft = leading.node, leading.node.raft
    raft.propose([b"x", b"y"])
    first = raft.last_index - 1
    observer.configurations.logged("n", node, first, raft.term)
    assert observer.violations == []
    observer.configurations.logged("n", node, first + 1, raft.term)
    assert f"before it has applied {first}" in "\n".join(observer.violations)


def test_a_change_before_a_commit_in_the_own_term_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    leading.node.raft.term += 1
    observer.configurations.logged("n", leading.node, 1, leading.node.raft.term)
    assert "before it has committed in its own term" in "\n".join(observer.violations)


def test_who_does_not_see_what_a_change_in_its_log_proves_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    node, raft = leading.node, leading.node.raft
    raft.propose([b"x", b"y"])
    first = raft.last_index - 1
    observer.configurations._changes = {first: {raft.term}, first + 1: {raft.term}}
    observer.configurations._highest = first + 1
    raft.log.commit = first
    observer.configurations.knows_proof("n", node)
    assert observer.violations == []
    raft.log.commit = first - 1
    observer.configurations.knows_proof("n", node)
    assert f"takes only {first - 1} for committed" in "\n".join(observer.violations)


def test_who_leads_without_a_majority_of_each_half_is_seen() -> None:
    _, observer, leading, following = leader_and_follower()
    raft = leading.node.raft
    raft.conf_state = raft.conf_state._replace(outgoing=(8, 9, following.node_id))
    observer.configurations.leads("n", leading.node)
    assert "by 1 votes of (8, 9" in "\n".join(observer.violations)


def test_who_leads_two_changes_behind_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    known, last = observer.configurations, leading.node.raft.last_index
    known.committed(last + 1, 0)
    known.leads("n", leading.node)
    assert observer.violations == []
    known.committed(last + 2, 0)
    known.leads("n", leading.node)
    assert "without having applied" in "\n".join(observer.violations)


def test_a_commit_that_only_one_half_has_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    raft, known = leading.node.raft, observer.configurations
    known.leader_commits("n", leading.node, raft.conf_state)
    assert observer.violations == []
    raft.conf_state = raft.conf_state._replace(outgoing=(8, 9))
    known.leader_commits("n", leading.node, raft.conf_state)
    assert "which no majority of" in "\n".join(observer.violations)


def test_a_membership_that_raft_does_not_go_by_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    leading.node.raft.conf_state = leading.node.raft.conf_state._replace(learners=(9,))
    observer.configurations.applied("n", leading.node, 3)
    assert "and has applied" in "\n".join(observer.violations)


def test_a_level_that_the_program_does_not_know_is_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    observer.configurations.applied("n", leading.node, 2)
    assert f"knows level 2 and is given level {LEVEL}" in "\n".join(observer.violations)


def test_an_id_that_is_used_again_and_a_session_that_stays_are_seen() -> None:
    _, observer, leading, _ = leader_and_follower()
    registry, known = leading.node.machine.members, observer.configurations
    assert registry is not None
    known.removed.add(1)
    registry.index += 1
    registry.removed = (2,)
    known.applied("n", leading.node, 3)
    assert "that were removed: {1}" in "\n".join(observer.violations)
    assert "sessions of removed nodes: {2}" in "\n".join(observer.violations)


def test_only_a_minority_of_each_half_may_lose_something() -> None:
    _, observer, _, _ = leader_and_follower()
    known = observer.configurations
    assert known.spares({1})
    assert not known.spares({1, 2})
    assert known.registry is not None
    known.registry.outgoing = (1, 8)
    assert not known.spares({1})
