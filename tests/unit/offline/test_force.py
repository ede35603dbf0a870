"""`kvnode recover --force-new-cluster`: loud, safe to interrupt, and readable by all who follow."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.directory import DataDirectory, read_identity
from kvnode.errors import ResourceBusy
from kvnode.identity import node_id
from kvnode.identity_file import Identity
from kvnode.node.log_writer import encode_entry
from kvnode.node.recovery import Recovered
from kvnode.offline import force as module
from kvnode.offline.force import force_new_cluster, inspect, steps_to_be_alone
from kvnode.offline.refused import OperationRefused
from kvnode.store import changes
from kvnode.store.batch import encode_batch, encode_configure, encode_ops, encode_register
from kvnode.store.members import Members, Role
from kvnode.store.ops import SET
from raft.configuration import check_follows
from raft.types import ConfState, Entry, EntryKind
from tests.unit.offline.crash import crash_at
from tests.unit.wal_tools.log_directory import ALONE, CLUSTER, THREE, LogDirectory

IDS = {name: node_id(CLUSTER, name) for name in THREE}
OWN = IDS["n1"]
KEYS = [b"k%d" % number for number in range(6)]


def member_of_three(path: Path, *more: changes.Change) -> LogDirectory:
    """A member with a session, some keys, and changes of the membership; half is committed."""
    log = LogDirectory(path, THREE, entries=1)
    identity = read_identity(path)
    assert identity is not None
    data = [
        encode_register(1000, 1, OWN, identity.storage_id, 1),
        *(
            encode_batch(1000 + number, 1, OWN, 2, number, encode_ops([[SET, 0, key, b"v"]]))
            for number, key in enumerate(KEYS, 1)
        ),
    ]
    entries = [Entry(2, 2 + at, EntryKind.NORMAL, one) for at, one in enumerate(data)]
    entries += [
        Entry(2, 2 + len(data) + at, EntryKind.CONF_CHANGE, encode_configure(2000, 5, change))
        for at, change in enumerate(more)
    ]
    wal = log.open()
    wal.append([encode_entry(entry) for entry in entries])
    wal.save_state(term=3, vote=IDS["n2"], commit=4)
    wal.close()
    log.last_index = wal.last_index
    return log


@pytest.fixture
def log(tmp_path: Path) -> LogDirectory:
    return member_of_three(tmp_path / "data")


def recover(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        cli.program, ["recover", *arguments], prog_name="kvnode", env=environment
    )


def forced(path: Path, *arguments: str) -> Result:
    return recover("--force-new-cluster", "--data", str(path), *arguments)


def opened(path: Path) -> Recovered:
    identity = read_identity(path)
    assert identity is not None
    return module._open(path, identity, Random(1))


def closed(found: Recovered) -> None:
    found.machine.close(clean=False)
    found.wal.close()


def started(path: Path) -> Recovered:
    """What a start makes of the directory: all that is committed is applied, as by a node."""
    found = opened(path)
    raft, machine = found.raft, found.machine
    state = raft.conf_state
    for index in range(machine.applied + 1, raft.commit + 1):
        (entry,), _ = raft.log.entries(index, index + 1, 1)
        machine.apply(index, entry.data)
        members = machine.members
        if entry.kind == EntryKind.CONF_CHANGE and members is not None:
            follows = ConfState(members.voters, members.learners, members.outgoing)
            check_follows(state, follows)
            state = follows
    return found


def is_alone(path: Path) -> None:
    """The node is the only member of a new cluster, with all that its log had."""
    found, identity = started(path), read_identity(path)
    assert identity is not None
    members = found.machine.members
    assert members is not None
    assert (members.voters, members.learners, members.outgoing) == ((OWN,), (), ())
    assert members.cluster_id == identity.cluster_id != CLUSTER
    assert identity.origin == CLUSTER
    assert set(members.removed) == set(IDS.values()) - {OWN}
    assert found.raft.commit == found.raft.last_index
    assert not found.wal.state.recovering
    assert found.wal.state.vote == OWN
    assert found.machine.keyspace() == {0: (len(KEYS), 0)}
    session = found.machine.session(OWN)
    assert session is not None
    assert session.last == len(KEYS), "the node goes on in the session that it had"
    closed(found)


# --- what it does ---------------------------------------------------------------------------------


def test_the_node_is_alone_in_a_new_cluster_and_keeps_all_that_its_log_had(
    log: LogDirectory,
) -> None:
    done = force_new_cluster(inspect(log.path))
    is_alone(log.path)
    identity = read_identity(log.path)
    assert identity is not None
    assert done.cluster_id == identity.cluster_id
    assert not identity.has_others
    assert identity.configuration_index == done.index
    for flag in (CLUSTER, done.cluster_id, None):
        DataDirectory.open(log.path, node="n1", cluster_id=flag, members=THREE).close()


def test_entries_that_were_never_acknowledged_are_kept_and_counted(log: LogDirectory) -> None:
    report = inspect(log.path)
    assert (report.last_index, report.last_term, report.commit) == (log.last_index, 2, 4)
    text = "\n".join(report.explain())
    assert f"{log.last_index - 4} entries beyond that are KEPT" in text
    assert "MAY BE LOST" in text
    assert "n2 (" in text
    assert "n3 (" in text


def test_the_term_is_new_and_stamps_never_go_back(log: LogDirectory) -> None:
    done = force_new_cluster(inspect(log.path))
    assert done.term == 4
    found = started(log.path)
    assert found.machine.stamp_ms == 1000 + len(KEYS)
    closed(found)


def test_it_works_from_any_membership_by_steps_that_raft_allows(tmp_path: Path) -> None:
    founders = tuple(changes.Founder(number, name) for name, number in IDS.items())
    learner = changes.Add(99, "n9", promote=False)
    log = member_of_three(tmp_path / "data", changes.Found(3, founders), learner)
    force_new_cluster(inspect(log.path))
    found = started(log.path)
    assert found.machine.members is not None
    assert list(found.machine.members.by_id) == [OWN]
    assert set(found.machine.members.removed) == {*IDS.values(), 99} - {OWN}
    closed(found)


def test_a_cluster_can_be_forced_again_later(log: LogDirectory) -> None:
    first = force_new_cluster(inspect(log.path))
    # The new cluster grew, and lost its quorum as well.
    found = started(log.path)
    wal, last = found.wal, found.wal.last_index
    grown = [changes.Add(5, "n5"), changes.Promote(5)]
    entries = [
        Entry(9, last + at, EntryKind.CONF_CHANGE, encode_configure(5000, 1, change))
        for at, change in enumerate(grown, 1)
    ]
    wal.save_state(term=9, vote=OWN, commit=last)
    wal.append([encode_entry(entry) for entry in entries])
    closed(found)
    directory = DataDirectory.open(log.path, node="n1", cluster_id=None, members=THREE)
    both = {OWN: ("n1", "h:1", "voter"), 5: ("n5", "h:5", "voter")}
    directory.note_configuration(last + 2, both)
    directory.close()
    second = force_new_cluster(inspect(log.path))
    assert second.cluster_id != first.cluster_id
    assert second.term == 10
    found = started(log.path)
    assert found.machine.members is not None
    assert found.machine.members.cluster_id == second.cluster_id
    assert found.machine.members.voters == (OWN,)
    closed(found)


def test_a_recovering_node_is_the_last_choice_but_a_possible_one(log: LogDirectory) -> None:
    wal = log.open()
    wal.save_state(term=3, vote=IDS["n2"], commit=5, recovering=True)
    wal.close()
    report = inspect(log.path)
    assert "THIS NODE HAS ITSELF LOST ACKNOWLEDGED ENTRIES" in "\n".join(report.explain())
    force_new_cluster(report)
    is_alone(log.path)


def test_a_log_whose_end_is_missing_says_so_first(log: LogDirectory) -> None:
    log.remember()
    log.tear()
    report = inspect(log.path)
    assert report.loss is not None
    assert "THE END OF ITS LOG IS MISSING" in "\n".join(report.explain())
    force_new_cluster(report)
    found = started(log.path)
    assert not found.wal.state.recovering
    assert found.raft.conf_state is not None
    closed(found)


# --- the steps ------------------------------------------------------------------------------------


def registry(*more: changes.Change) -> Members:
    members = Members()
    founders = tuple(changes.Founder(number, name) for name, number in IDS.items())
    for index, change in enumerate((changes.Found(3, founders), *more), 1):
        assert members.apply(index, change) is None
    return members


def steps(members: Members, own: str = "n1") -> list[changes.Change]:
    identity = Identity(own, IDS.get(own, 99), CLUSTER, 77, 1, THREE, {})
    return steps_to_be_alone(members, identity, "new")


def test_a_registry_is_founded_if_there_is_none_with_the_members_of_the_bootstrap() -> None:
    found, *rest = steps(Members())
    assert isinstance(found, changes.Found)
    assert {one.node_id for one in found.members} == set(IDS.values())
    assert {one.storage_id for one in found.members} == {0, 77}
    assert [type(step).__name__ for step in rest] == ["Remove", "Remove", "Force"]


def test_a_learner_gets_its_vote_before_the_others_go() -> None:
    members = registry(changes.Add(99, "n9"))
    names = [type(step).__name__ for step in steps(members, "n9")]
    assert names == ["Promote", "Remove", "Remove", "Remove", "Force"]


def test_a_successor_that_has_caught_up_ends_the_joint_change_first() -> None:
    members = registry(changes.Add(99, "n9"), changes.Replace(IDS["n2"], 99))
    names = [type(step).__name__ for step in steps(members, "n9")]
    assert names == ["LeaveJoint", "Remove", "Remove", "Force"]


def test_who_is_gone_or_going_cannot_go_on_alone() -> None:
    with pytest.raises(OperationRefused, match="was removed from the cluster"):
        steps(registry(changes.Remove(OWN)))
    with pytest.raises(OperationRefused, match="is being replaced"):
        steps(registry(changes.Add(99, "n9"), changes.Replace(OWN, 99)))


def test_every_step_is_one_that_raft_takes() -> None:
    for start in (
        registry(),
        registry(changes.Add(99, "n9")),
        registry(changes.Add(99, "n9"), changes.Promote(99)),
        registry(changes.Add(99, "n9"), changes.Replace(IDS["n2"], 99)),
    ):
        for own in ("n1", "n9") if 99 in start.by_id else ("n1",):
            members = copy.copy(start)
            before = ConfState(members.voters, members.learners, members.outgoing)
            for step in steps(start, own):
                assert members.apply(members.index + 1, step) is None
                after = ConfState(members.voters, members.learners, members.outgoing)
                check_follows(before, after)
                before = after
            assert [one.role for one in members.by_id.values()] == [Role.VOTER]


# --- refusals -------------------------------------------------------------------------------------


def refused(path: Path, code: int, sentence: str, *arguments: str) -> None:
    result = forced(path, *(arguments or ("--yes",)))
    assert result.exit_code == code, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_nothing_happens_without_a_yes_where_nobody_can_be_asked(log: LogDirectory) -> None:
    before = log.fingerprint()
    refused(log.path, 64, "add --yes", "--json")
    assert log.fingerprint() == before


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_on_a_terminal_the_operator_is_asked(
    log: LogDirectory, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    before = log.fingerprint()
    monkeypatch.setattr("kvnode.commands.recover._is_terminal", lambda: True)
    result = CliRunner().invoke(
        cli.program,
        ["recover", "--force-new-cluster", "--data", str(log.path)],
        input=answer,
    )
    assert result.exit_code == code
    assert (log.fingerprint() == before) is (code == 1)


def test_a_dry_run_tells_everything_and_changes_nothing(log: LogDirectory) -> None:
    before = log.fingerprint()
    result = forced(log.path, "--dry-run")
    assert result.exit_code == 0
    assert "MAY BE LOST" in result.stdout
    assert "A dry run: nothing was changed." in result.stdout
    told = json.loads(forced(log.path, "--dry-run", "--json").stdout)
    assert told["entries_beyond_commit"] == log.last_index - 4
    assert [one["name"] for one in told["left_out"]] == ["n2", "n3"]
    assert told["forced"] is None
    assert log.fingerprint() == before


def test_json_tells_what_was_done(log: LogDirectory) -> None:
    told = json.loads(forced(log.path, "--yes", "--json").stdout)
    identity = read_identity(log.path)
    assert identity is not None
    assert told["forced"]["cluster_id"] == identity.cluster_id
    assert told["cluster_id"] == CLUSTER
    is_alone(log.path)


def test_without_saying_what_it_does_the_command_does_nothing(log: LogDirectory) -> None:
    assert recover("--data", str(log.path), "--yes").exit_code == 64


def test_a_node_that_runs_is_left_alone(log: LogDirectory) -> None:
    directory = DataDirectory.open(log.path, node="n1", cluster_id=CLUSTER, members=THREE)
    refused(log.path, 75, f"in use by process {os.getpid()}")
    directory.close()


def test_a_single_node_has_nothing_to_force_nor_has_one_that_was_forced(tmp_path: Path) -> None:
    alone = LogDirectory(tmp_path / "alone", ALONE, entries=1)
    refused(alone.path, 1, "belongs to the only voter")
    log = member_of_three(tmp_path / "data")
    assert forced(log.path, "--yes").exit_code == 0
    refused(log.path, 1, "belongs to the only voter")


def test_a_voter_that_only_has_learners_has_lost_no_quorum(log: LogDirectory) -> None:
    directory = DataDirectory.open(log.path, node="n1", cluster_id=CLUSTER, members=THREE)
    members = {OWN: ("n1", "h:1", "voter"), 5: ("n5", "h:5", "learner")}
    directory.note_configuration(9, members)
    directory.close()
    refused(log.path, 1, "belongs to the only voter")


def test_an_only_voter_that_waits_to_be_healed_may_be_forced(log: LogDirectory) -> None:
    """The leader of two lost power with a torn tail, and heard when it was back, as it waited to be
    healed, that the other one was removed: no start and no other command could help it any more."""
    wal = log.open()
    wal.save_state(term=3, vote=IDS["n2"], commit=5, recovering=True)
    wal.close()
    directory = DataDirectory.open(log.path, node="n1", cluster_id=CLUSTER, members=THREE)
    directory.note_configuration(9, {OWN: ("n1", "h:1", "voter")})
    directory.close()
    force_new_cluster(inspect(log.path))
    is_alone(log.path)


def test_a_corrupt_log_makes_no_cluster(log: LogDirectory) -> None:
    log.remember()
    log.flip(log.end // 2)
    before = log.fingerprint()
    refused(log.path, 65, "must be recovered by another member")
    assert log.fingerprint() == before


def test_who_only_asks_to_join_makes_no_cluster(tmp_path: Path) -> None:
    DataDirectory.open(
        tmp_path / "data", node="n1", cluster_id=None, members={}, join="h:1"
    ).close()
    refused(tmp_path / "data", 1, "is no member yet")


@pytest.mark.parametrize("made", [False, True])
def test_what_is_no_data_directory_is_left_alone(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "data").mkdir()
    refused(tmp_path / "data", 64, "is no data directory")


# --- interruptions --------------------------------------------------------------------------------


def test_an_interruption_at_any_step_is_finished_by_running_it_again(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        log = member_of_three(tmp_path / str(step))
        report = inspect(log.path)
        if not crash_at(step, lambda: force_new_cluster(report)):  # noqa: B023
            break
        either_the_old_node_or_the_new_one(log)
        force_again(log.path)
        is_alone(log.path)
    assert step > 15, "few steps were tried"


def either_the_old_node_or_the_new_one(log: LogDirectory) -> None:
    """After a crash nobody of the old cluster ever sees an entry that was not its own."""
    identity, found = read_identity(log.path), opened(log.path)
    assert identity is not None
    has_changes = found.raft.last_index > log.last_index
    last_term = found.raft.log.term(found.raft.last_index) or 0
    assert found.wal.state.term >= last_term
    closed(found)
    if has_changes:
        assert identity.cluster_id != CLUSTER, "entries of the new cluster, shown to the old one"
        found = started(log.path)
        assert found.machine.members is not None
        assert found.machine.members.voters == (OWN,), "it can elect itself"
        closed(found)


def force_again(path: Path) -> None:
    try:
        report = inspect(path)
    except OperationRefused:
        return  # it was all done
    force_new_cluster(report)


def test_a_second_operator_waits_his_turn(log: LogDirectory) -> None:
    report = inspect(log.path)
    directory = DataDirectory.open(log.path, node="n1", cluster_id=CLUSTER, members=THREE)
    with pytest.raises(ResourceBusy):
        force_new_cluster(report)
    directory.close()
