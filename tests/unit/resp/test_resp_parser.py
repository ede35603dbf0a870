"""The request parser: any chunking, every violation, and no memory for promises."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.errors import CommandError
from kvnode.limits import (
    ARGUMENTS_MAX,
    COMMAND_BYTES_MAX,
    INLINE_BYTES_MAX,
    KIB,
    MIB,
    PARSE_REQUESTS_MAX,
    PARSE_STEPS_MAX,
    VALUE_BYTES_MAX,
)
from kvnode.resp.info import memory_figures
from kvnode.resp.parser import ARGUMENT_OVERHEAD_BYTES, Parser, split_inline
from tests.unit.resp import reference_parser


def encode(*arguments: bytes) -> bytes:
    bulks = [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"*%d\r\n%b" % (len(arguments), b"".join(bulks))


def parse(chunks: Iterable[bytes], parser: Parser | None = None) -> list[list[bytes]]:
    parser = parser or Parser()
    requests: list[list[bytes]] = []
    for chunk in chunks:
        found = parser.feed(chunk)
        while parser.is_behind:
            found += parser.feed(b"")
        for arguments, size in found:
            assert isinstance(arguments, list)
            assert size >= sum(map(len, arguments))
            requests.append(arguments)
    return requests


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut `data` into chunks of the sizes, over and over."""
    chunks = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        chunks.append(data[at : at + size])
        at += size
        turn += 1
    return chunks


# --- any chunking gives the same commands ---------------------------------------------------------

ARGUMENT = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"", b"\r\n", b"*1000\r\n", b"$5\r\n", b"\n+OK\r\n", b"\n>3\r\n", b"x" * 300, b"a=b", b"*"]
    ),
)
COMMAND = st.lists(ARGUMENT, min_size=1, max_size=6).map(lambda arguments: encode(*arguments))
WIDE = st.integers(95, 130).map(lambda count: encode(*[b"x"] * count))
INLINE = st.sampled_from(
    [b"PING\r\n", b"GET k\n", b"\r\n", b"  SET  a  'b c' \r\n", b'ECHO "\\x41\\n"\r\n', b"*0\r\n"]
)
NOISE = st.sampled_from(
    [
        b"*-1\r\n", b"*3\r\n", b"$3\r\n", b"+OK\r\n", b":1\r\n", b"*1\r\n+PING\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n", b"%1\r\n", b"*01\r\n", b"*1\r\n$01\r\nx\r\n", b"*1\r\n$-1\r\n",
        b"*1\r\n=5\r\ntxt:x\r\n", b"*1\r\n(12\r\n", b"*1\r\n_\r\n", b"~1\r\n$1\r\nx\r\n",
        b"*1\r\n~1\r\n$1\r\nx\r\n", b">1\r\n$1\r\nx\r\n", b"|1\r\n$1\r\na\r\n$1\r\nb\r\n", b'"\r\n',
        b"*\r\n", b"*1\r\n$\r\n", b"*1x\r\n", b"*1\r\n$1x\r\n", b"*+1\r\n", b"\0",
        b"*1\r\n,1.5\r\n",
    ]
)  # fmt: skip
SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=5)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(COMMAND, COMMAND, COMMAND, WIDE, INLINE, NOISE), max_size=10), SIZES)
def test_every_chunking_of_every_stream_reads_like_the_reference(
    parts: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(parts)
    expected, violation, _ = reference_parser.parse(stream)
    for chunks in (cut(stream, sizes), [stream]):
        parser = Parser()
        assert parse(chunks, parser) == expected
        assert parser.violation == violation


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(COMMAND, INLINE), max_size=10), SIZES)
def test_a_stranger_is_read_one_request_at_a_time(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    expected, _, _ = reference_parser.parse(stream)
    parser = Parser(restricted=True)
    requests: list[list[bytes]] = []
    for chunk in cut(stream, sizes):
        found = parser.feed(chunk)
        while found:
            assert len(found) == 1
            assert isinstance(found[0][0], list)
            requests.append(found[0][0])
            found = parser.feed(b"")
    assert requests == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), SIZES)
