"""The engine refuses its N-th write, for every N: the machine falls back, and can go on."""

from __future__ import annotations

from kvnode.store.engine import EngineFull
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine
from tests.unit.store.driver import HASH_KEY, Driver


class NoRoom(Exception):
    """What this engine raises in place of LMDB's errors."""


class RefusingEngine(MemoryEngine):
    """Refuses one write, and all later ones until the transaction is aborted."""

    __slots__ = ("writes_left",)

    def __init__(self, writes_left: int) -> None:
        super().__init__()
        self.writes_left = writes_left

    def spend(self) -> None:
        if self.writes_left == 0:
            raise NoRoom
        self.writes_left -= 1

    def put(self, key: bytes, value: bytes, /) -> None:
        self.spend()
        super().put(key, value)

    def delete(self, key: bytes, /) -> None:
        self.spend()
        super().delete(key)

    def abort(self) -> None:
        super().abort()
        self.writes_left = -1

    def translate(self, error: Exception) -> Exception | None:
        return EngineFull("no room") if isinstance(error, NoRoom) else None


def history() -> Driver:
    """Some of everything."""
    driver = Driver(MemoryEngine())
    driver.batch([1, 0, b"a", b"1"], [1, 0, b"b", b"2", 16, 30], [4, 1, b"n", 5])
    driver.batch([6, 0, b"a", 0, 40, 0], [7, 0, b"b"], [5, 0, b"a", b"x" * 500])
    driver.do(10, 0, [], [[2, 0, b"c", b"3", b"d", b"4"], [3, 0, b"b"], [8, 1]])
    driver.now_ms += 50
    driver.expire()
    driver.do(1, 1, b"k" * 1000, b"5", 16, 10)
    driver.do(9, 0)
    return driver


def test_a_refused_write_anywhere_falls_back_to_the_last_commit() -> None:
    expected = history()
    refusals, writes = 0, 0
    while True:
        engine = RefusingEngine(writes)
        machine = StateMachine(engine, hash_key=HASH_KEY)
        committed = 0
        while committed < len(expected.log):
            try:
                for index in range(committed, len(expected.log)):
                    machine.apply(index + 1, expected.log[index])
                    if index % 3 == 2:
                        machine.commit()
                        committed = index + 1
                machine.collect_garbage(100)
                machine.commit()
                committed = machine.applied
            except EngineFull:
                refusals += 1
                assert machine.applied == committed
                assert machine.state_hash() == machine.recomputed_hash()
        assert machine.state_hash() == machine.recomputed_hash() == expected.machine.state_hash()
        assert machine.expired_keys == expected.machine.expired_keys > 0
        if engine.writes_left >= 0:  # nothing was refused: every write has had its turn
            break
        writes += 1
    assert refusals == writes >= 30
