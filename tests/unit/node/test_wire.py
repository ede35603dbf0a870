"""The peer protocol: every message survives the wire, and nonsense is refused as a whole."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.node import wire
from kvnode.node.wire import (
    CoverageAnswer,
    CoverageQuery,
    Forward,
    ForwardRejected,
    FrameBuffer,
    Hello,
    MalformedFrame,
    Refusal,
    RefusalReason,
    Register,
    SnapshotAck,
    SnapshotChunk,
    SnapshotOffer,
    Welcome,
)
from raft.messages import AppendEntries, Heartbeat
from raft.types import Entry

HELLO = Hello("cluster", 1, 2, 3, 4, "0.1.0", "127.0.0.1:6379", recovering=False)


def body(frame: bytes) -> memoryview:
    (only,) = FrameBuffer().feed(frame)
    return only


def test_messages_of_raft_and_of_the_node_come_back_equal_and_in_order() -> None:
    messages = [
        AppendEntries(3, 7, 2, 6, (Entry(3, 8, 0, b"data"), Entry(3, 9, 0, b""))),
        Heartbeat(3, 6, 5),
        Forward(12, 1, b"\x90"),
        ForwardRejected(1),
        Register(2**64 - 1, 7),
        SnapshotOffer(3, 100, 2, 12345),
        SnapshotChunk(3, 100, 0, b"bytes"),
        SnapshotAck(100, 5, 0),
        CoverageQuery(),
        CoverageAnswer(3, [1, 2**64 - 1], [7, 0]),
        CoverageAnswer(3, [], []),
    ]
    stamp, back = wire.decode_messages(body(wire.encode_messages(1234, messages)))
    assert (stamp, back) == (1234, messages)
    assert [type(m) for m in back] == [type(m) for m in messages]


def test_hello_and_answers_come_back_equal() -> None:
    assert wire.decode_hello(body(wire.encode_hello(HELLO))) == HELLO
    welcome = Welcome(3, 4, "0.1.0", "127.0.0.1:1", recovering=True)
    assert wire.decode_answer(body(wire.encode_welcome(welcome))) == welcome
    refusal = Refusal(RefusalReason.WRONG_CLUSTER, "this is another cluster")
    assert wire.decode_answer(body(wire.encode_refusal(refusal))) == refusal


def test_a_hello_of_another_wire_version_gets_a_refusal_that_says_so() -> None:
    fields = msgpack.packb([wire.FrameCode.HELLO, wire.MAGIC, 99, "whatever", "comes", "next"])
    answer = wire.decode_hello(fields)
    assert isinstance(answer, Refusal)
    assert answer.reason is RefusalReason.WRONG_WIRE_VERSION


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {},
        17,
        [1, [[9999]]],
        [1, [[wire.Forward.CODE, 1, 2]]],
        [1, [[wire.Forward.CODE, 1, 2, "text, not bytes"]]],
        [1, [[wire.Forward.CODE, True, 2, b""]]],
        [1, [[wire.Register.CODE, -1, 2]]],
        [-1, []],
        [1, "messages"],
        [1, [17]],
        [1, [[Heartbeat.CODE, 1]]],
        [1, [[wire.CoverageQuery.CODE, 1]]],
        [1, [[wire.CoverageAnswer.CODE, 3, [1], 7]]],
        [1, [[wire.CoverageAnswer.CODE, 3, [1], [-7]]]],
        [1, [[wire.CoverageAnswer.CODE, 3, [1], [[7]]]]],
        [1, [[wire.CoverageAnswer.CODE, 3, [True], [7]]]],
    ],
)
def test_nonsense_is_a_malformed_frame_and_nothing_else(fields: object) -> None:
    with pytest.raises(MalformedFrame):
        wire.decode_messages(msgpack.packb(fields))


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_but_malformed_frame(data: bytes) -> None:
    for decode in (wire.decode_messages, wire.decode_hello, wire.decode_answer):
        with contextlib.suppress(MalformedFrame):
            decode(data)


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(wire.encode_frame(b) for b in bodies)
    buffer, got, at = FrameBuffer(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        got += buffer.feed(stream[at : at + step])
        at += step
    assert got == bodies


def test_a_large_frame_in_many_chunks_is_copied_once_and_not_once_per_chunk() -> None:
    frame = wire.encode_frame(b"x" * 4_000_000)
    buffer = FrameBuffer()
    chunks = [frame[at : at + 1_000] for at in range(0, len(frame), 1_000)]
    assert all(buffer.feed(chunk) == [] for chunk in chunks[:-1])
    assert buffer.feed(chunks[-1]) == [frame[4:]]


def test_a_frame_larger_than_any_real_one_is_refused_before_it_is_buffered() -> None:
    with pytest.raises(MalformedFrame, match="announced"):
        FrameBuffer(frame_bytes_max=10).feed((11).to_bytes(4, "big"))
