"""Grammar that the SCAN commands share: cursors, and the options of HSCAN, SSCAN and ZSCAN."""

from __future__ import annotations

import re
from typing import Final

from kvnode.errors import CommandError
from kvnode.limits import SCAN_ROWS_MAX
from kvnode.resp.commands.command import Parse
from kvnode.resp.commands.grammar import check_key, integer
from kvnode.service import Op

COUNT_DEFAULT: Final = 10

_CURSOR = re.compile(rb"([+-]?)([0-9]+)")


def cursor(argument: bytes) -> int:
    """A cursor as C's `strtoul` reads it, since Redis does.

    `-1` is 2^64 - 1, nothing is 0, and what follows a NUL byte does not count.

    Raises:
        CommandError: it is no number, or one of more than 64 bits.
    """
    text = argument.partition(b"\x00")[0]
    if not text:
        return 0
    found = _CURSOR.fullmatch(text)
    value = int(found[2]) if found and len(found[2].lstrip(b"0")) <= 20 else 1 << 64
    if found is None or value >= 1 << 64:
        raise CommandError("ERR invalid cursor")
    return -value % (1 << 64) if found[1] == b"-" else value


def member_scan(code: int) -> Parse:
    """The grammar of HSCAN and its kin: `[code, db, key, cursor, pattern | nil, count | nil]`.

    What is wrong with the options is said only if the key is there (`store.redis.scanning`).
    """

    def parse(db: int, arguments: list[bytes]) -> Op:
        position = cursor(arguments[2])
        pattern, count = _options(arguments)
        return [code, db, check_key(arguments[1]), position, pattern, count]

    return parse


def _options(arguments: list[bytes]) -> tuple[bytes | None, int | None]:
    """Pattern and count; a count of None: no integer, 0: another mistake. The first one counts."""
    pattern: bytes | None = None
    count = COUNT_DEFAULT
    for at in range(3, len(arguments), 2):
        option = arguments[at].upper()
        if at + 1 == len(arguments):
            return None, 0
        value = arguments[at + 1]
        if option == b"MATCH":
            pattern = None if value == b"*" else value
        elif option == b"COUNT":
            try:
                count = integer(value)
            except CommandError:
                return None, None
            if count < 1:
                return None, 0
        else:
            return None, 0
    return pattern, min(count, SCAN_ROWS_MAX)
