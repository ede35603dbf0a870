"""Keys of any kind: deleting, finding, describing and moving them, and their deadlines."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import PATTERN_BYTES_MAX, SCAN_BYTES_MAX, SCAN_ROWS_MAX
from kvnode.store import bulk, ops
from kvnode.store.collection import CONTENT, PARTS_END, Collection
from kvnode.store.collection import find as find_collection
from kvnode.store.keyspace import (
    COLLECTION_BITS,
    HAS_DEADLINE,
    KIND_MASK,
    deadline_of,
    key_of,
    payload_of,
)
from kvnode.store.notices import Notice
from kvnode.store.ops import ExpireFlag, ObjectQuery
from kvnode.store.redis import glob, messages
from kvnode.store.redis.encodings import encoding_of, references_of
from kvnode.store.reply import OK, Status

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

KIND_NAMES: Final = ("none", "string", "hash", "list", "set", "zset", "stream")
"""Redis' names of the kinds, by number."""

DEADLINE_MS_MAX: Final = 2**63 - 1
CURSOR_MAX: Final = 2**64 - 1


def del_(space: Keyspace, op: Op) -> Result:
    """DEL: how many keys were there."""
    number = op[1]
    prefix = space.databases[number].record_prefix
    removed = 0
    for key in op[2:]:
        tail = space.locate(key)
        record = space.engine.get(prefix + tail)
        if record is not None:
            is_live = not space.is_expired(record)
            removed += is_live
            space.remove(number, tail, record)
            if is_live:
                space.notify(Notice.GENERIC, b"del", number, key)
    if removed:
        space.advance()
    return removed


def exists(space: Keyspace, op: Op) -> Result:
    """EXISTS: a key named twice counts twice."""
    number = op[1]
    return sum(space.find(number, key) is not None for key in op[2:])


def type_(space: Keyspace, op: Op) -> Result:
    """TYPE."""
    record = space.find(op[1], op[2])
    return Status(KIND_NAMES[0 if record is None else record[0] & KIND_MASK])


def expire(space: Keyspace, op: Op) -> Result:
    """EXPIRE and its kin: a deadline that is not in the future deletes the key."""
    _, number, key, absolute, ms, flags = op
    tail = space.locate(key)
    record = space.engine.get(space.databases[number].record_prefix + tail)
    if record is None or space.is_expired(record):
        return 0
    deadline_ms = ms if absolute else space.stamp_ms + ms
    if deadline_ms > DEADLINE_MS_MAX:
        return CommandError(messages.INVALID_EXPIRE_IN_EXPIRE)
    if not _condition_holds(flags, deadline_of(record), deadline_ms):
        return 0
    space.advance()
    if deadline_ms <= space.stamp_ms:
        space.remove(number, tail, record)
        space.notify(Notice.GENERIC, b"del", number, key)
    else:
        _set_deadline(space, number, key, tail, record, deadline_ms)
        space.notify(Notice.GENERIC, b"expire", number, key)
    return 1


def persist(space: Keyspace, op: Op) -> Result:
    """PERSIST: 1 if there was a deadline to remove."""
    _, number, key = op
    tail = space.locate(key)
    record = space.engine.get(space.databases[number].record_prefix + tail)
    if record is None or not record[0] & HAS_DEADLINE or space.is_expired(record):
        return 0
    space.advance()
    _set_deadline(space, number, key, tail, record, 0)
    space.notify(Notice.GENERIC, b"persist", number, key)
    return 1


def ttl(space: Keyspace, op: Op) -> Result:
    """TTL and PTTL: -2 if absent, -1 without a deadline, else what is left."""
    _, number, key, in_ms = op
    record = space.find(number, key)
    if record is None:
        return -2
    deadline_ms = deadline_of(record)
    if not deadline_ms:
        return -1
    left_ms = deadline_ms - space.stamp_ms
    return left_ms if in_ms else (left_ms + 500) // 1000


def expiretime(space: Keyspace, op: Op) -> Result:
    """EXPIRETIME and PEXPIRETIME: the deadline; -2 if the key is absent, -1 if it has none."""
    _, number, key, in_ms = op
    record = space.find(number, key)
    if record is None:
        return -2
    deadline_ms = deadline_of(record)
    if not deadline_ms:
        return -1
    return deadline_ms if in_ms else (deadline_ms + 500) // 1000


