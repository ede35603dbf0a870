"""The same question in the words of several families.

A counter is a counter whether it is a string, a field of a hash or the score of a member; a list is
one as a string that grows, as a list or as a stream. So the checkers judge all families, and know
none of them. Which family a key is of follows from its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.scores import pack_score
from tests.support.history import Value

TOKEN_CHARACTERS: Final = 6
"""Every value appended to a list has this length, so that a list can be read back."""

_FIELD: Final = b"f"


class Dialect(NamedTuple):
    """How a key of one family is spoken to.

    Attributes:
        ask: the op that reads it.
        change: the op that writes, increments or appends; gets the argument as text.
        understand: what a reading's result says.
        confirm: what a change's result says, None if nothing that could be judged.
    """

    ask: Callable[[bytes], Op]
    change: Callable[[bytes, str], Op]
    understand: Callable[[Any], Value]
    confirm: Callable[[Any], Value] = lambda _: None


def _text(result: bytes | None) -> str | None:
    return None if result is None else result.decode()


def _number(result: bytes | float | None) -> int | None:
    return None if result is None else int(result)


def _joined(elements: Sequence[bytes]) -> str | None:
    """An absent list is like an absent string."""
    return b"".join(elements).decode() or None


def _joined_entries(entries: Sequence[Any]) -> str | None:
    return _joined([fields[1] for _, fields in entries])


def _in_characters(elements: int) -> int:
    return elements * TOKEN_CHARACTERS


_FIRST_ID: Final = bytes(16)
_LAST_ID: Final = b"\xff" * 16

REGISTERS: Final = (
    Dialect(
        lambda key: [ops.GET, 0, key],
        lambda key, value: [ops.SET, 0, key, value.encode()],
        _text,
    ),
    Dialect(
        lambda key: [ops.HGET, 0, key, _FIELD],
        lambda key, value: [ops.HSET, 0, key, _FIELD, value.encode()],
        _text,
    ),
)
COUNTERS: Final = (
    Dialect(
        lambda key: [ops.GET, 0, key],
        lambda key, delta: [ops.INCRBY, 0, key, int(delta)],
        _number,
        _number,
    ),
    Dialect(
        lambda key: [ops.HGET, 0, key, _FIELD],
        lambda key, delta: [ops.HINCRBY, 0, key, _FIELD, int(delta)],
        _number,
        _number,
    ),
    Dialect(
        lambda key: [ops.ZSCORE, 0, key, _FIELD],
        lambda key, delta: [
            ops.ZADD,
            0,
            key,
            int(ops.ZAddFlag.INCR),
            pack_score(float(delta)),
            _FIELD,
        ],
        _number,
        _number,
    ),
)
LISTS: Final = (
    Dialect(
        lambda key: [ops.GET, 0, key],
        lambda key, token: [ops.APPEND, 0, key, token.encode()],
        _text,
        int,
    ),
    Dialect(
        lambda key: [ops.LRANGE, 0, key, 0, -1],
        lambda key, token: [ops.LIST_PUSH, 0, key, 1, 0, token.encode()],
        _joined,
        _in_characters,
    ),
    Dialect(
        lambda key: [ops.XRANGE, 0, key, _FIRST_ID, _LAST_ID, -1, 0],
        lambda key, token: [ops.XADD, 0, key, b"", 0, [], _FIELD, token.encode()],
        _joined_entries,
    ),
)

DIALECTS: Final = {"register": REGISTERS, "counter": COUNTERS, "list": LISTS}
"""By the first word of a key."""


def dialect_of(key: str) -> Dialect:
    """The dialect of `counter2` and the like."""
    family = key.rstrip("0123456789")
    spoken = DIALECTS[family]
    return spoken[int(key[len(family) :]) % len(spoken)]
