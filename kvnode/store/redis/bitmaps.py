"""Bitmaps and bit fields: strings, read and written by the bit.

A string is one record, so writing a bit writes the string anew: cost grows with its size, which
`VALUE_BYTES_MAX` bounds. The arithmetic is in `bit_fields`. The arguments of each op are in
`kvnode/store/redis/DESIGN.md`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import VALUE_BYTES_MAX
from kvnode.store import ops
from kvnode.store.keyspace import STRING, deadline_of
from kvnode.store.notices import Notice
from kvnode.store.ops import BitFault, BitStep, BitUnit
from kvnode.store.redis import bit_fields, messages
from kvnode.store.redis.strings import string_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.bit_fields import Step
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

_PIECE_BYTES: Final = 64 * 1024
"""A range of bits is read in pieces: who finds what it looks for reads no further."""

_FAULTS: Final = {
    BitFault.NOT_AN_INTEGER: messages.NOT_AN_INTEGER,
    BitFault.SYNTAX: messages.SYNTAX_ERROR,
}


def getbit(space: Keyspace, op: Op) -> Result:
    """GETBIT: 0 behind the end, and for an absent key."""
    _, number, key, offset = op
    found = space.part(number, key, offset >> 3, 1)
    if found is None:
        return 0
    if found.kind != STRING:
        return CommandError(messages.WRONG_TYPE)
    return bit_fields.get_bit(found.data, offset & 7)


def setbit(space: Keyspace, op: Op) -> Result:
    """SETBIT: the bit that was there. The string grows if need be; a deadline stays."""
    _, number, key, offset, bit = op
    tail, old, live = space.look_up(number, key)
    value = _value_of(live)
    if isinstance(value, CommandError):
        return value
    size = (offset >> 3) + 1
    if size > VALUE_BYTES_MAX:
        return CommandError(messages.BIT_OFFSET)
    before = bit_fields.get_bit(value, offset)
    if before != bit or size > len(value):
        changed = bytearray(value.ljust(size, b"\0"))
        bit_fields.set_field(changed, offset, 1, bit)
        space.advance()
        deadline_ms = 0 if live is None else deadline_of(live)
        space.store(number, tail, old, space.record(STRING, key, bytes(changed), deadline_ms))
        space.notify(Notice.STRING, b"setbit", number, key)
    return before


def bitcount(space: Keyspace, op: Op) -> Result:
    """BITCOUNT: ones in a range of bytes or bits, both ends included.

    As in Redis a range that is wrong is no error for an absent key.
    """
    _, number, key, first, last, unit, fault = op
    size = _size_of(space, number, key, fault)
    if size is None or isinstance(size, CommandError):
        return 0 if size is None else size
    if last < first < 0:
        return 0
    pieces = _pieces(space, number, key, *_bits(size, first, last, unit))
    return sum(bit_fields.count_ones(data, begin, end) for _, data, begin, end in pieces)


def bitpos(space: Keyspace, op: Op) -> Result:
    """BITPOS: where the first 0 or 1 of a range is, -1 if there is none.

    Without an end the string counts as followed by zeros, so a 0 is always found. A range that is
    wrong is no error for an absent key, which is all zeros.
    """
    _, number, key, bit, first, last, unit, fault = op
    size = _size_of(space, number, key, fault)
    if isinstance(size, CommandError):
        return size
    if size is None:
        return -1 if bit else 0
    first_bit, last_bit = _bits(size, first, -1 if last is None else last, unit)
    for start, data, begin, end in _pieces(space, number, key, first_bit, last_bit):
        found = bit_fields.find_bit(data, bit, begin, end)
        if found >= 0:
            return start + found
    return size * 8 if not bit and last is None and first_bit <= last_bit else -1


def _size_of(space: Keyspace, number: int, key: bytes, fault: int) -> int | CommandError | None:
    """Bytes of a string; None for an absent key, an error for another kind or a wrong range."""
    found = space.part(number, key, 0, 0)
    if found is None:
        return None
    if found.kind != STRING:
        return CommandError(messages.WRONG_TYPE)
    return CommandError(_FAULTS[BitFault(fault)]) if fault else found.size


def _pieces(
    space: Keyspace, number: int, key: bytes, first: int, last: int
) -> Iterator[tuple[int, bytes, int, int]]:
    """The bits from `first` to `last` of a string, a piece after the other.

    Each is (its first bit, its bytes, the first and the last of the bits among its own).
    """
    for at in range(first >> 3, (last >> 3) + 1, _PIECE_BYTES):
        found = space.part(number, key, at, _PIECE_BYTES)
        assert found is not None
        end = min(last - at * 8, len(found.data) * 8 - 1)
        yield at * 8, found.data, max(first - at * 8, 0), end


def _bits(size: int, first: int, last: int, unit: int) -> tuple[int, int]:
    """The range in bits; the end lies before the beginning if nothing of it is in the string."""
    width = 1 if unit == BitUnit.BIT else 8
    total = size * 8 // width
    begin = max(first + total, 0) if first < 0 else first
    end = max(last + total, 0) if last < 0 else min(last, total - 1)
    return begin * width, min(end, total - 1) * width + width - 1


def bitop(space: Keyspace, op: Op) -> Result:
    """BITOP: the length of the result, which takes the destination's place; nothing removes it."""
    _, number, operation, destination, *sources = op
    values: list[bytes] = []
    # A source that is named twice is read once; to an XOR it adds nothing.
    for key, count in Counter(sources).items():
        value = _value_of(space.find(number, key))
        if isinstance(value, CommandError):
            return value
        is_void = operation == ops.BitOperation.XOR and count % 2 == 0
        values.append(bytes(len(value)) if is_void else value)
    result = bit_fields.combine(operation, values)
    tail, old, live = space.look_up(number, destination)
    if result:
        space.advance()
        space.store(number, tail, old, space.record(STRING, destination, result))
        space.notify(Notice.STRING, b"set", number, destination)
    elif live is not None:
        space.advance()
        space.remove(number, tail, live)
        space.notify(Notice.GENERIC, b"del", number, destination)
    return len(result)


