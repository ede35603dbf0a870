"""Grammar of the HyperLogLog commands: elements become the places where they fall."""

from __future__ import annotations

from typing import Final

from kvnode.errors import CommandError
from kvnode.limits import PFADD_BYTES_MAX
from kvnode.resp.commands.grammar import check_key, check_keys
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.redis import hll

TOO_LARGE: Final = f"ERR the elements of PFADD are larger than {PFADD_BYTES_MAX} bytes"


def parse_pfadd(db: int, arguments: list[bytes]) -> Op:
    if sum(map(len, arguments[2:])) > PFADD_BYTES_MAX:
        raise CommandError(TOO_LARGE)
    places = b"".join(map(hll.place, arguments[2:]))
    return [ops.PFADD, db, check_key(arguments[1]), places]


def parse_pfcount(db: int, arguments: list[bytes]) -> Op:
    return [ops.PFCOUNT, db, *check_keys(arguments[1:])]


def parse_pfmerge(db: int, arguments: list[bytes]) -> Op:
    return [ops.PFMERGE, db, *check_keys(arguments[1:])]
