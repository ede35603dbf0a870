"""Lists, with elements large enough that a few of them need more than one node."""

from __future__ import annotations

from typing import Final

from tests.differential.comparing import as_is
from tests.differential.family import LARGE_ELEMENTS, Family, Listing
from tests.differential.words import EDGES, JUNK, NUMBERS, TEXTS, keyed, mostly, rows

LIST_KEYS: Final = (b"l1", b"l2", b"l 3")
ELEMENTS: Final = (b"a", b"b", b"c", b"a", b"b", b"", b"0", b"x" * 700, b"y" * 900)
LARGE: Final = (b"z" * 989, b"z" * 990, b"z" * 5000, *NUMBERS, *TEXTS)

_MANY: Final = "lelement lelement lelement lelement lelement lelement lelement"
_SIDE: Final = "{LEFT|LEFT|RIGHT|RIGHT|'left|FOO}"

FAMILY: Final = Family(
    name="lists",
    keys=LIST_KEYS,
    commands={
        **rows(2, {
            "lpush": f"LPUSH lkey lelement+|LPUSH lkey {_MANY}",
            "rpush": f"RPUSH lkey lelement+|RPUSH lkey {_MANY}",
            "lrange": "LRANGE lkey lindex lindex|LRANGE lkey 0 -1",
            "linsert": "LINSERT lkey {BEFORE|AFTER|'before|FOO} lelement lelement",
        }),
        **rows(1, {
            "lindex": "LINDEX lkey lindex",
            "llen": "LLEN lkey",
            "lmove": f"LMOVE lkey lkey {_SIDE} {_SIDE}",
            "lmpop": (
                f"LMPOP 1 lkey {_SIDE} [COUNT lcount]|LMPOP 2 lkey lkey {_SIDE} [COUNT lcount]|"
                f"LMPOP lcount lkey lkey {_SIDE} [COUNT lcount] [FOO]"
            ),
            "lpop": "LPOP lkey [lcount]",
            "lpos": (
                "LPOS lkey lelement|LPOS lkey lelement {COUNT lcount|RANK lrank|MAXLEN lcount|"
                "COUNT lcount RANK lrank|RANK lrank COUNT lcount MAXLEN lcount|FOO|COUNT|}"
            ),
            "lpushx": "LPUSHX lkey lelement+",
            "lrem": "LREM lkey lrank lelement",
            "lset": "LSET lkey {0|-1|lindex} lelement",
            "ltrim": "LTRIM lkey lindex lindex|LTRIM lkey 0 lindex|LTRIM lkey 1 -1",
            "rpop": "RPOP lkey [lcount]",
            "rpoplpush": "RPOPLPUSH lkey lkey",
            "rpushx": "RPUSHX lkey lelement+",
        }),
    },
    large=((b"RPUSH", b"l1", *(b"%d" % part for part in range(LARGE_ELEMENTS))),),
    furniture=(
        f"RPUSH 'l1 {_MANY} {_MANY}",
        f"LPUSH 'l2 {_MANY} {_MANY} {_MANY}",
        "RPUSH lkey lelement+",
    ),
    atoms={
        "lkey": keyed(LIST_KEYS),
        "lelement": mostly(ELEMENTS, LARGE, 0.85),
        "lindex": mostly((b"0", b"1", b"-1", b"-2", b"3", b"5", b"-7", b"12"), JUNK, 0.92),
        "lcount": mostly((b"1", b"2", b"3", b"0", b"10", b"100"), (b"-1", *JUNK), 0.92),
        "lrank": mostly((b"1", b"0", b"-1", b"2", b"-2", b"100"), (*EDGES, *JUNK), 0.92),
    },
    listings={b"list": Listing((b"LRANGE", b"0", b"-1"), as_is)},
)  # fmt: skip
