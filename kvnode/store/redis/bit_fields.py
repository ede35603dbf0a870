"""Bits of a string, numbered as Redis numbers them, and integers of 1 to 64 bits among them.

Bit 0 is the highest bit of the first byte: `SETBIT k 0 1` makes a new string of the byte 80. A
field of BITFIELD is the big-endian integer in `width` bits from any bit on; what lies behind the
end of the string reads as zeros. A string is turned into one integer where many bits are asked for
at once: counting ones and combining strings then cost a machine word per step and not a bit.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from kvnode.store.ops import BitOperation, Overflow

_BLOCK_BYTES: Final = 4096
"""Compared at once where equal bytes are skipped."""

_INT64_SPAN: Final = 2**64
_INT64_HALF: Final = 2**63


_STEP = Struct(">BbQqB")


class Step(NamedTuple):
    """One step of BITFIELD.

    Attributes:
        what: a `BitStep`.
        width: bits of the field, negative for a signed one.
        offset: its first bit.
        value: what SET and INCRBY take; 0 for GET.
        overflow: an `Overflow`.
    """

    what: int
    width: int
    offset: int
    value: int
    overflow: int


def pack_step(step: Step) -> bytes:
    """Nineteen bytes: an op must not have more parts than its command had arguments."""
    return _STEP.pack(*step)


def unpack_steps(packed: bytes) -> list[Step]:
    """The steps of `pack_step`, one behind the other."""
    return [Step(*fields) for fields in _STEP.iter_unpack(packed)]


def get_bit(value: bytes, at: int) -> int:
    """One bit; 0 behind the end."""
    byte = at >> 3
    return value[byte] >> (7 - (at & 7)) & 1 if byte < len(value) else 0


def get_field(value: bytes | bytearray, at: int, width: int, *, signed: bool) -> int:
    """The integer in `width` bits from bit `at` on."""
    end = at + width
    first, last = at >> 3, (end + 7) >> 3
    window = int.from_bytes(value[first:last].ljust(last - first, b"\0"), "big")
    number = window >> (-end & 7) & ((1 << width) - 1)
    return number - (1 << width) if signed and number >> (width - 1) else number


def set_field(value: bytearray, at: int, width: int, number: int) -> None:
    """Write the low `width` bits of a number from bit `at` on; `value` must reach so far."""
    end = at + width
    first, last = at >> 3, (end + 7) >> 3
    shift = -end & 7
    mask = (1 << width) - 1
    window = int.from_bytes(value[first:last], "big") & ~(mask << shift)
    window |= (number & mask) << shift
    value[first:last] = window.to_bytes(last - first, "big")


def fit(base: int, delta: int, width: int, overflow: int, *, signed: bool) -> int | None:
    """`base` + `delta` as a field can hold it; None if it cannot and must not be bent to.

    Redis computes in 64 bits. For an unsigned field a negative `base` (of SET) is the large number
    with the same bits, and a signed base so far below the field that the distance to its upper end
    is no 64-bit number any more counts as one that is too large.
    """
    if not signed:
        base %= _INT64_SPAN
    high = (1 << (width - 1)) - 1 if signed else (1 << width) - 1
    low = -high - 1 if signed else 0
    total = base + delta
    if low <= total <= high:
        return total
    if overflow == Overflow.FAIL:
        return None
    if overflow == Overflow.SATURATE:
        too_far = signed and width < 64 and high - base >= _INT64_HALF
        return high if total > high or too_far else low
    total &= (1 << width) - 1
    return total - (1 << width) if signed and total >> (width - 1) else total


def count_ones(value: bytes, first: int, last: int) -> int:
    """Ones among the bits from `first` to `last`, both included and inside the string."""
    if last < first:
        return 0
    end = (last >> 3) + 1
    window = int.from_bytes(value[first >> 3 : end], "big") >> (7 - (last & 7))
    return (window & ((1 << (last - first + 1)) - 1)).bit_count()


def find_bit(value: bytes, bit: int, first: int, last: int) -> int:
    """Position of the first `bit` from `first` to `last`, both included and inside the string.

    -1 if there is none.
    """
    if last < first:
        return -1
    begin, end = first >> 3, last >> 3
    # In a byte that is turned if need be, what is looked for is a one.
    turned = 0 if bit else 0xFF
    behind = 0xFF >> (last & 7) + 1
    head = (value[begin] ^ turned) & 0xFF >> (first & 7)
    if begin == end:
        head &= ~behind
    if head or begin == end:
        return begin * 8 + 8 - head.bit_length() if head else -1
    at = _skip(value, begin + 1, end, turned)
    tail = value[at] ^ turned
    if at == end:
        tail &= ~behind
    return at * 8 + 8 - tail.bit_length() if tail else -1


def _skip(value: bytes, at: int, end: int, byte: int) -> int:
    """The first place from `at` on that holds another byte, `end` at the latest."""
    block = bytes([byte]) * _BLOCK_BYTES
    while end - at > _BLOCK_BYTES and value.startswith(block, at):
        at += _BLOCK_BYTES
    part = value[at : min(end, at + _BLOCK_BYTES)]
    return at + len(part) - len(part.lstrip(block[:1]))


def combine(operation: int, values: list[bytes]) -> bytes:
    """AND, OR, XOR of strings, shorter ones filled up with zeros, or NOT of the only one."""
    size = max(map(len, values))
    numbers = (int.from_bytes(value, "little") for value in values)
    total = next(numbers)
    if operation == BitOperation.NOT:
        total ^= (1 << size * 8) - 1
    for number in numbers:
        if operation == BitOperation.AND:
            total &= number
        elif operation == BitOperation.OR:
            total |= number
        else:
            total ^= number
    return total.to_bytes(size, "little")
