"""How keys come into databases, so that a WATCH of an absent key outlives FLUSH and SWAPDB.

FLUSH and SWAPDB *sweep*: they take all records away from a database number at once, and look at
none of them, so that both stay O(1). Afterwards it cannot be asked whether a watched key was among
them. But a key that was absent at WATCH and was swept since must first have come, and there are
only two ways to come: a write that created its record, and a SWAPDB that brought it with a whole
database. Both are noted here, and a key that cannot have come cannot have been swept.

- `created`: per bucket of keys (`kvnode.store.buckets`) the revision of the newest write that made
  a record where there was none, or an expired one.
- `arrived`: per database number the revision of the last SWAPDB that brought a database with keys.
- `brought`: the same of the last such SWAPDB whose database has been swept away again.

So an EXEC may abort without need in two cases, and never passes when it should not: another key of
the same bucket was created after the WATCH, and the database was swept; or a database that had keys
was brought by SWAPDB after the WATCH, and swept away again before the EXEC.

Nothing is noted before somebody watches: the first EXEC_WATCHED in the log begins it, at the same
place on every node. A WATCH older than that is judged as if every sweep took its key.
"""

from __future__ import annotations

from typing import Any

from xxhash import xxh3_64_intdigest

from kvnode.store.buckets import Buckets


class Arrivals:
    """Replicated: part of the meta row and of the state hash once it was begun.

    Args:
        since: revision at which noting began; what came earlier is not known.
        created: as the module describes it, like the next two.
        arrived: one revision per database.
        brought: one revision per database.
    """

    __slots__ = ("arrived", "brought", "created", "since")

    def __init__(
        self, since: int, created: Buckets, arrived: list[int], brought: list[int]
    ) -> None:
        self.since = since
        self.created = created
        self.arrived = arrived
        self.brought = brought

    @classmethod
    def begin(cls, revision: int, databases: int) -> Arrivals:
        """Note from this revision on."""
        return cls(revision, Buckets(), [0] * databases, [0] * databases)

    @classmethod
    def from_row(cls, row: list[Any]) -> Arrivals:
        """What `to_row` of an earlier one gave."""
        since, created, arrived, brought = row
        return cls(since, Buckets(created), arrived, brought)

    def to_row(self) -> list[object]:
        """What the meta row keeps of it."""
        return [self.since, self.created.versions, self.arrived, self.brought]

    def to_hash(self) -> list[object]:
        """What the state hash covers: all of it, the buckets as their digest."""
        created = xxh3_64_intdigest(self.created.versions)
        return [self.since, created, self.arrived, self.brought]

    def sweep(self, number: int) -> None:
        """FLUSH or SWAPDB takes away what is in database `number`."""
        self.brought[number] = self.arrived[number]

    def bring(self, number: int, revision: int) -> None:
        """SWAPDB puts a database that has keys in the place of database `number`."""
        self.arrived[number] = revision

    def rule_out(self, number: int, key_hash: int, revision: int) -> bool:
        """Whether a key that was absent at `revision` cannot have been swept from there since."""
        return (
            self.since <= revision
            and self.brought[number] <= revision
            and self.created.newest(number, key_hash) <= revision
        )
