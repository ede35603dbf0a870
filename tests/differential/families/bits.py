"""Bitmaps, bit fields and HyperLogLog: strings, by the bit and by what they count."""

from __future__ import annotations

import ast
import re
from typing import Final

from tests.differential.comparing import Accepted
from tests.differential.family import Family
from tests.differential.words import EDGES, JUNK, keyed, mostly, rows

BIT_KEYS: Final = (b"bits1", b"bits2", b"bits3")
SKETCH_KEYS: Final = (b"seen1", b"seen2", b"seen3")

_NUMBERS: Final = (b"0", b"1", b"-1", b"7", b"-100", b"255", b"128", b"4294967296", *EDGES[:3])
_WIDTHS: Final = (b"u1", b"u8", b"i8", b"i5", b"u13", b"i16", b"u32", b"i33", b"u63", b"i64")


_literal = re.compile(r"""b(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


def _without_count(text: str) -> list[str | bytes]:
    """A reply as text, its HyperLogLogs without the count that is noted in them."""
    values = [ast.literal_eval(literal) for literal in _literal.findall(text)]
    plain = [
        value[:8] + value[16:] if value.startswith(b"HYLL") and len(value) >= 16 else value
        for value in values
    ]
    return [*_literal.split(text), *plain]


def _noted_count(name: str, _line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    if name == "dump":  # which ends in the lifetime
        redis, kvnode = redis.rpartition(", :")[0], kvnode.rpartition(", :")[0]
    return "HYLL" in redis and _without_count(redis) == _without_count(kvnode)


def _failed_field(name: str, _line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    return name == "exec" and redis.startswith("*[") and kvnode == "*(null)"


def _unseen_count(name: str, _line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    return name == "exec" and redis.endswith("(null)") and not kvnode.endswith("(null)")


FAMILY: Final = Family(
    name="bits",
    keys=BIT_KEYS + SKETCH_KEYS,
    commands={
        **rows(2, {
            "setbit": "SETBIT bkey bitoffset bit",
            "bitfield": "BITFIELD bkey [OVERFLOW {WRAP|SAT|FAIL}] {GET width fieldoffset"
            "|SET width fieldoffset bitvalue|INCRBY width fieldoffset bitvalue}+",
        }),
        **rows(1, {
            "getbit": "GETBIT bkey bitoffset",
            "bitcount": "BITCOUNT bkey [bitrange bitrange [{BIT|BYTE}]]",
            "bitpos": "BITPOS bkey bit [bitrange [bitrange [{BIT|BYTE}]]]",
            "bitop": "BITOP {{AND|OR|XOR} bkey bkey+|NOT bkey bkey}",
            "bitfield_ro": "BITFIELD_RO bkey {GET width fieldoffset}+",
            "pfadd": "PFADD pkey element+",
            "pfcount": "PFCOUNT pkey [pkey]",
            "pfmerge": "PFMERGE pkey pkey+",
        }),
    },
    furniture=(
        "SETBIT 'bits1 bitoffset '1", "BITFIELD 'bits2 SET 'u32 bitoffset bitvalue",
        "PFADD 'seen1 element element", "PFADD 'seen2 element element element",
    ),
    atoms={
        "bkey": keyed(BIT_KEYS),
        "pkey": keyed(SKETCH_KEYS),
        "bit": mostly((b"0", b"1"), (b"2", b"-1", *JUNK), 0.95),
        "bitoffset": mostly(
            (b"0", b"3", b"7", b"8", b"30", b"100", b"1000"),
            (b"-1", b"4294967296", *JUNK), 0.95,
        ),
        "fieldoffset": mostly(
            (b"0", b"3", b"#0", b"#1", b"#3", b"17", b"100"),
            (b"-1", b"#-1", b"#", b"#2305843009213693952", b"4294967296", *JUNK), 0.95,
        ),
        "bitrange": mostly((b"0", b"1", b"-1", b"-3", b"5", b"20", b"-20"), JUNK + EDGES, 0.93),
        "bitvalue": mostly(_NUMBERS, JUNK + EDGES, 0.93),
        "width": mostly(_WIDTHS, (b"u64", b"i65", b"i0", b"U8", b"u08", b"8", b"", b"i"), 0.95),
        "element": lambda rng: b"element:%d" % rng.randrange(500),
    },
    deliberate=(
        Accepted(
            "PFCOUNT of one key is a read: the count that Redis then notes in the value is not "
            "written; the registers are the same",
            _noted_count,
            after=frozenset((b"pfcount",)),
        ),
        Accepted(
            "and so PFCOUNT aborts no EXEC that watches its key, which in Redis it does when it "
            "notes the count",
            _unseen_count,
            lasting=True,
            after=frozenset((b"pfcount",)),
        ),
        Accepted(
            "a BITFIELD whose every step fails still makes the string longer, and here that counts "
            "as a change of a watched key",
            _failed_field,
            lasting=True,
            after=frozenset((b"bitfield",)),
        ),
    ),
)  # fmt: skip