def test_garbage_never_raises_and_reads_like_the_reference(stream: bytes, sizes: list[int]) -> None:
    expected, violation, _ = reference_parser.parse(stream)
    parser = Parser()
    assert parse(cut(stream, sizes), parser) == expected
    assert parser.violation == violation


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize(
    ("stream", "count"),
    [
        (b"\r\n" * 20_000 + b"PING\r\n", 1),
        (b"*0\r\n" * 20_000 + b"PING\r\n", 1),
        (b"PING\r\n" * 20_000, 20_000),
        (encode(b"PING") * 20_000, 20_000),
        (encode(b"DEL", *[b"k"] * 20_000)[:-1], 0),
    ],
    ids=["line ends", "empty arrays", "inline", "arrays", "arguments"],
)
def test_no_chunk_takes_long_at_once(stream: bytes, count: int, restricted: bool) -> None:
    parser = Parser(restricted=restricted)
    requests = parser.feed(stream)
    calls = 1
    while parser.is_behind:
        found = parser.feed(b"")
        assert len(found) <= PARSE_REQUESTS_MAX + PARSE_STEPS_MAX
        requests += found
        calls += 1
    if restricted and count == 0:
        assert parser.violation is not None
        return
    assert [arguments for arguments, _ in requests] == [[b"PING"]] * count
    assert calls >= 20_000 // (PARSE_REQUESTS_MAX + PARSE_STEPS_MAX)


def test_a_login_in_a_chunk_lifts_the_limits_for_the_rest_of_it() -> None:
    wide = encode(*[b"x"] * 50)
    parser = Parser(restricted=True)
    assert parser.feed(encode(b"AUTH", b"secret") + wide + wide)[0][0] == [b"AUTH", b"secret"]
    parser.restricted = False
    assert parse([b""], parser) == [[b"x"] * 50] * 2
    assert parser.held_bytes == 0


def test_nothing_is_held_between_requests() -> None:
    parser = Parser()
    parser.feed(encode(b"SET", b"k", b"v") + encode(b"GET", b"k")[:-5])
    assert parser.held_bytes > 0
    parser.feed(encode(b"GET", b"k")[-5:])
    assert parser.held_bytes == 0


# --- inline commands ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"SET k v", [b"SET", b"k", b"v"]),
        (b"  SET\tk   v ", [b"SET", b"k", b"v"]),
        (b"SET k 'a b'", [b"SET", b"k", b"a b"]),
        (b"SET k 'it\\'s'", [b"SET", b"k", b"it's"]),
        (b'SET k "a\\"b"', [b"SET", b"k", b'a"b']),
        (b'SET k "\\x00\\xff\\n\\r\\t\\a\\b\\q"', [b"SET", b"k", b"\x00\xff\n\r\t\a\bq"]),
        (b'SET k pre"fix"', [b"SET", b"k", b"prefix"]),
        (b'SET k ""', [b"SET", b"k", b""]),
        (b"SET k ''", [b"SET", b"k", b""]),
        (b'"" x', [b"", b"x"]),
        (b"", []),
        (b"   ", []),
    ],
)
def test_inline_arguments_are_split_as_redis_splits_them(
    line: bytes, arguments: list[bytes]
) -> None:
    assert split_inline(line) == arguments


@pytest.mark.parametrize("line", [b"SET 'k", b'SET "k', b"SET 'k'v", b'"a""b"', b"'a\\'", b'"a\\"'])
def test_unbalanced_quotes_are_a_violation(line: bytes) -> None:
    parser = Parser()
    assert parser.feed(line + b"\r\n") == []
    assert parser.violation == "Protocol error: unbalanced quotes in request"


def test_an_evil_line_of_escapes_is_refused_in_linear_time() -> None:
    parser = Parser()
    parser.feed(b'"' + b"\\x41" * 10_000 + b"\r\n")
    assert parser.violation is not None


# --- violations, in Redis' words ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "violation"),
    [
        (b"*abc\r\n", "Protocol error: invalid multibulk length"),
        (b"*100000000\r\n", "Protocol error: invalid multibulk length"),
        (b"*%d\r\n" % (ARGUMENTS_MAX + 1), "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$600000000\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$-5\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$abc\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\nPING\r\n", "Protocol error: expected '$', got 'P'"),
        (b"*1\r\n\r\n", "Protocol error: expected '$', got '\r'"),
        (b"*1\r\n*1\r\n$1\r\nx\r\n", "Protocol error: expected '$', got '*'"),
        (b"*1\r\n+PING\r\n", "Protocol error: expected '$', got '+'"),
        (b"*" + b"1" * 100, "Protocol error: invalid multibulk length"),
        (b"x" * INLINE_BYTES_MAX, "Protocol error: too big inline request"),
    ],
)
def test_a_violation_is_named_and_the_stream_ends(stream: bytes, violation: str) -> None:
    parser = Parser()
    assert parse([encode(b"PING"), stream, encode(b"PING")], parser) == [[b"PING"]]
    assert parser.violation == violation
    assert parser.held_bytes == 0


@pytest.mark.parametrize(
    ("stream", "violation"),
    [
        (encode(*[b"x"] * 11), "Protocol error: unauthenticated multibulk length"),
        (encode(b"x" * (16 * KIB + 1)), "Protocol error: unauthenticated bulk length"),
    ],
)
def test_a_stranger_may_not_make_us_buffer(stream: bytes, violation: str) -> None:
    parser = Parser(restricted=True)
    assert parser.feed(stream) == []
    assert parser.violation == violation


