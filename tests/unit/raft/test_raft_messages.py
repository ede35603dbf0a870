"""The border to peers: what decodes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raft import MESSAGES, Entry, MalformedMessage, Message, decode
from raft.messages import (
    RESERVED_CODES,
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    CommitNotice,
    Heartbeat,
    HeartbeatResponse,
    OrderRecovery,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)

SAMPLES: list[Message] = [
    RequestPreVote(2, 3, 1),
    PreVoteResponse(2, True),
    RequestVote(2, 3, 1, True),
    RequestVoteResponse(2, False),
    AppendEntries(2, 3, 1, 2, (Entry(1, 4, 0, b"a"), Entry(2, 5, 1, b""))),
    AppendResponse(2, 3, True, 1, 1, False),
    Heartbeat(2, 3, 7 << 32 | 1),
    HeartbeatResponse(2, 7 << 32 | 1, False),
    CommitAdvance(2, 3, 2),
    ReadIndexRequest(2, 9),
    ReadIndexResponse(2, 9, 3),
    TimeoutNow(2),
    OrderRecovery(2, 3, 1),
    CommitNotice(2, 3, 1),
]


def as_lists(message: Message) -> list[Any]:
    """What unpacking the wire gives: lists all the way down."""
    return [[*map(list, f)] if isinstance(f, tuple) else f for f in message]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    decoded = decode(message.CODE, as_lists(message))
    assert decoded == message
    assert type(decoded) is type(message)


def test_codes_are_permanent() -> None:
    assert {code: message.__name__ for code, message in MESSAGES.items()} == {
        1: "RequestPreVote",
        2: "PreVoteResponse",
        3: "RequestVote",
        4: "RequestVoteResponse",
        5: "AppendEntries",
        7: "Heartbeat",
        9: "CommitAdvance",
        10: "ReadIndexRequest",
        11: "ReadIndexResponse",
        12: "TimeoutNow",
        15: "AppendResponse",
        16: "HeartbeatResponse",
        17: "OrderRecovery",
        18: "CommitNotice",
    }
    assert set(RESERVED_CODES) == {6, 8, 13, 14}


def test_every_message_begins_with_its_term() -> None:
    assert all(message._fields[0] == "term" for message in MESSAGES.values())


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
def test_a_missing_or_surplus_field_is_refused(message: Message) -> None:
    fields = as_lists(message)
    for wrong in (fields[:-1], [*fields, 0]):
        with pytest.raises(MalformedMessage, match="fields, not"):
            decode(message.CODE, wrong)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("value", [None, "1", 1.0, -1, 2**64, b"", {}])
def test_a_field_of_the_wrong_type_or_range_is_refused(message: Message, value: object) -> None:
    for position in range(len(message)):
        fields = as_lists(message)
        fields[position] = value
        with pytest.raises(MalformedMessage):
            decode(message.CODE, fields)


def test_an_integer_is_no_boolean_and_a_boolean_no_integer() -> None:
    with pytest.raises(MalformedMessage, match=r"granted cannot be this int"):
        decode(RequestVoteResponse.CODE, [1, 1])
    with pytest.raises(MalformedMessage, match=r"term cannot be this bool"):
        decode(RequestVoteResponse.CODE, [True, True])


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="unknown message code 99"):
        decode(99, [])


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [1, 4, 0],
        [1, 4, 0, "text"],
        [1, 4, 300, b""],
        [1, 4, -1, b""],
        [1, 4, None, b""],
        [None, 4, 0, b""],
        [1, 5, 0, b""],  # a gap after entry 3
        [0, 4, 0, b""],  # no term
        [3, 4, 0, b""],  # a later term than the message's
    ],
)
def test_an_entry_that_cannot_be_is_refused(entry: object) -> None:
    with pytest.raises(MalformedMessage):
        decode(AppendEntries.CODE, [2, 3, 1, 0, [entry]])


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (AppendEntries.CODE, [2, 3, 0, 0, []]),
        (AppendEntries.CODE, [2, 0, 1, 0, []]),
        (AppendEntries.CODE, [2, 3, 3, 0, []]),
        (AppendEntries.CODE, [3, 3, 2, 0, [[2, 4, 0, b""], [1, 5, 0, b""]]]),
        (AppendEntries.CODE, [2, 2**64 - 1, 1, 0, [[1, 2**64, 0, b""]]]),
        (AppendResponse.CODE, [2, 3, True, 4, 1]),
        (RequestVote.CODE, [2, 0, 1, False]),
        (RequestVote.CODE, [2, 5, 3, False]),
        (RequestPreVote.CODE, [2, 5, 0]),
        (CommitAdvance.CODE, [2, 0, 1]),
        (CommitAdvance.CODE, [2, 5, 3]),
        (CommitAdvance.CODE, [2, 5, 0]),
        (TimeoutNow.CODE, [0]),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(code: int, fields: list[object]) -> None:
    with pytest.raises(MalformedMessage):
        decode(code, fields)
