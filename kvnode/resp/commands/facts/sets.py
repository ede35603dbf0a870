"""Facts of the set commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import scanning, sets
from kvnode.resp.commands.command import NO_KEY
from kvnode.resp.commands.facts.row import (
    ALL_KEYS,
    ONE_KEY,
    POINT,
    RANGE,
    TWO_KEYS,
    WHOLE,
    Row,
    counted_keys,
)
from kvnode.resp.encoder import SET
from kvnode.store import ops
from kvnode.store.ops import SetOperation

READS: Final[tuple[Row, ...]] = (
    Row("smembers", 2, "readonly", ONE_KEY, "1.0.0", "set", WHOLE,
        sets.one_key(ops.SMEMBERS), "Returns all members of a set.", SET),
    Row("sismember", 3, "readonly fast", ONE_KEY, "1.0.0", "set", POINT,
        sets.one_key(ops.SISMEMBER), "Tells whether a set has a member."),
    Row("smismember", -3, "readonly fast", ONE_KEY, "6.2.0", "set", RANGE,
        sets.one_key(ops.SMISMEMBER), "Tells which of the members a set has."),
    Row("scard", 2, "readonly fast", ONE_KEY, "1.0.0", "set", POINT,
        sets.one_key(ops.SCARD), "Returns the number of members of a set."),
    Row("srandmember", -2, "readonly", ONE_KEY, "1.0.0", "set", RANGE,
        sets.parse_srandmember,
        "Returns random members of a set, different ones or, with a count below 0, any."),
    Row("sinter", -2, "readonly", ALL_KEYS, "1.0.0", "set", WHOLE,
        sets.combine(SetOperation.INTERSECTION), "Returns the members that all sets have.", SET),
    Row("sunion", -2, "readonly", ALL_KEYS, "1.0.0", "set", WHOLE,
        sets.combine(SetOperation.UNION), "Returns the members that any of the sets has.", SET),
    Row("sdiff", -2, "readonly", ALL_KEYS, "1.0.0", "set", WHOLE,
        sets.combine(SetOperation.DIFFERENCE),
        "Returns the members of the first set that none of the others has.", SET),
    Row("sintercard", -3, "readonly movablekeys", NO_KEY, "7.0.0", "set", WHOLE,
        sets.parse_sintercard, "Counts the members that all sets have, up to a limit.",
        find_keys=counted_keys(1)),
    Row("sscan", -3, "readonly", ONE_KEY, "2.8.0", "set", RANGE,
        scanning.member_scan(ops.SSCAN), "Walks over the members of a set, a page at a time."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("sadd", -3, "write denyoom fast", ONE_KEY, "1.0.0", "set", RANGE,
        sets.one_key(ops.SADD), "Adds members to a set and counts the new ones."),
    Row("srem", -3, "write fast", ONE_KEY, "1.0.0", "set", RANGE,
        sets.one_key(ops.SREM), "Removes members of a set and counts them."),
    Row("spop", -2, "write fast", ONE_KEY, "1.0.0", "set", RANGE,
        sets.parse_spop, "Removes random members of a set and returns them.", SET),
    Row("smove", 4, "write fast", TWO_KEYS, "1.0.0", "set", POINT,
        sets.parse_smove, "Moves a member from one set to another."),
    Row("sinterstore", -3, "write denyoom", ALL_KEYS, "1.0.0", "set", WHOLE,
        sets.combine_store(SetOperation.INTERSECTION),
        "Stores the members that all sets have.", stands_alone=True),
    Row("sunionstore", -3, "write denyoom", ALL_KEYS, "1.0.0", "set", WHOLE,
        sets.combine_store(SetOperation.UNION),
        "Stores the members that any of the sets has.", stands_alone=True),
    Row("sdiffstore", -3, "write denyoom", ALL_KEYS, "1.0.0", "set", WHOLE,
        sets.combine_store(SetOperation.DIFFERENCE),
        "Stores the members of the first set that none of the others has.", stands_alone=True),
)  # fmt: skip