def rename(space: Keyspace, op: Op) -> Result:
    """RENAME and RENAMENX, told apart by the last argument: the deadline goes along.

    OK, and for RENAMENX 1 or, if the new name is taken, 0.
    """
    _, number, key, new_key, only_if_absent = op
    tail, _, record = space.look_up(number, key)
    if record is None:
        return CommandError(messages.NO_SUCH_KEY)
    if key == new_key:
        return 0 if only_if_absent else OK
    new_tail, replaced, taken = space.look_up(number, new_key)
    if only_if_absent and taken is not None:
        return 0
    space.advance()
    space.detach(number, tail, record)
    space.store(number, new_tail, replaced, _as_of_now(space, new_key, record))
    _tell_anew(space, number, new_key, replaced)
    space.notify(Notice.GENERIC, b"rename_from", number, key)
    space.notify(Notice.GENERIC, b"rename_to", number, new_key)
    return 1 if only_if_absent else OK


def copy(space: Keyspace, op: Op) -> Result:
    """COPY: value and deadline under another key, or in another database."""
    _, number, key, new_number, new_key, _ = op
    record = space.find(number, key)
    if record is not None and record[0] & COLLECTION_BITS:
        return bulk.store(space, op, COPY_ROWS)
    answer = _check_copy(space, op)
    if record is None or not isinstance(answer, bulk.Check):
        return 0
    new_tail, replaced, _ = space.look_up(new_number, new_key)
    space.advance()
    space.store(new_number, new_tail, replaced, _as_of_now(space, new_key, record))
    return _tell_of_copy(space, op, replaced)


def _check_copy(space: Keyspace, op: Op) -> Result | bulk.Check:
    _, number, key, new_number, new_key, replace = op
    is_taken = space.find(new_number, new_key) is not None
    return 0 if space.find(number, key) is None or (is_taken and not replace) else bulk.GO_ON


def _copy_part(
    space: Keyspace, op: Op, made: Collection, cursor: bytes, rows_max: int
) -> bytes | None:
    source = find_collection(space, op[1], op[2], made.kind)
    assert isinstance(source, Collection), "a job begins anew when its source is another one"
    rows = list(islice(source.rows(cursor, PARTS_END), rows_max))
    for part, value in rows:
        if part[0] in CONTENT[made.kind]:
            made.put(part, value, None)
        else:
            made.put_derived(part, value)
    if len(rows) == rows_max:
        return rows[-1][0] + b"\0"
    made.count, made.extra, made.deadline_ms = source.count, source.extra, source.deadline_ms
    return None


def _finish_copy(space: Keyspace, op: Op, made: Collection) -> Result:
    return _tell_of_copy(space, op, made.replaced)


def _tell_of_copy(space: Keyspace, op: Op, replaced: bytes | None) -> Result:
    new_number, new_key = op[3], op[4]
    _tell_anew(space, new_number, new_key, replaced)
    space.notify(Notice.GENERIC, b"copy_to", new_number, new_key)
    return 1


def _kind_of_source(space: Keyspace, op: Op) -> int:
    record = space.find(op[1], op[2])
    return 0 if record is None else record[0] & KIND_MASK


COPY_ROWS: Final = bulk.Recipe(
    sources=lambda op: [(op[1], op[2])],
    target=lambda op: (op[3], op[4]),
    kind=_kind_of_source,
    check=_check_copy,
    part=_copy_part,
    finish=_finish_copy,
)


def move(space: Keyspace, op: Op) -> Result:
    """MOVE: 1 if the key was here and not there."""
    _, number, key, new_number = op
    tail, _, record = space.look_up(number, key)
    if record is None:
        return 0
    _, replaced, taken = space.look_up(new_number, key)
    if taken is not None:
        return 0
    space.advance()
    space.detach(number, tail, record)
    space.store(new_number, tail, replaced, _as_of_now(space, key, record))
    space.notify(Notice.GENERIC, b"move_from", number, key)
    space.notify(Notice.GENERIC, b"move_to", new_number, key)
    return 1


def randomkey(space: Keyspace, op: Op) -> Result:
    """RANDOMKEY: the first live key at or behind a random hash that the client's node chose.

    So the ops of an EXEC answer alike everywhere. A key behind a wide gap is met more often than
    others, as in Redis. Of keys that have expired only some are passed over: they are deleted soon.
    """
    _, number, start = op
    ahead = islice(space.walk(number, start), SCAN_ROWS_MAX)
    from_the_first = islice(space.walk(number), SCAN_ROWS_MAX)
    for _, suffix, record in chain(ahead, from_the_first):
        if not space.is_expired(record):
            return key_of(suffix, record)
    return None


def size(space: Keyspace, op: Op) -> Result:
    """MEMORY USAGE: the bytes of a value of any kind, which is not read for it."""
    return space.size(op[1], op[2])