def bitfield(space: Keyspace, op: Op) -> Result:
    """BITFIELD: the result of each step in turn, nil for one whose overflow is to fail.

    The string first grows to hold all fields that are to be written, as in Redis even where no step
    writes in the end.
    """
    _, number, key, packed = op
    tail, old, live = space.look_up(number, key)
    value = _value_of(live)
    if isinstance(value, CommandError):
        return value
    steps = bit_fields.unpack_steps(packed)
    ends = [step.offset + abs(step.width) for step in steps if step.what != BitStep.GET]
    size = max([len(value), *((end + 7) >> 3 for end in ends)])
    if size > VALUE_BYTES_MAX:
        return CommandError(messages.BIT_OFFSET)
    changed = bytearray(value.ljust(size, b"\0"))
    results = [_do_step(changed, step) for step in steps]
    if changed != value:
        space.advance()
        deadline_ms = 0 if live is None else deadline_of(live)
        space.store(number, tail, old, space.record(STRING, key, bytes(changed), deadline_ms))
        if any(result is not None for result in results):
            space.notify(Notice.STRING, b"setbit", number, key)
    return results


def bitfield_ro(space: Keyspace, op: Op) -> Result:
    """BITFIELD_RO: fields; zeros behind the end."""
    _, number, key, packed = op
    steps = bit_fields.unpack_steps(packed)
    first = min([step.offset >> 3 for step in steps], default=0)
    last = max([(step.offset + abs(step.width) + 7) >> 3 for step in steps], default=0)
    found = space.part(number, key, first, last - first)
    if found is not None and found.kind != STRING:
        return CommandError(messages.WRONG_TYPE)
    part = b"" if found is None else found.data
    return [
        bit_fields.get_field(part, step.offset - first * 8, abs(step.width), signed=step.width < 0)
        for step in steps
    ]


def _do_step(value: bytearray, step: Step) -> Result:
    """The result of one step of BITFIELD."""
    signed, width = step.width < 0, abs(step.width)
    before = bit_fields.get_field(value, step.offset, width, signed=signed)
    if step.what == BitStep.GET:
        return before
    counts = step.what == BitStep.INCRBY
    base, delta = (before, step.value) if counts else (step.value, 0)
    after = bit_fields.fit(base, delta, width, step.overflow, signed=signed)
    if after is None:
        return None
    bit_fields.set_field(value, step.offset, width, after)
    return after if counts else before


def _value_of(record: bytes | None) -> bytes | CommandError:
    return b"" if record is None else string_of(record)


READS: Final[dict[int, Meaning]] = {
    ops.GETBIT: getbit,
    ops.BITCOUNT: bitcount,
    ops.BITPOS: bitpos,
    ops.BITFIELD_RO: bitfield_ro,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.SETBIT: setbit,
    ops.BITOP: bitop,
    ops.BITFIELD: bitfield,
}
