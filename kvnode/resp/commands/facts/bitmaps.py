"""Facts of the commands on bits of strings."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import bitmaps
from kvnode.resp.commands.facts.row import ONE_KEY, POINT, WHOLE, Row

READS: Final[tuple[Row, ...]] = (
    Row("getbit", 3, "readonly fast", ONE_KEY, "2.2.0", "bitmap", POINT,
        bitmaps.parse_getbit, "Returns a bit of a string by its offset."),
    Row("bitcount", -2, "readonly", ONE_KEY, "2.6.0", "bitmap", WHOLE,
        bitmaps.parse_bitcount, "Counts the bits that are set in a string or a part of it."),
    Row("bitpos", -3, "readonly", ONE_KEY, "2.8.7", "bitmap", WHOLE,
        bitmaps.parse_bitpos, "Finds the first bit that is set, or clear, in a string."),
    Row("bitfield_ro", -2, "readonly fast", ONE_KEY, "6.0.0", "bitmap", POINT,
        bitmaps.parse_bitfield_ro, "Reads integers of any width from a string."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("setbit", 4, "write denyoom", ONE_KEY, "2.2.0", "bitmap", POINT,
        bitmaps.parse_setbit, "Sets or clears a bit of a string and returns what it was."),
    Row("bitop", -4, "write denyoom", (2, -1, 1), "2.6.0", "bitmap", WHOLE,
        bitmaps.parse_bitop, "Combines strings bit by bit and stores the result."),
    Row("bitfield", -2, "write denyoom", ONE_KEY, "3.2.0", "bitmap", POINT,
        bitmaps.parse_bitfield, "Reads, sets and counts with integers of any width in a string."),
)  # fmt: skip
