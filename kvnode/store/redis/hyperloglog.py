"""HyperLogLog: strings that count different elements (`hll` has the bytes and the estimate).

Where an element falls does not depend on the store, so the front end computes it: PFADD carries
three bytes per element through the log, however long the elements are. PFCOUNT is a read: it takes
the cardinality that a value notes, and where it must compute one it does not write it down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.store import ops
from kvnode.store.keyspace import STRING, deadline_of
from kvnode.store.notices import Notice
from kvnode.store.redis import hll, messages
from kvnode.store.redis.strings import string_of
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result


def pfadd(space: Keyspace, op: Op) -> Result:
    """PFADD: 1 if a register rose or the key is new, else 0."""
    _, number, key, places = op
    tail, old, live = space.look_up(number, key)
    value = hll.EMPTY if live is None else _value_of(live)
    if isinstance(value, CommandError):
        return value
    try:
        changed = hll.raise_registers(value, places)
    except hll.Corrupted:
        return CommandError(messages.CORRUPTED_HYPERLOGLOG)
    if changed is None:
        if live is not None:
            return 0
        changed = hll.forget_cardinality(bytearray(value))
    _store(space, number, key, tail, old, live, changed)
    return 1


def pfcount(space: Keyspace, op: Op) -> Result:
    """PFCOUNT: about how many different elements all of the keys saw together."""
    values = _values_of(space, op[1], op[2:])
    if isinstance(values, CommandError):
        return values
    try:
        if len(op) == 3:
            return hll.cardinality(values[0]) if values else 0
        return hll.estimate(hll.merge(values))
    except hll.Corrupted:
        return CommandError(messages.CORRUPTED_HYPERLOGLOG)


def pfmerge(space: Keyspace, op: Op) -> Result:
    """PFMERGE: the destination has seen all that it or one of the sources has."""
    number, key = op[1], op[2]
    values = _values_of(space, number, op[2:])
    if isinstance(values, CommandError):
        return values
    tail, old, live = space.look_up(number, key)
    value = hll.EMPTY if live is None else values[0]
    try:
        dense = any(map(hll.is_dense, values))
        changed = hll.raise_to(value, hll.merge(values), dense=dense)
    except hll.Corrupted:
        return CommandError(messages.CORRUPTED_HYPERLOGLOG)
    _store(space, number, key, tail, old, live, changed)
    return OK


def _values_of(space: Keyspace, number: int, keys: list[bytes]) -> list[bytes] | CommandError:
    """The values of those keys that are there, each once, in this order."""
    values: list[bytes] = []
    for key in dict.fromkeys(keys):
        record = space.find(number, key)
        if record is not None:
            value = _value_of(record)
            if isinstance(value, CommandError):
                return value
            values.append(value)
    return values


def _value_of(record: bytes) -> bytes | CommandError:
    value = string_of(record)
    if isinstance(value, CommandError) or hll.is_valid(value):
        return value
    return CommandError(messages.NO_HYPERLOGLOG)


def _store(
    space: Keyspace,
    number: int,
    key: bytes,
    tail: bytes,
    old: bytes | None,
    live: bytes | None,
    value: bytes,
) -> None:
    deadline_ms = 0 if live is None else deadline_of(live)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value, deadline_ms))
    space.notify(Notice.STRING, b"pfadd", number, key)


READS: Final[dict[int, Meaning]] = {ops.PFCOUNT: pfcount}

WRITES: Final[dict[int, Meaning]] = {ops.PFADD: pfadd, ops.PFMERGE: pfmerge}
