"""The peer protocol: every message survives the wire, and nonsense is refused as a whole."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.node import frames, hello, wire
from kvnode.node.frames import FrameBuffer, MalformedFrame
from kvnode.node.hello import Hello, JoinAnswer, JoinRequest, Refusal, RefusalReason, Welcome
from kvnode.node.wire import (
    ChangeDecided,
    ChangeForward,
    CoverageAnswer,
    CoverageQuery,
    Fitness,
    Forward,
    ForwardRejected,
    Register,
    SnapshotAck,
    SnapshotChunk,
    SnapshotOffer,
    Strained,
)
from raft.messages import AppendEntries, Heartbeat
from raft.types import Entry

HELLO = Hello(
    "cluster",
    sender=1,
    receiver=2,
    storage_id=3,
    incarnation=4,
    version="0.1.0",
    client_address="127.0.0.1:6379",
    recovering=False,
    level=3,
    configured_at=17,
    peer_address="127.0.0.1:7379",
)


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
        ChangeForward(1, "join", "d", "c", "h:1", "h:2", 2**64 - 1, True, 3),
        ChangeDecided(1, "done", "a sentence", 7),
        Strained(2, is_late=True),
        Fitness(2, is_late=True, is_draining=True),
    ]
    stamp, back = wire.decode_messages(body(wire.encode_messages(1234, messages)))
    assert (stamp, back) == (1234, messages)
    assert [type(m) for m in back] == [type(m) for m in messages]


def test_hello_and_answers_come_back_equal() -> None:
    assert hello.decode_first(body(hello.encode_hello(HELLO))) == HELLO
    welcome = Welcome(3, 4, "0.1.0", "127.0.0.1:1", recovering=True, level=3)
    assert hello.decode_answer(body(hello.encode_welcome(welcome))) == welcome
    refusal = Refusal(RefusalReason.WRONG_CLUSTER, "this is another cluster")
    assert hello.decode_answer(body(hello.encode_refusal(refusal))) == refusal


def test_a_request_to_join_and_its_answer_come_back_equal() -> None:
    request = JoinRequest("d", "c", "h:7379", "h:6379", 2**64 - 1, promote=True, level=3)
    assert hello.decode_first(body(hello.encode_join(request))) == request
    answer = JoinAnswer("done", "a sentence", 7, "cluster", "origin")
    assert hello.decode_joined(body(hello.encode_joined(answer))) == answer


def test_a_refusal_may_answer_a_request_to_join_and_a_welcome_may_not() -> None:
    refusal = Refusal(RefusalReason.WRONG_WIRE_VERSION, "speak otherwise")
    assert hello.decode_joined(body(hello.encode_refusal(refusal))) == refusal
    with pytest.raises(MalformedFrame):
        hello.decode_joined(body(hello.encode_welcome(Welcome(3, 4, "v", "a", recovering=False))))


def test_hello_and_request_to_join_are_since_wire_version_3_what_they_were() -> None:
    """So a node of version 3 learns who dials in it, and admits a newer one."""
    frame = hello.encode_hello(HELLO._replace(wire_version=3))
    assert hello.decode_first(body(frame)) == HELLO._replace(wire_version=3)
    welcome = Welcome(3, 4, "0.1.0", "127.0.0.1:1", recovering=True, level=4)
    assert hello.decode_answer(body(hello.encode_welcome(welcome, wire_version=3))) == welcome
    request = JoinRequest("d", "", "h:7379", "h:6379", 1, promote=True, level=4)
    assert msgpack.unpackb(body(hello.encode_join(request)))[2] == 3


def test_a_node_of_the_wire_version_before_is_understood_and_answered_in_it() -> None:
    """Nine fields in the hello and five in the welcome are what version 2 sends and takes."""
    old = HELLO._replace(wire_version=2, level=2, configured_at=0, peer_address="")
    frame = hello.encode_hello(HELLO._replace(wire_version=2))
    assert len(msgpack.unpackb(body(frame))) == 3 + 9
    assert hello.decode_first(body(frame)) == old
    welcome = Welcome(3, 4, "0.1.0", "127.0.0.1:1", recovering=True, level=3)
    answer = hello.encode_welcome(welcome, wire_version=2)
    assert len(msgpack.unpackb(body(answer))) == 1 + 5
    assert hello.decode_answer(body(answer)) == welcome._replace(level=2)


@pytest.mark.parametrize("reason", [RefusalReason.REMOVED, RefusalReason.TOO_OLD])
def test_a_node_of_the_wire_version_before_is_ended_by_a_reason_that_it_knows(
    reason: RefusalReason,
) -> None:
    answer = hello.encode_refusal(Refusal(reason, "go"), wire_version=2)
    assert hello.decode_answer(body(answer)) == Refusal(RefusalReason.OLD_DIRECTORY, "go")
    assert RefusalReason.OLD_DIRECTORY.is_final
    assert hello.decode_answer(body(hello.encode_refusal(Refusal(reason, "go")))).reason is reason


@pytest.mark.parametrize("version", [0, 1, 99, "3", None])
def test_a_hello_of_another_wire_version_gets_a_refusal_that_says_so(version: object) -> None:
    fields = msgpack.packb([hello.FrameCode.HELLO, hello.MAGIC, version, "whatever", "comes"])
    answer = hello.decode_first(fields)
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
    decoders = (wire.decode_messages, hello.decode_first, hello.decode_answer, hello.decode_joined)
    for decode in decoders:
        with contextlib.suppress(MalformedFrame):
            decode(data)


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(frames.encode_frame(b) for b in bodies)
    buffer, got, at = FrameBuffer(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        got += buffer.feed(stream[at : at + step])
        at += step
    assert got == bodies


def test_a_large_frame_in_many_chunks_is_copied_once_and_not_once_per_chunk() -> None:
    frame = frames.encode_frame(b"x" * 4_000_000)
    buffer = FrameBuffer()
    chunks = [frame[at : at + 1_000] for at in range(0, len(frame), 1_000)]
    assert all(buffer.feed(chunk) == [] for chunk in chunks[:-1])
    assert buffer.feed(chunks[-1]) == [frame[4:]]


def test_a_frame_larger_than_any_real_one_is_refused_before_it_is_buffered() -> None:
    with pytest.raises(MalformedFrame, match="announced"):
        FrameBuffer(frame_bytes_max=10).feed((11).to_bytes(4, "big"))
