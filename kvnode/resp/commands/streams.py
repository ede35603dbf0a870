"""Grammar of the stream commands that know no groups, and the shapes of their replies.

XREAD is here without its waiting, which is in `waiting`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import (
    SYNTAX_ERROR,
    check_key,
    check_keys,
    integer,
    wrong_arity,
)
from kvnode.resp.encoder import (
    NULL_ARRAYS,
    RESP2,
    RESP3,
    Renders,
    array,
    encode2,
    encode3,
    mapping,
)
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.redis import stream_ids
from kvnode.store.redis.messages import INVALID_ID
from kvnode.store.redis.stream_ids import INVALID, NEWEST, TOP, U64_MAX, UNSEEN, ZERO, StreamId
from kvnode.store.reply import Result

TRIM_ENTRIES_DEFAULT: Final = 100 * 100
"""How many entries one `~` removes at most unless LIMIT says it: a hundred of Redis' nodes."""

TRIM_STRATEGIES: Final = (b"MAXLEN", b"MINID")
LIMIT_NEEDS_TRIM: Final = (
    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
)
LIMIT_NEEDS_TILDE: Final = "ERR syntax error, LIMIT cannot be used without the special ~ option"
TRIM_NEEDS_STRATEGY: Final = "ERR syntax error, XTRIM must be called with a trimming strategy"
ONE_STRATEGY: Final = (
    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
)
UNBALANCED: Final = (
    "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
)
ONLY_WITH_GROUP: Final = (
    "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
)
GROUP_IS_MISSING: Final = "ERR Missing GROUP option for XREADGROUP"


EDGES: Final = {b"-": ZERO, b"+": TOP}
"""The lowest and the highest id, as ranges name them."""


def stream_id(argument: bytes, sequence: int = 0) -> StreamId:
    """An id; one without its second half gets `sequence`.

    Raises:
        CommandError: it is none.
    """
    found = stream_ids.parse(argument, sequence)
    if found is None:
        raise CommandError(INVALID_ID)
    return found


def ids_or_marks(arguments: list[bytes]) -> list[bytes]:
    """Ids, with `INVALID` for what is none: whether that matters depends on the key."""
    return [stream_ids.parse(argument) or INVALID for argument in arguments]


def interval_start(argument: bytes) -> StreamId:
    """The first id of a range: an id, `-`, `+`, or `(` and an id that is itself outside."""
    if argument[:1] == b"(" and len(argument) > 1:
        start = stream_ids.after(stream_id(argument[1:]))
        if start is None:
            raise CommandError("ERR invalid start ID for the interval")
        return start
    return _edge(argument) or stream_id(argument)


def interval_end(argument: bytes) -> StreamId:
    """The last id of a range."""
    if argument[:1] == b"(" and len(argument) > 1:
        end = stream_ids.before(stream_id(argument[1:], U64_MAX))
        if end is None:
            raise CommandError("ERR invalid end ID for the interval")
        return end
    return _edge(argument) or stream_id(argument, U64_MAX)


def _edge(argument: bytes) -> StreamId | None:
    return EDGES.get(argument)


# --- adding and trimming --------------------------------------------------------------------------


class _Trimming:
    """What the options of XADD and XTRIM say of trimming, as they are read."""

    def __init__(self) -> None:
        self.strategy = b""
        self.bound: int | StreamId = 0
        self.in_nodes = False
        self.limit = -1

    def take(self, arguments: list[bytes], at: int) -> int:
        """Read the option at a place, with what belongs to it; returns the next place.

        The place stays where it is if no such option is there.
        """
        option = arguments[at].upper()
        if at + 1 == len(arguments):
            return at
        if option in TRIM_STRATEGIES:
            return self._take_strategy(option, arguments, at + 1)
        if option == b"LIMIT":
            self.limit = integer(arguments[at + 1])
            if self.limit < 0:
                raise CommandError("ERR The LIMIT argument must be >= 0.")
            return at + 2
        return at

    def _take_strategy(self, option: bytes, arguments: list[bytes], at: int) -> int:
        if self.strategy:
            raise CommandError(ONE_STRATEGY)
        self.strategy, self.in_nodes = option, False
        if arguments[at] in (b"~", b"=") and at + 1 < len(arguments):
            self.in_nodes = arguments[at] == b"~"
            at += 1
        if option == b"MINID":
            self.bound = stream_id(arguments[at])
        else:
            self.bound = integer(arguments[at])
            if self.bound < 0:
                raise CommandError("ERR The MAXLEN argument must be >= 0.")
        return at + 1

    def to_op(self, *, is_required: bool) -> list[int | bytes]:
        """What an op says of it; nothing if nothing shall be trimmed."""
        if self.limit > 0 and not self.strategy:
            raise CommandError(LIMIT_NEEDS_TRIM)
        if is_required and not self.strategy:
            raise CommandError(TRIM_NEEDS_STRATEGY)
        if self.limit >= 0 and not self.in_nodes:
            raise CommandError(LIMIT_NEEDS_TILDE)
        if not self.strategy:
            return []
        if self.limit < 0:
            self.limit = TRIM_ENTRIES_DEFAULT if self.in_nodes else 0
        return [self.bound, int(self.in_nodes), self.limit]


