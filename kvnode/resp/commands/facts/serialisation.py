"""Facts of the commands that serialise values."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import serialisation
from kvnode.resp.commands.facts.row import ONE_KEY, WHOLE, Row

READS: Final[tuple[Row, ...]] = (
    Row("dump", 2, "readonly", ONE_KEY, "2.6.0", "generic", WHOLE,
        serialisation.parse_dump, "Returns the value of a key as bytes that RESTORE takes."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("restore", -4, "write denyoom", ONE_KEY, "2.6.0", "generic", WHOLE,
        serialisation.parse_restore, "Makes a key of what DUMP returned, here or in Redis."),
)  # fmt: skip