def object_(space: Keyspace, op: Op) -> Result:
    """OBJECT: what tools expect of a Redis without an LFU policy.

    Reading a key leaves no trace here, so no key was ever idle for long.
    """
    _, number, key, query = op
    record = space.find(number, key)
    if record is None:
        return None
    if query == ObjectQuery.ENCODING:
        return encoding_of(space, number, key, record)
    if query == ObjectQuery.FREQ:
        return CommandError(messages.NO_FREQUENCY)
    if query == ObjectQuery.IDLETIME:
        return 0
    return references_of(record)


def keys(space: Keyspace, op: Op) -> Result:
    """KEYS: all that match, in hash order."""
    _, number, pattern = op
    if len(pattern) > PATTERN_BYTES_MAX:
        return CommandError(messages.PATTERN_TOO_LONG)
    matches = glob.compile_pattern(pattern)
    found: list[Result] = []
    for _, suffix, record in space.walk(number):
        key = key_of(suffix, record)
        if matches(key) and not space.is_expired(record):
            found.append(key)
    return found


def scan(space: Keyspace, op: Op) -> Result:
    """SCAN: a page of keys whose hash is at least the cursor, and the cursor of the next page.

    A key keeps its hash for life, here and on every other node, so a walk from 0 to 0 meets every
    key that was there all the time, once. Keys of one hash stay on one page: a cursor cannot part
    them.
    """
    _, number, cursor, pattern, count, kind = op
    if not 0 <= cursor <= CURSOR_MAX:
        return CommandError(messages.INVALID_CURSOR)
    if pattern is not None and len(pattern) > PATTERN_BYTES_MAX:
        return CommandError(messages.PATTERN_TOO_LONG)
    matches = glob.compile_pattern(b"*" if pattern is None else pattern)
    rows_left, bytes_left = min(count, SCAN_ROWS_MAX), SCAN_BYTES_MAX
    found: list[Result] = []
    previous = cursor
    for position, suffix, record in space.walk(number, cursor):
        if (rows_left <= 0 or bytes_left <= 0) and position != previous:
            return [b"%d" % position, found]
        rows_left -= 1
        bytes_left -= len(record)
        previous = position
        key = key_of(suffix, record)
        if matches(key) and not space.is_expired(record) and _is_kind(record, kind):
            found.append(key)
    return [b"0", found]


def _is_kind(record: bytes, kind: bytes | None) -> bool:
    return kind is None or KIND_NAMES[record[0] & KIND_MASK].encode() == kind.lower()


def _condition_holds(flags: int, now_ms: int, new_ms: int) -> bool:
    """Whether EXPIRE may go on; a key without a deadline (0) counts as one that lives for ever."""
    return not (
        (flags & ExpireFlag.NX and now_ms)
        or (flags & ExpireFlag.XX and not now_ms)
        or (flags & ExpireFlag.GT and (not now_ms or new_ms <= now_ms))
        or (flags & ExpireFlag.LT and now_ms and new_ms >= now_ms)
    )


def _tell_anew(space: Keyspace, number: int, key: bytes, replaced: bytes | None) -> None:
    """In Redis a key that is renamed or copied onto another one comes anew; it says so."""
    if replaced is not None:
        space.notify(Notice.NEW, b"new", number, key)


def _as_of_now(space: Keyspace, key: bytes, record: bytes) -> bytes:
    """The record of another key, with its deadline, as a write of this revision to `key`."""
    kind = record[0] & KIND_MASK
    return space.record(kind, key, payload_of(record), deadline_of(record))


def _set_deadline(
    space: Keyspace, number: int, key: bytes, tail: bytes, old: bytes, deadline_ms: int
) -> None:
    kind = old[0] & KIND_MASK
    space.store(number, tail, old, space.record(kind, key, payload_of(old), deadline_ms))


READS: Final[dict[int, Meaning]] = {
    ops.EXISTS: exists,
    ops.TYPE: type_,
    ops.TTL: ttl,
    ops.KEYS: keys,
    ops.SCAN: scan,
    ops.RANDOMKEY: randomkey,
    ops.EXPIRETIME: expiretime,
    ops.OBJECT: object_,
    ops.SIZE: size,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.DEL: del_,
    ops.EXPIRE: expire,
    ops.PERSIST: persist,
    ops.RENAME: rename,
    ops.COPY: copy,
    ops.MOVE: move,
}

RECIPES: Final[dict[int, bulk.Recipe]] = {ops.COPY: COPY_ROWS}
