"""Facts of SORT and SORT_RO."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import sorting
from kvnode.resp.commands.command import WRITE, Command
from kvnode.resp.commands.facts.row import ONE_KEY, WHOLE, Row, to_command

READS: Final[tuple[Row, ...]] = (
    Row("sort_ro", -2, "readonly movablekeys", ONE_KEY, "7.0.0", "generic", WHOLE,
        sorting.parse_sort_ro,
        "Returns the elements of a list, set or sorted set in another order.",
        find_keys=lambda arguments: arguments[1:2]),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = ()


def sort_command() -> Command:
    """SORT, which is a read unless it stores."""
    row = Row(
        "sort", -2, "write denyoom movablekeys", ONE_KEY, "1.0.0", "generic", WHOLE,
        sorting.parse_sort,
        "Returns or stores the elements of a list, set or sorted set in another order.",
        find_keys=sorting.find_keys, stands_alone=True,
    )  # fmt: skip
    return sorting.with_reading_form(to_command(row, WRITE))
