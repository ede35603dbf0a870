"""EXEC: the ops of a MULTI as one op, and the check of what was watched.

WATCH is optimistic: the client's node reads what each key looks like (`VERSION`), and EXEC carries
that through the log, so every replica judges alike, whoever leads by then. A failing op leaves its
error among the results and the others stand, as in Redis: there is no rollback.

What VERSION answers is a number that only EXEC understands:

| Seen | The key was | EXEC goes on if it is |
|---|---|---|
| above 0 | there, of this version | there, of this version |
| −2 − revision | absent at this revision | absent, and was never there in between |
| −1 | not read: the WATCH failed | never |
| 0 | absent, without a revision | absent |

An expired key is absent, whether or not its row is deleted, so expiry touches a key that was
watched alive and no other. FLUSH touches the keys that it deletes. SWAPDB is a write of all keys of
both databases. A key that was absent and is absent is touched if a record of it, written after the
WATCH, was removed (`Keyspace.removals`) or lies there expired, or if FLUSH or SWAPDB took it away.

The last of these is judged in two ways. EXEC, the older op, takes every absent key for touched if
anything at all was written to the database before it was swept (`Database.floor`). EXEC_WATCHED
asks `kvnode.store.arrivals` whether this key can have been there; it is what is proposed today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import KIB
from kvnode.store.keyspace import HASH_BYTES, Database, version_of
from kvnode.store.ops import UnknownOperation, is_write
from kvnode.store.redis.messages import reply_too_large
from kvnode.store.redis.weights import least_reply_bytes

if TYPE_CHECKING:
    from kvnode.store.arrivals import Arrivals
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

ANSWERS_BYTES_MIN: Final = 64 * KIB
"""What the reads of one transaction may answer, however much others in its batch did."""

_ABSENT: Final = -2
"""What VERSION answers for an absent key at revision 0."""


def version(space: Keyspace, op: Op) -> Result:
    """VERSION: what a key looks like to WATCH."""
    _, number, key = op
    record = space.find(number, key)
    if record is None:
        return _ABSENT - space.revision
    return _seen_version(space.databases[number], record)


def exec_of(meanings: dict[int, Meaning], *, by_arrivals: bool) -> Meaning:
    """EXEC over the given op codes, or with `by_arrivals` EXEC_WATCHED."""

    def exec_(space: Keyspace, op: Op) -> Result:
        """EXEC: results of all ops, or None if a watched key is no longer what it was."""
        _, _, watches, inner_ops = op
        arrivals = space.note_arrivals() if by_arrivals else None
        for number, key, seen in watches:
            if not _is_untouched(space, arrivals, number, key, seen):
                return None
        results: list[Result] = []
        most = room = min(space.reply_bytes_max, max(space.answers_room, ANSWERS_BYTES_MIN))
        space.is_atomic = True
        for inner in inner_ops:
            meaning = meanings.get(inner[0])
            if meaning is None:
                raise UnknownOperation(f"EXEC holds the unknown op code {inner[0]}")
            if is_write(inner):
                results.append(meaning(space, inner))
            else:
                results.append(_read(space, meaning, inner, room))
                room -= bytes_in(results[-1])
        space.is_atomic = False
        space.answers_room -= most - room
        return results

    return exec_


def _read(space: Keyspace, meaning: Meaning, op: Op, room: int) -> Result:
    """What a read in a transaction answers; it may fail where a write may not, as it changes
    nothing: nodes that nobody waits at do without it, and there is an end to what replies take,
    those of all transactions in one batch together."""
    if not space.wants_answers:
        return None
    if least_reply_bytes(space, op) > room:
        return CommandError(reply_too_large(space.reply_bytes_max))
    return meaning(space, op)


def bytes_in(result: Result) -> int:
    """About what a result keeps in memory: its bytes, and a word for each item."""
    if isinstance(result, bytes):
        return len(result)
    if isinstance(result, list):
        return sum([8 + bytes_in(item) for item in result])
    return 0


def _is_untouched(
    space: Keyspace, arrivals: Arrivals | None, number: int, key: bytes, seen: int
) -> bool:
    database = space.databases[number]
    tail, row, live = space.look_up(number, key)
    if live is not None:
        return _seen_version(database, live) == seen
    if seen > _ABSENT:
        return seen == 0
    key_hash = int.from_bytes(tail[:HASH_BYTES], "big")
    revision = _ABSENT - seen
    newest = space.removals.newest(number, key_hash)
    if row is not None:
        newest = max(newest, _seen_version(database, row))
    if newest > revision:
        return False
    return database.floor <= revision or (
        arrivals is not None and arrivals.rule_out(number, key_hash, revision)
    )


def _seen_version(database: Database, record: bytes) -> int:
    """A swapped database counts as written when it was swapped."""
    return max(version_of(record), database.swapped)
