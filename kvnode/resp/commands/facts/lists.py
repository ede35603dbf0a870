"""Facts of the list commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import lists
from kvnode.resp.commands.command import NO_KEY
from kvnode.resp.commands.facts.row import (
    ONE_KEY,
    POINT,
    RANGE,
    TWO_KEYS,
    WHOLE,
    Row,
    counted_keys,
)
from kvnode.resp.encoder import LIST_OR_NULL

READS: Final[tuple[Row, ...]] = (
    Row("llen", 2, "readonly fast", ONE_KEY, "1.0.0", "list", POINT,
        lists.parse_llen, "Returns the length of a list."),
    Row("lindex", 3, "readonly", ONE_KEY, "1.0.0", "list", POINT,
        lists.parse_lindex, "Returns the element of a list at an index."),
    Row("lrange", 4, "readonly", ONE_KEY, "1.0.0", "list", RANGE,
        lists.parse_lrange, "Returns a range of the elements of a list."),
    Row("lpos", -3, "readonly", ONE_KEY, "6.0.6", "list", WHOLE,
        lists.parse_lpos, "Finds where in a list elements equal a value."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("lpush", -3, "write denyoom fast", ONE_KEY, "1.0.0", "list", RANGE,
        lists.parse_lpush, "Puts elements at the front of a list, which is made if need be."),
    Row("rpush", -3, "write denyoom fast", ONE_KEY, "1.0.0", "list", RANGE,
        lists.parse_rpush, "Puts elements at the end of a list, which is made if need be."),
    Row("lpushx", -3, "write denyoom fast", ONE_KEY, "2.2.0", "list", RANGE,
        lists.parse_lpushx, "Puts elements at the front of a list that exists."),
    Row("rpushx", -3, "write denyoom fast", ONE_KEY, "2.2.0", "list", RANGE,
        lists.parse_rpushx, "Puts elements at the end of a list that exists."),
    Row("lpop", -2, "write fast", ONE_KEY, "1.0.0", "list", RANGE,
        lists.parse_lpop, "Removes the first elements of a list and returns them.", lists.POP),
    Row("rpop", -2, "write fast", ONE_KEY, "1.0.0", "list", RANGE,
        lists.parse_rpop, "Removes the last elements of a list and returns them.", lists.POP),
    Row("lset", 4, "write denyoom", ONE_KEY, "1.0.0", "list", POINT,
        lists.parse_lset, "Replaces the element of a list at an index."),
    Row("linsert", 5, "write denyoom", ONE_KEY, "2.2.0", "list", WHOLE,
        lists.parse_linsert, "Puts an element before or after another one of a list."),
    Row("lrem", 4, "write", ONE_KEY, "1.0.0", "list", WHOLE,
        lists.parse_lrem, "Removes elements of a list that equal a value."),
    Row("ltrim", 4, "write", ONE_KEY, "1.0.0", "list", RANGE,
        lists.parse_ltrim, "Removes all elements of a list but for a range."),
    Row("lmove", 5, "write denyoom", TWO_KEYS, "6.2.0", "list", POINT,
        lists.parse_lmove, "Moves an element from an end of a list to an end of a list."),
    Row("rpoplpush", 3, "write denyoom", TWO_KEYS, "1.2.0", "list", POINT,
        lists.parse_rpoplpush, "Moves the last element of a list to the front of a list."),
    Row("lmpop", -4, "write movablekeys", NO_KEY, "7.0.0", "list", RANGE,
        lists.parse_lmpop, "Removes elements of the first of several lists that has any.",
        LIST_OR_NULL, counted_keys(1)),
)  # fmt: skip
