"""Grammar of SORT and SORT_RO.

SORT is a write only with STORE: without it, it is answered as a read and costs no log entry, though
the command table calls it a write, as Redis' does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.command import READ, Command
from kvnode.resp.commands.grammar import SYNTAX_ERROR, check_key, integer
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import SortFlag

_DIRECTIONS: Final = {b"ASC": 0, b"DESC": int(SortFlag.DESC)}
_ARGUMENTS: Final = {b"LIMIT": 2, b"BY": 1, b"GET": 1, b"STORE": 1}
"""Options with arguments."""


class _Options:
    """The options of one SORT, or of a SORT_RO, which may not store.

    Raises:
        CommandError: for bad grammar.
    """

    def __init__(self, arguments: list[bytes], *, may_store: bool) -> None:
        self._may_store = may_store
        self.flags = 0
        self.start, self.count = 0, -1
        self.by: bytes | None = None
        self.gets: list[bytes] = []
        self.destination: bytes | None = None
        at = 2
        while at < len(arguments):
            option = arguments[at].upper()
            values = arguments[at + 1 : at + 1 + _ARGUMENTS.get(option, 0)]
            self._take(option, values)
            at += 1 + len(values)

    def _take(self, option: bytes, values: list[bytes]) -> None:
        if option in _DIRECTIONS:
            self.flags = self.flags & ~SortFlag.DESC | _DIRECTIONS[option]
        elif option == b"ALPHA":
            self.flags |= SortFlag.ALPHA
        elif len(values) != _ARGUMENTS.get(option):
            raise CommandError(SYNTAX_ERROR)
        elif option == b"LIMIT":
            self.start, self.count = map(integer, values)
        elif option == b"BY":
            self.by = values[0]
            if b"*" not in values[0]:
                self.flags |= SortFlag.NOSORT
        elif option == b"GET":
            self.gets += values
        elif self._may_store:
            self.destination = check_key(values[0])
        else:
            raise CommandError(SYNTAX_ERROR)


def parse_sort(db: int, arguments: list[bytes]) -> Op:
    return _parse(db, arguments, may_store=True)


def parse_sort_ro(db: int, arguments: list[bytes]) -> Op:
    return _parse(db, arguments, may_store=False)


def _parse(db: int, arguments: list[bytes], *, may_store: bool) -> Op:
    options = _Options(arguments, may_store=may_store)
    by = None if options.flags & SortFlag.NOSORT else options.by
    question = [check_key(arguments[1]), int(options.flags), options.start, options.count, by]
    question += options.gets
    if options.destination is None:
        return [ops.SORT, db, *question]
    return [ops.SORTSTORE, db, options.destination, *question]


def find_keys(arguments: list[bytes]) -> list[bytes]:
    """The key and, if there is one, the last destination; keys of patterns are not known."""
    destination = _destination(arguments)
    return arguments[1:2] if destination is None else [arguments[1], destination]


def _destination(arguments: list[bytes]) -> bytes | None:
    found: bytes | None = None
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"STORE" and at + 1 < len(arguments):
            found = arguments[at + 1]
        at += 1 + _ARGUMENTS.get(option, 0)
    return found


def with_reading_form(sort: Command) -> Command:
    """SORT as the table has it, with the form that it takes for requests without STORE."""
    reading = replace(sort, kind=READ, stands_alone=False)

    def form(arguments: list[bytes]) -> Command | None:
        return reading if _destination(arguments) is None else None

    return replace(sort, form=form)