def parse_xadd(db: int, arguments: list[bytes]) -> Op:
    trimming = _Trimming()
    only_if_there = 0
    wanted: bytes | None = None
    at = 2
    while at < len(arguments) and wanted is None:
        behind = trimming.take(arguments, at)
        if behind > at:
            at = behind
            continue
        if arguments[at].upper() == b"NOMKSTREAM":
            only_if_there = 1
        else:
            wanted = _wanted_id(arguments[at])
        at += 1
    trim = trimming.to_op(is_required=False)
    fields = arguments[at:]
    if wanted is None or not fields or len(fields) % 2:
        raise wrong_arity("xadd")
    if wanted == ZERO:
        raise CommandError("ERR The ID specified in XADD must be greater than 0-0")
    return [ops.XADD, db, check_key(arguments[1]), wanted, only_if_there, trim, *fields]


def _wanted_id(argument: bytes) -> bytes:
    """The id of a new entry: no bytes for `*`, eight for `ms-*`, or all sixteen."""
    if argument == b"*":
        return b""
    if argument.endswith(b"-*"):
        return stream_id(argument[:-2])[:8]
    return stream_id(argument)


def parse_xtrim(db: int, arguments: list[bytes]) -> Op:
    trimming = _Trimming()
    at = 2
    while at < len(arguments):
        behind = trimming.take(arguments, at)
        if behind == at:
            raise CommandError(SYNTAX_ERROR)
        at = behind
    return [ops.XTRIM, db, check_key(arguments[1]), trimming.to_op(is_required=True)]


def parse_xdel(db: int, arguments: list[bytes]) -> Op:
    return [ops.XDEL, db, check_key(arguments[1]), *ids_or_marks(arguments[2:])]


def parse_xsetid(db: int, arguments: list[bytes]) -> Op:
    last = stream_id(arguments[2])
    added, max_deleted = -1, ZERO
    at = 3
    while at + 1 < len(arguments):
        option, value = arguments[at].upper(), arguments[at + 1]
        if option == b"ENTRIESADDED":
            added = integer(value)
            if added < 0:
                raise CommandError("ERR entries_added must be positive")
        elif option == b"MAXDELETEDID":
            max_deleted = stream_id(value)
            if last < max_deleted:
                raise CommandError(
                    "ERR The ID specified in XSETID is smaller than the provided "
                    "max_deleted_entry_id"
                )
        else:
            break
        at += 2
    if at < len(arguments):
        raise CommandError(SYNTAX_ERROR)
    return [ops.XSETID, db, check_key(arguments[1]), last, added, max_deleted]


# --- reading --------------------------------------------------------------------------------------


def parse_xlen(db: int, arguments: list[bytes]) -> Op:
    return [ops.XLEN, db, check_key(arguments[1])]


def parse_xrange(db: int, arguments: list[bytes]) -> Op:
    first, last = interval_start(arguments[2]), interval_end(arguments[3])
    return [ops.XRANGE, db, check_key(arguments[1]), first, last, _count(arguments), 0]


def parse_xrevrange(db: int, arguments: list[bytes]) -> Op:
    first, last = interval_start(arguments[3]), interval_end(arguments[2])
    return [ops.XRANGE, db, check_key(arguments[1]), first, last, _count(arguments), 1]


def _count(arguments: list[bytes]) -> int:
    count = -1
    for at in range(4, len(arguments), 2):
        if arguments[at].upper() != b"COUNT" or at + 1 == len(arguments):
            raise CommandError(SYNTAX_ERROR)
        count = max(integer(arguments[at + 1]), 0)
    return count


