"""Grammar of the commands on consumer groups, and the shapes of their replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import (
    INT64_MAX,
    SYNTAX_ERROR,
    check_key,
    integer,
    text_of,
    wrong_subcommand,
)
from kvnode.resp.commands.streams import (
    EDGES,
    Reading,
    described,
    ids_or_marks,
    interval_end,
    interval_start,
    stream_id,
)
from kvnode.resp.encoder import (
    NULL_ARRAYS,
    NULLS,
    RESP2,
    RESP3,
    Renders,
    array,
    encode2,
    encode3,
)
from kvnode.resp.encoder import integer as reply_integer
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import ClaimFlag
from kvnode.store.redis import stream_ids
from kvnode.store.redis.consumer_groups import UNKNOWN
from kvnode.store.redis.stream_ids import INVALID, NEWEST, ZERO
from kvnode.store.reply import Result

CLAIM_ENTRIES_DEFAULT: Final = 100
CLAIM_ENTRIES_MAX: Final = INT64_MAX // 16
"""Redis' own bounds of XAUTOCLAIM's COUNT."""

INFO_ENTRIES_DEFAULT: Final = 10

_CLAIM_TIMES: Final = {b"IDLE": int(ClaimFlag.IDLE), b"TIME": int(ClaimFlag.TIME)}
_FORCE, _JUSTID = int(ClaimFlag.FORCE), int(ClaimFlag.JUSTID)


# --- XGROUP ---------------------------------------------------------------------------------------


def parse_xgroup_create(db: int, arguments: list[bytes]) -> Op:
    entries_read, makes_stream = UNKNOWN, 0
    at = 5
    while at < len(arguments):
        if arguments[at].upper() == b"MKSTREAM":
            makes_stream = 1
            at += 1
        else:
            entries_read = _entries_read(arguments, at)
            at += 2
    if len(arguments) > 8:
        raise wrong_subcommand(arguments)
    key, group, mark = _group_and_mark(arguments)
    return [ops.XGROUP_CREATE, db, key, group, mark, entries_read, makes_stream]


def parse_xgroup_setid(db: int, arguments: list[bytes]) -> Op:
    entries_read = UNKNOWN
    for at in range(5, len(arguments), 2):
        entries_read = _entries_read(arguments, at)
    if len(arguments) > 7:
        raise wrong_subcommand(arguments)
    key, group, mark = _group_and_mark(arguments)
    mark = EDGES.get(arguments[4], mark)  # which XGROUP CREATE does not take
    return [ops.XGROUP_SETID, db, key, group, mark, entries_read]


def _entries_read(arguments: list[bytes], at: int) -> int:
    if arguments[at].upper() != b"ENTRIESREAD" or at + 1 == len(arguments):
        raise wrong_subcommand(arguments)
    entries_read = integer(arguments[at + 1])
    if entries_read < UNKNOWN:
        raise CommandError("ERR value for ENTRIESREAD must be positive or -1")
    return entries_read


def _group_and_mark(arguments: list[bytes]) -> tuple[bytes, bytes, bytes]:
    _, _, key, group, mark = arguments[:5]
    if mark != NEWEST:
        mark = stream_ids.parse(mark) or INVALID
    return check_key(key), group, mark


def parse_xgroup_destroy(db: int, arguments: list[bytes]) -> Op:
    return [ops.XGROUP_DESTROY, db, check_key(arguments[2]), arguments[3]]


def parse_xgroup_createconsumer(db: int, arguments: list[bytes]) -> Op:
    return [ops.XGROUP_CREATECONSUMER, db, check_key(arguments[2]), *arguments[3:]]


def parse_xgroup_delconsumer(db: int, arguments: list[bytes]) -> Op:
    return [ops.XGROUP_DELCONSUMER, db, check_key(arguments[2]), *arguments[3:]]


# --- what consumers do ----------------------------------------------------------------------------


def xreadgroup(db: int, reading: Reading) -> Op:
    """XREADGROUP as it is without BLOCK, and with it inside MULTI."""
    limit, _, group, consumer, without_ack, streams = reading
    marks = [stream_ids.TOP if mark == stream_ids.UNSEEN else mark for mark in streams[1::2]]
    pairs = [part for pair in zip(streams[::2], marks, strict=True) for part in pair]
    return [ops.XREADGROUP, db, group, consumer, limit, without_ack, *pairs]


def parse_xack(db: int, arguments: list[bytes]) -> Op:
    _, key, group, *ids = arguments
    return [ops.XACK, db, check_key(key), group, *ids_or_marks(ids)]


class _ClaimOptions:
    """What stands behind the ids of an XCLAIM, as it is read."""

    def __init__(self) -> None:
        self.flags = 0
        self.time_ms = 0
        self.deliveries = -1
        self.last = ZERO

    def take(self, arguments: list[bytes], at: int) -> int:
        """Read the option at a place; returns the next place."""
        name = arguments[at]
        option = name.upper()
        if option in (b"FORCE", b"JUSTID"):
            self.flags |= _FORCE if option == b"FORCE" else _JUSTID
            return at + 1
        if at + 1 == len(arguments) or option not in (*_CLAIM_TIMES, b"RETRYCOUNT", b"LASTID"):
            raise CommandError(f"ERR Unrecognized XCLAIM option '{text_of(name)}'")
        value = arguments[at + 1]
        if option == b"LASTID":
            self.last = stream_id(value)
        else:
            number = integer(value, f"ERR Invalid {option.decode()} option argument for XCLAIM")
            if option == b"RETRYCOUNT":
                self.deliveries = number
            else:
                self.flags &= ~(ClaimFlag.IDLE | ClaimFlag.TIME)
                self.flags |= _CLAIM_TIMES[option]
                self.time_ms = number
        return at + 2


def parse_xclaim(db: int, arguments: list[bytes]) -> Op:
    """What is wrong goes with the op: whether it matters depends on key and group."""
    _, key, group, consumer, idle = arguments[:5]
    ids = []
    for argument in arguments[5:]:
        identity = stream_ids.parse(argument)
        if identity is None:
            break
        ids.append(identity)
    options = _ClaimOptions()
    fault: bytes | None = None
    idle_ms = 0
    try:
        idle_ms = _idle_ms(idle, "XCLAIM")
        at = 5 + len(ids)
        while at < len(arguments):
            at = options.take(arguments, at)
    except CommandError as wrong:
        fault = wrong.text.encode("utf-8", "surrogateescape")
    head = [ops.XCLAIM, db, check_key(key), group, consumer, idle_ms, int(options.flags)]
    return [*head, options.time_ms, options.deliveries, options.last, fault, *ids]


def _idle_ms(argument: bytes, name: str) -> int:
    return max(integer(argument, f"ERR Invalid min-idle-time argument for {name}"), 0)


def parse_xautoclaim(db: int, arguments: list[bytes]) -> Op:
    _, key, group, consumer, idle, first = arguments[:6]
    idle_ms = _idle_ms(idle, "XAUTOCLAIM")
    start = interval_start(first)
    count, flags = CLAIM_ENTRIES_DEFAULT, 0
    at = 6
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"JUSTID":
            flags = _JUSTID
        elif option == b"COUNT" and at + 1 < len(arguments):
            at += 1
            count = integer(arguments[at], "ERR COUNT must be > 0")
            if not 1 <= count <= CLAIM_ENTRIES_MAX:
                raise CommandError("ERR COUNT must be > 0")
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    return [ops.XAUTOCLAIM, db, check_key(key), group, consumer, idle_ms, start, count, flags]


# --- telling --------------------------------------------------------------------------------------


def parse_xpending(db: int, arguments: list[bytes]) -> Op:
    """XPENDING; as in Redis, what stands behind the consumer is passed over."""
    _, key, group, *rest = arguments
    if not rest:
        return [ops.XPENDING, db, check_key(key), group]
    if not 3 <= len(rest) <= 6:
        raise CommandError(SYNTAX_ERROR)
    idle_ms = 0
    if rest[0].upper() == b"IDLE":
        idle_ms = integer(rest[1])
        if len(rest) < 5:
            raise CommandError(SYNTAX_ERROR)
        rest = rest[2:]
    count = max(integer(rest[2]), 0)
    first, last = interval_start(rest[0]), interval_end(rest[1])
    consumer = rest[3] if len(rest) > 3 else None
    return [ops.XPENDING_RANGE, db, check_key(key), group, idle_ms, first, last, count, consumer]


def parse_xinfo_stream(db: int, arguments: list[bytes]) -> Op:
    """What is wrong goes with the op: whether it matters depends on the key."""
    count: int | None = None
    fault: bytes | None = None
    try:
        count = _full_count(arguments)
    except CommandError as wrong:
        fault = wrong.text.encode("utf-8", "surrogateescape")
    return [ops.XINFO_STREAM, db, check_key(arguments[2]), count, fault]


def _full_count(arguments: list[bytes]) -> int | None:
    """Behind the key nothing, FULL, or FULL COUNT and a number; 0 for all entries."""
    options = [argument.upper() for argument in arguments[3:]]
    if not options:
        return None
    if options == [b"FULL"]:
        return INFO_ENTRIES_DEFAULT
    if len(options) != 3 or options[:2] != [b"FULL", b"COUNT"]:
        raise wrong_subcommand(arguments)
    count = integer(options[2])
    return INFO_ENTRIES_DEFAULT if count < 0 else count


def parse_xinfo_groups(db: int, arguments: list[bytes]) -> Op:
    return [ops.XINFO_GROUPS, db, check_key(arguments[2])]


def parse_xinfo_consumers(db: int, arguments: list[bytes]) -> Op:
    return [ops.XINFO_CONSUMERS, db, check_key(arguments[2]), arguments[3]]


# --- replies --------------------------------------------------------------------------------------


def _render_pending2(result: Result) -> bytes:
    """Of a summary of nothing, what is missing is a bulk string twice, and once an array."""
    if result == [0, None, None, None]:
        return array([reply_integer(0), NULLS[0], NULLS[0], NULL_ARRAYS[0]])
    return encode2(result)


PENDING: Final[Renders] = (_render_pending2, encode3)


def _both(render: Callable[[Result, int], bytes]) -> Renders:
    return (lambda result: render(result, RESP2), lambda result: render(result, RESP3))


def _each(render: Callable[[list[Result], int], bytes]) -> Renders:
    """A list of things that are described each."""

    def render_all(result: Result, protocol: int) -> bytes:
        if not isinstance(result, list):
            return encode2(result)
        return array([render(item, protocol) for item in result if isinstance(item, list)])

    return _both(render_all)


DESCRIPTIONS: Final = _each(described)
"""A map for each group or consumer."""

_GROUPS_IN_FULL: Final = _each(
    lambda group, protocol: described(group, protocol, consumers=DESCRIPTIONS)
)


def _render_info(result: Result, protocol: int) -> bytes:
    if not isinstance(result, list):
        return encode2(result)
    if b"entries" not in result[::2]:
        return described(result, protocol)
    return described(result, protocol, groups=_GROUPS_IN_FULL)


INFO: Final = _both(_render_info)
"""A map; in its full form groups and their consumers are maps too."""
