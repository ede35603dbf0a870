"""Facts of the HyperLogLog commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import hyperloglog
from kvnode.resp.commands.facts.row import ALL_KEYS, ONE_KEY, RANGE, Row

READS: Final[tuple[Row, ...]] = (
    Row("pfcount", -2, "readonly", ALL_KEYS, "2.8.9", "hyperloglog", RANGE,
        hyperloglog.parse_pfcount,
        "Returns about how many different elements HyperLogLogs have seen together."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("pfadd", -2, "write denyoom fast", ONE_KEY, "2.8.9", "hyperloglog", RANGE,
        hyperloglog.parse_pfadd, "Shows elements to a HyperLogLog, which counts different ones."),
    Row("pfmerge", -2, "write denyoom", ALL_KEYS, "2.8.9", "hyperloglog", RANGE,
        hyperloglog.parse_pfmerge, "Lets a HyperLogLog see all that others have seen."),
)  # fmt: skip
