"""What a row of a family's table tells of a command.

Arity, flags, key positions, version and group are those of Redis 7.0's own table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.resp.commands.command import Command, Cost, Keys, Parse
from kvnode.resp.commands.grammar import integer
from kvnode.resp.encoder import ANY, Renders

POINT: Final = Cost.POINT
RANGE: Final = Cost.RANGE
WHOLE: Final = Cost.WHOLE

ONE_KEY: Final = (1, 1, 1)
SECOND: Final = (2, 2, 1)
TWO_KEYS: Final = (1, 2, 1)
ALL_KEYS: Final = (1, -1, 1)
EVERY_SECOND: Final = (1, -1, 2)
ALL_BUT_LAST: Final = (1, -2, 1)


NO_KEYS: Final = "ERR Invalid arguments specified for command"


class Row(NamedTuple):
    """One command; its fields are those of `Command`.

    Attributes:
        stands_alone: no data command of its connection begins before it is answered.
    """

    name: str
    arity: int
    flags: str
    keys: tuple[int, int, int]
    since: str
    group: str
    cost: Cost
    parse: Parse
    summary: str
    renders: Renders = ANY
    find_keys: Keys | None = None
    stands_alone: bool = False


def to_command(row: Row, kind: int) -> Command:
    """The row of the command table."""
    return Command(
        row.name,
        row.arity,
        tuple(row.flags.split()),
        row.keys,
        row.since,
        row.group,
        row.summary,
        kind=kind,
        parse=row.parse,
        renders=row.renders,
        cost=row.cost,
        find_keys=row.find_keys,
        stands_alone=row.stands_alone,
    )


def counted_keys(position: int, *others: int) -> Callable[[list[bytes]], list[bytes]]:
    """Finds keys that follow their number (`LMPOP 2 a b`), behind those at the places `others`."""

    def find(arguments: list[bytes]) -> list[bytes]:
        count = integer(arguments[position], NO_KEYS) if len(arguments) > position else 0
        first = position + 1
        if not 0 < count <= len(arguments) - first:
            raise CommandError(NO_KEYS)
        return [arguments[other] for other in others] + arguments[first : first + count]

    return find
