"""Which function each op code means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.store import bulk, ops
from kvnode.store.redis import (
    bitmaps,
    geo,
    hashes,
    hyperloglog,
    keys,
    lists,
    serialisation,
    server,
    sets,
    sorted_sets,
    sorting,
    stream_groups,
    streams,
    strings,
    transactions,
    waiting,
)

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

_FAMILIES: Final = (
    strings,
    keys,
    server,
    lists,
    bitmaps,
    hyperloglog,
    streams,
    stream_groups,
    hashes,
    sorted_sets,
    geo,
    sets,
    serialisation,
    sorting,
)

READS: Final[dict[int, Meaning]] = {
    **{code: meaning for family in _FAMILIES for code, meaning in family.READS.items()},
    ops.VERSION: transactions.version,
}

SIMPLE_WRITES: Final[dict[int, Meaning]] = {
    code: meaning for family in _FAMILIES for code, meaning in family.WRITES.items()
}

RECIPES: Final[dict[int, bulk.Recipe]] = {
    **keys.RECIPES,
    **sets.RECIPES,
    **sorted_sets.RECIPES,
    **geo.RECIPES,
    **sorting.RECIPES,
}
"""Of commands that may store their result a part at a time."""

_WAITING, serve = waiting.waiting_of({**READS, **SIMPLE_WRITES}, waiting.FORMS)


def _step(space: Keyspace, op: Op) -> Result:
    """STEP: the next part of such a command; never inside EXEC."""
    return bulk.step(space, op[2], RECIPES)


WRITES: Final[dict[int, Meaning]] = {
    **SIMPLE_WRITES,
    **_WAITING,
    ops.STEP: _step,
    ops.EXEC: transactions.exec_of({**READS, **SIMPLE_WRITES}, by_arrivals=False),
    ops.EXEC_WATCHED: transactions.exec_of({**READS, **SIMPLE_WRITES}, by_arrivals=True),
}
"""What may stand in a log entry by itself."""