def test_requests_before_a_violation_are_returned() -> None:
    parser = Parser()
    assert parse([encode(b"PING") * 3 + b"*1\r\n:1\r\n"], parser) == [[b"PING"]] * 3
    assert parser.violation == "Protocol error: expected '$', got ':'"


# --- too large: a clear error, and the stream goes on ---------------------------------------------


def test_a_value_over_the_limit_is_skipped_and_answered_with_an_error() -> None:
    parser = Parser()
    big = encode(b"SET", b"k", b"x" * (VALUE_BYTES_MAX + 1))
    found = [
        each for chunk in cut(big + encode(b"PING"), [64 * KIB]) for each in parser.feed(chunk)
    ]
    refusal, ping = found
    assert isinstance(refusal[0], CommandError)
    assert refusal[0].text == f"ERR value is larger than {VALUE_BYTES_MAX} bytes"
    assert ping[0] == [b"PING"]
    assert parser.held_bytes == 0


def test_the_limit_holds_for_a_command_in_one_chunk_too() -> None:
    big = encode(b"SET", b"k", b"x" * (VALUE_BYTES_MAX + 1))
    assert isinstance(Parser().feed(big)[0][0], CommandError)


def test_a_value_at_the_limit_is_read() -> None:
    value = b"x" * VALUE_BYTES_MAX
    assert parse(cut(encode(b"SET", b"k", value), [64 * KIB])) == [[b"SET", b"k", value]]


def test_a_command_over_the_limit_is_let_go_while_it_arrives() -> None:
    parser = Parser()
    value = b"x" * VALUE_BYTES_MAX
    count = COMMAND_BYTES_MAX // VALUE_BYTES_MAX
    parser.feed(b"*%d\r\n" % (count + 3))
    for _ in range(count):
        parser.feed(b"$%d\r\n%b\r\n" % (len(value), value))
    assert parser.held_bytes == COMMAND_BYTES_MAX + count * ARGUMENT_OVERHEAD_BYTES
    parser.feed(b"$1\r\nx\r\n")
    assert parser.held_bytes == 0
    (arguments, _), ping = parser.feed(b"$1\r\nx\r\n$1\r\nx\r\n" + encode(b"PING"))
    assert isinstance(arguments, CommandError)
    assert arguments.text == f"ERR command is larger than {COMMAND_BYTES_MAX} bytes"
    assert ping[0] == [b"PING"]


# --- no memory for promises -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunk",
    [
        b"*100000000\r\n",
        encode(b"PING") + b"*100000000\r\n",
        encode(b"PING") * 10 + b"*131072\r\n" * 5,
        b"*99999\r\n" * 8000,
        b"*99\r\n" * 13_000,
        b"*1\r\n$600000000\r\n",
        b"*1\r\n$33554432\r\n",
        encode(b"PING") + b"~100000000\r\n",
        encode(b"PING") + b"*2\r\n>100000000\r\n",
        encode(b"PING") + b"*2\r\n|100000000\r\n",
    ],
)
def test_an_announcement_costs_no_memory(chunk: bytes) -> None:
    parser = Parser()
    parser.feed(encode(b"PING"))
    tracemalloc.start()
    try:
        for piece in (chunk[:7], chunk[7:]):
            parser.feed(piece)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12 * len(chunk) + 256 * KIB


def test_a_body_grows_with_what_arrived_only() -> None:
    parser = Parser()
    tracemalloc.start()
    try:
        parser.feed(b"*1\r\n$%d\r\n" % VALUE_BYTES_MAX)
        parser.feed(b"x" * 1000)
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
    assert parser.held_bytes == 1000


def test_a_node_with_little_memory_takes_smaller_commands_and_the_stream_goes_on() -> None:
    parser = Parser(command_bytes_max=100)
    value = b"$60\r\n" + b"x" * 60 + b"\r\n"
    (refused, size), (ping, _) = parser.feed(b"*3\r\n$4\r\nMSET\r\n" + value[:20]) + parser.feed(
        value[20:] + value + b"PING\r\n"
    )
    assert isinstance(refused, CommandError)
    assert refused.text == "ERR command is larger than 100 bytes"
    assert size == 0
    assert ping == [b"PING"]


def test_a_client_that_sent_a_large_chunk_costs_nothing_when_it_was_read() -> None:
    request = encode(b"SET", b"k", b"x" * 200 * KIB)
    parsers = [Parser() for _ in range(200)]
    before = memory_figures().used_bytes
    for parser in parsers:
        assert parse([request], parser)
    assert memory_figures().used_bytes - before < len(parsers) * 32 * KIB
