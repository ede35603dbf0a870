"""Messages between nodes: one small immutable type per kind, with a permanent code.

A message is packed as `[CODE, *fields]`. The fields are unsigned 64-bit integers and booleans, and
for `AppendEntries` a sequence of entries `[term, index, kind, data]`. Codes and the order of fields
never change; a new field means a new code.

The first field is the sender's term. One exception: the term of `RequestPreVote`, and of the
`PreVoteResponse` that grants it, is the term that the sender *would* start. Nobody adopts it.

`decode` is the border: behind it a message has the right shape and does not contradict itself. It
can still be out of date, repeated or out of order; the state machine expects that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple, TypeAlias, cast, get_type_hints

from raft.types import U64_MAX, Entry, RaftError

ENTRY_KIND_MAX: Final = 255


class MalformedMessage(RaftError):
    """A peer sent something that no correct node sends; the text says what."""


class RequestPreVote(
    NamedTuple("RequestPreVote", [("term", int), ("last_index", int), ("last_term", int)])
):
    """Would you vote for me in `term`? Changes nothing at the receiver (thesis, section 9.6)."""

    __slots__ = ()
    CODE: ClassVar[int] = 1


class PreVoteResponse(NamedTuple("PreVoteResponse", [("term", int), ("granted", bool)])):
    """Granted: `term` is the one asked for. Refused: it is the sender's own."""

    __slots__ = ()
    CODE: ClassVar[int] = 2


class RequestVote(
    NamedTuple(
        "RequestVote",
        [("term", int), ("last_index", int), ("last_term", int), ("transfer", bool)],
    )
):
    """Vote for me (paper, section 5.2). `transfer`: the leader itself asked for this election."""

    __slots__ = ()
    CODE: ClassVar[int] = 3


class RequestVoteResponse(NamedTuple("RequestVoteResponse", [("term", int), ("granted", bool)])):
    """The sender's vote in `term`, durable if granted."""

    __slots__ = ()
    CODE: ClassVar[int] = 4


class AppendEntries(
    NamedTuple(
        "AppendEntries",
        [
            ("term", int),
            ("previous_index", int),
            ("previous_term", int),
            ("commit", int),
            ("entries", tuple[Entry, ...]),
        ],
    )
):
    """Entries that follow (previous_index, previous_term) (paper, section 5.3)."""

    __slots__ = ()
    CODE: ClassVar[int] = 5


class AppendResponse(
    NamedTuple(
        "AppendResponse",
        [
            ("term", int),
            ("index", int),
            ("rejected", bool),
            ("hint_index", int),
            ("hint_term", int),
            ("recovering", bool),
        ],
    )
):
    """Accepted: the log up to `index` equals the leader's and is durable here.

    Rejected: `index` is the `previous_index` that did not match; the logs can only meet at or
    before `hint_index`, where the sender's entry has `hint_term`. `recovering`: replicate to me,
    but do not count me (`raft.recovery`).
    """

    __slots__ = ()
    CODE: ClassVar[int] = 15


class Heartbeat(NamedTuple("Heartbeat", [("term", int), ("commit", int), ("round", int)])):
    """I am the leader; `commit` is never beyond the receiver's acknowledged log.

    `round` is the newest read round on its way, 0 if there is none.
    """

    __slots__ = ()
    CODE: ClassVar[int] = 7


class HeartbeatResponse(
    NamedTuple("HeartbeatResponse", [("term", int), ("round", int), ("recovering", bool)])
):
    """You are the leader; `round` is returned as it came; `recovering`: do not count me."""

    __slots__ = ()
    CODE: ClassVar[int] = 16


class CommitAdvance(
    NamedTuple("CommitAdvance", [("term", int), ("commit", int), ("commit_term", int)])
):
    """The commit index moved, and no entries were due that could carry it. Never answered.

    A log that has `commit_term` at `commit` equals the leader's up to there (log matching), so the
    receiver needs no other check.
    """

    __slots__ = ()
    CODE: ClassVar[int] = 9


class ReadIndexRequest(NamedTuple("ReadIndexRequest", [("term", int), ("request_id", int)])):
    """Which index must I have applied to serve reads that arrived before this (thesis, 6.4)?"""

    __slots__ = ()
    CODE: ClassVar[int] = 10


class ReadIndexResponse(
    NamedTuple("ReadIndexResponse", [("term", int), ("request_id", int), ("index", int)])
):
    """This one."""

    __slots__ = ()
    CODE: ClassVar[int] = 11


class TimeoutNow(NamedTuple("TimeoutNow", [("term", int)])):
    """Start an election at once: I hand leadership over to you (thesis, section 3.10)."""

    __slots__ = ()
    CODE: ClassVar[int] = 12


class OrderRecovery(
    NamedTuple("OrderRecovery", [("term", int), ("index", int), ("index_term", int)])
):
    """You acknowledged my log up to `index`, where the term is `index_term`, and seem to lack it.

    The receiver judges, for only it can: a log that has this entry is whole, and is acknowledged
    once more. Any other lost what was acknowledged, and its owner starts to recover.
    """

    __slots__ = ()
    CODE: ClassVar[int] = 17


class CommitNotice(
    NamedTuple("CommitNotice", [("term", int), ("commit", int), ("commit_term", int)])
):
    """This I know to be committed. From anybody: to a candidate, and to all while nobody leads.

    True in every term, so it is taken in any; a log that has `commit_term` at `commit` has all that
    led to it. Who goes by a membership that is out of date may need it: those who could vote for it
    may have left, and a change that it holds already may say so. `term` is `commit_term` (once it
    was the sender's own): no reason for anybody to give up office.
    """

    __slots__ = ()
    CODE: ClassVar[int] = 18