class Reading(NamedTuple):
    """What XREAD and XREADGROUP ask for.

    Attributes:
        limit: most entries of a stream; 0 for all.
        block_ms: how long to wait for entries, 0 without end; None to answer at once.
        group: of XREADGROUP.
        consumer: the same.
        without_ack: whether NOACK was said.
        streams: key, id or mark, key, id or mark, …
    """

    limit: int
    block_ms: int | None
    group: bytes
    consumer: bytes
    without_ack: int
    streams: list[bytes]


def read_streams(arguments: list[bytes], *, in_group: bool) -> Reading:
    """The grammar of XREAD or, with `in_group`, of XREADGROUP.

    Raises:
        CommandError: something is wrong with it.
    """
    limit, without_ack = 0, 0
    block_ms: int | None = None
    group = consumer = b""
    has_group = False
    at = 1
    while (option := arguments[at].upper()) != b"STREAMS" or at + 1 == len(arguments):
        behind = len(arguments) - at - 1
        if option == b"BLOCK" and behind:
            block_ms = _block_ms(arguments[at + 1])
            at += 1
        elif option == b"COUNT" and behind:
            limit = max(integer(arguments[at + 1]), 0)
            at += 1
        elif option == b"GROUP" and behind > 1:
            _check_in_group(in_group, option)
            group, consumer = arguments[at + 1 : at + 3]
            has_group = True
            at += 2
        elif option == b"NOACK":
            _check_in_group(in_group, option)
            without_ack = 1
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
        if at == len(arguments):
            raise CommandError(SYNTAX_ERROR)
    named = arguments[at + 1 :]
    if len(named) % 2:
        raise CommandError(UNBALANCED)
    if in_group and not has_group:
        raise CommandError(GROUP_IS_MISSING)
    keys = check_keys(named[: len(named) // 2])
    since = map(_since, named[len(keys) :])
    streams = [part for pair in zip(keys, since, strict=True) for part in pair]
    return Reading(limit, block_ms, group, consumer, without_ack, streams)


def _check_in_group(in_group: bool, option: bytes) -> None:
    if not in_group:
        raise CommandError(ONLY_WITH_GROUP.format(option=option.decode()))


def _block_ms(argument: bytes) -> int:
    block_ms = integer(argument, "ERR timeout is not an integer or out of range")
    if block_ms < 0:
        raise CommandError("ERR timeout is negative")
    return block_ms


def _since(argument: bytes) -> bytes:
    """The id behind which to read, or a mark: whether that is right depends on the key."""
    if argument in (NEWEST, UNSEEN):
        return argument
    return stream_ids.parse(argument) or INVALID


def xread(db: int, reading: Reading) -> Op:
    """XREAD as it is without BLOCK, and with it inside MULTI."""
    return [ops.XREAD, db, reading.limit, *reading.streams]


def keys_behind_streams(arguments: list[bytes]) -> list[bytes]:
    """The keys of XREAD and XREADGROUP: the first half of what stands behind STREAMS."""
    for at, argument in enumerate(arguments):
        if argument.upper() == b"STREAMS":
            named = arguments[at + 1 :]
            return named[: len(named) // 2]
    raise CommandError("ERR Invalid arguments specified for command")


# --- replies --------------------------------------------------------------------------------------


def encode_arrays2(result: Result) -> bytes:
    """Any result in RESP2, where what is missing is always an array: entries, fields."""
    if result is None:
        return NULL_ARRAYS[0]
    if isinstance(result, list):
        return array([encode_arrays2(item) for item in result])
    return encode2(result)


ENTRIES: Final[Renders] = (encode_arrays2, encode3)
"""Entries, or no array at all."""


def _render_streams2(result: Result) -> bytes:
    if not isinstance(result, list):
        return encode_arrays2(result)
    items = [encode_arrays2(item) for item in result]
    return array([array(pair) for pair in zip(items[::2], items[1::2], strict=True)])


def _render_streams3(result: Result) -> bytes:
    if not isinstance(result, list):
        return encode3(result)
    items = [encode3(item) for item in result]
    return mapping(zip(items[::2], items[1::2], strict=True), RESP3)


STREAMS: Final[Renders] = (_render_streams2, _render_streams3)
"""Entries by key, or null: pairs in RESP2, a map in RESP3."""


def described(told: list[Result], protocol: int, **inner: Renders) -> bytes:
    """Names and values as a map, some of the values in their own way."""
    encode = encode2 if protocol == RESP2 else encode3
    pairs = []
    for name, value in zip(told[::2], told[1::2], strict=True):
        assert isinstance(name, bytes)
        own = inner.get(name.decode())
        encoded = encode(value) if own is None else own[protocol - RESP2](value)
        pairs.append((encode(name), encoded))
    return mapping(pairs, protocol)
