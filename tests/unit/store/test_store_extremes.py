"""Numbers at the edge of what a client may send: an answer or an error, never an exception.

An exception out of an op ends the node, as nobody knows what state it left. A ZRANGE whose LIMIT
began at 2^63 - 1 did that: a rank of a thousand more is no index for Python's `islice`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from kvnode.errors import CommandError
from kvnode.resp.commands.command import LOCAL, Blocks
from kvnode.resp.commands.lookup import look_up
from kvnode.resp.commands.table import COMMANDS
from kvnode.store.batch import fits
from kvnode.store.ops import is_write
from kvnode.store.reply import Unfinished
from tests.differential.commands import Cast
from tests.differential.families import FAMILIES
from tests.unit.store.test_store_membership import founded

if TYPE_CHECKING:
    from kvnode.store.engine import Engine

COMMANDS_RUN = 3_000
NAMES = frozenset(
    name
    for family in FAMILIES.values()
    for name in family.commands
    if name in COMMANDS and COMMANDS[name].kind != LOCAL
)
EXTREMES = [
    *(b"%d" % number for number in (2**63 - 1, -(2**63), 2**63 - 2, 1 - 2**63, 2**62, 10**18)),
    *(b"%d" % number for number in (2**31 - 1, -(2**31), 2**31, 2**32, 2**64 - 1, 4_000, -4_000)),
    *(b"0", b"-1", b"1", b"1e308", b"-inf", b"inf", b"5e-324", b"18446744073709551615-0"),
]


def is_number(word: bytes) -> bool:
    return word.lstrip(b"-").isdigit()


def test_no_number_is_too_large_or_too_small_for_an_op(engine: Engine) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    driver = founded(engine)
    cast = Cast(tuple(FAMILIES.values()), NAMES)
    large = [part for number in range(400) for part in (b"%d" % (number % 90), b"m%d" % number)]
    for key in (b"z1", b"z2", b"zl1"):
        driver.do(*look_up([b"ZADD"]).parse(0, [b"ZADD", key, *large]))
    for key in (b"l1", b"l2"):
        driver.do(*look_up([b"RPUSH"]).parse(0, [b"RPUSH", key, *large]))
    for _ in range(COMMANDS_RUN):
        words = cast.render(cast.choose(rng), rng)
        words = [
            rng.choice(EXTREMES) if is_number(word) and rng.random() < 0.4 else word
            for word in words
        ]
        try:
            command = look_up(words)
            if command.kind == LOCAL or not command.accepts(len(words)):
                continue
            op = command.parse(0, words)
        except CommandError:
            continue
        except Blocks as waits:
            op = waits.op
        assert fits(op), words
        result = driver.do(*op) if is_write(op) else driver.read(*op)
        if isinstance(result, Unfinished):
            continue
        for render in command.renders:
            assert isinstance(render(result), bytes), words
    driver.check()
