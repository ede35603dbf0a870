"""Where the two servers may differ, and why. Everything else must be the same, byte for byte.

A *rule* replaces the comparison for the replies of one command, errors excepted: these are always
compared by their bytes. A *deliberate* difference is one that kvnode documents. An *open* one is a
defect that is known and not mended yet; its entry goes when the defect goes. Every run prints all
three lists.
"""

from __future__ import annotations

from typing import Final

from tests.differential.canned import CANNED
from tests.differential.comparing import (
    Accepted,
    Answer,
    Matches,
    Rule,
    pairwise,
    same_kind,
    same_page,
    same_pairs,
    same_set,
    same_shape,
)
from tests.differential.families import FAMILIES
from tests.differential.resp import Reply
from tests.differential.words import EDGES

CLOCK_SECONDS_MAX: Final = 300
"""How far lifetimes may differ: both servers ran the command, but not at the same moment. Lifetimes
in sequences are ten thousand seconds and more apart, so one is never taken for another."""
ABSOLUTE_SECONDS_MIN: Final = 4_000_000_000
"""Deadlines from here on were given as such (`AT_SECONDS`) and must be exactly the same."""


def _member(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    """Null for both, or for each a key of the KEYS * that came in the same write."""

    def chosen_from_keys(answers: list[Answer]) -> bool:
        if at + 1 == len(answers) or answers[at + 1].arguments != (b"KEYS", b"*"):
            return True
        keys, chosen = answers[at + 1].reply.elements, answers[at].reply
        return chosen in keys if keys else chosen.value is None

    return same_kind(redis[at].reply, kvnode[at].reply) and all(
        map(chosen_from_keys, (redis, kvnode))
    )


def close_in_time(redis: Reply, kvnode: Reply, unit_ms: int) -> bool:
    """Whether two lifetimes or deadlines are as close as the clocks of two servers allow.

    Args:
        redis: what one server answered.
        kvnode: what the other one answered.
        unit_ms: milliseconds per unit of the numbers.
    """
    if redis == kvnode:
        return True
    if redis.kind != b":" or kvnode.kind != b":":
        return False
    one, other = int(redis.text), int(kvnode.text)
    return min(one, other) > 0 and abs(one - other) * unit_ms <= CLOCK_SECONDS_MAX * 1000


def _same_deadline(redis: Reply, kvnode: Reply, unit_ms: int) -> bool:
    """As `close_in_time`; a deadline that was given as such is exactly the same."""
    if redis == kvnode:
        return True
    given = ABSOLUTE_SECONDS_MIN * 1000 // unit_ms
    if any(reply.kind == b":" and int(reply.text) >= given for reply in (redis, kvnode)):
        return False
    return close_in_time(redis, kvnode, unit_ms)


def _same_condition(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    one, other = redis[at], kvnode[at]
    conditional = any(argument.upper() in (b"GT", b"LT") for argument in one.arguments[3:])
    return conditional and {one.reply.text, other.reply.text} == {b"0", b"1"}


RULES: Final[tuple[Rule, ...]] = (
    Rule(("ttl",), "a lifetime shrinks between the two replies",
         pairwise(lambda r, k: close_in_time(r, k, 1000))),
    Rule(("pttl",), "as TTL", pairwise(lambda r, k: close_in_time(r, k, 1))),
    Rule(("expiretime",), "a deadline made from a lifetime depends on when the command ran; one "
         "that was given as such is compared exactly",
         pairwise(lambda r, k: _same_deadline(r, k, 1000))),
    Rule(("pexpiretime",), "as EXPIRETIME", pairwise(lambda r, k: _same_deadline(r, k, 1))),
    Rule(("expire", "pexpire"), "GT and LT: two deadlines made from one lifetime may be equal or a "
         "millisecond apart; what the command did is still seen in TTL and at the end",
         _same_condition),
    Rule(("keys",), "Redis promises no order of keys: compared as sets", pairwise(same_set)),
    Rule(("scan",), "cursors and pages are each server's own: a page that must hold everything is "
         "compared as a set, others by shape; whole walks are compared as sets (`Walk`)",
         same_page(1)),
    Rule(("randomkey",), "random: null together, else a key of the database", _member),
    Rule(("config|get",), "Redis promises no order of parameters: compared as sets of pairs; only "
         "parameters that mean the same are asked for", pairwise(same_pairs)),
    *CANNED,
    Rule(("time",), "the clock: compared by shape", pairwise(same_shape)),
    *(rule for family in FAMILIES.values() for rule in family.rules),
)  # fmt: skip

RULE_OF: Final = {name: rule for rule in RULES for name in rule.names}


def _replies(name: str, redis: str, kvnode: str) -> Matches:
    """Accept replies that begin like this for one command, or for any."""
    return lambda command, _line, one, other: (
        name in ("", command) and one.startswith(redis) and other.startswith(kvnode)
    )


def _cut_at_nul(_name: str, line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    in_argument = any(b"\x00" in argument for argument in line)
    return in_argument and redis.startswith("-") and kvnode.startswith("-")


def _beyond_all_dates(_name: str, line: tuple[bytes, ...], _redis: str, kvnode: str) -> bool:
    beyond = any(argument in line for argument in EDGES)
    return beyond and kvnode.startswith('-b"ERR invalid expire time in ')


def _encoding_by_history(name: str, _line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    grown = {"$b'hashtable'": ("$b'listpack'", "$b'intset'"), "$b'skiplist'": ("$b'listpack'",)}
    return name == "object|encoding" and kvnode in grown.get(redis, ())


def _aborted(name: str, _line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    return name == "exec" and not redis.endswith("(null)") and kvnode.endswith("(null)")


DELIBERATE: Final[tuple[Accepted, ...]] = (
    Accepted(
        "Error texts name the whole argument; Redis' end at the first NUL byte",
        _cut_at_nul,
    ),
    Accepted(
        "OBJECT ENCODING of a collection follows from what is in it; in Redis one that was a "
        "hashtable or a skiplist stays one",
        _encoding_by_history,
    ),
    Accepted(
        "Deadlines end 2^43 ms before the largest 64-bit number, since the grammar has no clock",
        _beyond_all_dates,
        lasting=True,
    ),
    Accepted(
        "WATCH absent, SWAPDB, FLUSHDB or SWAPDB again, EXEC: aborts if the database that the "
        "first brought had keys; nobody looks whether the watched one was among them",
        _aborted,
        lasting=True,
        after=frozenset({b"swapdb", b"flushdb", b"flushall"}),
        times=2,
    ),
    *(accepted for family in FAMILIES.values() for accepted in family.deliberate),
)
"""Differences that kvnode means."""

OPEN: Final[tuple[Accepted, ...]] = tuple(
    accepted for family in FAMILIES.values() for accepted in family.open
)
"""Defects that are known and not mended yet, each with the shortest lines that show it."""
