"""DUMP and RESTORE: values of every kind as bytes."""

from __future__ import annotations

import random
from typing import Final

from kvnode.store.rdb.writer import write_value
from tests.differential.comparing import Rule, pairwise, same_kind
from tests.differential.family import Family
from tests.differential.words import AT_MILLIS, MILLIS, keyed, mostly, rows
from tests.support import payloads

RESTORED_KEYS: Final = (b"r1", b"r2", b"r3")


def _payload(rng: random.Random) -> bytes:
    dice = rng.random()
    if dice < 0.8:
        return write_value(payloads.value(rng, streams=True))
    if dice < 0.95:
        return payloads.sealed(rng.choice([*payloads.OTHER_FORMS.values()]))
    return rng.choice((b"", b"junk", payloads.sealed(b"\x01\x00"), payloads.sealed(b"\x00", 11)))


FAMILY: Final = Family(
    name="serialisation",
    keys=RESTORED_KEYS,
    commands={
        **rows(2, {
            "restore": "RESTORE rkey {'0 payload|restms payload|restat payload ABSTTL} [REPLACE] "
            "[{IDLETIME length|FREQ length}]",
        }),
        **rows(1, {"dump": "DUMP rkey"}),
    },
    furniture=("RESTORE 'r1 '0 payload",),
    atoms={
        "rkey": keyed(RESTORED_KEYS),
        "payload": _payload,
        "restms": mostly(MILLIS, (b"-1", b"abc", b"9223372036854775807"), 0.95),
        "restat": mostly(AT_MILLIS, (b"1", b"-1", b""), 0.95),
    },
    rules=(
        Rule(
            ("dump",),
            "one value has many forms, and a set has no order: compared by type; what RESTORE "
            "makes of a payload is seen in the key",
            pairwise(same_kind),
        ),
    ),
)  # fmt: skip
