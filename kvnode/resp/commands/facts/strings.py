"""Facts of the string commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import strings
from kvnode.resp.commands.facts.row import (
    ALL_KEYS,
    EVERY_SECOND,
    ONE_KEY,
    POINT,
    RANGE,
    TWO_KEYS,
    WHOLE,
    Row,
)

READS: Final[tuple[Row, ...]] = (
    Row("get", 2, "readonly fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_get, "Returns the string value of a key."),
    Row("mget", -2, "readonly fast", ALL_KEYS, "1.0.0", "string", RANGE,
        strings.parse_mget, "Returns the string values of several keys, as of one moment."),
    Row("strlen", 2, "readonly fast", ONE_KEY, "2.2.0", "string", POINT,
        strings.parse_strlen, "Returns the length of a string value in bytes."),
    Row("getrange", 4, "readonly", ONE_KEY, "2.4.0", "string", RANGE,
        strings.parse_getrange, "Returns a part of the string value of a key."),
    Row("substr", 4, "readonly", ONE_KEY, "1.0.0", "string", RANGE,
        strings.parse_getrange,
        "Returns a part of the string value of a key; GETRANGE is its newer name."),
    Row("lcs", -3, "readonly", TWO_KEYS, "7.0.0", "string", WHOLE,
        strings.parse_lcs,
        "Finds the longest common subsequence of two string values.", strings.LCS),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("set", -3, "write denyoom", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_set,
        "Sets the string value of a key, on conditions and with a lifetime if asked."),
    Row("mset", -3, "write denyoom", EVERY_SECOND, "1.0.1", "string", RANGE,
        strings.parse_mset, "Sets the string values of several keys at one moment."),
    Row("setnx", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_setnx, "Sets the string value of a key that is absent.", strings.SETNX),
    Row("setex", 4, "write denyoom", ONE_KEY, "2.0.0", "string", POINT,
        strings.parse_setex, "Sets the string value of a key and its lifetime in seconds."),
    Row("psetex", 4, "write denyoom", ONE_KEY, "2.6.0", "string", POINT,
        strings.parse_psetex, "Sets the string value of a key and its lifetime in milliseconds."),
    Row("getset", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_getset, "Sets the string value of a key and returns the old one."),
    Row("getdel", 2, "write fast", ONE_KEY, "6.2.0", "string", POINT,
        strings.parse_getdel, "Returns the string value of a key and deletes it."),
    Row("getex", -2, "write fast", ONE_KEY, "6.2.0", "string", POINT,
        strings.parse_getex,
        "Returns the string value of a key and sets or removes its lifetime if asked."),
    Row("msetnx", -3, "write denyoom", EVERY_SECOND, "1.0.1", "string", RANGE,
        strings.parse_msetnx,
        "Sets the string values of several keys if all of them are absent."),
    Row("setrange", 4, "write denyoom", ONE_KEY, "2.2.0", "string", RANGE,
        strings.parse_setrange, "Overwrites a part of the string value of a key."),
    Row("incrbyfloat", 3, "write denyoom fast", ONE_KEY, "2.6.0", "string", POINT,
        strings.parse_incrbyfloat,
        "Adds a number to the floating point value of a key; an absent key counts as 0."),
    Row("incr", 2, "write denyoom fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_incr, "Adds one to the integer value of a key; an absent key counts as 0."),
    Row("decr", 2, "write denyoom fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_decr,
        "Subtracts one from the integer value of a key; an absent key counts as 0."),
    Row("incrby", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_incrby,
        "Adds a number to the integer value of a key; an absent key counts as 0."),
    Row("decrby", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", POINT,
        strings.parse_decrby,
        "Subtracts a number from the integer value of a key; an absent key counts as 0."),
    Row("append", 3, "write denyoom fast", ONE_KEY, "2.0.0", "string", RANGE,
        strings.parse_append, "Appends to the string value of a key and returns its new length."),
)  # fmt: skip
