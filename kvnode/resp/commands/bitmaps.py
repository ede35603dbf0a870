"""Grammar of the commands on bits of strings.

A range of BITCOUNT and BITPOS is judged only where there is a key (as in Redis), so what is wrong
with it goes along as a `BitFault`. Reads may ask for any bit that a string of Redis could have.
"""

from __future__ import annotations

from typing import Final

from kvnode.errors import CommandError
from kvnode.limits import BIT_OFFSETS_BYTES_MAX, VALUE_BYTES_MAX
from kvnode.resp.commands.grammar import (
    NOT_AN_INTEGER,
    SYNTAX_ERROR,
    check_key,
    check_keys,
    integer,
)
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import BitFault, BitOperation, BitStep, BitUnit, Overflow
from kvnode.store.redis.bit_fields import Step, pack_step
from kvnode.store.redis.messages import BIT_OFFSET

BAD_BIT: Final = "ERR bit is not an integer or out of range"
BAD_TYPE: Final = (
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but "
    "i64 is."
)

_UNITS: Final = {b"BYTE": int(BitUnit.BYTE), b"BIT": int(BitUnit.BIT)}
_OPERATIONS: Final = {operation.name.encode(): int(operation) for operation in BitOperation}
_STEPS: Final = {
    b"GET": (int(BitStep.GET), 3),
    b"SET": (int(BitStep.SET), 4),
    b"INCRBY": (int(BitStep.INCRBY), 4),
}
"""What it is in the op, and how many arguments it takes with its name."""
_OVERFLOWS: Final = {
    b"WRAP": int(Overflow.WRAP),
    b"SAT": int(Overflow.SATURATE),
    b"FAIL": int(Overflow.FAIL),
}
_RANGE_FAULTS: Final = {NOT_AN_INTEGER: BitFault.NOT_AN_INTEGER, SYNTAX_ERROR: BitFault.SYNTAX}


def parse_getbit(db: int, arguments: list[bytes]) -> Op:
    _, key, offset = arguments
    return [ops.GETBIT, db, check_key(key), _offset(offset, BIT_OFFSETS_BYTES_MAX)]


def parse_setbit(db: int, arguments: list[bytes]) -> Op:
    _, key, offset, bit = arguments
    at = _offset(offset, VALUE_BYTES_MAX)
    value = integer(bit, BAD_BIT)
    if value not in (0, 1):
        raise CommandError(BAD_BIT)
    return [ops.SETBIT, db, check_key(key), at, value]


def _offset(argument: bytes, bytes_max: int) -> int:
    return _checked(integer(argument, BIT_OFFSET), bytes_max)


def _checked(offset: int, bytes_max: int) -> int:
    if not 0 <= offset < bytes_max * 8:
        raise CommandError(BIT_OFFSET)
    return offset


def parse_bitcount(db: int, arguments: list[bytes]) -> Op:
    key = check_key(arguments[1])
    first, last, unit, fault = 0, -1, int(BitUnit.BYTE), 0
    try:
        if len(arguments) in (4, 5):
            first, last = integer(arguments[2]), integer(arguments[3])
            if not last < first < 0:  # Redis looks no further then
                unit = _unit(arguments, 4)
        elif len(arguments) != 2:
            raise CommandError(SYNTAX_ERROR)
    except CommandError as bad:
        fault = int(_RANGE_FAULTS[bad.text])
    return [ops.BITCOUNT, db, key, first, last, unit, fault]


def parse_bitpos(db: int, arguments: list[bytes]) -> Op:
    bit = integer(arguments[2])
    if bit not in (0, 1):
        raise CommandError("ERR The bit argument must be 1 or 0.")
    first, unit, fault = 0, int(BitUnit.BYTE), 0
    last: int | None = None
    try:
        if len(arguments) > 6:
            raise CommandError(SYNTAX_ERROR)
        if len(arguments) > 3:
            first = integer(arguments[3])
        unit = _unit(arguments, 5)
        if len(arguments) > 4:
            last = integer(arguments[4])
    except CommandError as bad:
        fault = int(_RANGE_FAULTS[bad.text])
    return [ops.BITPOS, db, check_key(arguments[1]), bit, first, last, unit, fault]


def _unit(arguments: list[bytes], at: int) -> int:
    if len(arguments) <= at:
        return int(BitUnit.BYTE)
    unit = _UNITS.get(arguments[at].upper())
    if unit is None:
        raise CommandError(SYNTAX_ERROR)
    return unit


def parse_bitop(db: int, arguments: list[bytes]) -> Op:
    operation = _OPERATIONS.get(arguments[1].upper())
    if operation is None:
        raise CommandError(SYNTAX_ERROR)
    if operation == BitOperation.NOT and len(arguments) != 4:
        raise CommandError("ERR BITOP NOT must be called with a single source key.")
    return [ops.BITOP, db, operation, *check_keys(arguments[2:])]


def parse_bitfield(db: int, arguments: list[bytes]) -> Op:
    return [ops.BITFIELD, db, check_key(arguments[1]), b"".join(map(pack_step, _steps(arguments)))]


def parse_bitfield_ro(db: int, arguments: list[bytes]) -> Op:
    steps = _steps(arguments)
    if any(step.what != BitStep.GET for step in steps):
        raise CommandError("ERR BITFIELD_RO only supports the GET subcommand")
    return [ops.BITFIELD_RO, db, check_key(arguments[1]), b"".join(map(pack_step, steps))]


def _steps(arguments: list[bytes]) -> list[Step]:
    steps: list[Step] = []
    overflow = int(Overflow.WRAP)
    at = 2
    while at < len(arguments):
        name = arguments[at].upper()
        step, size = _STEPS.get(name, (0, 0))
        if size and at + size <= len(arguments):
            width = _width(arguments[at + 1])
            limit = BIT_OFFSETS_BYTES_MAX if step == BitStep.GET else VALUE_BYTES_MAX
            offset = _field_offset(arguments[at + 2], abs(width), limit)
            value = 0 if step == BitStep.GET else integer(arguments[at + 3])
            steps.append(Step(step, width, offset, value, overflow))
            at += size
        elif name == b"OVERFLOW" and at + 1 < len(arguments):
            overflow = _OVERFLOWS.get(arguments[at + 1].upper(), -1)
            if overflow < 0:
                raise CommandError("ERR Invalid OVERFLOW type specified")
            at += 2
        else:
            raise CommandError(SYNTAX_ERROR)
    return steps


def _width(argument: bytes) -> int:
    """The bits of `i8` or `u8`, negative for the former."""
    kind = argument[:1]
    if kind not in (b"i", b"u"):
        raise CommandError(BAD_TYPE)
    width = integer(argument[1:], BAD_TYPE)
    if not 1 <= width <= (64 if kind == b"i" else 63):
        raise CommandError(BAD_TYPE)
    return -width if kind == b"i" else width


def _field_offset(argument: bytes, width: int, bytes_max: int) -> int:
    """A place in bits, or with # in fields of this width; the product is one of 64 bits."""
    if not argument.startswith(b"#"):
        return _offset(argument, bytes_max)
    product = integer(argument[1:], BIT_OFFSET) * width
    return _checked((product + 2**63) % 2**64 - 2**63, bytes_max)
