"""Commands that store many rows, a part at a time: a large SUNIONSTORE, the COPY of a stream.

A log entry is applied in one go, and while it is nobody else is served. So a command whose result
may be large is a *recipe*: it knows its sources, and how to add the next part of the result to a
collection. With few rows it is done at once. With many, its op leaves a *job*, and its answer is
`Unfinished`: the node that the client is connected to then proposes STEP after STEP, ordinary
commands between those of others, until the answer is final.

Meanwhile the result grows in a collection that no key tells of. The last step gives it to its key,
in constant time, so nobody sees half of it. Each step looks whether the sources are still of the
version that they had at the beginning; if not, it begins anew, and after a few times it gives up:
nothing was stored, and the client is told so.

A job (`jobs.py`) goes with the proposer session of the node that began it, or when nobody has
stepped it for a minute.

Inside MULTI everything must happen at one place of the log, so there recipes are done at once, up
to a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgpack
from xxhash import xxh3_64_intdigest

from kvnode.errors import CommandError
from kvnode.limits import (
    BULK_COMMANDS_MAX,
    BULK_JOB_BYTES_MAX,
    BULK_RESTARTS_MAX,
    BULK_ROWS_AT_ONCE_MAX,
    BULK_ROWS_MAX,
    BULK_ROWS_PER_STEP_MAX,
)
from kvnode.store import collection as collections
from kvnode.store.jobs import BEGIN, Job
from kvnode.store.keyspace import COLLECTION_BITS, STREAM
from kvnode.store.reply import Result, Unfinished

if TYPE_CHECKING:
    from kvnode.store.collection import Collection
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op

TOO_MANY: Final = "BUSY too many large commands are under way; nothing was stored"
CHANGED: Final = "BUSY the sources of the command kept changing; nothing was stored"
GONE: Final = "BUSY the command was not carried on in time; nothing was stored"
TOO_LARGE: Final = (
    f"ERR the command works on more than {BULK_ROWS_AT_ONCE_MAX} elements, which is too large "
    f"for a transaction, a script or a command of so many keys; nothing was stored"
)

VERSION_BYTES: Final = 9
"""What a job keeps of a source besides its key."""

Source = tuple[int, bytes]
"""Database and key."""


Cursor: TypeAlias = "bytes | CommandError | None"
"""Where the next part begins, unless there is none."""


class Check(Enum):
    """What a recipe answers if there is work to do."""

    GO_ON = 0


GO_ON: Final = Check.GO_ON


class Recipe(NamedTuple):
    """How a command makes a collection out of others.

    Attributes:
        sources: the keys that its result follows from.
        target: the key that takes the result.
        kind: of the result.
        check: an answer that needs no work (an error, an absent source), or GO_ON.
        part: adds about so many rows to the result, from a cursor on; returns the cursor of the
            next part, None at the end, or an error, with which the command ends. The first cursor
            is empty.
        finish: tells of the result, which is in place by then, and answers.
    """

    sources: Callable[[Op], list[Source]]
    target: Callable[[Op], Source]
    kind: Callable[[Keyspace, Op], int]
    check: Callable[[Keyspace, Op], Result | Check]
    part: Callable[[Keyspace, Op, Collection, bytes, int], Cursor]
    finish: Callable[[Keyspace, Op, Collection], Result]


def store(space: Keyspace, op: Op, recipe: Recipe, *, at_once: bool = False) -> Result:
    """Do a command: at once if it is small or must be, else begin a job."""
    answer = recipe.check(space, op)
    if not isinstance(answer, Check):
        return answer
    sources = recipe.sources(op)
    rows = sum(_count(space, source) for source in sources)
    if rows > BULK_ROWS_MAX and not (at_once or space.is_atomic or _is_long(op, sources)):
        return _begin(space, op, recipe)
    if rows > BULK_ROWS_AT_ONCE_MAX:
        return CommandError(TOO_LARGE)
    made = collections.create(space, *recipe.target(op), recipe.kind(space, op))
    cursor: bytes | None = BEGIN
    while cursor is not None:
        following = recipe.part(space, op, made, cursor, BULK_ROWS_AT_ONCE_MAX)
        if isinstance(following, CommandError):
            space.drop_rows(made.to_record())
            return following
        cursor = following
    return _put_in_place(space, op, recipe, made)


def _is_long(op: Op, sources: list[Source]) -> bool:
    """Whether a job for it would be a burden: it is in every meta row."""
    return len(msgpack.packb(op)) + VERSION_BYTES * len(sources) > BULK_JOB_BYTES_MAX


def step(space: Keyspace, number: int, recipes: dict[int, Recipe]) -> Result:
    """STEP: the next part of a job."""
    jobs = space.jobs
    job = jobs.get(number)
    if job is None:
        return CommandError(GONE)
    recipe = recipes[job.op[0]]
    job.stamp_ms = space.stamp_ms
    if job.versions != _versions(space, recipe.sources(job.op)):
        space.drop_rows(job.record)
        job.restarts += 1
        answer = recipe.check(space, job.op)
        if not isinstance(answer, Check) or job.restarts > BULK_RESTARTS_MAX:
            jobs.end(job)
            return CommandError(CHANGED) if isinstance(answer, Check) else answer
        _start(space, job, recipe)
    made = collections.resume(space, *recipe.target(job.op), job.record)
    cursor = recipe.part(space, job.op, made, job.cursor, BULK_ROWS_PER_STEP_MAX)
    if isinstance(cursor, CommandError):
        space.drop_rows(made.to_record())
        jobs.end(job)
        return cursor
    if cursor is not None:
        job.cursor, job.record = cursor, made.to_record()
        return Unfinished(number)
    jobs.end(job)
    answer = recipe.check(space, job.op)
    if not isinstance(answer, Check):  # a COPY whose new name was taken meanwhile
        space.drop_rows(made.to_record())
        return answer
    return _put_in_place(space, job.op, recipe, made)


def _begin(space: Keyspace, op: Op, recipe: Recipe) -> Result:
    jobs = space.jobs
    jobs.drop(space)
    if len(list(jobs)) >= BULK_COMMANDS_MAX:
        return CommandError(TOO_MANY)
    job = Job(space.next_generation, 0, space.stamp_ms, op, [], b"")
    space.next_generation += 1
    _start(space, job, recipe)
    jobs.add(job)
    jobs.begun.append(job)
    return Unfinished(job.number)


def _start(space: Keyspace, job: Job, recipe: Recipe) -> None:
    """From the first row on, with the sources as they are."""
    made = collections.create(space, *recipe.target(job.op), recipe.kind(space, job.op))
    job.record, job.cursor = made.to_record(), BEGIN
    job.versions = _versions(space, recipe.sources(job.op))


def _put_in_place(space: Keyspace, op: Op, recipe: Recipe, made: Collection) -> Result:
    if made.count or made.kind == STREAM or space.find(made.number, made.key) is not None:
        space.advance()
    made.save()
    return recipe.finish(space, op, made)


def _versions(space: Keyspace, sources: list[Source]) -> list[int]:
    """Hashes of the sources' records, 0 for what is absent.

    A version would not do: what happens to the groups of a stream leaves it alone.
    """
    records = [space.find(*source) for source in sources]
    return [0 if record is None else xxh3_64_intdigest(record) for record in records]


def _count(space: Keyspace, source: Source) -> int:
    record = space.find(*source)
    if record is None or not record[0] & COLLECTION_BITS:
        return 0
    return collections.count_of(record)
