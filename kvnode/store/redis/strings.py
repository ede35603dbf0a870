"""Strings: getting, setting, counting, and reading or changing parts of them.

Each function is the meaning of one op; its arguments are in `kvnode/store/DESIGN.md`, §4. A plain
SET and a GET are the node's hottest calls, so they come first and look at nothing they need not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import LCS_TABLE_BYTES_MAX, VALUE_BYTES_MAX
from kvnode.store import ops
from kvnode.store.keyspace import (
    HEADER_BYTES,
    KIND_MASK,
    STRING,
    deadline_of,
    payload_of,
)
from kvnode.store.notices import Notice
from kvnode.store.ops import GetexFlag, LcsFlag, SetFlag
from kvnode.store.redis import lcs as subsequence
from kvnode.store.redis import long_double, messages
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_NX: Final = int(SetFlag.NX)
_XX: Final = int(SetFlag.XX)
_GET: Final = int(SetFlag.GET)
_KEEPTTL: Final = int(SetFlag.KEEPTTL)
_PX: Final = int(SetFlag.PX)
_TIMED: Final = int(SetFlag.PX | SetFlag.PXAT)
_GETEX_PX: Final = int(GetexFlag.PX)
_GETEX_TIMED: Final = int(GetexFlag.PX | GetexFlag.PXAT)
_GETEX_PERSIST: Final = int(GetexFlag.PERSIST)

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
    if space.notices is not None:
        space.notify(Notice.STRING, b"set", number, key)
    return OK


def get(space: Keyspace, op: Op) -> Result:
    """GET."""
    record = space.find(op[1], op[2])
    if record is None:
        return None
    if record[0] == STRING:
        return record[HEADER_BYTES:]
    return string_of(record)


def mget(space: Keyspace, op: Op) -> Result:
    """MGET: a key of another kind counts as absent."""
    number = op[1]
    values: list[Result] = []
    room = space.reply_bytes_max
    for key in op[2:]:
        record = space.find(number, key)
        if record is None or record[0] & KIND_MASK != STRING:
            values.append(None)
        else:
            values.append(payload_of(record))
            room -= len(record)
            if room < 0:  # a key that is named again costs no bytes but here
                return CommandError(messages.reply_too_large(space.reply_bytes_max))
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
        space.notify(Notice.STRING, b"set", number, key)
    return OK


def msetnx(space: Keyspace, op: Op) -> Result:
    """MSETNX: all of the keys, or none if one of them is there."""
    number = op[1]
    if any(space.find(number, op[position]) is not None for position in range(2, len(op), 2)):
        return 0
    mset(space, op)
    return 1


def getdel(space: Keyspace, op: Op) -> Result:
    """GETDEL."""
    _, number, key = op
    tail, _, live = space.look_up(number, key)
    if live is None:
        return None
    value = string_of(live)
    if not isinstance(value, CommandError):
        space.advance()
        space.remove(number, tail, live)
        space.notify(Notice.GENERIC, b"del", number, key)
    return value


def getex(space: Keyspace, op: Op) -> Result:
    """GETEX. As in Redis a bad time is an error only for a key that is there.

    `expire_ms` is None if the client's time was no integer, and 0 if it was out of range.
    """
    _, number, key, flags, expire_ms = op
    tail, _, live = space.look_up(number, key)
    if live is None:
        return None
    value = string_of(live)
    if isinstance(value, CommandError):
        return value
    if expire_ms is None:
        return CommandError(messages.NOT_AN_INTEGER)
    deadline_ms = space.stamp_ms + expire_ms if flags & _GETEX_PX else expire_ms
    if flags & _GETEX_TIMED:
        if not (expire_ms > 0 and deadline_ms <= INT64_MAX):
            return CommandError(messages.INVALID_EXPIRE_IN_GETEX)
    elif not (flags & _GETEX_PERSIST and deadline_of(live)):
        return value
    space.advance()
    if 0 < deadline_ms <= space.stamp_ms:
        space.remove(number, tail, live)
        space.notify(Notice.GENERIC, b"del", number, key)
    else:
        space.store(number, tail, live, space.record(STRING, key, value, deadline_ms))
        name = b"expire" if deadline_ms else b"persist"
        space.notify(Notice.GENERIC, name, number, key)
    return value


def incrby(space: Keyspace, op: Op) -> Result:
    """INCRBY: an absent key counts as 0; a deadline stays."""
    _, number, key, delta = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    value: int = delta
    deadline_ms = 0
    if old is not None and not space.is_expired(old):
        text = string_of(old)
        if isinstance(text, CommandError):
            return text
        if not is_integer(text):
            return CommandError(messages.NOT_AN_INTEGER)
        value += int(text)
        deadline_ms = deadline_of(old)
    if not INT64_MIN <= value <= INT64_MAX:
        return CommandError(messages.OVERFLOW)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, b"%d" % value, deadline_ms))
    space.notify(Notice.STRING, b"incrby", number, key)
    return value


def incrbyfloat(space: Keyspace, op: Op) -> Result:
    """INCRBYFLOAT: the sum as text, which is also what is stored; a deadline stays."""
    _, number, key, increment = op
    tail, old, live = space.look_up(number, key)
    text = b"0" if live is None else string_of(live)
    if isinstance(text, CommandError):
        return text
    value, delta = long_double.parse(text), long_double.parse(increment)
    if value is None or delta is None:
        return CommandError(messages.NOT_A_FLOAT)
    total = long_double.add(value, delta)
    if total is None:
        return CommandError(messages.NAN_OR_INFINITY)
    text = long_double.to_text(total)
    deadline_ms = 0 if live is None else deadline_of(live)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, text, deadline_ms))
    space.notify(Notice.STRING, b"incrbyfloat", number, key)
    return text


def append(space: Keyspace, op: Op) -> Result:
    """APPEND: an absent key counts as empty; a deadline stays."""
    _, number, key, more = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    value, deadline_ms = more, 0
    if old is not None and not space.is_expired(old):
        text = string_of(old)
        if isinstance(text, CommandError):
            return text
        if len(text) + len(more) > VALUE_BYTES_MAX:
            return CommandError(messages.STRING_TOO_LONG)
        value, deadline_ms = text + more, deadline_of(old)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value, deadline_ms))
    space.notify(Notice.STRING, b"append", number, key)
    return len(value)


def strlen(space: Keyspace, op: Op) -> Result:
    """STRLEN: 0 for an absent key."""
    record = space.find(op[1], op[2])
    if record is None:
        return 0
    text = string_of(record)
    return text if isinstance(text, CommandError) else len(text)


def setrange(space: Keyspace, op: Op) -> Result:
    """SETRANGE: bytes of zero fill the gap; nothing to write means nothing is changed."""
    _, number, key, offset, part = op
    tail, old, live = space.look_up(number, key)
    value = b"" if live is None else string_of(live)
    if isinstance(value, CommandError):
        return value
    if not part:
        return len(value)
    end = offset + len(part)
    if end > VALUE_BYTES_MAX:
        return CommandError(messages.STRING_TOO_LONG)
    value = value[:offset].ljust(offset, b"\0") + part + value[end:]
    deadline_ms = 0 if live is None else deadline_of(live)
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value, deadline_ms))
    space.notify(Notice.STRING, b"setrange", number, key)
    return len(value)


def getrange(space: Keyspace, op: Op) -> Result:
    """GETRANGE: both ends are included; a negative one counts from the end of the string."""
    _, number, key, first, last = op
    record = space.find(number, key)
    if record is None:
        return b""
    value = string_of(record)
    if isinstance(value, CommandError):
        return value
    if last < first < 0:
        return b""
    size = len(value)
    start = max(first + size, 0) if first < 0 else first
    stop = max(last + size, 0) if last < 0 else last
    return value[start : stop + 1]


def lcs(space: Keyspace, op: Op) -> Result:
    """LCS: the subsequence, its length, or [b"matches", […], b"len", length]."""
    _, number, *keys, flags, match_bytes_min = op
    values: list[bytes] = []
    for key in keys:
        record = space.find(number, key)
        value = b"" if record is None else string_of(record)
        if isinstance(value, CommandError):
            return CommandError(messages.LCS_NEEDS_STRINGS)
        values.append(value)
    a, b = values
    if subsequence.table_bytes(a, b) > LCS_TABLE_BYTES_MAX:
        return CommandError(messages.LCS_TOO_LARGE)
    if flags & LcsFlag.LEN:
        return subsequence.length(a, b)
    matches = subsequence.matches(a, b)
    if not flags & LcsFlag.IDX:
        return b"".join(a[match.a_first : match.a_last + 1] for match in reversed(matches))
    shown: list[Result] = [
        _shown(match, with_length=bool(flags & LcsFlag.WITHMATCHLEN))
        for match in matches
        if match.length >= match_bytes_min
    ]
    return [b"matches", shown, b"len", sum(match.length for match in matches)]


def _shown(match: subsequence.Match, *, with_length: bool) -> Result:
    in_a: Result = [match.a_first, match.a_last]
    in_b: Result = [match.b_first, match.b_last]
    return [in_a, in_b, match.length] if with_length else [in_a, in_b]


def is_integer(text: bytes) -> bool:
    """Whether Redis reads it as a signed 64-bit number."""
    return _is_integer_text(text) is not None and INT64_MIN <= int(text) <= INT64_MAX


def _set_with_options(space: Keyspace, op: Op) -> Result:
    _, number, key, value, flags, expire_ms = op
    tail = space.locate(key)
    old = space.engine.get(space.databases[number].record_prefix + tail)
    live = None if old is None or space.is_expired(old) else old
    answer: Result = OK
    if flags & _GET:
        answer = None if live is None else string_of(live)
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
            space.notify(Notice.GENERIC, b"del", number, key)
        return answer
    space.advance()
    space.store(number, tail, old, space.record(STRING, key, value, deadline_ms))
    space.notify(Notice.STRING, b"set", number, key)
    if flags & _TIMED:
        space.notify(Notice.GENERIC, b"expire", number, key)
    return answer


def _deadline(space: Keyspace, flags: int, expire_ms: int, live: bytes | None) -> int:
    if flags & _KEEPTTL:
        return 0 if live is None else deadline_of(live)
    return space.stamp_ms + expire_ms if flags & _PX else expire_ms


def string_of(record: bytes) -> bytes | CommandError:
    """The string that a record holds, an error if it holds another kind."""
    if record[0] & KIND_MASK != STRING:
        return CommandError(messages.WRONG_TYPE)
    return payload_of(record)


READS: Final[dict[int, Meaning]] = {
    ops.GET: get,
    ops.MGET: mget,
    ops.STRLEN: strlen,
    ops.GETRANGE: getrange,
    ops.LCS: lcs,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.SET: set_,
    ops.MSET: mset,
    ops.INCRBY: incrby,
    ops.APPEND: append,
    ops.GETDEL: getdel,
    ops.GETEX: getex,
    ops.MSETNX: msetnx,
    ops.INCRBYFLOAT: incrbyfloat,
    ops.SETRANGE: setrange,
}
