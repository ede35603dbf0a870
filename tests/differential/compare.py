"""From two transcripts of one sequence to the places where they differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.differential.commands import COMMANDS, EXCLUDED
from tests.differential.comparing import Accepted, Answer
from tests.differential.resp import QUEUED, Reply
from tests.differential.rules import (
    DELIBERATE,
    OPEN,
    RULE_OF,
    close_in_time,
)
from tests.differential.sequence import Send

Record: TypeAlias = tuple[Reply, object, Reply]
"""Type, value (without what no server promises) and PTTL of a key."""

Dump: TypeAlias = Mapping[tuple[int, bytes], Record]
"""The record of each key of each database."""

CONTAINERS: Final = {name.partition("|")[0] for name in [*COMMANDS, *EXCLUDED] if "|" in name}

_QUOTED = re.compile(rb"'.*'", re.DOTALL)


@dataclass(slots=True)
class Transcript:
    """What one server did with a sequence.

    Attributes:
        exchanges: the answered commands in order.
        walks: what each `Walk` found.
        dump: what was there at the end.
    """

    exchanges: list[tuple[Send, Reply]] = field(default_factory=list)
    walks: list[set[tuple[bytes, ...]]] = field(default_factory=list)
    dump: Dump = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the two servers differ.

    Attributes:
        name: the command, or `dump` or `walk`.
        line: the command line or the key.
        redis: what redis-server answered.
        kvnode: what kvnode answered.
    """

    name: str
    line: tuple[bytes, ...]
    redis: str
    kvnode: str
    signature: tuple[str, str, str]


def name_of(arguments: tuple[bytes, ...]) -> str:
    """The name of a command as in `COMMANDS`; what is unknown has no name."""
    name = arguments[0].decode("latin-1").lower()
    if name in CONTAINERS and len(arguments) > 1:
        name = f"{name}|{arguments[1].decode('latin-1').lower()}"
    return name if name in COMMANDS else ""


def answers(exchanges: Iterable[tuple[Send, Reply]]) -> list[Answer]:
    """The exchanges, with the results inside an EXEC's reply as answers of their own."""
    queues: dict[int, list[tuple[bytes, ...]]] = {}
    found: list[Answer] = []
    for send, reply in exchanges:
        queue = queues.setdefault(send.connection, [])
        if reply == QUEUED:
            queue.append(send.arguments)
        if send.name == b"exec" and queue and len(reply.elements) == len(queue):
            found.append(Answer(send.arguments, Reply(reply.kind, b"%d results" % len(queue))))
            found += map(Answer, queue, reply.elements)
        else:
            found.append(Answer(send.arguments, reply))
        if send.name in (b"exec", b"discard", b"reset", b"quit") and reply != QUEUED:
            queue.clear()
    return found


def same(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    """Whether the two answered the same at this place, by rule or byte for byte."""
    one, other = redis[at].reply, kvnode[at].reply
    if one == other:
        return True
    rule = RULE_OF.get(name_of(redis[at].arguments))
    by_bytes = rule is None or QUEUED in (one, other) or one.is_error or other.is_error
    return not by_bytes and rule is not None and rule.same(redis, kvnode, at)


def differences(redis: Transcript, kvnode: Transcript) -> list[Difference]:
    """Every place where the transcripts differ, accepted ones included."""
    ours, theirs = answers(kvnode.exchanges), answers(redis.exchanges)
    found = [
        _difference(name_of(one.arguments), one.arguments, one.reply, other.reply)
        for at, (one, other) in enumerate(zip(theirs, ours, strict=False))
        if one.arguments != other.arguments or not same(theirs, ours, at)
    ]
    if len(ours) != len(theirs) and not found:
        lengths = str(len(theirs)), str(len(ours))
        found.append(Difference("exec", (b"answers",), *lengths, ("exec", "", "")))
    for one_walk, other_walk in zip(redis.walks, kvnode.walks, strict=True):
        if one_walk != other_walk:
            texts = str(sorted(one_walk)), str(sorted(other_walk))
            found.append(Difference("walk", (), *texts, ("walk", "", "")))
    return found + _dump_differences(redis.dump, kvnode.dump)


def _difference(name: str, arguments: tuple[bytes, ...], redis: Reply, kvnode: Reply) -> Difference:
    signature = (name, _gist(redis), _gist(kvnode))
    return Difference(name, arguments, str(redis), str(kvnode), signature)


def _gist(reply: Reply) -> str:
    """A reply without what changes from case to case, so that one defect is reported once."""
    if reply.is_error:
        return _QUOTED.sub(b"'...'", reply.text).decode("latin-1")[:60]
    return f"{reply.kind.decode()}{'null' if reply.value is None else ''}"


def _dump_differences(redis: Dump, kvnode: Dump) -> list[Difference]:
    found = []
    for place in sorted(redis.keys() | kvnode.keys()):
        one, other = redis.get(place), kvnode.get(place)
        if one is None or other is None or not _same_record(one, other):
            texts = [", ".join(map(str, row)) if row else "absent" for row in (one, other)]
            line = (b"database %d" % place[0], place[1])
            signature = ("dump", str(one is None), str(other is None))
            found.append(Difference("dump", line, texts[0], texts[1], signature))
    return found


def _same_record(redis: Record, kvnode: Record) -> bool:
    return redis[:2] == kvnode[:2] and close_in_time(redis[2], kvnode[2], 1)


def accepted_by(difference: Difference, sent: Collection[bytes] = ()) -> Accepted | None:
    """The deliberate or open difference that this one is, if any.

    Args:
        difference: one that was found.
        sent: the commands of its sequence in lower case, each as often as it was sent.
    """
    texts = difference.redis, difference.kvnode
    for accepted in (*DELIBERATE, *OPEN):
        possible = sum(name in accepted.after for name in sent) >= accepted.times
        if (possible or not accepted.after) and accepted.matches(
            difference.name, difference.line, *texts
        ):
            return accepted
    return None