RESERVED_CODES: Final = {
    6: "AppendResponse without `recovering`",
    8: "HeartbeatResponse without `recovering`",
    13: "InstallSnapshot",
    14: "InstallSnapshotResponse",
}
"""Taken for good. Snapshots travel beside Raft, in messages of the driver's own."""

Message: TypeAlias = (
    RequestPreVote
    | PreVoteResponse
    | RequestVote
    | RequestVoteResponse
    | AppendEntries
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | CommitAdvance
    | ReadIndexRequest
    | ReadIndexResponse
    | TimeoutNow
    | OrderRecovery
    | CommitNotice
)

MESSAGES: Final[dict[int, type[Message]]] = {
    message.CODE: message
    for message in (
        RequestPreVote,
        PreVoteResponse,
        RequestVote,
        RequestVoteResponse,
        AppendEntries,
        AppendResponse,
        Heartbeat,
        HeartbeatResponse,
        CommitAdvance,
        ReadIndexRequest,
        ReadIndexResponse,
        TimeoutNow,
        OrderRecovery,
        CommitNotice,
    )
}


def _types_of_fields(message: type[Message]) -> tuple[object, ...]:
    hints = get_type_hints(message)
    return tuple(hints[name] for name in message._fields)


_FIELD_TYPES: Final = {code: _types_of_fields(message) for code, message in MESSAGES.items()}


def decode(code: int, fields: Sequence[object]) -> Message:
    """Turn what a peer sent into a message.

    `fields` are the unpacked fields; entries may be any sequences of four values.

    Raises:
        MalformedMessage: unknown code, or wrong count, type or range, or a contradiction.
    """
    message_type = MESSAGES.get(code)
    if message_type is None:
        raise MalformedMessage(f"unknown message code {code!r}")
    types = _FIELD_TYPES[code]
    if len(fields) != len(types):
        raise MalformedMessage(
            f"{message_type.__name__} has {len(types)} fields, not {len(fields)}"
        )
    values = list(fields)
    for position, kind in enumerate(types):
        value = values[position]
        if kind is int:
            if type(value) is not int or not 0 <= value <= U64_MAX:
                raise MalformedMessage(_bad_field(message_type, position, value))
        elif kind is bool:
            if type(value) is not bool:
                raise MalformedMessage(_bad_field(message_type, position, value))
        else:
            values[position] = _decode_entries(value)
    message = message_type._make(values)
    if message.term == 0:
        raise MalformedMessage(f"{message_type.__name__} in term 0")
    check = _CHECKS.get(code)
    if check is not None:
        check(message)
    return message


def _bad_field(message_type: type[Message], position: int, value: object) -> str:
    # The type and not the value: a peer must not decide how long our log lines are.
    name = message_type._fields[position]
    return f"{message_type.__name__}.{name} cannot be this {type(value).__name__}"


def _decode_entries(value: object) -> tuple[Entry, ...]:
    if not isinstance(value, list | tuple):
        raise MalformedMessage(f"entries cannot be a {type(value).__name__}")
    entries = []
    for item in value:
        if not isinstance(item, list | tuple) or len(item) != 4:
            raise MalformedMessage("an entry has four fields")
        term, index, kind, data = item
        if type(term) is not int or type(index) is not int or type(kind) is not int:
            raise MalformedMessage("term, index and kind of an entry are integers")
        if not 0 <= kind <= ENTRY_KIND_MAX or type(data) is not bytes:
            raise MalformedMessage("kind or data of an entry is out of range")
        entries.append(Entry(term, index, kind, data))
    return tuple(entries)


def _check_append(message: AppendEntries) -> None:
    index = message.previous_index
    term = message.previous_term
    if (index == 0) != (term == 0):
        raise MalformedMessage(f"previous entry {index} cannot have term {term}")
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term or entry.term == 0:
            raise MalformedMessage(
                f"entry {entry.index} of term {entry.term} cannot follow {index - 1} of {term}"
            )
        term = entry.term
    if term > message.term or index > U64_MAX:
        raise MalformedMessage(f"entries reach {index} of term {term} in term {message.term}")


def _check_append_response(message: AppendResponse) -> None:
    if message.rejected and message.hint_index > message.index:
        raise MalformedMessage(f"hint {message.hint_index} is behind {message.index}")


def _check_last_entry(message: RequestVote | RequestPreVote) -> None:
    # A candidate has no entry yet of the term that it stands for.
    if (message.last_index == 0) != (message.last_term == 0) or message.last_term >= message.term:
        raise MalformedMessage(
            f"last entry {message.last_index} cannot have term {message.last_term}"
        )


def _check_entry(message: CommitAdvance | OrderRecovery | CommitNotice) -> None:
    _, index, term = message
    if index == 0 or not 0 < term <= message.term:
        raise MalformedMessage(f"entry {index} cannot have term {term}")


_CHECKS: Final = cast(
    "dict[int, Callable[[Message], None]]",
    {
        AppendEntries.CODE: _check_append,
        AppendResponse.CODE: _check_append_response,
        RequestVote.CODE: _check_last_entry,
        RequestPreVote.CODE: _check_last_entry,
        CommitAdvance.CODE: _check_entry,
        OrderRecovery.CODE: _check_entry,
        CommitNotice.CODE: _check_entry,
    },
)
