"""Apply: every entry once and in order, also when the engine runs full in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kvnode.node.applier import Applier
from kvnode.store import ops
from kvnode.store.batch import encode_batch, encode_ops, encode_register
from kvnode.store.engine import EngineFull
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import Applied, StateMachine
from raft.log import RaftLog
from raft.raft import Raft
from raft.types import Config, ConfState, Entry, HardState

HASH_KEY = b"0123456789abcdef"


class Disk:
    """No entry is ever asked for: all are in memory."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        raise AssertionError("asked for entries that memory holds")


class SmallEngine(MemoryEngine):
    """Has no room while the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def commit(self) -> None:
        if self.full:
            raise EngineFull("no room")
        super().commit()


def entries(count: int) -> Iterator[Entry]:
    """A registration and `count` increments of one counter."""
    yield Entry(1, 1, 0, encode_register(1000, 1, 7, 70, 700))
    for number in range(1, count + 1):
        blob = encode_ops([[ops.INCRBY, 0, b"n", 1]])
        yield Entry(1, number + 1, 0, encode_batch(1000 + number, 1, 7, 1, number, blob))


class Setup:
    """A single-node Raft that has everything committed, and a store."""

    def __init__(self, count: int) -> None:
        log = RaftLog.restore(Disk(), entries(count))
        self.raft = Raft(
            Config(1, 10, 50, 100, random_ticks=lambda low, high: low, boot_id=1),
            hard_state=HardState(1, 1, count + 1),
            conf_state=ConfState((1,)),
            log=log,
            applied=0,
        )
        self.engine = SmallEngine()
        self.machine = StateMachine(self.engine, hash_key=HASH_KEY)
        self.applied: list[Applied] = []
        self.full: list[bool] = []
        self.loop = asyncio.new_event_loop()
        self.applier = Applier(
            self.raft,
            self.machine,
            self.loop,
            on_applied=self.applied.append,
            on_configured=lambda _index, _applied: None,
            on_full=self.full.append,
        )

    def run(self) -> None:
        while self.applier.run():
            pass


@pytest.fixture
def setup() -> Iterator[Setup]:
    made = Setup(20)
    yield made
    made.loop.close()


def test_all_that_is_committed_is_applied_once_and_in_order(setup: Setup) -> None:
    setup.run()
    assert [a.sequence for a in setup.applied] == list(range(21))
    assert setup.machine.read([ops.GET, 0, b"n"]) == b"20"
    assert setup.raft.applied == 21


def test_a_full_engine_pauses_apply_and_nothing_is_lost_or_doubled(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateMachine, "commit_due", property(lambda m: m.applied == 10))
    setup.engine.full = True
    setup.run()
    assert setup.full == [True]
    assert setup.machine.applied == 0
    setup.run()
    assert setup.machine.applied == 0
    setup.engine.full = False
    monkeypatch.setattr("kvnode.node.applier.ENGINE_RETRY_SECONDS", 0)
    setup.applier._paused_until = 0.0
    setup.run()
    assert setup.full == [True, False]
    assert setup.machine.read([ops.GET, 0, b"n"]) == b"20"
    assert setup.raft.applied == 21


def test_an_engine_has_room_only_when_what_filled_it_is_committed(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries before it can be applied time and again: that is no reason to take new writes."""
    monkeypatch.setattr(StateMachine, "commit_due", property(lambda m: m.applied == 10))
    setup.engine.full = True
    for _ in range(3):
        setup.applier._paused_until = 0.0
        setup.run()
        assert setup.full == [True]
    setup.engine.full = False
    setup.applier.commit()  # as for rows of garbage, which take less room
    assert setup.full == [True]
    setup.applier._paused_until = 0.0
    setup.run()
    assert setup.full == [True, False]
    assert setup.machine._committed >= 10


def test_garbage_that_cannot_be_deleted_for_want_of_room_only_pauses_apply(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.run()

    def no_room(_machine: StateMachine, _budget: int) -> int:
        raise EngineFull("no room")

    monkeypatch.setattr(StateMachine, "collect_garbage", no_room)
    setup.applier.collect_garbage()
    assert setup.full == [True]


def test_the_state_hash_of_every_newest_index_is_kept(setup: Setup) -> None:
    setup.run()
    for index in range(1, 22):
        kept = setup.applier.hash_at(index)
        assert kept is not None
        assert kept[0] == index
    assert setup.applier.hash_at(None) == setup.applier.hash_at(21)
    assert setup.applier.hash_at(22) is None
