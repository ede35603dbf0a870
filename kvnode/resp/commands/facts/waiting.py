"""Facts of the commands that wait for a key."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import waiting
from kvnode.resp.commands.command import NO_KEY
from kvnode.resp.commands.facts.row import (
    ALL_BUT_LAST,
    POINT,
    RANGE,
    TWO_KEYS,
    Row,
    counted_keys,
)
from kvnode.resp.encoder import LIST_OR_NULL

READS: Final[tuple[Row, ...]] = ()

WRITES: Final[tuple[Row, ...]] = (
    Row("blpop", -3, "write noscript blocking", ALL_BUT_LAST, "2.0.0", "list", POINT,
        waiting.parse_blpop,
        "Removes the first element of the first of several lists that has any, or waits for one.",
        waiting.ONE),
    Row("brpop", -3, "write noscript blocking", ALL_BUT_LAST, "2.0.0", "list", POINT,
        waiting.parse_brpop,
        "Removes the last element of the first of several lists that has any, or waits for one.",
        waiting.ONE),
    Row("blmove", 6, "write denyoom noscript blocking", TWO_KEYS, "6.2.0", "list", POINT,
        waiting.parse_blmove,
        "Moves an element from an end of a list to an end of a list, or waits for one."),
    Row("brpoplpush", 4, "write denyoom noscript blocking", TWO_KEYS, "2.2.0", "list", POINT,
        waiting.parse_brpoplpush,
        "Moves the last element of a list to the front of a list, or waits for one."),
    Row("blmpop", -5, "write blocking movablekeys", NO_KEY, "7.0.0", "list", RANGE,
        waiting.parse_blmpop,
        "Removes elements of the first of several lists that has any, or waits for some.",
        LIST_OR_NULL, counted_keys(2)),
    Row("bzpopmin", -3, "write noscript blocking fast", ALL_BUT_LAST, "5.0.0", "sorted-set",
        POINT, waiting.parse_bzpopmin,
        "Removes the member with the lowest score of the first of several sorted sets, or waits.",
        waiting.ONE),
    Row("bzpopmax", -3, "write noscript blocking fast", ALL_BUT_LAST, "5.0.0", "sorted-set",
        POINT, waiting.parse_bzpopmax,
        "Removes the member with the highest score of the first of several sorted sets, or waits.",
        waiting.ONE),
    Row("bzmpop", -5, "write blocking movablekeys", NO_KEY, "7.0.0", "sorted-set", RANGE,
        waiting.parse_bzmpop,
        "Removes members of the first of several sorted sets that has any, or waits for some.",
        LIST_OR_NULL, counted_keys(2)),
)  # fmt: skip
