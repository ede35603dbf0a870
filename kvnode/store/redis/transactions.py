"""EXEC: the ops of a MULTI as one op, and the check of what was watched.

WATCH is optimistic: the client's node reads versions, and EXEC carries them through the log, so
every replica judges alike, whoever leads by then. A failing op leaves its error among the results
and the others stand, as in Redis: there is no rollback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvnode.store.keyspace import version_of
from kvnode.store.ops import UnknownOperation

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result


def exec_of(
    meanings: dict[int, Callable[[Keyspace, Op], Result]],
) -> Callable[[Keyspace, Op], Result]:
    """EXEC over the given op codes."""

    def exec_(space: Keyspace, op: Op) -> Result:
        """EXEC: results of all ops, or None if a watched key is no longer what it was."""
        _, _, watches, inner_ops = op
        for number, key, version in watches:
            record = space.find(number, key)
            if (0 if record is None else version_of(record)) != version:
                return None
        results: list[Result] = []
        for inner in inner_ops:
            meaning = meanings.get(inner[0])
            if meaning is None:
                raise UnknownOperation(f"EXEC holds the unknown op code {inner[0]}")
            results.append(meaning(space, inner))
        return results

    return exec_
