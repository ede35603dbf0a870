"""Strings: GET, SET, MGET, MSET, INCRBY, APPEND, STRLEN.

Each function is the meaning of one op; its arguments are in `kvnode/store/DESIGN.md`, §4. A plain
SET and a GET are the node's hottest calls, so they come first and look at nothing they need not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import VALUE_BYTES_MAX
from kvnode.store.keyspace import (
    HEADER_BYTES,
    KIND_MASK,
    STRING,
    deadline_of,
    payload_of,
)
from kvnode.store.ops import SetFlag
from kvnode.store.redis import messages
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_NX: Final = int(SetFlag.NX)
_XX: Final = int(SetFlag.XX)
_GET: Final = int(SetFlag.GET)
_KEEPTTL: Final = int(SetFlag.KEEPTTL)
_PX: Final = int(SetFlag.PX)
_TIMED: Final = int(SetFlag.PX | SetFlag.PXAT)

_is_integer_text = re.compile(rb"-?[1-9][0-9]{0,18}|0").fullmatch
"""Redis takes no sign but '-', no space, no leading zero."""


def set_(space: Keyspace, op: Op) -> Result:
    """SET: plain, or with conditions and a deadline."""
    if len(op) > 4:
        return _set_with_options(space, op)
    _, number, key, value = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value))
    return OK


def get(space: Keyspace, op: Op) -> Result:
    """GET."""
    record = space.find(op[1], op[2])
    if record is None:
        return None
    if record[0] == STRING:
        return record[HEADER_BYTES:]
    return _string(record)


def mget(space: Keyspace, op: Op) -> Result:
    """MGET: a key of another kind counts as absent."""
    number = op[1]
    values: list[Result] = []
    for key in op[2:]:
        record = space.find(number, key)
        if record is None or record[0] & KIND_MASK != STRING:
            values.append(None)
        else:
            values.append(payload_of(record))
    return values


def mset(space: Keyspace, op: Op) -> Result:
    """MSET: one revision for all of its keys."""
    number = op[1]
    space.advance()
    prefix = space.databases[number].record_prefix
    for position in range(2, len(op), 2):
        key = op[position]
        tail = space.locate(key)
        old = space.engine.get(prefix + tail)
        space.store(number, tail, old, space.record(STRING, key, op[position + 1]))
    return OK


def incrby(space: Keyspace, op: Op) -> Result:
    """INCRBY: an absent key counts as 0; a deadline stays."""
    _, number, key, delta = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    value: int = delta
    deadline_ms = 0
    if old is not None and not space.is_expired(old):
        text = _string(old)
        if isinstance(text, CommandError):
            return text
        if not _is_integer_text(text) or not INT64_MIN <= int(text) <= INT64_MAX:
            return CommandError(messages.NOT_AN_INTEGER)
        value += int(text)
        deadline_ms = deadline_of(old)
    if not INT64_MIN <= value <= INT64_MAX:
        return CommandError(messages.OVERFLOW)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, b"%d" % value, deadline_ms))
    return value


def append(space: Keyspace, op: Op) -> Result:
    """APPEND: an absent key counts as empty; a deadline stays."""
    _, number, key, more = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    value, deadline_ms = more, 0
    if old is not None and not space.is_expired(old):
        text = _string(old)
        if isinstance(text, CommandError):
            return text
        if len(text) + len(more) > VALUE_BYTES_MAX:
            return CommandError(messages.STRING_TOO_LONG)
        value, deadline_ms = text + more, deadline_of(old)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value, deadline_ms))
    return len(value)


def strlen(space: Keyspace, op: Op) -> Result:
    """STRLEN: 0 for an absent key."""
    record = space.find(op[1], op[2])
    if record is None:
        return 0
    text = _string(record)
    return text if isinstance(text, CommandError) else len(text)


def _set_with_options(space: Keyspace, op: Op) -> Result:
    _, number, key, value, flags, expire_ms = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    live = None if old is None or space.is_expired(old) else old
    answer: Result = OK
    if flags & _GET:
        answer = None if live is None else _string(live)
        if isinstance(answer, CommandError):
            return answer
    deadline_ms = _deadline(space, flags, expire_ms, live)
    if flags & _TIMED and not (expire_ms > 0 and deadline_ms <= INT64_MAX):
        return CommandError(messages.INVALID_EXPIRE_IN_SET)
    if (flags & _NX and live is not None) or (flags & _XX and live is None):
        return answer if flags & _GET else None
    if 0 < deadline_ms <= space.stamp_ms:  # PXAT in the past: nobody would ever see the value
        if live is not None:
            space.advance()
        if old is not None:
            space.remove(number, tail, old)
        return answer
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value, deadline_ms))
    return answer


def _deadline(space: Keyspace, flags: int, expire_ms: int, live: bytes | None) -> int:
    if flags & _KEEPTTL:
        return 0 if live is None else deadline_of(live)
    return space.stamp_ms + expire_ms if flags & _PX else expire_ms


def _string(record: bytes) -> bytes | CommandError:
    if record[0] & KIND_MASK != STRING:
        return CommandError(messages.WRONG_TYPE)
    return payload_of(record)
