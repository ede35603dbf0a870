"""Whatever is asked of the membership: nodes agree, and voters move by steps that are safe."""

from __future__ import annotations

import random
from itertools import chain, combinations

import pytest

from kvnode.store import batch, ops
from kvnode.store.changes import (
    Add,
    Change,
    Force,
    Found,
    Founder,
    LeaveJoint,
    Promote,
    Raise,
    Remove,
    Replace,
    Update,
)
from kvnode.store.members import Members, Role
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine
from raft.configuration import check_follows
from raft.types import ConfState
from tests.unit.store.driver import HASH_KEY, START_MS

IDS = range(1, 13)
NAMES = "abcd"
FOUND = Found(3, tuple(Founder(number, NAMES[number]) for number in (1, 2, 3)))


def conf_state(members: Members | None) -> ConfState:
    """What Raft is told of the membership."""
    if members is None:
        return ConfState(())
    return ConfState(members.voters, members.learners, members.outgoing)


def decides(side: tuple[int, ...], members: ConfState) -> bool:
    """Whether these nodes can elect and commit: a majority of each half that there is."""
    halves = [half for half in (members.voters, members.outgoing) if half]
    return all(2 * len({*side} & {*half}) > len(half) for half in halves)


def can_split(before: ConfState, after: ConfState) -> bool:
    """Whether two sides can decide apart while one knows the old members and one the new."""
    everyone = sorted({*before.voters, *before.outgoing, *after.voters, *after.outgoing})
    sides = chain.from_iterable(combinations(everyone, size) for size in range(len(everyone) + 1))
    return any(
        decides(side, before) and decides(tuple({*everyone} - {*side}), after) for side in sides
    )


def any_change(chance: random.Random) -> Change:
    one, other = chance.choice(IDS), chance.choice(IDS)
    replaces = chance.choice((0, 0, other))
    name = chance.choice(NAMES)
    storage = chance.choice((0, one, one + 100))
    return chance.choice(
        (
            *(FOUND, Raise(3)),
            *[Add(one, name, "", "", storage, chance.random() < 0.5, replaces)] * 6,
            *[Promote(one), Remove(one), Update(one, name, "", storage)] * 2,
            *[Replace(one, other)] * 4,
            *[LeaveJoint()] * 3,
            Force(one, f"c{other}") if chance.random() < 0.05 else LeaveJoint(),
        )
    )


def any_entry(chance: random.Random, machine: StateMachine) -> bytes:
    """A change, or what a node would send: a registration or a batch of its session."""
    node_id = chance.choice(IDS)
    kind = chance.random()
    if kind < 0.15:
        return batch.encode_register(START_MS, 0, node_id, node_id, chance.randrange(3))
    if kind < 0.3:
        session = machine.session(node_id)
        incarnation = session.incarnation if session else 1
        sequence = session.last + 1 if session else 1
        blob = batch.encode_ops([[ops.INCRBY, 0, b"n", 1]])
        return batch.encode_batch(START_MS, 0, node_id, incarnation, sequence, blob)
    if machine.members is None and chance.random() < 0.1:
        return batch.encode_configure(START_MS, 0, FOUND)
    return batch.encode_configure(START_MS, 0, any_change(chance))


def check(machine: StateMachine) -> None:
    """What must hold of every registry."""
    members = machine.members
    if members is None:
        return
    by_id = members.by_id
    roles = [member.role for member in by_id.values()]
    assert members.voters
    assert list(by_id) == sorted(by_id)
    assert not {*by_id} & {*members.removed}
    assert len({*members.removed}) == len(members.removed)
    assert roles.count(Role.LEAVING) == members.is_joint
    for member in by_id.values():
        assert member.replaces == 0 or member.replaces in by_id
        twins = [one for one in by_id.values() if one.name == member.name and one is not member]
        assert all(
            member.node_id == one.replaces or member.replaces == one.node_id for one in twins
        )
        assert members.named(member.name) is not None
    for node_id, session in machine.sessions().items():
        assert by_id[node_id].storage_id in (0, session.storage_id)


@pytest.mark.parametrize("round_number", range(30))
def test_nodes_agree_and_voters_move_by_safe_steps(round_number: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    engine = MemoryEngine()
    steady = StateMachine(MemoryEngine(), hash_key=HASH_KEY)
    restless = StateMachine(engine, hash_key=HASH_KEY)
    log: list[bytes] = []
    took_effect = 0
    for _ in range(250):
        before, data = conf_state(steady.members), any_entry(chance, steady)
        log.append(data)
        applied = steady.apply(len(log), data)
        after = conf_state(steady.members)
        entry = batch.decode(data)
        if isinstance(entry, batch.Configure):
            assert applied.results is not None
            took_effect += applied.results == [None]
            forced = isinstance(entry.change, Found | Force)
            if not forced and before != after:
                check_follows(before, after)
                assert not can_split(before, after)
            assert applied.results == [None] or before == after
        else:
            assert before == after
        check(steady)
        if chance.random() < 0.1:
            if chance.random() < 0.5:
                restless.commit()
            engine.abort()
            restless = StateMachine(engine, hash_key=HASH_KEY)
        for index in range(restless.applied, len(log)):
            again = restless.apply(index + 1, log[index])
        assert str(again) == str(applied)
        assert restless.state_hash() == steady.state_hash()
        assert conf_state(restless.members) == after
    assert took_effect
