"""A driver for store tests: it writes the log, so that tests say only what matters to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvnode.store import batch
from kvnode.store.keyspace import TAG_EXPIRY, TAG_RECORD, deadline_of
from kvnode.store.state_machine import Applied, StateMachine

if TYPE_CHECKING:
    from kvnode.store.engine import Engine
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result

HASH_KEY = b"a cluster of ours"
NODE, STORAGE, NONCE = 7, 70, 700
START_MS = 1_700_000_000_000


class Driver:
    """One state machine, the log it was fed with, and a clock that the test moves."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.machine = StateMachine(engine, hash_key=HASH_KEY)
        self.log: list[bytes] = []
        self.now_ms = START_MS
        self.sequence = 0
        self.append(batch.encode_register(START_MS, 0, NODE, STORAGE, NONCE))

    def append(self, data: bytes) -> Applied:
        """Write one entry and apply it."""
        self.log.append(data)
        return self.machine.apply(len(self.log), data)

    def batch(self, *ops: Op) -> list[Result]:
        """Apply ops as one batch at the time that it is."""
        self.sequence += 1
        blob = batch.encode_ops(list(ops))
        data = batch.encode_batch(self.now_ms, 0, NODE, 1, self.sequence, blob)
        results = self.append(data).results
        assert results is not None
        return results

    def do(self, *op: Any) -> Result:
        """Apply one op."""
        return self.batch(list(op))[0]

    def read(self, *op: Any) -> Result:
        """Read without the log."""
        return self.machine.read(list(op))

    def expire(self, limit: int = 100) -> int:
        """Delete expired keys by an entry; returns how many."""
        results = self.append(batch.encode_expire(self.now_ms, 0, limit)).results
        assert results is not None
        assert isinstance(results[0], int)
        return results[0]

    def tick(self) -> None:
        """Carry the clock into the log without deleting anything."""
        self.append(batch.encode_expire(self.now_ms, 0, 0))

    def crash(self, engine: Engine | None = None) -> None:
        """Forget what was not committed, and apply the log again from there."""
        if engine is None:
            self.engine.abort()
        else:
            self.engine = engine
        self.machine = StateMachine(self.engine, hash_key=HASH_KEY)
        for index in range(self.machine.applied, len(self.log)):
            self.machine.apply(index + 1, self.log[index])

    def check(self) -> None:
        """Everything that must hold of the rows at any time."""
        assert self.machine.state_hash() == self.machine.recomputed_hash()
        expected: list[bytes] = []
        indexed: list[bytes] = []
        for database in self.machine._space.databases:
            begin, end = database.record_prefix, TAG_RECORD + _next(database.record_prefix[1:])
            for row, record in self.engine.rows(begin, end):
                if deadline_of(record):
                    deadline = deadline_of(record).to_bytes(8, "big")
                    expected.append(database.expiry_prefix + deadline + row[9:])
            begin, end = database.expiry_prefix, TAG_EXPIRY + _next(database.expiry_prefix[1:])
            indexed += self.engine.keys(begin, end)
        assert sorted(expected) == sorted(indexed)
        earliest = min((int.from_bytes(row[9:17], "big") for row in indexed), default=None)
        assert self.machine.next_deadline_ms() == earliest


def _next(generation: bytes) -> bytes:
    return (int.from_bytes(generation, "big") + 1).to_bytes(8, "big")
