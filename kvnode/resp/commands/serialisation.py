"""Grammar of DUMP and RESTORE."""

from __future__ import annotations

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import SYNTAX_ERROR, check_key, integer
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import RestoreFlag

FREQUENCY_MAX = 255


def parse_dump(db: int, arguments: list[bytes]) -> Op:
    return [ops.DUMP, db, check_key(arguments[1])]


def parse_restore(db: int, arguments: list[bytes]) -> Op:
    """A bad time is no error yet: first it counts whether the key is taken.

    IDLETIME and FREQ are checked and go no further: accesses leave no trace here.
    """
    flags = 0
    has_idle = has_frequency = False
    at = 4
    while at < len(arguments):
        option = arguments[at].upper()
        rest = arguments[at + 1 : at + 2]
        at += 1
        if option == b"REPLACE":
            flags |= int(RestoreFlag.REPLACE)
        elif option == b"ABSTTL":
            flags |= int(RestoreFlag.ABSTTL)
        elif option == b"IDLETIME" and rest and not has_frequency:
            has_idle = True
            if integer(rest[0]) < 0:
                raise CommandError("ERR Invalid IDLETIME value, must be >= 0")
            at += 1
        elif option == b"FREQ" and rest and not has_idle:
            has_frequency = True
            if not 0 <= integer(rest[0]) <= FREQUENCY_MAX:
                raise CommandError("ERR Invalid FREQ value, must be >= 0 and <= 255")
            at += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    return [
        ops.RESTORE,
        db,
        check_key(arguments[1]),
        _possible(arguments[2]),
        arguments[3],
        flags,
    ]


def _possible(argument: bytes) -> int | None:
    """The number, None if it is none."""
    try:
        return integer(argument)
    except CommandError:
        return None
